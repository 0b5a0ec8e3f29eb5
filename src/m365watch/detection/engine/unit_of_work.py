"""One transaction's worth of the engine's work: which groups are to be judged, and what that has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import GroupKey, News


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an alert."""

    what: News
    alert: Alert


@dataclass(slots=True)
class Touched:
    """The times of a group that have changed."""

    low_ms: int
    high_ms: int
    is_rest: bool = False
    """Whether it is what lies before a part that was judged, of more than is judged together."""

    def widen(self, at_ms: int) -> None:
        """Take another time in."""
        self.low_ms, self.high_ms = min(self.low_ms, at_ms), max(self.high_ms, at_ms)


@dataclass(slots=True)
class Work:
    """One transaction's worth."""

    now_ms: int
    rank: Mapping[str, int]
    """The place of each rule in the order in which they are judged."""
    changes: list[Change] = field(default_factory=list)
    _touched: dict[GroupKey, Touched] = field(default_factory=dict)
    _waiting: list[tuple[int, GroupKey]] = field(default_factory=list)

    def touch(self, key: GroupKey, at_ms: int) -> None:
        """Have the group judged again around that time."""
        known = self._touched.get(key)
        if known is not None:
            known.widen(at_ms)
        elif key.rule_id in self.rank:
            self._touched[key] = Touched(at_ms, at_ms)
            heappush(self._waiting, (self.rank[key.rule_id], key))

    def touch_rest(self, key: GroupKey, touched: Touched, *, before_ms: int) -> None:
        """Have what was touched before that time judged, too, as a part of its own."""
        self.touch(key, touched.low_ms)
        self.touch(key, before_ms - 1)
        self._touched[key].is_rest = True

    def pop(self) -> tuple[GroupKey, Touched] | None:
        """The next group to be judged; one that others join comes before those."""
        if not self._waiting:
            return None
        _, key = heappop(self._waiting)
        return key, self._touched.pop(key)
