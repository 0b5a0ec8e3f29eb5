"""How many requests each token may make: a bucket of permits for each, which fills up again with time."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from m365watch.common.clock import Clock

PER_SECOND = 10.0
AT_ONCE = 60
"""Permits that a token can save up."""
TOKENS_MAX = 1_000
"""Buckets that are kept; the one that was not used for longest gives way, and begins full."""


class Pace:
    """The buckets of all tokens."""

    def __init__(self, clock: Clock, *, per_second: float = PER_SECOND, at_once: int = AT_ONCE) -> None:
        """Every bucket is full."""
        self._clock = clock
        self._per_second = per_second
        self._at_once = at_once
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, token: str) -> int:
        """0 where the request may be made; otherwise in how many seconds it may."""
        now_s = self._clock.monotonic_s()
        left, since_s = self._buckets.pop(token, (float(self._at_once), now_s))
        left = min(float(self._at_once), left + (now_s - since_s) * self._per_second)
        is_let = left >= 1
        self._buckets[token] = (left - 1 if is_let else left, now_s)
        if len(self._buckets) > TOKENS_MAX:
            self._buckets.popitem(last=False)
        return 0 if is_let else ceil((1 - left) / self._per_second)

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)
