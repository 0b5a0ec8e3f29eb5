"""Every rule of the packs that alerts says how it is turned, and what it names is there to be turned."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import pytest
import yaml
from verdicts import packs

from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.enrichment import EnrichSection
from m365watch.detection.rules.extension import Extension
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import PACKS_DIRECTORY

ALERTING = [rule for rule in packs().rules if rule.alerts]


@cache
def documents() -> dict[str, dict[str, Any]]:
    """The rules as they are written, by name."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(PACKS_DIRECTORY.glob("*/*.yml"))]
    written = [one for text in texts for one in yaml.safe_load_all(text)]
    return {str(one["name"]): one for one in written}


def is_there(knob: str, rule: str) -> bool:
    """Whether a setting, a list, a key of the rule or one of another rule (`name.key`) is called so."""
    head, _, rest = knob.partition(".")
    if knob.startswith("lists/"):
        return any(PACKS_DIRECTORY.glob(f"*/{knob}.txt"))
    if knob.startswith("detections.enrich."):
        return knob.removeprefix("detections.enrich.") in EnrichSection.model_fields
    if knob in ("accepted_domains", "exceptions_file"):
        return knob in DetectionsSection.model_fields
    if head in documents():
        return is_there(rest, head)
    return is_written(knob.split("."), documents()[rule])


def is_written(path: list[str], document: dict[str, Any]) -> bool:
    """Whether the rule has such a key, Sigma's or ours; one of ours with a default need not be written."""
    if len(path) == 1 and path[0] in {one.name for one in fields(Extension)}:
        return True
    places = (document, *(document.get(part, {}) for part in ("detection", "correlation", "m365watch")))
    return any(_descend(path, place) for place in places)


def _descend(path: list[str], place: object) -> bool:
    for step in path:
        if not isinstance(place, dict) or step not in place:
            return False
        place = place[step]
    return True


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: str(rule.name))
def test_a_rule_says_what_can_be_turned(rule: Rule) -> None:
    """At least one knob each, with a sentence; a knob that is not there helps nobody."""
    tuning = rule.extension.tuning

    assert tuning
    assert all(text.endswith(".") for text in tuning.values())
    assert [knob for knob in tuning if not is_there(knob, rule.name)] == []


@pytest.mark.parametrize("rule", ALERTING, ids=lambda rule: str(rule.name))
def test_an_exception_is_by_what_the_alert_is_about(rule: Rule) -> None:
    """An exception by mailbox needs an entity of that kind, or the exception would except nothing."""
    said = rule.extension.tuning.get("exceptions_file", "By ").removeprefix("By ")

    assert said == "" or said.replace(",", " ").split()[0] in rule.extension.entity


def test_a_knob_that_is_not_there_is_noticed() -> None:
    """Neither a key, a list, a setting nor another rule's key that nobody has written."""
    missing = ("condition.gte", "lists/nothing", "detections.enrich.nothing", "signed_in.nothing", "nothing")

    assert [knob for knob in missing if is_there(knob, "b07_mail_connector_changed")] == []
