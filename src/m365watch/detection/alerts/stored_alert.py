"""What is kept of detection, as values: whose matches, which alerts, and what there is to tell of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from m365watch.detection.alerts.alert import Alert, AlertId, Match

Row = tuple[Any, ...]
"""A row of the file, whose types its schema vouches for."""
_ALERTS = msgspec.json.Decoder(Alert)


class AlertState(StrEnum):
    """Where an analyst has put an alert."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class News(StrEnum):
    """What there is to tell of an alert."""

    NEW = "new"
    UPDATED = "updated"
    WITHDRAWN = "withdrawn"
    """A record that came late has shown that there was nothing."""


class GroupKey(NamedTuple):
    """Whose matches are judged together."""

    rule_id: str
    tenant: str
    group: tuple[str, ...]

    @property
    def joined(self) -> str:
        """The group as the file has it; values have no control characters."""
        return "\x1f".join(self.group)

    @classmethod
    def split(cls, rule_id: str, tenant: str, joined: str, *, has_fields: bool) -> GroupKey:
        """The group of a row of the file; an empty text is a whole tenant, or one field that is absent."""
        return cls(rule_id, tenant, tuple(joined.split("\x1f")) if has_fields else ())


@dataclass(frozen=True, slots=True)
class KeptAlert:
    """An alert as it is kept."""

    alert: Alert
    shown: bool
    """False for an episode that only serves correlations."""
    state: AlertState = AlertState.OPEN
    reason: str = ""
    changed_by: str = ""
    changed_at_ms: int = 0
    together_ms: int = 0
    """When what it joins came together, which may have begun long before; 0 where it joins nothing."""
    is_put_back: bool = False
    """Whether it came out of a lake, and the records that gave it were not seen since.

    They may be gone, so that it is not withdrawn for want of them.
    """

    @property
    def low_ms(self) -> int:
        """Since when its own matches are."""
        return self.together_ms or self.alert.first_at_ms

    @property
    def times_ms(self) -> tuple[int, int]:
        """From when to when its own matches are."""
        return self.low_ms, self.alert.last_at_ms

    def overlaps(self, other: KeptAlert) -> bool:
        """Whether both have a time in common."""
        return self.common_ms(other) >= 0

    def common_ms(self, other: KeptAlert) -> int:
        """How long both went on together; below 0 by what lies between them."""
        last_ms = min(self.alert.last_at_ms, other.alert.last_at_ms)
        return last_ms - max(self.low_ms, other.low_ms)


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring matches of a group that have to do with each other, and whether some were left out."""

    matches: list[Match]
    is_cut: bool
    begins: bool = False
    """Whether nothing was left out before the first."""


def decode_alert(body: bytes) -> Alert:
    """The alert that the file has."""
    return _ALERTS.decode(body)


def kept_of(row: Row) -> KeptAlert:
    """Of the columns body, shown, state, reason, changed_by, changed_at, low, put_back."""
    body, shown, state, reason, changed_by, changed_at_ms, low_ms, is_put_back = row
    alert = decode_alert(body)
    together_ms = 0 if low_ms == alert.first_at_ms else low_ms
    return KeptAlert(
        alert,
        bool(shown),
        AlertState(state),
        reason,
        changed_by,
        changed_at_ms,
        together_ms,
        bool(is_put_back),
    )


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
