"""Resting: a board beside a collector begins no more queries than leave the cores to it.

To give way is not enough. What runs only when nobody else wants a core still takes room in the caches, and a
core that has such work looks for none of what waits at another core.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from m365watch.clock import Clock

SHARE = 0.15
"""Of one core: so much the board takes on average while others want them."""
WANTED = 0.4
"""Of the machine: when others use so much of it, they want the cores."""
BURST_S = 0.1
"""Work that is done at once, however busy the machine is: a small page."""
OWED_MAX_S = 1.0
"""Of work that was done nobody waits longer than for this much."""
LOOK_S = 0.1
"""The system counts in hundredths of a second: what is nearer together tells nothing."""
CALM_S = 1.0
"""For so long the others have to be at rest: a collector waits now and then, and goes on at once."""
STEP_S = 1.0
"""Between two looks of whoever rests for long."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STAT = Path("/proc/stat")

Turn = Callable[[], Awaitable[None]]
"""Returns when a query may begin."""


class Work(NamedTuple):
    """Seconds of work since the start of the machine, and of this process."""

    every_s: float
    """Of everybody, on all cores."""
    own_s: float
    cores: int


async def at_once() -> None:
    """The turn of whoever has the machine to themselves."""


def read_work() -> Work | None:
    """As the system counts it; None where it does not say."""
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft = map(int, lines[0].split()[1:8])
    cores = sum(line.startswith("cpu") for line in lines) - 1
    own = os.times()
    every_s = (user + nice + system + interrupts + soft) / _TICKS_PER_S
    return Work(every_s, own.user + own.system + own.children_user + own.children_system, cores)


class Rests:
    """Says when the next query may begin; used by one event loop."""

    def __init__(self, clock: Clock, *, read: Callable[[], Work | None] = read_work) -> None:
        """Nothing is owed yet."""
        self._clock = clock
        self._read = read
        self._seen = read()
        self._seen_at_s = clock.monotonic_s()
        self._owed_s = 0.0
        self._busy_at_s = -math.inf
        """When others last wanted the cores."""

    async def turn(self) -> None:
        """Return when a query may begin: at once, but after much work while others want the cores."""
        self._look()
        while self._owed_s > BURST_S:
            await self._clock.sleep(LOOK_S)
            self._look()

    async def rest_from(self, work_s: float) -> None:
        """Return when so much work that no query did has been rested from; no query waits for it."""
        self._look()
        self._owed_s = max(0.0, self._owed_s - work_s)
        left_s = work_s / SHARE
        while left_s > 0 and self._are_wanted:
            await self._clock.sleep(STEP_S)
            left_s -= STEP_S
            self._look()

    @property
    def _are_wanted(self) -> bool:
        return self._seen_at_s < self._busy_at_s + CALM_S

    def _look(self) -> None:
        at_s = self._clock.monotonic_s()
        past_s = at_s - self._seen_at_s
        if past_s < LOOK_S:
            return
        before, now = self._seen, self._read()
        self._seen, self._seen_at_s = now, at_s
        if before is None or now is None:
            return
        if are_wanted(before, now, past_s=past_s):
            self._busy_at_s = at_s
        if not self._are_wanted:
            self._owed_s = 0.0
            return
        owed_s = self._owed_s + now.own_s - before.own_s - SHARE * past_s
        self._owed_s = min(max(0.0, owed_s), OWED_MAX_S)


def are_wanted(before: Work, now: Work, *, past_s: float) -> bool:
    """Whether others wanted the cores in these seconds."""
    others_s = (now.every_s - before.every_s) - (now.own_s - before.own_s)
    return others_s >= WANTED * now.cores * past_s
