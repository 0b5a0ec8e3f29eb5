"""Service health as a feed's `Api`: nothing to subscribe to, nothing to list, bodies from disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from m365watch.common.model import BlobRef, ContentType, TenantId, Window
from m365watch.sources.page_spool import KeptPages
from m365watch.sources.service_health.poller import Announces
from m365watch.sources.service_health.urls import Kind


class HealthApi:
    """Implements `feed.port.Api` for what `HealthPoller` has kept."""

    def __init__(
        self, tenant_id: TenantId, announcements: Announces, pages: KeptPages, *, asks: Iterable[Kind]
    ) -> None:
        """Whether Graph may be asked is tried with each of the kinds `asks`."""
        self.tenant_id = tenant_id
        self._announcements = announcements
        self._pages = pages
        self._asks = tuple(asks)

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """None; but it is an error here, too, where the service may not be asked at all."""
        for kind in self._asks:
            async for _ in self._announcements.pages(kind):
                break
        return frozenset()

    async def start_subscription(self, content_type: ContentType) -> None:
        """There is nothing to start."""

    async def list_content(
        self,
        content_type: ContentType,  # noqa: ARG002 - the port's
        window: Window,  # noqa: ARG002 - the port's
    ) -> AsyncIterator[list[BlobRef]]:
        """Nothing: the poller makes its blobs known itself."""
        yield []

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The body from disk. Raises: ContentLost: it is not there any more."""
        return await asyncio.to_thread(self._pages.body, blob)
