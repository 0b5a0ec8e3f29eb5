"""In which order alerts are read."""

from __future__ import annotations

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import rank_alerts
from m365watch.detection.rules.severity import Severity


def alert(name: str, severity: Severity, *evidence: str, detection: str = "B01") -> Alert:
    """An alert about these records."""
    return Alert(
        id=AlertId(name),
        rule_id="r",
        title=name,
        severity=severity,
        tenant="t",
        group=(),
        entities=(),
        first_at_ms=0,
        last_at_ms=0,
        count=len(evidence),
        evidence=evidence,
        explanation="",
        detection=detection,
    )


def test_what_microsoft_hands_on_never_buries_an_attack() -> None:
    """The gravest first; then ours, those first that are a part of something graver; then Microsoft's."""
    every = [
        alert("handed on", Severity.HIGH, "r1", detection="A01"),
        alert("alone", Severity.HIGH, "r2"),
        alert("a part", Severity.HIGH, "r3"),
        alert("the worst", Severity.CRITICAL, "r3", "r4"),
        alert("lesser", Severity.LOW, "r4"),
    ]
    ranks = rank_alerts(every)

    assert sorted(ranks, key=lambda one: ranks[one], reverse=True) == [
        "the worst",
        "a part",
        "alone",
        "handed on",
        "lesser",
    ]


def test_malware_that_a_scanner_found_stands_behind_an_attack() -> None:
    """It is Microsoft's finding as well, and mostly stopped already."""
    every = [alert("malware", Severity.HIGH, "r1", detection="S05"), alert("ours", Severity.HIGH, "r2")]
    ranks = rank_alerts(every)

    assert ranks[AlertId("ours")] > ranks[AlertId("malware")]


def test_what_was_closed_makes_nothing_graver() -> None:
    """What shares a record with a false alarm is no part of anything."""
    every = [alert("false alarm", Severity.CRITICAL, "r1"), alert("beside it", Severity.HIGH, "r1")]
    alone = rank_alerts([alert("alone", Severity.HIGH, "r2")])

    open_, closed = rank_alerts(every), rank_alerts(every, closed={AlertId("false alarm")})
    assert open_[AlertId("beside it")] > alone[AlertId("alone")]
    assert closed[AlertId("beside it")] == alone[AlertId("alone")]
