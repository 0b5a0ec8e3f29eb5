"""One feed's listing: plan, list, know, rest, again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from m365watch.common.errors import (
    CollectorError,
    LedgerUnavailable,
    ListingUnreadable,
    NotSubscribed,
    RetryLater,
    Throttled,
    Unreachable,
    WindowRefused,
)
from m365watch.common.model import LOOK_BACK_MAX, BlobRef, Feed, TenantId, Window
from m365watch.ledger.writer_thread import settled_later
from m365watch.sources.management_api.fetch_attempts import TenantAccess
from m365watch.sources.management_api.listing_windows import (
    Plan,
    oldest_reachable,
    plan_relisting,
    plan_windows,
    unreachable_spans,
)
from m365watch.sources.management_api.service_clock import ServiceClock
from m365watch.sources.poll_loop import Poller, PollMeans, PollSettings

CATCH_UP = timedelta(hours=1)
"""Relistings that were due while the collector stood still are spread over this time after its start."""
LIVE = timedelta(hours=3)
"""Windows that end before this age are asked for in the background: see `feed.api.LIVE_S`."""
_DAY = timedelta(days=1)


class PageWatch(Protocol):
    """Is shown every page of one feed's relisting before the ledger knows what is on it."""

    def begin(self, window: Window) -> None:
        """The window is listed from its first page on, perhaps not for the first time."""
        ...

    async def look(self, page: Sequence[BlobRef]) -> int | None:
        """One page; the ledger still knows what it knew before.

        How many of its blobs are missing, rests of known blobs left out; None leaves that to the ledger.
        """
        ...

    async def end(self, windows: Sequence[Window], failures: Mapping[datetime, CollectorError]) -> None:
        """All windows were listed; of those in `failures` (by their end) something could not be read."""
        ...


class NobodyWatches:
    """A `PageWatch` that looks away."""

    def begin(self, window: Window) -> None:
        """Nothing to do."""

    async def look(self, page: Sequence[BlobRef]) -> int | None:  # noqa: ARG002 - it looks away
        """Nothing to say."""
        return None

    async def end(self, windows: Sequence[Window], failures: Mapping[datetime, CollectorError]) -> None:
        """Nothing to do."""


def share_of_day(tenant_id: TenantId) -> float:
    """Where in the day, in [0, 1), a tenant has its turn; always the same for a tenant."""
    return int.from_bytes(hashlib.sha256(tenant_id.encode()).digest()[:6]) / 2**48


def relisting_due_at(
    tenant_id: TenantId, relisted_at: datetime, *, started_at: datetime | None = None
) -> datetime:
    """When the tenant's feeds are to be listed again: its time of day that comes after `relisted_at`.

    That is at most 24 h later. What was due before the run started (`started_at`; None for a run that
    ends once it is caught up) comes within the first hour, spread in the same way.
    """
    share = share_of_day(tenant_id)
    midnight = relisted_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    due_at = midnight + share * _DAY
    if due_at <= relisted_at:
        due_at += _DAY
    if started_at is not None and due_at < started_at:
        return started_at + share * CATCH_UP
    return due_at


def in_background(windows: Sequence[Window], now: datetime) -> list[Window]:
    """The same windows, cut where they become so old that live requests go before theirs."""
    edge = now.replace(microsecond=0) - LIVE
    cut = []
    for window in windows:
        if window.start < edge < window.end:
            cut += [Window(edge, window.end), Window(window.start, edge)]
        else:
            cut.append(window)
    return cut


_log = structlog.get_logger(__name__)

MARGINS_S = (10.0, 60.0, 300.0, 3600.0)
"""How far inside the 7 days the oldest window starts, step by step as the service refuses it."""


class FeedPoller(Poller):
    """Lists one feed for ever, or once; what time it is, the service says."""

    _clock: ServiceClock

    def __init__(self, feed: Feed, access: TenantAccess, *, settings: PollSettings, means: PollMeans) -> None:
        super().__init__(feed, settings, means)
        self.watch: PageWatch = NobodyWatches()
        """Sees each daily relisting."""
        self._api = access.api
        self._clock = access.clock
        self._keeper = access.keeper
        self._started_s: float | None = None
        self._margin_step = 0
        self._live_at_s = 0.0
        self._is_new: bool | None = None
        """Whether nothing was listed before this run; None before its first poll."""
        self._unread: list[Window] = []
        """Windows of the last relisting in which something could not be read. They count as listed
        already, from before, so that no plan comes back to them."""

    async def run(self, *, once: bool, stop: asyncio.Event) -> None:
        """As every poller; `once` is over when everything was listed once, or has to be given up."""
        self._started_s = None if once else self._clock.monotonic_s()
        await super().run(once=once, stop=stop)

    async def _poll(self) -> None:
        """List everything that is due now, live windows first.

        A window that fails holds no other up: what failed is raised when the rest is listed. Only where
        the whole tenant has to wait, or the host is out of reach, the rest waits as well.
        """
        failures: dict[datetime, CollectorError] = {}
        await self._subscribe(failures)
        if self._warning() is not None:
            await self._note_warning()
        await self._take_back()
        await self._count_gaps()
        begun_at = self._clock.now()
        plan = await self._plan(begun_at)
        self.windows_planned = len(plan.live) + len(plan.backfill)
        await self._list_live(plan, failures)
        # Planned anew before each window: a long backfill moves the 7-day edge under the oldest one.
        while True:
            plan = await self._plan(begun_at)
            windows = [window for window in plan.backfill if window.end not in failures]
            if not windows:
                break
            if self._clock.monotonic_s() - self._live_at_s >= self._settings.period_s:
                await self._list_live(plan, failures)
                continue
            self.windows_planned = len(windows)
            # Only this is progress for good: everything else is listed again at the next try.
            if await self._try(windows[0], failures):
                self._failures = 0
        await self._list_unread(failures)
        if all(isinstance(error, ListingUnreadable) for error in failures.values()):
            await self._relist_if_due(failures)
        if failures:
            # What may pass soon comes first, because the pause is made for it.
            raise min(failures.values(), key=lambda error: isinstance(error, ListingUnreadable))

    async def _subscribe(self, failures: dict[datetime, CollectorError]) -> None:
        """Start the subscription if need be; listing goes on although that may fail."""
        try:
            await self._keeper.ensure(self.feed.audit_type)
        except Unreachable:
            raise
        except RetryLater as error:
            await self._tell_first(error, failures)
            failures[self._clock.now()] = error.with_traceback(None)

    async def _tell_first(self, error: RetryLater, failures: dict[datetime, CollectorError]) -> None:
        """Tell what a poll will fail with before it goes on: the rest of it may take minutes.

        Only in the first of several that fail: what the others end with is told at their end.
        """
        if not self._failures and not any(isinstance(known, RetryLater) for known in failures.values()):
            await self._troubles.note(self.feed, error)

    async def _try(self, window: Window, failures: dict[datetime, CollectorError]) -> bool:
        """Whether the window was listed; why not stands in `failures`, under its end."""
        try:
            await self._list(window)
        except (Throttled, Unreachable, LedgerUnavailable):
            raise  # No other window would fare better.
        except (RetryLater, ListingUnreadable) as error:
            if isinstance(error, RetryLater):
                await self._tell_first(error, failures)
            failures[window.end] = error.with_traceback(None)
            return False
        return True

    async def _list_live(self, plan: Plan, failures: dict[datetime, CollectorError]) -> None:
        """List what is new; in a backfill that outlasts the period, again between its windows."""
        for window in plan.live:
            await self._try(window, failures)
        self._live_at_s = self._clock.monotonic_s()

    def _warning(self) -> CollectorError | None:
        return self._clock.error(self.feed.tenant_id)

    async def _take_back(self) -> None:
        """Undo what a clock that was ahead has left in the ledger, once the service has said the time."""
        if not (self._clock.is_current and self._clock.knows_service):
            return
        now = self._clock.now()
        since = oldest_reachable(now, margin=self._margin)
        back = await self._calls(self._ledger.take_back, self.feed, since=since, now=now)
        if back:
            _log.warning(
                f"{self.feed}: {back} of content counted as lost because a clock was ahead; it can still be "
                "listed, and is listed now",
                code="repaired",
            )

    async def _count_gaps(self) -> None:
        """What cannot be listed any more, because the collector stood still too long, is no secret.

        Nothing is counted while the time is uncertain: to a clock that has jumped ahead all is too old.
        """
        now = self._clock.now()
        coverage = await self._calls(settled_later(self._ledger.coverage), self.feed)
        if self._is_new is None:
            self._is_new = not coverage
        if not self._clock.is_current:
            return
        for gap in unreachable_spans(coverage, now, margin=self._margin):
            await self._count_gap(gap, now)

    async def _count_gap(self, gap: Window, now: datetime) -> None:
        if await self._calls(self._ledger.commit_gap, self.feed, gap, at=now):
            _log.error(
                f"{self.feed}: content of {gap} was never listed in full and is older than the service "
                "lists; what it held and was not listed is lost",
                code="gap",
            )

    async def _plan(self, begun_at: datetime | None = None) -> Plan:
        """What is due now; while nothing at all is listed, as seen from `begun_at`.

        Each window of such a plan moves with the time it is made for: those of a poll that fails would
        be new ones for ever, and the poll would not end.
        """
        now = self._clock.now()
        coverage = await self._calls(settled_later(self._ledger.coverage), self.feed)
        seen_from = now if coverage or begun_at is None else min(begun_at, now)
        return plan_windows(
            coverage,
            seen_from,
            start_at=self._settings.start_at,
            lookback=self._settings.lookback,
            margin=self._margin + (now - seen_from),
        )

    async def _relist_if_due(self, failures: dict[datetime, CollectorError]) -> None:
        """List the whole 7 days again once a day; a first backfill, done just now, counts as such.

        One that earlier runs began may be days old, and its clock may have been another.
        """
        now = self._clock.now()
        relisted_at = await self._calls(settled_later(self._ledger.relisted_at), self.feed)
        coverage = await self._calls(settled_later(self._ledger.coverage), self.feed)
        if relisted_at is not None:
            due_at = relisting_due_at(self.feed.tenant_id, relisted_at, started_at=self._started_at(now))
            if relisted_at <= now < due_at:
                return
        if relisted_at is not None or not self._is_new:
            await self._relist(now, coverage, failures)
        # What a power cut takes away of it is done again.
        await self._calls(settled_later(self._ledger.commit_relisting), self.feed, at=now)

    def _started_at(self, now: datetime) -> datetime | None:
        """When the run began; None for one that ends once it is caught up."""
        if self._started_s is None:
            return None
        return now - timedelta(seconds=self._clock.monotonic_s() - self._started_s)

    async def _relist(
        self, now: datetime, coverage: Sequence[Window], failures: dict[datetime, CollectorError]
    ) -> None:
        # What is younger than the lookback has just been listed, and may still be on its way.
        old = (now - self._settings.lookback).replace(microsecond=0)
        plan = plan_relisting(now, start_at=self._settings.start_at, margin=self._margin)
        windows = [Window(window.start, min(window.end, old)) for window in plan if window.start < old]
        windows = in_background(windows, now)
        self.windows_planned += len(windows)
        repaired = 0
        unread = []
        unreadable: dict[datetime, CollectorError] = {}
        for window in windows:
            if self._clock.monotonic_s() - self._live_at_s >= self._settings.period_s:
                await self._list_live(await self._plan(), failures)
            try:
                repaired += await self._list(window, self.watch)
            except ListingUnreadable as error:
                unreadable[window.end] = error.with_traceback(None)
                if _is_covered(window, coverage):
                    unread.append(window)
        await self._count_unread(before=windows[-1].start if windows else now)
        self._unread = unread
        failures |= unreadable
        await self.watch.end(windows, unreadable)
        if repaired:
            _log.warning(
                f"{self.feed}: listing the last 7 days again found {repaired} blobs that no listing had "
                "shown before; they are fetched now, nothing lost",
                code="repaired",
            )

    async def _count_unread(self, *, before: datetime) -> None:
        """What of the windows that could not be read is listed no more, as those listed now begin later."""
        for window in self._unread:
            if window.start < before:
                await self._count_gap(Window(window.start, min(window.end, before)), self._clock.now())

    async def _list_unread(self, failures: dict[datetime, CollectorError]) -> None:
        """List again what the last relisting could not read in full, until it can or is too old."""
        now = self._clock.now()
        edge = now.replace(microsecond=0) - LOOK_BACK_MAX + self._margin
        left = []
        for window in self._unread:
            within = Window(max(window.start, edge), window.end)
            if within.start < within.end and not await self._try(within, failures):
                left.append(window)
            elif window.start < edge:
                await self._count_gap(Window(window.start, min(window.end, edge)), now)
        self._unread = left

    async def _list(self, window: Window, watch: PageWatch | None = None) -> int:
        """List one window to its last page and commit it; how many blobs were new."""
        watch = watch or NobodyWatches()
        try:
            new = await self._list_pages(window, watch)
        except NotSubscribed:
            await self._keeper.revive(self.feed.audit_type)
            new = await self._list_pages(window, watch)
        self.windows_planned -= 1
        _log.debug(f"{self.feed}: listed {window}: {new} new blobs")
        return new

    async def _list_pages(self, window: Window, watch: PageWatch) -> int:
        new = pages = 0
        watch.begin(window)
        try:
            async for page in self._api.list_content(self.feed.audit_type, window):
                wanted = self._wanted(page)
                missing = await watch.look(wanted)
                committed = await self._commit(window, wanted, complete=False)
                new += committed if missing is None else missing
                pages += 1
        except WindowRefused:
            # After the first page it is the page's token that is refused, not the window.
            if not pages and self._is_oldest(window) and self._margin_step + 1 < len(MARGINS_S):
                self._margin_step += 1
            raise
        return new + await self._commit(window, [], complete=True)

    def _wanted(self, page: list[BlobRef]) -> list[BlobRef]:
        """The blobs from the start time on; windows are in whole seconds, start times need not be."""
        start_at = self._settings.start_at
        return page if start_at is None else [blob for blob in page if blob.created_at >= start_at]

    async def _commit(self, window: Window, page: list[BlobRef], *, complete: bool) -> int:
        # A window that a power cut takes away is listed again.
        verb = settled_later(self._ledger.commit_listing)
        new = await self._calls(verb, self.feed, window, page, complete=complete, at=self._clock.now())
        if new:
            self._on_listed(self.feed)
        return new

    def _is_oldest(self, window: Window) -> bool:
        return window.start <= self._clock.now() - timedelta(days=7) + self._margin + timedelta(minutes=5)

    @property
    def _margin(self) -> timedelta:
        return timedelta(seconds=MARGINS_S[self._margin_step])


def _is_covered(window: Window, coverage: Sequence[Window]) -> bool:
    return any(span.start <= window.start and window.end <= span.end for span in coverage)
