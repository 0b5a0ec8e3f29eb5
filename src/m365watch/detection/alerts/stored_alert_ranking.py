"""In which order alerts are read: the gravest first, and of these what belongs to something graver."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert

HANDED_ON = frozenset({"A01", "S05"})
"""The detections of alerts that Microsoft has made, and of what its scanners have found and stopped."""


def rank_alerts(
    alerts: Iterable[Alert], *, closed: Collection[AlertId] = ()
) -> dict[AlertId, tuple[int, int, int]]:
    """By alert, its place among the others: the greater, the sooner it is read.

    Its severity; whether one of ours found it, and Microsoft's own come after; and the severity of the worst
    one that shares a record with it, for what belongs to something graver is a part of it. What is `closed`
    makes nothing graver any more.
    """
    every = list(alerts)
    worst: dict[str, int] = {}
    for alert in sorted(every, key=lambda one: one.severity.rank):
        if alert.id not in closed:
            worst |= dict.fromkeys(alert.evidence, alert.severity.rank)
    return {
        one.id: (
            one.severity.rank,
            int(one.detection not in HANDED_ON),
            max((worst.get(record, 0) for record in one.evidence), default=0),
        )
        for one in every
    }


def closed_of(alerts: Iterable[KeptAlert]) -> frozenset[AlertId]:
    """Those of them that somebody has closed."""
    return frozenset(one.alert.id for one in alerts if one.state is AlertState.CLOSED)
