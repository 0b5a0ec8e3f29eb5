"""Large groups whose alert is known and has grown: they are judged at the next look, come what may.

To judge a group all its matches are read, and a rule that finds what happens all day has thousands of one
account. An update of its alert can wait for a minute; it is written down with the matches that it waits for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.store.detection_store import DetectionState

_KEY = "pending"
_Waiting = tuple[str, str, tuple[str, ...], int, int]
_decode = msgspec.json.Decoder(list[_Waiting]).decode


class Pending:
    """The groups, each with the earliest and the latest time that has changed."""

    def __init__(self, waiting: Iterable[_Waiting] = ()) -> None:
        """Those that are waiting already."""
        self._times = {
            GroupKey(rule_id, tenant, group): (low_ms, high_ms)
            for rule_id, tenant, group, low_ms, high_ms in waiting
        }
        self._is_kept = True

    @classmethod
    def of(cls, state: DetectionState) -> Pending:
        """Those that the file says are waiting."""
        written = state.read(_KEY)
        return cls(_decode(written)) if written else cls()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._times)

    def put(self, key: GroupKey, low_ms: int, high_ms: int) -> None:
        """Let a group wait."""
        known = self._times.get(key, (low_ms, high_ms))
        self._times[key] = (min(low_ms, known[0]), max(high_ms, known[1]))
        self._is_kept = False

    def keep(self, state: DetectionState) -> None:
        """Write down what waits; part of a transaction."""
        if not self._is_kept:
            rows = [(*key, *times) for key, times in self._times.items()]
            state.write(_KEY, msgspec.json.encode(rows).decode())
            self._is_kept = True

    def doubt(self) -> None:
        """A transaction has failed: what it wrote down is not there."""
        self._is_kept = False

    def waiting(self) -> list[tuple[GroupKey, int, int]]:
        """All that wait, with their times."""
        return [(key, low_ms, high_ms) for key, (low_ms, high_ms) in self._times.items()]

    def keep_none(self, state: DetectionState) -> None:
        """Write down that none waits any more; part of the transaction in which they were judged."""
        if self._times:
            state.write(_KEY, "")

    def clear(self) -> None:
        """That transaction is durable."""
        self._times.clear()
        self._is_kept = True
