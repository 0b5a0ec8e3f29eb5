"""Beside a busy collector nobody's flood takes others' turns, or more than it may of the cores."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from promises import guarantee

from m365watch.board.query.cpu_usage import Work
from m365watch.board.query.query_throttle import BURST_S, LOOK_S, OWED_MAX_S, REST_MAX_S, SHARE, SLOW, Rests
from m365watch_testing.clock import FakeClock

STEP_S = 0.05
TIME_S = 120.0


class Crowd:
    """People that ask at the same time, and a machine that works for them and for a collector."""

    def __init__(self) -> None:
        """The collector uses nearly all of two cores."""
        self.clock = FakeClock()
        self.begun: list[tuple[float, float, float]] = []
        """Of each query when it began, how much it works in all, and on how many cores."""
        self.waited_s: dict[str, list[float]] = {}
        self.failing = False
        self.rests = Rests(self.clock, read=self.read)

    def read(self) -> Work:
        """What the system would say."""
        if self.failing:
            raise RuntimeError("a defect")
        now_s = self.clock.monotonic_s()
        own_s = sum(min(work_s, (now_s - at_s) * cores) for at_s, work_s, cores in self.begun)
        return Work(1, 1.9 * now_s, own_s, 2.0)

    async def ask(self, who: str, work_s: float, *, cores: float = 1.0) -> None:
        """One query, once its turn has come."""
        asked_s = self.clock.monotonic_s()
        async with self.rests.turn(who):
            at_s = self.clock.monotonic_s()
            self.waited_s.setdefault(who, []).append(at_s - asked_s)
            self.begun.append((at_s, work_s, cores))
            await self.clock.sleep(work_s / cores)

    async def flood(self, who: str, work_s: float, *, together: int) -> None:
        """So many queries of one asker at any time, for ever."""

        async def ask() -> None:
            while True:
                await self.ask(who, work_s)

        await asyncio.gather(*(ask() for _ in range(together)))

    async def act(self, *acts: Coroutine[Any, Any, None]) -> float:
        """Let all of that go on for some time; the share of one core that queries took."""
        await self.clock.advance(1.0)
        self.rests.look()
        tasks = [asyncio.create_task(one) for one in acts]
        for _ in range(round(TIME_S / STEP_S)):
            await self.clock.advance(STEP_S)
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.read().own_s / TIME_S


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


@guarantee(47)
@pytest.mark.parametrize("people", [1, 10])
@pytest.mark.parametrize(("work_s", "share"), [(0.02, SHARE), (0.5, SHARE), (1.0, SHARE), (2.0, 2 * SHARE)])
def test_a_flood_takes_its_share_and_no_more(crowd: Crowd, work_s: float, share: float, people: int) -> None:
    """Of those that wait together each counts, for a second at most: ten at once took half of a core."""
    floods = [crowd.flood(f"analyst {number}", work_s, together=20 // people) for number in range(people)]

    assert 0.7 * share < asyncio.run(crowd.act(*floods)) < 1.2 * share


@guarantee(47)
def test_one_persons_flood_leaves_others_their_turns(crowd: Crowd) -> None:
    """Of forty of one person's and five of another's, two to four of the five were refused."""

    async def look() -> None:
        while True:
            await crowd.ask("ben", 2.0)
            await crowd.clock.sleep(1.0)

    asyncio.run(crowd.act(crowd.flood("ann", 2.0, together=40), look()))

    assert len(crowd.waited_s["ben"]) >= TIME_S / 15
    assert max(crowd.waited_s["ben"]) < REST_MAX_S


def test_whoever_looks_now_and_then_is_before_a_flood(crowd: Crowd) -> None:
    """They wait for what has begun already, and for none of what waits."""

    async def look() -> None:
        while True:
            await crowd.clock.sleep(20.0)
            await crowd.ask("ben", 0.1)

    asyncio.run(crowd.act(crowd.flood("ann", 1.0, together=40), look()))

    assert max(crowd.waited_s["ben"]) <= (OWED_MAX_S - BURST_S) / SHARE + OWED_MAX_S + 3 * LOOK_S


@guarantee(47)
@pytest.mark.parametrize("cores", [0.01, 1.0, 2.0])
def test_nobody_waits_for_the_end_of_a_long_query(crowd: Crowd, cores: float) -> None:
    """Be it at work or waiting for the disk: it counts for a second, also where it takes a minute."""
    asyncio.run(crowd.act(crowd.ask("ann", 60.0 * cores, cores=cores), crowd.ask("ben", 0.1)))

    assert crowd.waited_s["ben"][0] <= 1 / SLOW + OWED_MAX_S / SHARE


def test_a_person_has_one_query_at_work_and_rests_from_a_long_one(crowd: Crowd) -> None:
    """However long theirs are, so that they never have both of the cores."""
    share = asyncio.run(crowd.act(crowd.flood("ann", 20.0, together=10)))

    assert share < 20.0 / (20.0 + 0.9 * (OWED_MAX_S - BURST_S) / SHARE) + 0.05


def test_a_turn_that_nobody_waits_for_any_more_is_the_next_ones(crowd: Crowd) -> None:
    """Whether its asker leaves before or while it comes."""

    async def leave() -> None:
        await crowd.ask("ann", 1.0)
        leaving = [asyncio.create_task(crowd.ask(f"leaver {number}", 1.0)) for number in range(20)]
        await crowd.clock.sleep(5.0)
        for one in leaving:
            one.cancel()
        asked_s = crowd.clock.monotonic_s()
        await crowd.ask("ben", 0.1)
        assert crowd.clock.monotonic_s() - asked_s < OWED_MAX_S / SHARE

    asyncio.run(crowd.act(leave()))

    assert "ben" in crowd.waited_s


def test_a_look_that_fails_keeps_nobody_from_the_next_turn(crowd: Crowd) -> None:
    """A query that never began was taken for one at work, and its asker had no other for as long."""

    async def fail() -> None:
        await crowd.clock.sleep(2 * LOOK_S)
        crowd.failing = True
        with pytest.raises(RuntimeError, match="defect"):
            await crowd.ask("ann", 0.1)
        crowd.failing = False
        await crowd.clock.sleep(2 * LOOK_S)
        await crowd.ask("ben", 0.1)
        await crowd.ask("ann", 0.1)

    asyncio.run(crowd.act(fail()))

    assert crowd.waited_s["ann"][-1] < 1 / SLOW
