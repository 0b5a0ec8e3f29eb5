"""A board beside a collector rests while others want the cores, and never otherwise."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asking import view_of
from m365watch.board.hits_reader import asked_of
from m365watch.board.lake_reader import FactsReader
from m365watch.board.queries.activity import TOTAL
from m365watch.board.resting import BURST_S, CALM_S, LOOK_S, OWED_MAX_S, SHARE, Rests, Work, read_work
from m365watch.testing.clock import FakeClock

CORES = 2


class Machine:
    """A machine of two cores on which a board and others work."""

    def __init__(self, *, others: float) -> None:
        """`others` is how many cores they use."""
        self.clock = FakeClock(jumps=True)
        self.others = others
        self.ended_s = math.inf
        """When the others have ended."""
        self.pause_s = 0.0
        """How long they wait at the end of every two seconds."""
        self.own_s = 0.0
        self.rests = Rests(self.clock, read=self.read)

    def read(self) -> Work | None:
        """What the system would say."""
        rounds, past_s = divmod(min(self.clock.monotonic_s(), self.ended_s), 2.0)
        busy_s = 2.0 - self.pause_s
        others_s = self.others * (rounds * busy_s + min(past_s, busy_s))
        return Work(others_s + self.own_s, self.own_s, CORES)

    async def query(self, work_s: float) -> None:
        """Wait for the turn, and do so much work on one core."""
        await self.rests.turn()
        self.own_s += work_s
        await self.clock.sleep(work_s)

    @property
    def share(self) -> float:
        """Of one core, so far."""
        return self.own_s / self.clock.monotonic_s()


@pytest.mark.parametrize("work_s", [0.01, 0.2, 1.0])
def test_who_is_asked_on_and_on_takes_its_share(work_s: float) -> None:
    """However long its queries are; the first of them are answered at once."""
    machine = Machine(others=1.8)

    async def ask() -> None:
        while machine.own_s < 20:
            await machine.query(work_s)

    asyncio.run(ask())

    assert SHARE * 0.9 < machine.share < SHARE * 1.2


def test_a_page_is_answered_at_once_on_a_busy_machine() -> None:
    """Whoever looks now and then waits for nothing."""
    machine = Machine(others=1.8)

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


@pytest.mark.parametrize("others", [0.0, 0.3, 0.7])
def test_nobody_rests_while_nobody_wants_the_cores(others: float) -> None:
    """What the board itself takes is no reason."""
    machine = Machine(others=others)

    async def ask() -> None:
        for _ in range(20):
            await machine.query(1.0)

    asyncio.run(ask())

    assert machine.share == 1.0


def test_a_rest_ends_when_the_others_have_ended() -> None:
    """And is not longer than for some pages, whatever was done before."""
    machine = Machine(others=1.8)

    async def ask() -> float:
        await machine.query(60.0)
        begun_s = machine.clock.monotonic_s()
        await machine.rests.turn()
        rested_s = machine.clock.monotonic_s() - begun_s
        await machine.query(60.0)
        machine.ended_s = machine.clock.monotonic_s()
        await machine.query(0.0)
        return rested_s

    rested_s = asyncio.run(ask())

    assert rested_s == pytest.approx((OWED_MAX_S - BURST_S) / SHARE, abs=2 * LOOK_S)
    assert machine.clock.monotonic_s() - rested_s - 120 <= CALM_S + 2 * LOOK_S


def test_who_waits_for_a_moment_still_wants_the_cores() -> None:
    """A collector waits for the disk, and then goes on: that is not the end of it."""
    machine = Machine(others=1.8)
    machine.pause_s = 0.5

    async def ask() -> None:
        while machine.own_s < 20:
            await machine.query(0.2)

    asyncio.run(ask())

    assert machine.share < SHARE * 1.2


def test_no_query_waits_for_what_was_none() -> None:
    """Rollups rest by themselves, for as long as that work takes for the share."""
    machine = Machine(others=1.8)

    async def keep() -> tuple[float, float]:
        machine.own_s += 3.0
        await machine.clock.sleep(3.0)
        resting = asyncio.ensure_future(machine.rests.rest_from(3.0))
        await asyncio.sleep(0)
        begun_s = machine.clock.monotonic_s()
        await machine.rests.turn()
        asked_s = machine.clock.monotonic_s()
        await resting
        return asked_s - begun_s, machine.clock.monotonic_s() - begun_s

    waited_s, rested_s = asyncio.run(keep())

    assert waited_s < LOOK_S
    assert rested_s == pytest.approx(3.0 / SHARE, abs=1.0)


def test_where_the_system_says_nothing_nobody_rests() -> None:
    """Not every system counts so."""

    async def ask() -> float:
        clock = FakeClock(jumps=True)
        rests = Rests(clock, read=lambda: None)
        await clock.sleep(1.0)
        await rests.turn()
        return clock.monotonic_s()

    assert asyncio.run(ask()) == 1.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts so")
def test_the_work_of_all_has_ones_own_in_it() -> None:
    """In seconds, of all cores; the system counts others' work in the same way."""
    before = read_work()
    sum(range(3_000_000))
    now = read_work()

    assert before is not None
    assert now is not None
    assert 0 <= now.own_s - before.own_s <= now.every_s - before.every_s + 0.5
    assert now.own_s <= now.every_s
    assert now.cores == os.cpu_count()


@pytest.mark.parametrize("asks", ["facts", "hits", "sql"])
def test_every_way_to_the_lake_waits_for_its_turn(collected: Path, asks: str) -> None:
    """Panels, searches and what analysts write themselves."""
    waited: list[str] = []

    async def turn() -> None:
        waited.append(asks)

    facts = FactsReader(collected.parent / "lake", turn=turn)
    view = view_of("range=30d")
    ways: dict[str, Callable[[], object]] = {
        "facts": lambda: facts.ask(view, TOTAL),
        "hits": lambda: facts.hits.find(asked_of(view, None), before_s=None, rows=1),
        "sql": lambda: facts.sql.ask("SELECT 1", tenants=None, sees_trail=True, rows_max=1),
    }

    async def ask() -> None:
        await ways[asks]()  # type: ignore[misc]

    try:
        asyncio.run(ask())
    finally:
        facts.close()

    assert waited == [asks]
