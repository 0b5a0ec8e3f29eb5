"""Keeps the subscriptions of one tenant enabled, without asking too often.

Source: api-contract 2.1 (15 minutes between two starts), 2.2 and 5.4 (a subscription that is
listed and yet refused; a start of an enabled one, which may also remove its webhook).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, WebhookRefused
from m365watch.common.model import ContentType, Feed
from m365watch.common.secret import Secret
from m365watch.registry.ports import Api, Webhook
from m365watch.sources.management_api.responses import ListedSubscription

COOLDOWN_S = 900.0
"""Between two starts of one subscription."""

FRESH_S = 60.0
"""How long the list of subscriptions serves all feeds of a tenant."""


class SubscriptionKeeper:
    """Starts what is missing. It never waits for a cooldown: listing goes on meanwhile.

    Every call may raise what `Api.enabled_subscriptions` and `Api.start_subscription` raise.
    """

    def __init__(self, api: Api, clock: Clock) -> None:
        """`api` names the tenant."""
        self._api = api
        self._clock = clock
        self._lock = asyncio.Lock()
        self._enabled: frozenset[ContentType] = frozenset()
        self._listed_at_s = -math.inf
        self._started_at_s: dict[ContentType, float] = {}

    async def ensure(self, content_type: ContentType) -> bool:
        """Whether the subscription had to be started; the list is asked for first."""
        async with self._lock:
            if self._clock.monotonic_s() >= self._listed_at_s + FRESH_S:
                self._enabled = await self._api.enabled_subscriptions()
                self._listed_at_s = self._clock.monotonic_s()
            return content_type not in self._enabled and await self._start(content_type)

    async def revive(self, content_type: ContentType) -> bool:
        """Whether the subscription was started again after the service said that it is not there.

        The list is not believed then: it has been seen to name subscriptions that are refused.
        """
        async with self._lock:
            return await self._start(content_type)

    async def _start(self, content_type: ContentType) -> bool:
        """Whether a start was sent and accepted; one that failed does not count as the last."""
        if self._clock.monotonic_s() < self._started_at_s.get(content_type, -math.inf) + COOLDOWN_S:
            return False
        await self._send_start(content_type)
        # From its answer on: it may have waited for its turn in the budget.
        self._started_at_s[content_type] = self._clock.monotonic_s()
        self._enabled |= {content_type}
        return True

    async def _send_start(self, content_type: ContentType) -> None:
        await self._api.start_subscription(content_type)


_log = structlog.get_logger(__name__)

LIFE = timedelta(days=3)
"""How long a webhook is asked for, so that Microsoft stops calling a collector that is gone."""
RENEWED_BEFORE = timedelta(days=1)
"""How long before its end it is asked for anew."""


@dataclass(frozen=True, slots=True)
class WebhookAsk:
    """What is asked for all subscriptions of a tenant."""

    address: str
    """With the tenant at its end."""
    auth_id: Secret


class StartsWebhooks(Api, Protocol):
    """An `Api` that also lists and starts webhooks."""

    async def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription as the service lists it."""
        ...

    async def start_subscription(self, content_type: ContentType, webhook: Webhook | None = None) -> None:
        """Enable the subscription, with `webhook`. Raises: WebhookRefused."""
        ...


class WebhookKeeper(SubscriptionKeeper):
    """Starts what is missing or lacks its webhook; what is wrong with that keeps no feed from polling."""

    def __init__(self, api: StartsWebhooks, ask: WebhookAsk, clock: Clock) -> None:
        """`api` names the tenant."""
        super().__init__(api, clock)
        self._starts = api
        self._ask = ask
        self._listed: Mapping[ContentType, ListedSubscription] = {}
        self._tried_at_s: dict[ContentType, float] = {}
        self._told: dict[ContentType, str] = {}

    async def ensure(self, content_type: ContentType) -> bool:
        """Whether the subscription had to be started, be it for its webhook; the list is asked for first."""
        async with self._lock:
            if self._clock.monotonic_s() >= self._listed_at_s + FRESH_S:
                listed = await self._starts.list_subscriptions()
                self._listed = {one.content_type: one for one in listed}
                self._enabled = frozenset(one.content_type for one in listed if one.is_enabled)
                self._listed_at_s = self._clock.monotonic_s()
            if content_type not in self._enabled:
                return await self._start(content_type)
            lack = lack_of(self._listed.get(content_type), self._ask, now=self._clock.now())
            if not lack:
                self._told.pop(content_type, None)
                return False
            return await self._start_webhook(content_type, lack)

    async def _send_start(self, content_type: ContentType) -> None:
        """With the webhook, or else without: content of a time without subscription is gone for good."""
        try:
            await self._starts.start_subscription(content_type, self._webhook())
        except WebhookRefused as error:
            self._tell(content_type, error.what)
            await self._starts.start_subscription(content_type)
        self._tried_at_s[content_type] = self._clock.monotonic_s()

    async def _start_webhook(self, content_type: ContentType, lack: str) -> bool:
        """Whether the webhook of an enabled subscription was started; why not is told."""
        tried_at_s = self._tried_at_s.get(content_type)
        if tried_at_s is not None and self._clock.monotonic_s() < tried_at_s + COOLDOWN_S:
            return False
        self._tried_at_s[content_type] = self._clock.monotonic_s()
        try:
            await self._starts.start_subscription(content_type, self._webhook())
        except CollectorError as error:
            # Its subscription is enabled: nothing is missed without.
            self._tell(content_type, f"{lack}; {error.what}")
            return False
        _log.info(f"{Feed(self._api.tenant_id, content_type)}: the webhook {lack}; it was started")
        self._listed_at_s = self._clock.monotonic_s() - FRESH_S
        return True

    def _webhook(self) -> Webhook:
        return Webhook(self._ask.address, self._ask.auth_id, self._clock.now() + LIFE)

    def _tell(self, content_type: ContentType, what: str) -> None:
        """Each new reason once."""
        if self._told.get(content_type) != what:
            self._told[content_type] = what
            feed = Feed(self._api.tenant_id, content_type)
            _log.warning(
                f"{feed}: no webhook: {what}; polling goes on, and it is tried again every 15 minutes",
                code=WebhookRefused.code,
            )


def lack_of(listed: ListedSubscription | None, ask: WebhookAsk, *, now: datetime) -> str:
    """What a subscription's webhook lacks, as the end of a sentence; empty where it is as it should be."""
    if listed is None or listed.webhook_address is None:
        return "is missing"
    if listed.webhook_address != ask.address:
        return "leads elsewhere"
    if listed.webhook_auth_id not in (None, ask.auth_id):
        return "has another AuthID"
    if listed.webhook_status != "enabled":
        return f"is {listed.webhook_status}"
    ends_at = listed.webhook_expires_at
    if ends_at is not None and ends_at < now + RENEWED_BEFORE:
        return f"ends {ends_at:%Y-%m-%d %H:%MZ}"
    return ""
