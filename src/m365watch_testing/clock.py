"""Clocks for tests: one that stands still until it is told to go on, and one that is set to another day."""

from __future__ import annotations

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

from m365watch.common.clock import SystemClock

START = datetime(2026, 11, 17, 9, 0, tzinfo=UTC)
"""Where a fake clock starts unless told otherwise."""

_TURNS = 20
"""How often the loop goes round after each wake, so that whoever woke gets on with it."""


class FakeClock:
    """Implements `Clock`: `advance` moves it, or each sleeper does where it `jumps`."""

    def __init__(self, start: datetime = START, *, jumps: bool = False) -> None:
        """With `jumps`, a sleep ends at once and has taken its time all the same."""
        self.slept_s: list[float] = []
        """Every sleep that was asked for."""
        self._start = start
        self._elapsed_s = 0.0
        self._jumps = jumps
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """The start and what has passed since."""
        return self._start + timedelta(seconds=self._elapsed_s)

    def set_back(self, hours: float) -> None:
        """Have the time of day jump back, as where it was ahead and is corrected; nobody waits longer."""
        self._start -= timedelta(hours=hours)

    def monotonic_s(self) -> float:
        """Seconds since the start."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has moved on by `seconds`."""
        self.slept_s.append(seconds)
        wakes_at_s = self._elapsed_s + max(seconds, 0.0)
        if self._jumps:
            await asyncio.sleep(0)
            self._elapsed_s = max(self._elapsed_s, wakes_at_s)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (wakes_at_s, next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Move on by `seconds`, waking the sleepers in order, each at its own instant."""
        until_s = self._elapsed_s + seconds
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            wakes_at_s, _, wake = heapq.heappop(self._sleepers)
            self._elapsed_s = max(self._elapsed_s, wakes_at_s)
            if not wake.done():
                wake.set_result(None)
                await _settle()
        self._elapsed_s = until_s


class ShiftedClock(SystemClock):
    """The machine's clock, `shift_s` ahead of its own time of day."""

    def __init__(self, shift_s: float) -> None:
        """Negative seconds set it back."""
        self.shift_s = shift_s

    @classmethod
    def set_to(cls, at: datetime) -> ShiftedClock:
        """A clock that shows `at` now and goes on from there."""
        return cls((at - SystemClock().now()).total_seconds())

    def now(self) -> datetime:
        """The machine's instant and the shift."""
        return super().now() + timedelta(seconds=self.shift_s)


async def _settle() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
