"""The audits of a run: the daily one of each feed, and those that a command asks for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError
from m365watch.common.model import BlobRef, BlobState, Feed, TenantId, Window
from m365watch.health.completeness.audit_requests import (
    LOOK_EVERY_S,
    PROGRESS_NAME,
    leave_answer,
    take_request,
)
from m365watch.health.completeness.auditor import Auditor, AuditOrder, DailyAudit
from m365watch.health.completeness.feed_audit import FeedAudit, body_of, memory_name
from m365watch.ledger.blob_states import Absent, read_states
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.ports import FeedSource

_log = structlog.get_logger(__name__)

ORDERS_MAX = 16
"""Requests that wait for those before them; further ones are left where they are."""
TENANTS_AT_ONCE = 8
"""Tenants that are audited at once; a tenant's feeds come one after the other."""


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """How far an audit is."""

    windows: int
    """Windows listed so far."""
    feeds: int
    """Feeds that are done."""
    feeds_all: int


class AuditDesk:
    """Makes the audits of one run, and keeps each feed's last one in the ledger."""

    def __init__(
        self,
        feeds: Mapping[Feed, FeedSource],
        *,
        ledger: SqliteLedger,
        calls: LedgerCalls,
        clock: Clock,
        on_listed: Callable[[Feed], None],
    ) -> None:
        """`on_listed` hears whenever the ledger knows new blobs of a feed."""
        self._feeds = feeds
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._on_listed = on_listed

    def change(self, feeds: Mapping[Feed, FeedSource]) -> None:
        """Audit these feeds from now on; an audit under way ends with those it began with."""
        self._feeds = feeds

    def daily(self, feed: Feed) -> DailyAudit:
        """What watches the feed's daily relisting."""
        return DailyAudit(feed, compare=self._compare, keep=self._keep, clock=self._clock)

    async def run(self) -> None:
        """Answer what is asked for, one after the other, until cancelled."""
        async with asyncio.TaskGroup() as answering:
            asked: asyncio.Queue[AuditOrder] = asyncio.Queue()
            answering.create_task(self._answer_all(asked), name="audits")
            while True:
                await self._clock.sleep(LOOK_EVERY_S)
                # A request that is taken at once is known to be heard, however long those before it take.
                if asked.qsize() >= ORDERS_MAX:
                    continue
                order = await self._calls(take_request, self._ledger.path.parent)
                if order is not None:
                    asked.put_nowait(order)

    async def _answer_all(self, asked: asyncio.Queue[AuditOrder]) -> None:
        while True:
            await self._answer(await asked.get())

    async def _answer(self, order: AuditOrder) -> None:
        days = "day" if order.days == 1 else f"{order.days} days"
        _log.info(f"audit asked for: the last {days}{', with repair' if order.repair else ''}")
        try:
            audits = await self.audit(order, on_progress=partial(self._tell_progress, order))
            await self._calls(leave_answer, self._ledger.path.parent, order, audits)
        except CollectorError as failure:
            _log.error(str(failure), code=failure.code)
            return
        except Exception as error:  # noqa: BLE001 - an audit that fails stops no collecting
            defect = defect_of(error, where="audit")
            _log.error(str(defect), code=defect.code)
            return
        missing = sum(audit.total.missing for audit in audits)
        _log.info(
            f"audit done: {sum(audit.total.listed for audit in audits)} blobs listed, {missing} missing"
        )

    async def audit(
        self, order: AuditOrder, *, on_progress: Callable[[AuditProgress], Awaitable[None]]
    ) -> list[FeedAudit]:
        """Audit every feed; what is missing is known afterwards where the order says so."""
        auditor = Auditor(
            compare=self._compare, commit=self._commit if order.repair else None, clock=self._clock
        )
        return await audit_feeds(auditor, self._feeds, order=order, keep=self._keep, on_progress=on_progress)

    async def _compare(self, feed: Feed, refs: Sequence[BlobRef]) -> list[BlobState | Absent]:
        return await self._calls(read_states, self._ledger.path, feed, refs)

    async def _commit(self, feed: Feed, window: Window, refs: Sequence[BlobRef]) -> None:
        await self._calls(
            self._ledger.commit_listing, feed, window, refs, complete=False, at=self._clock.now()
        )
        self._on_listed(feed)

    async def _keep(self, audit: FeedAudit) -> None:
        await self._calls(self._ledger.remember, memory_name(audit.feed), body_of(audit))
        if audit.asked is not None and audit.repaired:
            _log.warning(
                f"{audit.feed}: an audit found {audit.repaired} blobs that the ledger did not know; "
                "they are fetched now, nothing lost",
                code="repaired",
            )

    async def _tell_progress(self, order: AuditOrder, progress: AuditProgress) -> None:
        body = {
            "number": order.number,
            "windows": progress.windows,
            "feeds": progress.feeds,
            "feeds_all": progress.feeds_all,
        }
        await self._calls(self._ledger.remember, PROGRESS_NAME, json.dumps(body))


async def audit_feeds(
    auditor: Auditor,
    feeds: Mapping[Feed, FeedSource],
    *,
    order: AuditOrder,
    keep: Callable[[FeedAudit], Awaitable[None]],
    on_progress: Callable[[AuditProgress], Awaitable[None]],
) -> list[FeedAudit]:
    """The audit of each feed, in their order; `keep` gets each as it is done, `on_progress` each step.

    Raises: LedgerUnusable, LedgerUnavailable.
    """
    windows = 0
    done: dict[Feed, FeedAudit] = {}
    places = asyncio.Semaphore(TENANTS_AT_ONCE)

    async def step() -> None:
        nonlocal windows
        windows += 1
        await on_progress(AuditProgress(windows, len(done), len(feeds)))

    async def audit_tenant(own: Iterable[Feed]) -> None:
        async with places:
            for feed in own:
                audit = await auditor.audit(feed, feeds[feed], order=order, on_window=step)
                await keep(audit)
                done[feed] = audit
                await on_progress(AuditProgress(windows, len(done), len(feeds)))

    await on_progress(AuditProgress(0, 0, len(feeds)))
    try:
        async with asyncio.TaskGroup() as tasks:
            for own in by_tenant(feeds).values():
                tasks.create_task(audit_tenant(own))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [done[feed] for feed in feeds]


def by_tenant(feeds: Iterable[Feed]) -> dict[TenantId, list[Feed]]:
    """The feeds of each tenant."""
    found: dict[TenantId, list[Feed]] = {}
    for feed in feeds:
        found.setdefault(feed.tenant_id, []).append(feed)
    return found
