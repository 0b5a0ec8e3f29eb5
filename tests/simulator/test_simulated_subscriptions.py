from __future__ import annotations

from datetime import timedelta

import pytest

from caller import EXCHANGE, START, calling, in_loop
from m365watch.common.model import ContentType

DAY = timedelta(days=1)


@in_loop
async def test_a_subscription_goes_from_absent_to_enabled() -> None:
    """Contract 7.2: before the start AF20022, after it 200; the list names it."""
    async with calling(subscribed=False) as caller:
        before = await caller.page(START - DAY, START)
        listed_before = (await caller.get("subscriptions/list")).document
        started = await caller.start()
        listed_after = (await caller.get("subscriptions/list")).document
        after = await caller.page(START - DAY, START)
    enabled = {"contentType": "Audit.Exchange", "status": "enabled", "webhook": None}
    assert (before.status, before.code, listed_before) == (400, "AF20022", [])
    assert (started.document, listed_after, after.status) == (enabled, [enabled], 200)


@in_loop
async def test_an_enabled_subscription_cannot_be_started() -> None:
    """Contract 2.1: AF20024 under HTTP 400, the normal answer."""
    async with calling() as caller:
        reply = await caller.start()
    assert (reply.status, reply.code, len(reply.body)) == (400, "AF20024", 97)


@in_loop
async def test_all_five_content_types_can_be_had() -> None:
    """Contract 7.2: five content types, and no other."""
    async with calling(subscribed=False) as caller:
        statuses = [(await caller.start(content_type)).status for content_type in ContentType]
        unknown = await caller.start("Audit.Everything")
        missing = await caller.post("subscriptions/start")
    assert statuses == [200] * 5
    assert (unknown.code, missing.code) == ("AF20020", "AF20001")


@in_loop
async def test_a_content_type_is_echoed_as_sent() -> None:
    """Contract 2: taken in any case, echoed in the sender's."""
    async with calling(subscribed=False) as caller:
        started = await caller.start("Audit.exchange")
        listed = await caller.get("subscriptions/list")
        page = await caller.page(START - DAY, START, "AUDIT.EXCHANGE")
    assert started.document["contentType"] == "Audit.exchange"
    assert listed.document[0]["contentType"] == "Audit.exchange"
    assert page.status == 200


@in_loop
async def test_a_stopped_subscription_answers_nothing() -> None:
    """Contract 2.2: an empty 200, then listings and blobs fail."""
    async with calling() as caller:
        blob = (await caller.list_week())[0]["contentId"]
        stopped = await caller.post("subscriptions/stop", contentType=EXCHANGE)
        codes = [(await caller.page(START - DAY, START)).code, (await caller.fetch(blob)).code]
        again = await caller.post("subscriptions/stop", contentType=EXCHANGE)
    assert (stopped.status, stopped.body) == (200, b"")
    assert [*codes, again.code] == ["AF20022"] * 3


@in_loop
async def test_content_of_a_stopped_time_is_lost() -> None:
    """Contract 2.2: what comes out while a subscription is stopped never comes; the truth knows."""
    async with calling(per_hour=10) as caller:
        before = len(caller.running.tenants[0].served(EXCHANGE))
        await caller.post("subscriptions/stop", contentType=EXCHANGE)
        await caller.clock.sleep(6 * 3600)
        await caller.sign_in()
        await caller.start()
        stopped = (START, START + timedelta(hours=6))
        during = await caller.list_window(*stopped)
        assert during == []
        assert len(caller.running.tenants[0].served(EXCHANGE)) == before


@in_loop
async def test_a_cooldown_delays_the_next_start() -> None:
    """Contract 2.1: 15 minutes between starts, where the switch is on; a no-op start is still AF20024."""
    async with calling("behaviour: {start_cooldown_s: 900}") as caller:
        assert (await caller.start()).code == "AF20024"
        await caller.post("subscriptions/stop", contentType=EXCHANGE)
        assert (await caller.start()).code == "AF429"
        await caller.clock.sleep(900)
        assert (await caller.start()).status == 200


@in_loop
async def test_a_start_right_after_a_stop_leads_to_limbo() -> None:
    """Contract 2.2: enabled by its word, absent from the list, AF20023 on content; it heals."""
    async with calling("behaviour: {limbo_s: 900}") as caller:
        await caller.post("subscriptions/stop", contentType=EXCHANGE)
        started = await caller.start()
        listed = await caller.get("subscriptions/list")
        dead = await caller.page(START - DAY, START)
        await caller.clock.sleep(900)
        healed = await caller.page(START - DAY, START)
    assert (started.document["status"], listed.document, dead.code) == ("enabled", [], "AF20023")
    assert healed.status == 200


@pytest.mark.parametrize(
    ("answer", "code"), [("disable_subscription", "AF20023"), ("drop_subscription", "AF20022")]
)
@in_loop
async def test_a_subscription_can_end_while_in_use(answer: str, code: str) -> None:
    """Contract 7.2 and 5.4: it stays so until it is started again."""
    rules = f"rules: [{{on: list, answer: {answer}, nth: 2}}]"
    async with calling(rules) as caller:
        codes = []
        assert (await caller.page(START - DAY, START)).status == 200
        codes = [(await caller.page(START - DAY, START)).code for _ in range(3)]
        await caller.start()
        assert (await caller.page(START - DAY, START)).status == 200
    assert codes == [code] * 3


@in_loop
async def test_a_tenant_without_audit_gets_the_split_error() -> None:
    """Contract 3.4: HTTP 400, a `code` that is half a sentence, the rest in `message`."""
    async with calling("behaviour: {audit_enabled: false}", subscribed=False) as caller:
        reply = await caller.start()
    assert reply.status == 400
    assert reply.code.startswith("StartSubscription [CorrId=")
    assert "does not exist" in reply.document["error"]["message"]


@pytest.mark.parametrize("address", ["http://hook.example/", "https://hook.example/", "https://[x/"])
@in_loop
async def test_a_webhook_that_nobody_reaches_is_not_validated(address: str) -> None:
    """Contract 2.6: AF20021, and no subscription comes of it."""
    async with calling(subscribed=False) as caller:
        url = caller.feed_url("subscriptions/start", {"contentType": EXCHANGE})
        reply = await caller.send("POST", url, json={"webhook": {"address": address}})
        assert (reply.code, (await caller.get("subscriptions/list")).document) == ("AF20021", [])
