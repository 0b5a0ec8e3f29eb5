"""Resting: a board beside a collector begins no more queries than leave the cores to it.

To give way is not enough. What runs only when nobody else wants a core still takes room in the caches, and a
core that has such work looks for none of what waits at another core. Who else uses the machine is no reason.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from m365watch.board.working import Work
from m365watch.clock import Clock
from m365watch.errors import QueryStopped

SHARE = 0.15
"""Of one core: so much queries take on average while the collector wants the cores."""
SHARED_CORES = 2
"""Where the collector may use fewer, they take as much less."""
WANTED = 0.1
"""Of the cores: when the collector uses so much of them, it wants them. One that keeps up uses a thirtieth of
a core; one that catches up uses one or more, or a third where others take them."""
BURST_S = 0.1
"""Work that is done at once, however busy the collector is: a small page."""
BEGUN_S = BURST_S / 4
"""What a query counts for before its work is seen: of those that wait, a few begin at a time."""
OWED_MAX_S = 1.0
"""Of work that was done nobody waits longer than for this much."""
REST_MAX_S = 10.0
"""Half of what a query may take: whoever waits for a page waits no longer for their turn."""
LOOK_S = 0.1
"""The system counts in hundredths of a second: what is nearer together tells nothing."""
CALM_S = 1.0
"""For so long the collector has to be at rest: it waits now and then, and goes on at once."""
STEP_S = 1.0
"""Between two looks of whoever rests for long."""

Turn = Callable[[], Awaitable[None]]
"""Returns when a query may begin."""


async def at_once() -> None:
    """The turn of whoever has the machine to themselves."""


async def in_time(turn: Turn) -> None:
    """Return when a query may begin that somebody waits for.

    Raises: QueryStopped: the collector has wanted the cores for as long as that one can wait.
    """
    try:
        async with asyncio.timeout(REST_MAX_S):
            await turn()
    except TimeoutError:
        raise QueryStopped(
            "the collector catches up and needs the cores", fix="try again in a minute"
        ) from None


class Rests:
    """Says when the next query may begin; used by one event loop."""

    def __init__(self, clock: Clock, *, read: Callable[[], Work | None]) -> None:
        """Nothing is owed yet."""
        self._clock = clock
        self._read = read
        self._apart: tuple[float, Callable[[], float] | None] = (0.0, None)
        """What was done that is no query's, and who tells how much of that is added just now."""
        self._seen = self._queries_work()
        self._seen_at_s = clock.monotonic_s()
        self._share = SHARE
        self._owed_s = 0.0
        self._begun_s = 0.0
        """For queries that began since the last look."""
        self._busy_at_s = -math.inf
        """When the collector last wanted the cores."""

    async def turn(self) -> None:
        """Return when a query may begin: at once, but after much work while the collector wants the cores."""
        self.look()
        while self._owed_s + self._begun_s > BURST_S:
            await self._clock.sleep(LOOK_S)
            self.look()
        if self._is_wanted:
            self._begun_s += BEGUN_S

    def look(self) -> None:
        """See what was done since the last look."""
        at_s = self._clock.monotonic_s()
        past_s = at_s - self._seen_at_s
        if past_s < LOOK_S:
            return
        before, now = self._seen, self._queries_work()
        self._seen, self._seen_at_s, self._begun_s = now, at_s, 0.0
        if before is None or now is None or before.collector != now.collector:
            self._owed_s = 0.0
            return
        self._share = SHARE * min(1.0, now.cores / SHARED_CORES)
        if now.collector_s - before.collector_s >= WANTED * now.cores * past_s:
            self._busy_at_s = at_s
        if not self._is_wanted:
            self._owed_s = 0.0
            return
        owed_s = self._owed_s + now.own_s - before.own_s - self._share * past_s
        self._owed_s = min(max(0.0, owed_s), OWED_MAX_S)

    @contextmanager
    def apart(self, worked_s: Callable[[], float]) -> Iterator[None]:
        """What is done while entered, as `worked_s` tells at any time, is no query's: none waits for it."""
        done_s, begun_s = self._apart[0], worked_s()
        self._apart = (done_s - begun_s, worked_s)
        try:
            yield
        finally:
            self._apart = (done_s - begun_s + worked_s(), None)

    async def rest_from(self, work_s: float) -> None:
        """Return when so much work that no query did has been rested from."""
        self.look()
        left_s = work_s / self._share
        while left_s > 0 and self._is_wanted:
            await self._clock.sleep(STEP_S)
            left_s -= STEP_S
            self.look()

    @property
    def _is_wanted(self) -> bool:
        return self._seen_at_s < self._busy_at_s + CALM_S

    def _queries_work(self) -> Work | None:
        work = self._read()
        done_s, worked_s = self._apart
        apart_s = done_s + (worked_s() if worked_s else 0.0)
        return work and work._replace(own_s=work.own_s - apart_s)
