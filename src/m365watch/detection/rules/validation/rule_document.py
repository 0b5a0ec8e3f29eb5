"""A document of rules read for its mistakes: each, and not only the first that is met."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from functools import lru_cache
from typing import Any
from uuid import UUID

from m365watch.detection.rules.sigma_parser import PRODUCTS, SERVICES, Lists, Source
from m365watch.detection.rules.validation.detection_section import proofread_detections
from m365watch.detection.rules.validation.diagnostics import Fault, Where, perhaps
from m365watch.detection.rules.validation.field_names import TRUTHS, meant_field
from m365watch.detection.rules.validation.pysigma_errors import MISREAD, fault_of

LEVELS = ("informational", "low", "medium", "high", "critical")
STATUSES = ("stable", "test", "experimental", "deprecated", "unsupported")
_DATE = re.compile(r"([1-3][0-9]{3})-([01][0-9])-([0-3][0-9])|([1-3][0-9]{3})/([01]?[0-9])/([0-3]?[0-9])")
_TITLE_MAX = 256


def proofread_head(document: Mapping[str, object]) -> Iterator[Fault]:
    """Every mistake in these keys."""
    if document.get("title") is None:
        yield Fault(("title",), "is missing; give the rule a line that says what it finds")
    for key, judge in _JUDGES.items():
        if document.get(key) is not None and (told := judge(document[key])):
            yield Fault((key,), told)
    yield from _tags(document.get("tags"))


def _text(value: object) -> str:
    if not isinstance(value, str):
        return f"is no text ({value!r}); put it in quotation marks" if _is_plain(value) else "is no text"
    return "" if value.strip() else "is empty; fill it in, or leave the key out"


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | bool | date)


def _title(value: object) -> str:
    long = isinstance(value, str) and len(value) > _TITLE_MAX
    return (
        f"is longer than {_TITLE_MAX} characters; put the rest into `description`" if long else _text(value)
    )


def _uuid(value: object) -> str:
    try:
        UUID(str(value))
    except ValueError:
        return "is no UUID; give one of your own, as `uuidgen` makes it, or leave the key out"
    return "" if isinstance(value, str) else _text(value)


def _one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    def judge(value: object) -> str:
        if isinstance(value, str) and value.lower() in known:
            return ""
        listed = f"{', '.join(known[:-1])} or {known[-1]}"
        return f"{str(value)[:60]} is not known; give {listed}"

    return judge


def _day(value: object) -> str:
    if isinstance(value, date):
        return ""
    told = "is no date; write it as 2026-11-30"
    found = _DATE.fullmatch(str(value))
    if found is None:
        return told
    try:
        date(*(int(part) for part in found.groups() if part is not None))
    except ValueError:
        return told
    return ""


def _list(value: object) -> str:
    return "" if isinstance(value, list) else "is no list; write `- ` before each entry"


def _tags(tags: object) -> Iterator[Fault]:
    if not isinstance(tags, list):
        return
    for place, tag in enumerate(tags):
        if not isinstance(tag, str) or "." not in tag:
            yield Fault(("tags", place), f"{tag} has no namespace; write it as attack.t1114.003")


_JUDGES: dict[str, Callable[[object], str]] = {
    "title": _title,
    "id": _uuid,
    "name": _text,
    "status": _one_of(STATUSES),
    "level": _one_of(LEVELS),
    "description": _text,
    "author": _text,
    "date": _day,
    "modified": _day,
    "tags": _list,
    "references": _list,
    "falsepositives": _list,
    "fields": _list,
    "scope": _list,
}


def proofread_source(
    document: Mapping[str, object], *, products: Collection[str], services: Collection[str]
) -> Iterator[Fault]:
    """Every mistake in the logsource of a rule or filter, of which these may stand there."""
    source = document.get("logsource")
    told = "write `logsource: {product: m365, service: exchange}`"
    if source is None:
        yield Fault(("logsource",), f"is missing; {told}")
    elif not isinstance(source, Mapping):
        yield Fault(("logsource",), f"is no map of keys and values; {told}")
    else:
        product, service = (str(source.get(key) or "").lower() for key in ("product", "service"))
        if product not in products and (product or service not in products):
            seen = f"{product or 'none'} is not m365, whose records this collector has"
            yield Fault(("logsource", "product"), seen + perhaps(product, products))
        if product in products and service and service not in services:
            told = perhaps(service, services) or f"; give one of {', '.join(sorted(services))}, or none"
            yield Fault(("logsource", "service"), f"{service} is none of this feed{told}")


_KEYS = (
    "correlation",
    "detection",
    "filter",
    "level",
    "logsource",
    "m365watch",
    "status",
    "tags",
    "title",
)
"""The keys without which a rule is another one."""
_CLOSE = 0.85
_TECHNIQUE = re.compile(r"attack\.t[0-9]{4}(\.[0-9]{3})?", re.IGNORECASE)
_LIKE_ONE = re.compile(r"attack\.t[0-9]", re.IGNORECASE)
_DEPTH_MAX = 60


def proofread_silent(document: Mapping[str, object]) -> Iterator[Fault]:
    """Every mistake of this kind, whatever kind of document it is."""
    for key in document:
        if isinstance(key, str) and (meant := _meant_key(key)) and document.get(meant) is None:
            yield Fault((key,), f"is no key of a rule; did you mean {meant}?")
    tags = document.get("tags")
    for place, tag in enumerate(tags if isinstance(tags, list) else ()):
        if isinstance(tag, str) and _LIKE_ONE.match(tag) and not _TECHNIQUE.fullmatch(tag):
            yield Fault(("tags", place), f"{tag} is no technique; write it as attack.t1114.003")
    for key in ("detection", "filter"):
        selections = document.get(key)
        for name, one in selections.items() if isinstance(selections, Mapping) else ():
            if name not in ("condition", "rules"):
                yield from _selection(one, (key, str(name)))


@lru_cache(maxsize=1_024)
def _meant_key(key: str) -> str:
    """The key that was meant; every rule has the same few."""
    if key in _KEYS:
        return ""
    letters = sorted(key.lower())
    swapped = next((one for one in _KEYS if sorted(one) == letters), "")
    return swapped or next(iter(get_close_matches(key.lower(), _KEYS, n=1, cutoff=_CLOSE)), "")


def _selection(value: object, where: Where) -> Iterator[Fault]:
    if len(where) > _DEPTH_MAX:
        return
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _line(str(key), one, (*where, str(key)))
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield from _selection(one, (*where, place))


def _line(key: str, value: object, where: Where) -> Iterator[Fault]:
    """The mistakes of a field and its values."""
    field, *modifiers = key.split("|")
    if meant := meant_field(field):
        yield Fault(where, f"no record has this field; did you mean {meant}?")
    if value == []:
        yield Fault(where, "is empty; give a value, or take it out")
    for at, one in _values(value, where):
        if isinstance(one, Mapping):
            inner = next(iter(one), "Name")
            yield Fault(at, f"is a map; what lies deeper is written with a dot, as {field}.{inner}")
        elif not modifiers and field.removeprefix("m365.") in TRUTHS and field.startswith("m365."):
            said = str(one).lower()
            if one is not None and said not in ("true", "false") and not set(said) & set("*?"):
                yield Fault(at, f"is true or false, and never {one}")


def _values(value: object, where: Where) -> Iterator[tuple[Where, object]]:
    if isinstance(value, list):
        yield from (((*where, place), one) for place, one in enumerate(value))
    else:
        yield where, value


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
