"""A feed with a limit of its own, inside its tenant's budget."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from m365watch.sources.management_api.request_budget import LimitedBudget
from m365watch_testing.clock import FakeClock


class Run:
    """A budget with limits, and when each request was admitted."""

    def __init__(self, per_minute: int | None, limits: Mapping[str, int]) -> None:
        self.clock = FakeClock()
        self.budget = LimitedBudget(per_minute, self.clock, limits=limits)
        self.admitted: list[tuple[float, str]] = []

    async def request(self, feed: str, *, takes_s: float = 0.0) -> None:
        await self.budget.admit(feed)
        self.admitted.append((self.clock.monotonic_s(), feed))
        if takes_s:
            await self.clock.sleep(takes_s)
        self.budget.settle()

    def launch(self, feed: str, count: int, *, takes_s: float = 0.0) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.request(feed, takes_s=takes_s)) for _ in range(count)]

    def count(self, feed: str, *, until_s: float) -> int:
        begun_s = self.admitted[0][0]
        return sum(one == feed and at_s - begun_s < until_s for at_s, one in self.admitted)


@pytest.mark.parametrize("takes_s", [0.0, 20.0])
def test_a_feed_keeps_to_its_own_limit_and_the_others_go_on(takes_s: float) -> None:
    """Ten a minute for one of them; the other has the rest of the tenant's budget."""

    async def main() -> Run:
        made = Run(100, {"slow": 10})
        asked = [*made.launch("slow", 25, takes_s=takes_s), *made.launch("quick", 60, takes_s=takes_s)]
        await made.clock.advance(400)
        await asyncio.gather(*asked)
        return made

    made = asyncio.run(main())

    assert [made.count("slow", until_s=s) for s in (59.0, 119.0, 179.0)] == [10, 20, 25]
    assert made.count("quick", until_s=1.0) == 60


def test_a_limit_wider_than_the_tenants_budget_changes_nothing() -> None:
    """The tightest holds: the tenant's own number is what the service counts by."""

    async def main() -> Run:
        made = Run(20, {"a": 1_000})
        asked = made.launch("a", 30)
        await made.clock.advance(200)
        await asyncio.gather(*asked)
        return made

    assert asyncio.run(main()).count("a", until_s=59.0) == 20


def test_a_limit_holds_without_a_budget_of_the_tenant() -> None:
    """A cloud of one's own has no budget unless one is set."""

    async def main() -> Run:
        made = Run(None, {"a": 5})
        asked = [*made.launch("a", 6), *made.launch("b", 50)]
        await made.clock.advance(100)
        await asyncio.gather(*asked)
        return made

    made = asyncio.run(main())

    assert (made.count("a", until_s=59.0), made.count("b", until_s=1.0)) == (5, 50)


def test_a_request_that_was_given_up_leaves_the_tenants_budget_alone() -> None:
    """It may cost the feed a turn of its own, and nobody else anything."""

    async def main() -> int:
        made = Run(10, {"a": 1})
        await made.request("a")
        waiting = made.launch("a", 3)
        await made.clock.advance(1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        others = made.launch("b", 9)
        await made.clock.advance(1)
        return sum(task.done() for task in others)

    assert asyncio.run(main()) == 9
