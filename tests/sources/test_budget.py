from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable

import pytest
from promises import guarantee

from m365watch.sources.management_api.request_budget import FLOOR, PAUSE_S, PAUSE_S_MAX, RequestBudget
from m365watch_testing.clock import FakeClock


class Run:
    """A budget, its clock, and when each request was admitted."""

    def __init__(self, per_minute: int | None) -> None:
        self.clock = FakeClock()
        self.budget = RequestBudget(per_minute, self.clock)
        self.admitted: list[tuple[float, str]] = []

    async def request(self, feed: str, *, background: bool = False, takes_s: float = 0.0) -> None:
        await self.budget.admit(feed, background=background)
        self.admitted.append((self.clock.monotonic_s(), feed))
        if takes_s:
            await self.clock.sleep(takes_s)
        self.budget.settle()

    def launch(
        self, feed: str, count: int, *, background: bool = False, takes_s: float = 0.0
    ) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(self.request(feed, background=background, takes_s=takes_s))
            for _ in range(count)
        ]

    @property
    def feeds(self) -> str:
        return "".join(feed for _, feed in self.admitted)

    @property
    def allowance(self) -> int:
        """Requests of a budget of 2,000 that may be made in a minute now."""
        return int(2_000 * self.budget._share_at(self.clock.monotonic_s()))


def run(per_minute: int | None, use: Callable[[Run], Awaitable[None]]) -> Run:
    """The run after `use`."""

    async def main() -> Run:
        made = Run(per_minute)
        await use(made)
        return made

    return asyncio.run(main())


def most_in_a_minute(admitted: list[tuple[float, str]]) -> int:
    """The largest number of admissions in any half-open 60 s."""
    instants = sorted(at_s for at_s, _ in admitted)
    return max(bisect_left(instants, at_s + 60) - place for place, at_s in enumerate(instants))


@guarantee(5)
@pytest.mark.parametrize("takes_s", [0.0, 0.3, 7.0])
def test_no_minute_sees_more_than_the_budget(takes_s: float) -> None:
    """Counted over any 60 s, not over minutes of a clock."""

    async def use(made: Run) -> None:
        asked = made.launch("a", 250, takes_s=takes_s)
        await made.clock.advance(30)
        asked += made.launch("b", 250, takes_s=takes_s)
        await made.clock.advance(600)
        await asyncio.gather(*asked)

    made = run(100, use)

    assert len(made.admitted) == 500
    assert most_in_a_minute(made.admitted) <= 100


def test_a_slow_request_counts_until_a_minute_after_its_answer() -> None:
    """The service may have seen it as late as that."""

    async def use(made: Run) -> None:
        asked = made.launch("a", 2, takes_s=40)
        await made.clock.advance(99)
        assert len(made.admitted) == 1
        await made.clock.advance(60)
        await asyncio.gather(*asked)

    made = run(1, use)

    assert [at_s for at_s, _ in made.admitted] == [0, 100]


@guarantee(5)
def test_feeds_take_turns() -> None:
    """One that asks for much does not hold up the others."""

    async def use(made: Run) -> None:
        await asyncio.gather(*made.launch("x", 10))
        asked = [*made.launch("a", 6), *made.launch("b", 3), *made.launch("c", 1)]
        await made.clock.advance(60)
        await asyncio.gather(*asked)

    assert run(10, use).feeds[10:] == "abcababaaa"


@guarantee(5)
def test_live_requests_come_before_backfill() -> None:
    """Those that came later too."""

    async def use(made: Run) -> None:
        await asyncio.gather(*made.launch("x", 100))
        asked = made.launch("b", 5, background=True)
        await made.clock.advance(1)
        asked += made.launch("a", 5)
        await made.clock.advance(60)
        await asyncio.gather(*asked)

    assert run(100, use).feeds[100:] == "aaaaabbbbb"


@guarantee(5)
def test_a_live_request_does_not_wait_as_long_as_backfill_has_to() -> None:
    """The reserve is free sooner than what backfill may use."""

    async def use(made: Run) -> None:
        await asyncio.gather(*made.launch("x", 5))
        await made.clock.advance(20)
        await asyncio.gather(*made.launch("x", 95))
        backfill = made.launch("b", 1, background=True)
        await made.clock.advance(1)
        live = made.launch("a", 1)
        await made.clock.advance(60)
        await asyncio.gather(*live, *backfill)

    assert run(100, use).admitted[100:] == [(60, "a"), (80, "b")]


def test_room_comes_after_a_whole_minute() -> None:
    """Not a moment before."""

    async def use(made: Run) -> None:
        await made.request("a")
        await made.clock.advance(59.5)
        asked = made.launch("b", 1)
        await made.clock.advance(1)
        await asyncio.gather(*asked)

    assert run(1, use).admitted == [(0, "a"), (60, "b")]


@guarantee(5)
def test_backfill_leaves_a_reserve_for_live_requests() -> None:
    """A live one does not wait although backfill would take everything."""

    async def use(made: Run) -> None:
        backfill = made.launch("b", 200, background=True)
        await made.clock.advance(1)
        live = made.launch("a", 1)
        await made.clock.advance(0)
        assert made.feeds == "b" * 90 + "a"
        for task in [*backfill, *live]:
            task.cancel()

    run(100, use)


def test_throttling_pauses_everybody_as_long_as_the_service_asks() -> None:
    """Live requests too."""

    async def use(made: Run) -> None:
        assert made.budget.throttle(30) == 30
        asked = [*made.launch("a", 1), *made.launch("b", 1, background=True)]
        await made.clock.advance(29)
        assert made.admitted == []
        await made.clock.advance(1)
        await asyncio.gather(*asked)

    assert run(None, use).feeds == "ab"


def test_pauses_grow_while_nothing_gets_through() -> None:
    """Without a word of the service on how long, up to a bound; one answer ends it."""
    budget_clock = FakeClock()
    budget = RequestBudget(None, budget_clock)
    pauses = []

    async def use() -> None:
        for _ in range(12):
            pauses.append(budget.throttle(None))
            await budget_clock.advance(pauses[-1])
        budget.relax()
        pauses.append(budget.throttle(None))

    asyncio.run(use())

    growing = [min(PAUSE_S * 2**step, PAUSE_S_MAX) for step in range(12)]
    assert pauses == pytest.approx([*growing, PAUSE_S])
    assert growing[-1] == PAUSE_S_MAX


def test_many_throttled_answers_of_one_moment_halve_once() -> None:
    """They were all under way when the first came back."""

    async def use(made: Run) -> None:
        for _ in range(20):
            made.budget.throttle(None)
        assert made.allowance == 1_000

    run(2_000, use)


def test_the_rate_comes_back_step_by_step() -> None:
    """A tenth of the budget in each minute, and never more than the budget."""

    async def use(made: Run) -> None:
        made.budget.throttle(None)
        seen = []
        for _ in range(7):
            await made.clock.advance(60)
            seen.append(made.allowance)
        assert seen == [1_200, 1_400, 1_600, 1_800, 2_000, 2_000, 2_000]

    run(2_000, use)


def test_some_rate_is_left_however_often_the_service_throttles() -> None:
    """Otherwise nobody would find out that it has become better."""

    async def use(made: Run) -> None:
        for _ in range(20):
            await made.clock.advance(made.budget.throttle(None))
        assert made.allowance >= 2_000 * FLOOR

    run(2_000, use)


def test_a_budget_of_one_lets_one_through() -> None:
    """Rounding leaves nobody without, backfill neither."""

    async def use(made: Run) -> None:
        asked = [*made.launch("a", 1), *made.launch("b", 1, background=True)]
        made.budget.throttle(None)
        await made.clock.advance(200)
        await asyncio.gather(*asked)

    assert run(1, use).feeds == "ab"


def test_without_a_budget_nobody_waits() -> None:
    """A cloud of one's own has no limit of ours."""

    async def use(made: Run) -> None:
        await asyncio.gather(*made.launch("a", 5_000))

    assert len(run(None, use).admitted) == 5_000


def test_who_gives_up_while_waiting_takes_no_turn_along() -> None:
    """The next in the queue is let in instead."""

    async def use(made: Run) -> None:
        await made.request("x")
        asked = made.launch("a", 3)
        await made.clock.advance(1)
        asked[0].cancel()
        asked[1].cancel()
        await made.clock.advance(59)
        assert made.feeds == "xa"

    run(1, use)


def test_a_turn_that_came_and_was_not_taken_is_given_back() -> None:
    """The one who gave up had been let in, but not yet been told."""

    async def use(made: Run) -> None:
        made.budget.throttle(5)
        asked = made.launch("a", 1)
        moving = asyncio.create_task(made.clock.advance(5))
        for _ in range(1_000):
            await asyncio.sleep(0)
            if made.budget._open:
                asked[0].cancel()
                break
        await moving
        asked += made.launch("b", 1)
        await made.clock.advance(0)
        assert made.feeds == "b"

    run(1, use)
