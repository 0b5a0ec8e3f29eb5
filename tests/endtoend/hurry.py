"""A loop and a clock that run some times faster than the wall, so that back-off costs no patience."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from m365watch.testing.clock import START

T = TypeVar("T")

FACTOR = 20.0
"""Seconds of the loop per second of the wall."""


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
        return time.monotonic() * FACTOR

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
        return super().select(timeout and timeout / FACTOR)


class _HurriedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_HurriedSelector())

    def time(self) -> float:
        return super().time() * FACTOR


def run_hurried(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of `coroutine`, whose seconds are `FACTOR` times shorter."""
    with asyncio.Runner(loop_factory=_HurriedLoop) as runner:
        return runner.run(coroutine)
