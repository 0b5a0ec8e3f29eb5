"""Resting: a board beside a collector begins no more queries than leave the cores to it.

To give way is not enough. What runs only when nobody else wants a core still takes room in the caches, and a
core that has such work looks for none of what waits at another core. Who else uses the machine is no reason.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field

from m365watch.board.query.cpu_usage import Work
from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn
from m365watch.common.errors import QueryStopped

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
"""What a query counts for before its work is seen."""
OWED_MAX_S = 1.0
"""A query counts for so much work at most, and nobody waits longer than for this much."""
SLOW = 0.25
"""Of a core: a query that works less, as it waits for the disk, is waited for as if it worked so much."""
REST_MAX_S = 15.0
"""Whoever waits for a page waits no longer for their turn. Two who ask on and on get theirs in time."""
LOOK_S = 0.1
"""The system counts in hundredths of a second: what is nearer together tells nothing."""
CALM_S = 1.0
"""For so long the collector has to be at rest: it waits now and then, and goes on at once."""
STEP_S = 1.0
"""Between two looks of whoever rests for long."""

Turn = Callable[[str], AbstractAsyncContextManager[None]]
"""Is entered when a query of that asker may begin, and left when it has ended."""


@asynccontextmanager
async def at_once(_: str) -> AsyncIterator[None]:
    """The turn of whoever has the machine to themselves."""
    yield


@asynccontextmanager
async def in_time(turn: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
    """The turn of a query that somebody waits for.

    Raises: QueryStopped: the collector has wanted the cores for as long as that one can wait.
    """
    async with AsyncExitStack() as entered:
        try:
            async with asyncio.timeout(REST_MAX_S):
                await entered.enter_async_context(turn)
        except TimeoutError:
            raise QueryStopped(
                "the collector catches up and needs the cores", fix="try again in a minute"
            ) from None
        yield


@dataclass(slots=True, eq=False)
class _Query:
    """One that waits for its turn, has it, or has its asker rest from it."""

    who: str
    begins: asyncio.Event = field(default_factory=asyncio.Event)
    is_seen: bool = False
    """Whether its work is known by now, as far as it has come."""
    is_long: bool = False
    """Whether it has worked as much as it counts for."""
    over_at_s: float = math.inf
    """When its asker may have another one, though the collector wants the cores."""


class Rests:
    """Says when the next query may begin; used by one event loop.

    While the collector wants the cores, of those that have not yet worked as much as a query counts for one
    is at work, and each asker has one. Who began the longest ago is next.
    """

    def __init__(self, clock: Clock, *, read: Callable[[], Work | None]) -> None:
        """Nothing is owed yet. What `read` cannot read, of files or of numbers in them, says nothing."""
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
        self._waiting: list[_Query] = []
        self._at_work: list[_Query] = []
        self._newest: _Query | None = None
        """The one whose work counts."""
        self._room_s = OWED_MAX_S
        """How much of what is done still counts."""
        self._begun_at_s: dict[str, float] = {}
        """When those who ask last began something, as far as anybody has waited since."""
        self._looking: asyncio.Task[None] | None = None
        self._going_on = GoingOn("board")

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """Enter when `who` may begin a query: at once, unless the collector wants the cores."""
        query = _Query(who)
        self._waiting.append(query)
        try:
            self._begin()
            await query.begins.wait()
            yield
        finally:
            self._end(query)

    def look(self) -> None:
        """See what was done since the last look."""
        at_s = self._clock.monotonic_s()
        past_s = at_s - self._seen_at_s
        if past_s < LOOK_S:
            return
        before, now = self._seen, self._queries_work()
        self._seen, self._seen_at_s, self._begun_s = now, at_s, 0.0
        worked_s = 0.0
        if before is None or now is None or before.collector != now.collector:
            self._busy_at_s = -math.inf
        else:
            self._share = SHARE * min(1.0, now.cores / SHARED_CORES)
            if now.collector_s - before.collector_s >= WANTED * now.cores * past_s:
                self._busy_at_s = at_s
            worked_s = now.own_s - before.own_s
        owed_s = self._owed_s + min(worked_s, self._room_s) - self._share * past_s
        self._owed_s = min(max(0.0, owed_s), OWED_MAX_S) if self._is_wanted else 0.0
        self._room_s -= max(worked_s, SLOW * past_s)
        self._at_work = [one for one in self._at_work if one.over_at_s > at_s]
        self._judge_newest()

    def _judge_newest(self) -> None:
        """Whether what is done counts further."""
        if (newest := self._newest) is not None:
            newest.is_seen, newest.is_long = True, self._room_s <= 0
            if newest.is_long or newest not in self._at_work:
                self._newest = None
        if self._newest is None:  # what is done without any query counts as well
            is_any_at_work = any(one.over_at_s == math.inf for one in self._at_work)
            self._room_s = 0.0 if is_any_at_work else OWED_MAX_S

    def _begin(self) -> None:
        """Begin what may begin by now; look again later while anybody waits."""
        self.look()
        while (query := self._next()) is not None:
            self._waiting.remove(query)
            self._at_work.append(query)
            self._newest, self._room_s = query, OWED_MAX_S
            self._begun_at_s[query.who] = self._clock.monotonic_s()
            if self._is_wanted:
                self._begun_s += BEGUN_S
            query.begins.set()
        if not self._waiting:
            self._begun_at_s.clear()
        elif self._looking is None:
            self._looking = asyncio.create_task(self._look_on())

    def _next(self) -> _Query | None:
        if not self._is_wanted:
            return self._waiting[0] if self._waiting else None
        if self._newest is not None or self._owed_s + self._begun_s > BURST_S:
            return None
        busy = {one.who for one in self._at_work}
        able = [one for one in self._waiting if one.who not in busy]
        return min(able, key=lambda one: self._begun_at_s.get(one.who, -math.inf), default=None)

    def _end(self, query: _Query) -> None:
        if query in self._waiting:
            self._waiting.remove(query)
            return
        self._at_work.remove(query)
        self.look()
        if query is self._newest and not query.is_seen:
            self._newest = None  # until the next look it counts for what a query does that was not seen
        if query.is_long and self._is_wanted:
            query.over_at_s = self._clock.monotonic_s() + (OWED_MAX_S - BURST_S) / self._share
            self._at_work.append(query)
        self._begin()

    async def _look_on(self) -> None:
        try:
            while self._waiting:
                await self._clock.sleep(LOOK_S)
                with self._going_on("turns"):
                    self._begin()
        finally:
            self._looking = None

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
        try:
            work = self._read()
        except (OSError, ValueError):  # nobody is to wait on as it cannot be read: it is looked at again
            return None
        done_s, worked_s = self._apart
        apart_s = done_s + (worked_s() if worked_s else 0.0)
        return work and work._replace(own_s=work.own_s - apart_s)
