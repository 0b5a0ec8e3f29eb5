"""Receiver and desk of one run, put together: what is received before the run is ready waits for polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator
from m365watch.common.model import Feed
from m365watch.config.models.listeners_listening import WebhookSettings
from m365watch.health.completeness.auditor import Audited
from m365watch.sources.management_api.webhook.notification_worker import NotificationDesk
from m365watch.sources.management_api.webhook.payloads import Notifications
from m365watch.sources.management_api.webhook.server import WebhookServer

_log = structlog.get_logger(__name__)


class Receiver:
    """Hands what the server takes to the desk, once there is one."""

    def __init__(self, settings: WebhookSettings, *, tenants: Collection[str], clock: Clock) -> None:
        """Nothing is opened yet."""
        self._settings = settings
        self._clock = clock
        self._desk: NotificationDesk | None = None
        self.server = WebhookServer(settings, tenants=frozenset(tenants), clock=clock, on_notified=self._take)

    async def open(self, closing: AsyncExitStack) -> bool:
        """Whether it listens, until `closing` ends; what is in its way is told, and polling does without."""
        try:
            await closing.enter_async_context(self.server.listening())
        except NeedsOperator as error:
            _log.error(f"{error}; until then the collector only polls", code=error.code)
            return False
        place = f"{self._settings.host}:{self.server.port}"
        _log.info(f"webhook: listening at {place}, where {self._settings.address} has to lead")
        return True

    @asynccontextmanager
    async def working(self, desk: NotificationDesk) -> AsyncIterator[None]:
        """Within the block `desk` gets what is received."""
        self._desk = desk
        task = asyncio.create_task(desk.run(), name="notified")
        try:
            yield
        finally:
            self._desk = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._tell_end(desk)

    def _tell_end(self, desk: NotificationDesk) -> None:
        """What webhook mode has brought, in one line."""
        came, did = self.server.figures, desk.figures
        refused = sum(came.refused.values())
        _log.info(
            f"webhook: {came.notified:,} notifications in this run; {did.made_known:,} blobs became known by "
            f"them, {did.known:,} were known before, {did.left:,} were left to polling; "
            f"{refused:,} calls refused"
        )

    def change(self, feeds: Mapping[Feed, Audited]) -> None:
        """Take notifications about these feeds and their tenants from now on."""
        self.server.change(frozenset(feed.tenant_id for feed in feeds))
        if self._desk is not None:
            self._desk.change(feeds)

    def _take(self, found: Notifications) -> None:
        if self._desk is not None:
            self._desk.take(found)
