"""Alerts as the tests of this folder need them."""

from __future__ import annotations

from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.rules.extension import Severity

TENANT = "22222222-2222-2222-2222-222222222222"
APP = "0f8fad5b-d9cb-469f-a165-70867728950e"
ANN = "ann@contoso.example"
AT_MS = 1_795_730_400_000
RULE = "rule"


def make_alert(*contain: str, **entities: str) -> Alert:
    """An alert whose rule names these words, about these entities."""
    return Alert(
        id=AlertId("a" * 32),
        rule_id=RULE,
        title="Something happened",
        severity=Severity("high"),
        tenant=TENANT,
        group=("ann",),
        entities=tuple(entities.items()),
        first_at_ms=AT_MS,
        last_at_ms=AT_MS + 60_000,
        count=1,
        evidence=("r1",),
        explanation="Something happened.",
        contain=contain,
    )


def make_match(values: dict[str, str], *, after_ms: int = 0) -> Match:
    """A match that is kept of the alert."""
    return Match(
        rule_id=RULE,
        source_id=RULE,
        tenant=TENANT,
        group=("ann",),
        at_ms=AT_MS + after_ms,
        identity=f"{after_ms:032x}",
        record_id="r1",
        severity=Severity("high"),
        values=values,
    )


def hides(name: str) -> dict[str, str]:
    """What is kept of a record of an inbox rule of that name, which deletes what comes."""
    return {"Parameters.Name": name, "Parameters.DeleteMessage": "True"}
