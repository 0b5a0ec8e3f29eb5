"""A board beside a collector rests while that wants the cores, never otherwise, and never for long."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from asking import view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.query import query_throttle as resting
from m365watch.board.query.cpu_usage import Work
from m365watch.board.query.fact_queries import LIMIT_S, FactsReader
from m365watch.board.query.query_throttle import (
    BURST_S,
    CALM_S,
    LOOK_S,
    OWED_MAX_S,
    REST_MAX_S,
    SHARE,
    Rests,
    Turn,
)
from m365watch.board.query.search_queries import asked_of
from m365watch.board.query.sql.activity_queries import TOTAL
from m365watch.common.clock import thread_work
from m365watch.common.errors import QueryStopped
from m365watch_testing.clock import FakeClock


class Machine:
    """A machine on which a board and a collector work."""

    def __init__(self, *, collector: float, cores: float = 2) -> None:
        """`collector` is how many of the cores it uses."""
        self.clock = FakeClock(jumps=True)
        self.collector = collector
        self.cores = cores
        self.process = 1
        self.done_s = 0.0
        """What the collector did before it was seen."""
        self.ended_s = math.inf
        """When it has done all."""
        self.gone_s = math.inf
        """When its process is no more."""
        self.pause_s = 0.0
        """How long it waits at the end of every two seconds."""
        self.own_s = 0.0
        self.rests = Rests(self.clock, read=self.read)

    def read(self) -> Work | None:
        """What the system would say."""
        if self.clock.monotonic_s() >= self.gone_s:
            return None
        rounds, past_s = divmod(min(self.clock.monotonic_s(), self.ended_s), 2.0)
        busy_s = 2.0 - self.pause_s
        collector_s = self.done_s + self.collector * (rounds * busy_s + min(past_s, busy_s))
        return Work(self.process, collector_s, self.own_s, self.cores)

    async def query(self, work_s: float, who: str = "ann") -> None:
        """Wait for the turn of `who`, and do so much work on one core."""
        async with self.rests.turn(who):
            self.own_s += work_s
            await self.clock.sleep(work_s)

    @property
    def share(self) -> float:
        """Of one core, so far."""
        return self.own_s / self.clock.monotonic_s()


@guarantee(47)
@pytest.mark.parametrize("collector", [0.35, 1.8])
@pytest.mark.parametrize("work_s", [0.01, 0.2, 1.0])
def test_who_is_asked_on_and_on_takes_its_share(work_s: float, collector: float) -> None:
    """However long its queries are, also where neighbours leave the collector a third of a core."""
    machine = Machine(collector=collector)

    async def ask() -> None:
        while machine.own_s < 20:
            await machine.query(work_s)

    asyncio.run(ask())

    assert SHARE * 0.9 < machine.share < SHARE * 1.2


@guarantee(47)
@pytest.mark.parametrize(("cores", "share"), [(0.5, 0.25), (1.0, 0.5), (64.0, 1.0)])
def test_of_fewer_cores_a_smaller_share_is_taken(cores: float, share: float) -> None:
    """A tenth of what the collector may use is more than it is to lose."""
    machine = Machine(collector=0.9 * min(cores, 10), cores=cores)

    async def ask() -> None:
        while machine.own_s < 20:
            await machine.query(0.2)

    asyncio.run(ask())

    assert SHARE * share * 0.9 < machine.share < SHARE * share * 1.2


def test_a_page_is_answered_at_once_on_a_busy_machine() -> None:
    """Whoever looks now and then waits for nothing."""
    machine = Machine(collector=1.8)

    async def look() -> list[float]:
        waited = []
        for _ in range(5):
            await machine.clock.sleep(BURST_S / SHARE)
            for _ in range(4):
                begun_s = machine.clock.monotonic_s()
                await machine.query(BURST_S / 4)
                waited.append(machine.clock.monotonic_s() - begun_s - BURST_S / 4)
        return waited

    assert max(asyncio.run(look())) < LOOK_S


@guarantee(47)
@pytest.mark.parametrize("collector", [0.0, 0.05, 0.15])
def test_nobody_rests_while_the_collector_does_little(collector: float) -> None:
    """What the board itself takes is no reason."""
    machine = Machine(collector=collector)

    async def ask() -> None:
        for _ in range(20):
            await machine.query(1.0)

    asyncio.run(ask())

    assert machine.share == 1.0


def test_a_rest_ends_when_the_collector_has_done_all() -> None:
    """And is not longer than for some pages, whatever was done before."""
    machine = Machine(collector=1.8)

    async def ask() -> float:
        await machine.query(60.0)
        begun_s = machine.clock.monotonic_s()
        await machine.query(0.0)
        rested_s = machine.clock.monotonic_s() - begun_s
        await machine.query(60.0)
        machine.ended_s = machine.clock.monotonic_s()
        await machine.query(0.0)
        return rested_s

    rested_s = asyncio.run(ask())

    assert rested_s == pytest.approx((OWED_MAX_S - BURST_S) / SHARE, abs=2 * LOOK_S)
    assert machine.clock.monotonic_s() - rested_s - 120 <= CALM_S + 4 * LOOK_S


def test_who_waits_for_a_moment_still_wants_the_cores() -> None:
    """A collector waits for the disk, and then goes on: that is not the end of it."""
    machine = Machine(collector=1.8)
    machine.pause_s = 0.5

    async def ask() -> None:
        while machine.own_s < 20:
            await machine.query(0.2)

    asyncio.run(ask())

    assert machine.share < SHARE * 1.2


@guarantee(47)
def test_those_that_wait_begin_one_after_the_other() -> None:
    """Many panels at once, and other people's: what has begun counts before its work is seen."""
    machine = Machine(collector=1.8)

    async def ask(who: str) -> None:
        for _ in range(20):
            await machine.query(0.1, who)

    async def ask_all() -> None:
        await asyncio.gather(*(ask(f"analyst {number}") for number in range(24)))

    asyncio.run(ask_all())

    assert machine.share < SHARE * 1.2


def test_a_rest_ends_when_the_collector_is_gone() -> None:
    """Where nobody collects nobody is in the way of it."""
    machine = Machine(collector=1.8)

    async def ask() -> float:
        await machine.query(1.0)
        machine.gone_s = begun_s = machine.clock.monotonic_s()
        await machine.query(0.0)
        return machine.clock.monotonic_s() - begun_s

    assert asyncio.run(ask()) <= 2 * LOOK_S


def test_a_collector_that_takes_the_place_of_another_is_not_taken_for_busy() -> None:
    """What it did before it was seen is long ago."""
    machine = Machine(collector=0.0)

    async def ask() -> float:
        await machine.query(1.0)
        machine.process, machine.done_s = 2, 1000.0
        await machine.query(1.0)
        await machine.query(1.0)
        return machine.share

    assert asyncio.run(ask()) == 1.0


@guarantee(47)
def test_no_query_waits_for_what_is_none() -> None:
    """Rollups rest by themselves, as long as that work takes of the share; nobody waits meanwhile."""
    machine = Machine(collector=1.8)

    async def keep() -> tuple[float, float]:
        waited_s = 0.0
        begun_s = machine.own_s
        with machine.rests.apart(lambda: machine.own_s - begun_s):
            for _ in range(3):
                machine.own_s += 1.0
                await machine.clock.sleep(1.0)
                asked_s = machine.clock.monotonic_s()
                await machine.query(0.0)
                waited_s = max(waited_s, machine.clock.monotonic_s() - asked_s)
        asked_s = machine.clock.monotonic_s()
        await machine.query(0.0)
        waited_s = max(waited_s, machine.clock.monotonic_s() - asked_s)
        begun_s = machine.clock.monotonic_s()
        await machine.rests.rest_from(3.0)
        return waited_s, machine.clock.monotonic_s() - begun_s

    waited_s, rested_s = asyncio.run(keep())

    assert waited_s < LOOK_S
    assert rested_s == pytest.approx(3.0 / SHARE, abs=1.0)


def test_where_the_system_says_nothing_nobody_rests() -> None:
    """Not every system counts so."""

    async def ask() -> float:
        clock = FakeClock(jumps=True)
        rests = Rests(clock, read=lambda: None)
        await clock.sleep(1.0)
        async with rests.turn("ann"):
            return clock.monotonic_s()

    assert asyncio.run(ask()) == 1.0


@pytest.mark.parametrize("unread", [OSError(24, "Too many open files"), ValueError("no number")])
@pytest.mark.parametrize("after_s", [0.0, 2 * LOOK_S])
def test_who_waits_alone_begins_though_the_work_cannot_be_read_once(
    unread: Exception, after_s: float
) -> None:
    """An export waits for as long as it takes, and nobody else may ask to have it looked at again."""
    machine = Machine(collector=1.8)

    def read() -> Work | None:
        if machine.clock.monotonic_s() >= broken_at_s and not said:
            said.append(unread)
            raise unread
        return machine.read()

    said: list[Exception] = []
    broken_at_s = math.inf
    machine.rests = Rests(machine.clock, read=read)

    async def wait_alone() -> None:
        nonlocal broken_at_s
        await machine.query(60.0)
        broken_at_s = machine.clock.monotonic_s() + after_s
        async with asyncio.timeout(PATIENCE_S):
            await machine.query(0.0)

    asyncio.run(wait_alone())

    assert said == [unread]


def test_turns_are_given_on_after_a_defect() -> None:
    """It is told once; whoever waited alone would have waited for ever, and nobody knew why."""
    machine = Machine(collector=1.8)
    left = 0

    def read() -> Work | None:
        nonlocal left
        if left and machine.clock.monotonic_s() >= broken_at_s:
            left -= 1
            raise RuntimeError("nobody has thought of it")
        return machine.read()

    broken_at_s = math.inf
    machine.rests = Rests(machine.clock, read=read)

    async def wait_alone() -> None:
        nonlocal broken_at_s, left
        await machine.query(60.0)
        broken_at_s, left = machine.clock.monotonic_s() + 2 * LOOK_S, 3
        async with asyncio.timeout(10):
            await machine.query(0.0)

    with capture_logs() as heard:
        asyncio.run(wait_alone())

    [line] = [one["event"] for one in heard if one["log_level"] == "error"]
    assert left == 0
    assert line.startswith("board: unexpected RuntimeError in ")


def test_a_thread_is_told_its_own_work_by_another() -> None:
    """And nothing of what the other does."""
    given: list[Callable[[], float]] = []
    ended = threading.Event()

    def work() -> None:
        given.append(thread_work())
        sum(range(2_000_000))
        given.append(thread_work())
        ended.wait()

    working = threading.Thread(target=work)
    working.start()
    while len(given) < 2:
        sum(range(100_000))
    before_s = given[0]()
    sum(range(2_000_000))
    after_s = given[1]()
    ended.set()
    working.join()

    assert before_s > 0.005
    assert after_s - before_s < 0.005


@guarantee(47)
@pytest.mark.parametrize("asks", ["facts", "hits", "sql"])
def test_whoever_waits_for_a_page_does_not_rest_for_long(
    collected: Path, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told why, and what to do; it is less than what a query may take."""
    assert REST_MAX_S < LIMIT_S
    monkeypatch.setattr(resting, "REST_MAX_S", 0.01)

    @asynccontextmanager
    async def turn(_: str) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    with pytest.raises(QueryStopped, match="the collector catches up and needs the cores"):
        ask_in(collected, turn, asks)


@guarantee(47)
@pytest.mark.parametrize("asks", ["facts", "hits", "sql"])
def test_every_way_to_the_lake_waits_for_its_turn(collected: Path, asks: str) -> None:
    """Panels, searches and what analysts write themselves."""
    waited: list[str] = []

    @asynccontextmanager
    async def turn(who: str) -> AsyncIterator[None]:
        waited.append(who)
        yield
        waited.append("answered")

    ask_in(collected, turn, asks)

    assert waited == ["person/ann", "answered"]


def ask_in(collected: Path, turn: Turn, asks: str) -> None:
    """Ask something that answers soon, in one of the ways."""
    facts = FactsReader(collected.parent / "lake", turn=turn)
    view = view_of("range=30d", Access("ann", Role.VIEWER, tenants=None))
    ways: dict[str, Callable[[], object]] = {
        "facts": lambda: facts.ask(view, TOTAL),
        "hits": lambda: facts.hits.find(asked_of(view, None), who=view.access.asker, before_s=None, rows=1),
        "sql": lambda: facts.sql.ask(
            "SELECT 1", who=view.access.asker, tenants=None, sees_trail=True, rows_max=1
        ),
    }

    async def ask() -> None:
        await ways[asks]()  # type: ignore[misc]

    try:
        asyncio.run(ask())
    finally:
        facts.close()
