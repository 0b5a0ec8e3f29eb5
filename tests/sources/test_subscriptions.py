from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest

from feed_tenant import TENANT
from m365watch.common.errors import Unavailable
from m365watch.common.model import BlobRef, ContentType, Window
from m365watch.sources.management_api.subscriptions import COOLDOWN_S, FRESH_S, SubscriptionKeeper
from m365watch_testing.clock import FakeClock

Result = TypeVar("Result")

EXCHANGE, DLP = ContentType.EXCHANGE, ContentType.DLP


class Service:
    """Knows which subscriptions are enabled, and keeps what was asked of it."""

    tenant_id = TENANT

    def __init__(self, *enabled: ContentType) -> None:
        self.enabled = frozenset(enabled)
        self.calls: list[str] = []
        self.failure: Unavailable | None = None

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        self.calls.append("list")
        return self.enabled

    async def start_subscription(self, content_type: ContentType) -> None:
        self.calls.append(content_type)
        if self.failure:
            raise self.failure

    def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        raise NotImplementedError

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        raise NotImplementedError


def run(
    service: Service, use: Callable[[SubscriptionKeeper, FakeClock], Awaitable[Result]]
) -> tuple[Result, list[str]]:
    """What `use` gives, and what was asked of the service."""

    async def main() -> Result:
        clock = FakeClock()
        return await use(SubscriptionKeeper(service, clock), clock)

    return asyncio.run(main()), service.calls


def test_only_what_is_missing_is_started() -> None:
    """The list is asked for first, once for all feeds of the tenant."""

    async def ensure_all(keeper: SubscriptionKeeper, _: FakeClock) -> list[bool]:
        return await asyncio.gather(*(keeper.ensure(each) for each in (EXCHANGE, DLP, EXCHANGE)))

    assert run(Service(EXCHANGE), ensure_all) == ([False, True, False], ["list", DLP])


def test_the_list_is_asked_for_again_later() -> None:
    """Somebody may have stopped a subscription meanwhile."""
    service = Service(EXCHANGE)

    async def stop(keeper: SubscriptionKeeper, clock: FakeClock) -> list[bool]:
        first = await keeper.ensure(EXCHANGE)
        service.enabled = frozenset()
        await clock.advance(FRESH_S)
        return [first, await keeper.ensure(EXCHANGE)]

    assert run(service, stop) == ([False, True], ["list", "list", EXCHANGE])


def test_a_subscription_is_started_once_in_its_cooldown() -> None:
    """Nobody waits for it: the caller goes on listing at once."""

    async def revive(keeper: SubscriptionKeeper, clock: FakeClock) -> list[bool]:
        started = [await keeper.revive(EXCHANGE), await keeper.revive(EXCHANGE)]
        await clock.advance(COOLDOWN_S - 1)
        started.append(await keeper.revive(EXCHANGE))
        await clock.advance(1)
        return [*started, await keeper.revive(EXCHANGE)]

    assert run(Service(), revive) == ([True, False, False, True], [EXCHANGE, EXCHANGE])


def test_one_cooldown_does_not_hold_up_another_subscription() -> None:
    """It belongs to one subscription."""

    async def revive(keeper: SubscriptionKeeper, _: FakeClock) -> list[bool]:
        return [await keeper.revive(EXCHANGE), await keeper.revive(DLP)]

    assert run(Service(), revive)[0] == [True, True]


def test_a_refused_subscription_is_started_although_it_is_listed() -> None:
    """The list has been seen to name subscriptions that are refused."""

    async def refused(keeper: SubscriptionKeeper, _: FakeClock) -> list[bool]:
        return [await keeper.ensure(EXCHANGE), await keeper.revive(EXCHANGE)]

    assert run(Service(EXCHANGE), refused) == ([False, True], ["list", EXCHANGE])


def test_a_start_that_failed_is_tried_again_at_once() -> None:
    """The cooldown counts from a start that the service took."""
    service = Service()
    service.failure = Unavailable("HTTP 503")

    async def fail(keeper: SubscriptionKeeper, _: FakeClock) -> bool:
        with pytest.raises(Unavailable):
            await keeper.ensure(EXCHANGE)
        service.failure = None
        return await keeper.ensure(EXCHANGE)

    assert run(service, fail) == (True, ["list", EXCHANGE, EXCHANGE])


def test_the_cooldown_counts_from_the_answer() -> None:
    """A start may wait for its turn in the budget; the service sees it only then."""

    class Slow(Service):
        """Answers a start after half a minute."""

        def __init__(self, clock: FakeClock) -> None:
            super().__init__()
            self.clock = clock

        async def start_subscription(self, content_type: ContentType) -> None:
            await super().start_subscription(content_type)
            await self.clock.sleep(30.0)

    async def main() -> list[str]:
        clock = FakeClock(jumps=True)
        service = Slow(clock)
        keeper = SubscriptionKeeper(service, clock)
        await keeper.revive(DLP)
        await clock.sleep(COOLDOWN_S - 1.0)
        await keeper.revive(DLP)
        return service.calls

    assert asyncio.run(main()).count(DLP) == 1
