"""What the simulated service accuses by itself: budget, hosts, tokens, publishers, cooldowns, memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from yarl import URL

from m365watch.common.model import BlobKey
from m365watch_testing.simulation.content import TENANTS, Tenants
from m365watch_testing.simulation.faults import make_plan
from m365watch_testing.simulation.held import HeldBytes
from m365watch_testing.simulation.loop import SimulatedLoop
from m365watch_testing.simulation.service import FETCHES_MAX, LOGIN, MANAGEMENT, PUBLISHER, SimulatedService
from m365watch_testing.simulation.world import World

LIMIT = 5
FEED = f"{MANAGEMENT}/api/v1.0/{TENANTS[0]}/activity/feed"
ASKED = f"PublisherIdentifier={PUBLISHER}"


class Slow(Random):
    """Has every answer take its longest time."""

    def choice(self, seq: Any) -> Any:
        return seq[-1]


class House:
    """A service without faults, and a token for its first tenant."""

    def __init__(self) -> None:
        plan = replace(
            make_plan(1, Random(1)), faults=frozenset(), requests_per_minute=LIMIT, token_life_s=3_600
        )
        tenants = Tenants(plan, Random(1))
        self.world = World(plan, tenants.invent())
        self.service = SimulatedService(self.world, Random(1), tenants.feeds)
        self.feed = tenants.feeds[0]
        self.token = ""

    async def ask(self, address: str, *, method: str = "GET", token: str | None = None) -> int:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return (await self.service.answer(method, URL(address, encoded=True), headers=headers)).status

    async def begin(self) -> None:
        await self.service.answer("POST", URL(f"{LOGIN}/{TENANTS[0]}/oauth2/v2.0/token"), headers={})
        self.token = "token-1"

    def run(self, use: Callable[[House], Awaitable[None]]) -> list[str]:
        """What is accused while somebody uses the service."""

        async def both() -> None:
            await self.begin()
            await use(self)

        loop = SimulatedLoop(Random(1))
        self.world.enter(loop)
        loop.run_until_complete(both())
        self.world.leave()
        loop.close()
        return self.world.broken


@pytest.mark.parametrize("more", [0, 1])
def test_one_request_more_than_the_budget_is_accused(more: int) -> None:
    """So many in any 60 s are none too many."""

    async def use(house: House) -> None:
        for _ in range(LIMIT + more):
            await house.ask(f"{FEED}/subscriptions/list?{ASKED}")

    accused = ["6 requests within 60 s, 5 are allowed"] if more else []
    assert House().run(use) == accused


@pytest.mark.parametrize(
    ("address", "accused"),
    [
        ("http://localhost/thief", "a request went to a host that was not configured: localhost"),
        (f"{FEED}/subscriptions/list", "a request without its publisher"),
        (f"{FEED}/audit/nothing?{ASKED}", "content was asked for that was never listed: nothing"),
        (f"{FEED}/subscriptions/list?{ASKED}", ""),
    ],
)
def test_an_address_that_nobody_gave_is_accused(address: str, accused: str) -> None:
    """A foreign host, an anonymous caller, an invented blob; an ordinary request is not."""

    async def use(house: House) -> None:
        await house.ask(address)

    assert [sentence.startswith(accused) for sentence in House().run(use)] == [True] * bool(accused)


def test_a_token_that_goes_to_another_tenant_is_accused() -> None:
    async def use(house: House) -> None:
        await house.ask(f"{FEED.replace(TENANTS[0], TENANTS[1])}/subscriptions/list?{ASKED}")

    assert House().run(use) == ["a token went to another tenant's address"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_second_start_within_the_cooldown_is_accused(times: int) -> None:
    async def use(house: House) -> None:
        for _ in range(times):
            await house.ask(
                f"{FEED}/subscriptions/start?contentType={house.feed.content_type}&{ASKED}", method="POST"
            )

    assert len(House().run(use)) == times - 1


@pytest.mark.parametrize("more", [0, 1])
def test_more_fetches_at_once_than_allowed_are_accused(more: int) -> None:
    house = House()
    house.world.plan = replace(house.world.plan, requests_per_minute=None)
    content = next(one for one in house.world.contents if one.feed.tenant_id == TENANTS[0])

    async def use(house: House) -> None:
        address = f"{FEED}/audit/{content.content_id}?{ASKED}"
        house.service._random = Slow(1)
        await asyncio.gather(*(house.ask(address) for _ in range(FETCHES_MAX + more)))

    assert house.run(use) == (["25 fetches of one tenant under way at once"] if more else [])


def _held(bytes_max: int = 100) -> tuple[HeldBytes, list[str]]:
    accused: list[str] = []
    return HeldBytes(bytes_max, accused.append), accused


@pytest.mark.parametrize(
    ("served", "guessed", "is_accused"), [(60, 40, False), (60, 41, True), (0, 900, False)]
)
def test_a_fetch_that_begins_over_the_bound_is_accused(served: int, guessed: int, is_accused: bool) -> None:
    """A + g <= M, or nothing held: then it may be as large as it is."""
    held, accused = _held()
    if served:
        held.serve("a", served)
    held.begin(guessed)
    assert bool(accused) is is_accused


def test_bytes_are_held_until_the_last_output_has_them() -> None:
    held, accused = _held()
    held.names[BlobKey(1)] = "a"
    held.serve("a", 90)
    held.open_batch(7, [BlobKey(1)], frozenset({"lake", "devo"}))
    held.settle(7, "lake")
    half = held.held_bytes
    held.settle(7, "devo")
    held.settle(8, "devo")
    held.begin(90)
    assert (half, held.held_bytes, accused) == (90, 0, [])


def test_of_two_bodies_with_one_id_the_larger_is_let_go_of() -> None:
    """So that nobody is accused of what may be gone."""
    held, _ = _held()
    held.names[BlobKey(1)] = "a"
    held.serve("a", 30)
    held.serve("a", 90)
    held.let_go(BlobKey(1))
    held.let_go(BlobKey(2))
    assert held.held_bytes == 30
