"""In which order alerts are read: the gravest first, and of these what belongs to something graver."""

from __future__ import annotations

from collections.abc import Iterable

from m365watch.detect.alert import Alert, AlertId

HANDED_ON = "A01"
"""The detection of alerts that Microsoft has made, which are passed on as they are."""


def rank_alerts(alerts: Iterable[Alert]) -> dict[AlertId, tuple[int, int, int]]:
    """By alert, its place among the others: the greater, the sooner it is read.

    Its severity; whether one of ours found it, and Microsoft's own come after; and the severity of the worst
    one that shares a record with it, for what belongs to something graver is a part of it.
    """
    every = list(alerts)
    worst: dict[str, int] = {}
    for alert in sorted(every, key=lambda one: one.severity.rank):
        worst |= dict.fromkeys(alert.evidence, alert.severity.rank)
    return {
        one.id: (
            one.severity.rank,
            int(one.detection != HANDED_ON),
            max((worst[record] for record in one.evidence), default=0),
        )
        for one in every
    }
