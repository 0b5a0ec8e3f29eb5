"""The only reader of time and the only source of chance; everything else is handed these ports."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """What the collector may know about time."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never jumps; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; can be cancelled."""
        ...


class Random(Protocol):
    """What the collector may know about chance: jitter and nothing else."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Seconds on the system's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; can be cancelled."""
        await asyncio.sleep(seconds)


def thread_cpu_s() -> float:
    """Seconds of work that the calling thread has done; only differences mean anything."""
    return time.thread_time()


def thread_work() -> Callable[[], float]:
    """Tells from any thread what `thread_cpu_s` would tell the calling one, while that lives."""
    return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))


def system_random(seed: int | None = None) -> Random:
    """A source of jitter; with a seed, the same jitter every time."""
    return random.Random(seed)  # noqa: S311 - spreads retries, guards nothing
