from __future__ import annotations

import pytest

from caller import EXCHANGE, START, calling, in_loop
from m365watch_simulator.feed.throttle import Throttle


def test_a_minute_slides() -> None:
    """Contract 7.7: so many requests within any 60 s, and not more."""
    throttle = Throttle(3)
    allowed = [throttle.allows(at_s) for at_s in (0, 10, 20, 30, 60.1, 80.1)]
    assert allowed == [True, True, True, False, True, True]
    assert throttle.peak == 4


def test_what_is_a_whole_minute_old_counts_no_more() -> None:
    """The minute is half-open: 60 s later is the next one."""
    throttle = Throttle(2)
    assert [throttle.allows(at_s) for at_s in (0, 0, 60, 60)] == [True, True, True, True]
    assert throttle.peak == 2


def test_without_a_limit_only_the_peak_is_kept() -> None:
    """The report needs it in any case."""
    throttle = Throttle(None)
    assert all(throttle.allows(0.0) for _ in range(5_000))
    assert throttle.peak == 5_000


@pytest.mark.parametrize("status", [403, 429])
@in_loop
async def test_a_tenant_is_throttled(status: int) -> None:
    """Contract 7.7 and 3.3: AF429, 403 as documented or 429, until the minute is over."""
    rules = f"behaviour: {{requests_per_minute: 10, throttle_status: {status}}}"
    async with calling(rules) as caller:
        replies = [await caller.get("subscriptions/list") for _ in range(10)]
        await caller.clock.sleep(61)
        again = await caller.get("subscriptions/list")
    assert [reply.status for reply in replies] == [200] * 9 + [status]
    assert (replies[-1].code, again.status) == ("AF429", 200)
    assert "Retry-After" not in replies[-1].headers
    assert caller.running.report["throttled"] == 1


@pytest.mark.parametrize("publisher", ["", "00000000-0000-0000-0000-000000000000"])
@in_loop
async def test_callers_without_publisher_share_a_pool(publisher: str) -> None:
    """Contract 7.7: the pool is small, and who names a publisher does not feel it."""
    async with calling("behaviour: {shared_requests_per_minute: 2}") as caller:
        replies = [await caller.get("subscriptions/list", PublisherIdentifier=publisher) for _ in range(3)]
        named = await caller.get("subscriptions/list")
    assert [reply.status for reply in replies] == [200, 200, 403]
    assert named.status == 200
    text = replies[-1].document["error"]["message"]
    assert text.endswith("PublisherId=00000000-0000-0000-0000-000000000000")
    assert caller.running.report["requests_without_publisher"] == 3


@in_loop
async def test_a_publisher_is_a_guid() -> None:
    """Contract 2.9: anything else gets AF20002."""
    async with calling() as caller:
        reply = await caller.get("subscriptions/list", PublisherIdentifier="contoso")
    assert (reply.status, reply.code) == (400, "AF20002")


@in_loop
async def test_the_report_knows_the_busiest_minute() -> None:
    """Contract 7.7: what a collector's budget is judged by."""
    async with calling() as caller:
        for _ in range(7):
            await caller.page(START.replace(hour=1), START, EXCHANGE)
        await caller.clock.sleep(120)
        await caller.get("subscriptions/list")
    assert caller.running.report["requests_per_minute_peak"] == {caller.identity.tenant_id: 8}
