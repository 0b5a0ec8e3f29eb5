"""Keeps the subscriptions of one tenant enabled, without asking too often.

Source: api-contract 2.1 (15 minutes between two starts), 2.2 and 5.4 (a subscription that is
listed and yet refused; a start of an enabled one, which may also remove its webhook).
"""

from __future__ import annotations

import asyncio
import math

from m365watch.common.clock import Clock
from m365watch.common.model import ContentType
from m365watch.registry.ports import Api

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
