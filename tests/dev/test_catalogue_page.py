"""docs/reference/detections.md, the catalogue, has every rule."""

from __future__ import annotations

from verdicts import packs

from m365watch.detection.rules.rule import TACTICS
from tools import detections_page


def test_every_rule_that_makes_alerts_is_in_the_catalogue() -> None:
    """With its techniques and tactics."""
    page = detections_page.render()
    rules = [rule for rule in packs().rules if rule.alerts]

    assert len(rules) > 60
    for rule in rules:
        assert f"| {detections_page.number_of(rule)} | {rule.title} |" in page
        assert all(f"[{one}](" in page for one in rule.techniques)
    assert set(detections_page.list_tactics(rules)) <= set(TACTICS)
