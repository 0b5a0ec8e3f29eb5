"""A loop and a clock whose waits are some times shorter than they say, so that back-off costs no patience.

Only waiting is hurried: while something is at work the time is the wall's, so that on a busy machine no
deadline passes which would not pass in earnest.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from patience import PATIENCE_S

from m365watch_testing.clock import START

T = TypeVar("T")

FACTOR = 20.0
"""Seconds of the loop per second of waiting."""
PATIENCE_HURRIED_S = PATIENCE_S * FACTOR
"""How long a test waits for what has to happen. Threads are not hurried, and what they are at is waiting."""


class _Pace:
    """How far the hurried time is ahead of the wall's; one for all clocks and loops."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return time.monotonic() + self.ahead_s


_PACE = _Pace()


class HurriedClock:
    """Implements `Clock` for such a loop; its first day is the same in every run."""

    def __init__(self) -> None:
        self._started_s = self.monotonic_s()
        self._skipped_s = 0.0
        self._frozen_at: datetime | None = None

    def now(self) -> datetime:
        if self._frozen_at is not None:
            return self._frozen_at
        passed_s = self.monotonic_s() - self._started_s + self._skipped_s
        return START + timedelta(seconds=passed_s)

    def monotonic_s(self) -> float:
        return _PACE.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def skip(self, seconds: float) -> None:
        """Move `now` on at once."""
        self._skipped_s += seconds

    def freeze(self) -> None:
        """Let `now` stand still from here on; waiting goes on as before."""
        self._frozen_at = self.now()


class _HurriedSelector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        began_s, most_s = time.monotonic(), timeout / FACTOR
        found = super().select(most_s)
        # A process that was not let on for longer has not waited for longer.
        _PACE.ahead_s += min(time.monotonic() - began_s, most_s) * (FACTOR - 1)
        return found


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return _PACE.monotonic_s()


def run_hurried(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine`, whose seconds of waiting are `FACTOR` times shorter."""
    with asyncio.Runner(loop_factory=_HurriedLoop) as runner:
        return runner.run(coroutine)
