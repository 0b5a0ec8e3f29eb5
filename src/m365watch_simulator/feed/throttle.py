"""How many requests came in the last minute, and whether one more is too many."""

from __future__ import annotations

from collections import deque

_MINUTE_S = 60.0


class Throttle:
    """A sliding minute with an optional limit; a refused request does not count against it."""

    def __init__(self, per_minute: int | None) -> None:
        """None counts only and never refuses."""
        self._per_minute = per_minute
        self._seen = _Minute()
        self._allowed = _Minute()
        self.peak = 0
        """The most requests seen within any 60 s, refused ones included."""

    def allows(self, now_s: float) -> bool:
        """Count a request at `now_s` of a monotonic clock; False if it is over the limit."""
        self._seen.add(now_s)
        self.peak = max(self.peak, self._seen.count(now_s))
        if self._per_minute is None:
            return True
        if self._allowed.count(now_s) >= self._per_minute:
            return False
        self._allowed.add(now_s)
        return True


class _Minute:
    """The instants of the last 60 s."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque()

    def add(self, now_s: float) -> None:
        self._times_s.append(now_s)

    def count(self, now_s: float) -> int:
        while self._times_s and self._times_s[0] <= now_s - _MINUTE_S:
            self._times_s.popleft()
        return len(self._times_s)
