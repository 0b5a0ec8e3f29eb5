"""A document of rules read for its mistakes: each, and not only the first that is met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from m365watch.detection.rules.sigma_parser import PRODUCTS, SERVICES, Lists, Source
from m365watch.detection.rules.validation.detection_section import proofread_detections
from m365watch.detection.rules.validation.diagnostics import Fault
from m365watch.detection.rules.validation.heads import proofread_head, proofread_source
from m365watch.detection.rules.validation.misread import MISREAD
from m365watch.detection.rules.validation.pysigma_errors import fault_of
from m365watch.detection.rules.validation.silent import proofread_silent


def proofread(document: Mapping[str, Any], lists: Lists) -> list[Fault]:
    """Every mistake that a document has by itself, but for those of the key `m365watch`."""
    found = [*proofread_head(document), *proofread_silent(document)]
    is_filter = "filter" in document
    if "correlation" not in document:
        found += proofread_source(document, products=PRODUCTS, services=SERVICES)
        source = _source_of(document, lists)
        key, others = ("filter", ["rules"]) if is_filter else ("detection", [])
        if document.get(key) is None:
            found.append(Fault((key,), "is missing; give selections and a condition, or a correlation"))
        else:
            found += proofread_detections(document[key], (key,), source, others=others)
    return [*found, *_by_sigma(_mended(document, found))]


def _source_of(document: Mapping[str, Any], lists: Lists) -> Source:
    source = document.get("logsource")
    service = str(source.get("service") or "").lower() if isinstance(source, Mapping) else ""
    return Source(service, lists, is_ours="m365watch" in document)


def _mended(document: Mapping[str, Any], found: list[Fault]) -> dict[str, Any]:
    """The document without what has been found, for pySigma to find what else there is."""
    bad = {fault.where[0] for fault in found}
    good = {key: value for key, value in document.items() if key not in bad and key != "m365watch"}
    good.setdefault("title", "x")
    if "correlation" not in good:
        good.setdefault("logsource", {"product": "m365"})
        made = {"x": {"Operation": "x"}, "condition": "x"}
        if "filter" in document:
            good.setdefault("filter", {**made, "rules": "any"})
        else:
            good.setdefault("detection", made)
    return good


def _by_sigma(document: dict[str, Any]) -> Iterator[Fault]:
    from sigma.collection import SigmaCollection

    try:
        parsed = SigmaCollection.from_dicts(
            [document], collect_errors=True, collect_filters=True, resolve_references=False
        )
    except MISREAD as error:
        yield fault_of(error)
        return
    yield from map(fault_of, parsed.errors)
