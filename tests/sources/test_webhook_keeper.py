"""Subscriptions with webhooks: started, renewed, started again, and never in the way of polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from promises import guarantee

from feed_tenant import TENANT
from m365watch.common.errors import CollectorError, Throttled, Unavailable, WebhookRefused
from m365watch.common.model import BlobRef, ContentType, Window
from m365watch.common.secret import Secret
from m365watch.registry.ports import Webhook
from m365watch.sources.management_api.management_api_client import webhook_body
from m365watch.sources.management_api.responses import ListedSubscription
from m365watch.sources.management_api.subscriptions import (
    COOLDOWN_S,
    LIFE,
    WebhookAsk,
    WebhookKeeper,
    lack_of,
)
from m365watch_testing.clock import START, FakeClock

EXCHANGE = ContentType.EXCHANGE
ASK = WebhookAsk("https://hook.example/told/t", Secret("an-auth-id-that-nobody-guesses"))


class Service:
    """Keeps subscriptions as Microsoft does, and what was started."""

    tenant_id = TENANT

    def __init__(self, *listed: ListedSubscription) -> None:
        self.listed = {one.content_type: one for one in listed}
        self.starts: list[Webhook | None] = []
        self.failure: CollectorError | None = None

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        return frozenset(self.listed)

    async def list_subscriptions(self) -> list[ListedSubscription]:
        return list(self.listed.values())

    async def start_subscription(self, content_type: ContentType, webhook: Webhook | None = None) -> None:
        self.starts.append(webhook)
        if self.failure is not None and webhook is not None:
            raise self.failure
        self.listed[content_type] = (
            ListedSubscription(content_type, True)
            if webhook is None
            else shown(webhook_expires_at=webhook.expires_at)
        )

    def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        raise NotImplementedError

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        raise NotImplementedError


def shown(**changes: Any) -> ListedSubscription:
    """A subscription with the webhook as it should be."""
    usual = {"webhook_address": ASK.address, "webhook_status": "enabled"}
    return ListedSubscription(EXCHANGE, True)._replace(**(usual | changes))


def run(service: Service, use: Callable[[WebhookKeeper, FakeClock], Awaitable[None]]) -> Service:
    async def main() -> None:
        clock = FakeClock()
        await use(WebhookKeeper(service, ASK, clock), clock)

    asyncio.run(main())
    return service


async def ensure_once(keeper: WebhookKeeper, _clock: FakeClock) -> None:
    await keeper.ensure(EXCHANGE)


@pytest.mark.parametrize(
    ("listed", "is_started"),
    [
        (shown(), False),
        (shown(webhook_expires_at=START + timedelta(days=2)), False),
        (shown(webhook_auth_id=ASK.auth_id), False),
        (shown(webhook_expires_at=START + timedelta(hours=23)), True),
        (shown(webhook_status="disabled"), True),
        (shown(webhook_status="expired"), True),
        (shown(webhook_address="https://hook.example/told/other"), True),
        (shown(webhook_auth_id=Secret("another one")), True),
        (ListedSubscription(EXCHANGE, True), True),
        (ListedSubscription(EXCHANGE, False), True),
        (None, True),
    ],
)
def test_a_webhook_is_started_where_it_lacks_something(
    listed: ListedSubscription | None, is_started: bool
) -> None:
    """Missing, elsewhere, disabled, expired, or about to end: one start with address, AuthID and end."""
    service = run(Service(*([listed] if listed else [])), ensure_once)

    assert service.starts == ([Webhook(ASK.address, ASK.auth_id, START + LIFE)] if is_started else [])


def test_it_is_renewed_before_its_end_again_and_again() -> None:
    """Day by day, with starts 15 minutes apart at least."""

    async def use(keeper: WebhookKeeper, clock: FakeClock) -> None:
        for _ in range(24 * 10):
            await keeper.ensure(EXCHANGE)
            listed = service.listed[EXCHANGE]
            assert not lack_of(listed, ASK, now=clock.now())
            await clock.advance(3_600)

    service = Service()
    run(service, use)
    assert len(service.starts) == 5


@guarantee(7)
def test_a_webhook_that_cannot_be_validated_costs_no_subscription(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is none it is started without; the webhook is tried every 15 minutes, and told once."""

    async def use(keeper: WebhookKeeper, clock: FakeClock) -> None:
        for _ in range(8):
            await keeper.ensure(EXCHANGE)
            await clock.advance(COOLDOWN_S / 4)
        assert await keeper.ensure(EXCHANGE) is False
        service.failure = None
        await clock.advance(COOLDOWN_S)
        assert await keeper.ensure(EXCHANGE) is True

    service = Service()
    service.failure = WebhookRefused("AF20021: the webhook could not be validated", where="here")
    run(service, use)
    asked = [webhook is not None for webhook in service.starts]
    assert asked == [True, False, True, True, True]
    assert service.listed[EXCHANGE].webhook_address == ASK.address
    told = capsys.readouterr().out
    assert told.count("no webhook: AF20021") == 1
    assert ASK.auth_id.reveal() not in told


@pytest.mark.parametrize("error", [Throttled("slower"), Unavailable("HTTP 503")])
def test_a_start_that_fails_is_trouble_only_where_the_subscription_is_missing(error: CollectorError) -> None:
    """Content is listed without a webhook, but not without a subscription."""
    enabled, missing = Service(ListedSubscription(EXCHANGE, True)), Service()
    enabled.failure = missing.failure = error
    run(enabled, ensure_once)

    with pytest.raises(type(error)):
        run(missing, ensure_once)


def test_a_subscription_that_the_service_denies_is_started_with_its_webhook() -> None:
    """A start without would take it away."""

    async def use(keeper: WebhookKeeper, _clock: FakeClock) -> None:
        assert await keeper.revive(EXCHANGE) is True

    [webhook] = run(Service(shown()), use).starts
    assert webhook is not None


def test_the_body_of_a_start_is_what_the_contract_says() -> None:
    """Address, AuthID and end (api-contract 2.1); none without a webhook, and no secret in any text."""
    webhook = Webhook(ASK.address, ASK.auth_id, START)

    assert webhook_body(webhook) == (
        b'{"webhook":{"address":"https://hook.example/told/t","authId":"an-auth-id-that-nobody-guesses",'
        b'"expiration":"2026-11-17T09:00:00Z"}}'
    )
    assert webhook_body(None) is None
    assert ASK.auth_id.reveal() not in repr((webhook, ASK, shown(webhook_auth_id=ASK.auth_id)))
