"""Audits as they happen: a feed listed from end to end, each page compared before the ledger knows it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    LedgerUnavailable,
    LedgerUnusable,
    ListingUnreadable,
    NeedsOperator,
    NotSubscribed,
    RetryLater,
    Unavailable,
    WindowRefused,
)
from m365watch.common.model import LOOK_BACK_MAX, BlobRef, BlobState, Feed, Window
from m365watch.health.completeness.feed_audit import FeedAudit, Tally
from m365watch.ledger.blob_states import Absent
from m365watch.registry.ports import Api, FeedSource
from m365watch.sources.management_api.feed_poller import in_background
from m365watch.sources.management_api.listing_windows import plan_relisting

_log = structlog.get_logger(__name__)

UNANSWERED_S = 30.0
"""How long an audit waits for the first sign of the service, whatever the number of feeds."""
WINDOW_TRIES = 6
"""Tries of one window before the feed's audit ends with an error."""
PAUSE_S = 2.0
PAUSE_S_MAX = 60.0
"""The first pause between them, and the longest."""
MARGIN = timedelta(seconds=60)
"""How far inside the 7 days the oldest window starts."""
EDGE_STEP = timedelta(minutes=20)
"""How much later it starts after each refusal."""

Compare = Callable[[Feed, Sequence[BlobRef]], Awaitable[Sequence[BlobState | Absent]]]
"""Where blobs stand in the ledger, in their order."""
Commit = Callable[[Feed, Window, Sequence[BlobRef]], Awaitable[None]]
"""Makes blobs known to the ledger, which then fetches them."""


@dataclass(frozen=True, slots=True)
class AuditOrder:
    """What is to be audited."""

    days: int = 7
    repair: bool = False
    number: str | None = None
    """The request that it answers."""


class DailyAudit:
    """A feed's daily relisting as an audit; a `feed.relisting.PageWatch`."""

    def __init__(
        self, feed: Feed, *, compare: Compare, keep: Callable[[FeedAudit], Awaitable[None]], clock: Clock
    ) -> None:
        """`keep` gets the account of each relisting once it is complete."""
        self._feed = feed
        self._compare = compare
        self._keep = keep
        self._clock = clock
        self._tally = Tally()

    def begin(self, window: Window) -> None:
        """The window is listed from its first page on."""
        self._tally.begin(window)

    async def look(self, page: Sequence[BlobRef]) -> int:
        """Count one page, as the ledger knows it now; how many of it are missing until it is committed."""
        states = await self._compare(self._feed, page)
        self._tally.add(page, states)
        return sum(state is Absent.MISSING for state in states)

    async def end(self, windows: Sequence[Window], failures: Mapping[datetime, CollectorError]) -> None:
        """Keep the account, and begin the next one."""
        tally, self._tally = self._tally, Tally()
        if windows:
            error = next(iter(failures.values()), None)
            audit = _audit_of(self._feed, tally, span=span_of(windows), at=self._clock.now(), error=error)
            await self._keep(replace(audit, repaired=audit.total.missing))


class Auditor:
    """Audits feeds one by one, and makes known what is missing where that is wanted."""

    def __init__(self, *, compare: Compare, commit: Commit | None, clock: Clock) -> None:
        """Without `commit` nothing is repaired."""
        self._compare = compare
        self._commit = commit
        self._clock = clock
        self._is_answered = False
        self._silent_since_s: float | None = None
        self._given_up: Unavailable | None = None

    async def audit(
        self, feed: Feed, audited: FeedSource, *, order: AuditOrder, on_window: Callable[[], Awaitable[None]]
    ) -> FeedAudit:
        """List the last `order.days` of the feed, and say where everything that is listed stands.

        `on_window` hears of each window that was listed. An error of the service ends the listing, and
        stands in the audit.

        Raises: LedgerUnusable, LedgerUnavailable: there is nothing to compare with.
        """
        start_at = audited.start_at
        now = self._clock.now()
        windows = plan_audit(now, start_at=start_at, days=order.days)
        tally = Tally()
        error: CollectorError | None = await self._reach(audited.api) if windows else None
        for window in windows if error is None else ():
            try:
                await self._list_patiently(feed, audited, window, tally=tally)
            except ListingUnreadable as unreadable:
                error = unreadable
            except (LedgerUnusable, LedgerUnavailable):
                raise
            except CollectorError as failure:
                error = failure
                break
            await on_window()
        span = span_of(windows) if windows else Window(now, now)
        audit = _audit_of(feed, tally, span=span, at=self._clock.now(), error=error)
        missing = audit.total.missing
        repaired = 0 if self._commit is None else missing
        return replace(audit, repaired=repaired, remaining=missing - repaired, asked=order.number)

    async def _reach(self, api: Api) -> Unavailable | None:
        """None once anything was heard of the service; else, after `UNANSWERED_S`, what is in the way.

        To try each window of each feed for as long as one may fail would take minutes a feed.
        """
        pause_s = PAUSE_S
        while not self._is_answered and self._given_up is None:
            try:
                await api.enabled_subscriptions()
            except Unavailable as error:
                self._hear_nothing(error)
                await self._clock.sleep(0.0 if self._given_up else pause_s)
                pause_s *= 2.0
            except CollectorError:
                self._is_answered = True  # A refusal is an answer; the listing meets it again.
            else:
                self._is_answered = True
        return None if self._is_answered else self._given_up

    def _hear_nothing(self, error: Unavailable) -> None:
        now_s = self._clock.monotonic_s()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
            _log.warning(f"{_told(error)}; it is tried for {UNANSWERED_S:g} s", code=error.code)
        elif now_s - self._silent_since_s >= UNANSWERED_S:
            self._given_up = error

    async def _list_patiently(self, feed: Feed, audited: FeedSource, window: Window, *, tally: Tally) -> None:
        """List one window, again after what passes; its oldest edge gives way where it is refused."""
        for number in range(WINDOW_TRIES):
            try:
                await self._list(feed, audited, window, tally=tally)
            except WindowRefused as error:
                later = Window(window.start + EDGE_STEP, window.end)
                if number + 1 == WINDOW_TRIES or later.start >= later.end:
                    raise
                if window.start < self._clock.now() - LOOK_BACK_MAX + EDGE_STEP * WINDOW_TRIES:
                    window = later
                await self._clock.sleep(error.after_s or PAUSE_S)
            except LedgerUnavailable:
                raise
            except RetryLater as error:
                # To start a subscription is the collector's business.
                if number + 1 == WINDOW_TRIES or isinstance(error, NotSubscribed):
                    raise
                await self._clock.sleep(error.after_s or min(PAUSE_S_MAX, PAUSE_S * 2.0**number))
            else:
                return

    async def _list(self, feed: Feed, audited: FeedSource, window: Window, *, tally: Tally) -> None:
        tally.begin(window)
        start_at = audited.start_at
        async for page in audited.api.list_content(feed.audit_type, window):
            wanted = [ref for ref in page if start_at is None or ref.created_at >= start_at]
            states = await self._compare(feed, wanted)
            tally.add(wanted, states)
            unknown = [ref for ref, state in zip(wanted, states, strict=True) if isinstance(state, Absent)]
            if self._commit is not None and unknown:
                await self._commit(feed, window, unknown)


def plan_audit(now: datetime, *, start_at: datetime | None, days: int) -> list[Window]:
    """The windows of the last `days`, newest first, each at most 24 h, none before `start_at`."""
    oldest = (now - timedelta(days=days)).replace(microsecond=0) if days < LOOK_BACK_MAX.days else None
    if oldest is not None:
        start_at = oldest if start_at is None else max(oldest, start_at)
    return in_background(plan_relisting(now, start_at=start_at, margin=MARGIN), now)


def span_of(windows: Sequence[Window]) -> Window:
    """From the first instant of `windows`, of which there is at least one, to the last."""
    return Window(min(one.start for one in windows), max(one.end for one in windows))


def _audit_of(
    feed: Feed, tally: Tally, *, span: Window, at: datetime, error: CollectorError | None
) -> FeedAudit:
    return FeedAudit(
        feed,
        at=at,
        span=span,
        hours=tally.hours(),
        missing=tally.missing(),
        error=None if error is None else _told(error),
        fix=error.fix if isinstance(error, NeedsOperator) else None,
    )


def _told(error: CollectorError) -> str:
    """Where and what, but not what then: an audit has ended, and its cure stands beside it."""
    return f"{error.where}: {error.what}" if error.where else error.what
