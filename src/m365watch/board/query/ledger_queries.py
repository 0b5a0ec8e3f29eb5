"""The ledger for the pages: what `status`, `gaps`, `audit` and `quarantine` read, within a view's tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import instant_words
from m365watch.board.widgets.labels import span_words
from m365watch.common.errors import LedgerUnusable
from m365watch.common.model import Feed
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.health.collector_status import (
    feeds_of,
    find_pieces,
    read_audits,
    read_expiry,
    read_gaps,
    read_hours,
    read_latency,
    read_status,
    read_throttling,
    waiting_blobs,
    who_collects,
)
from m365watch.health.completeness.content_gaps import GapsFound
from m365watch.health.completeness.feed_audit import FeedAudit
from m365watch.health.completeness.hour_status import FeedHours
from m365watch.health.expiry.expiry_store import KnownApplication
from m365watch.ledger.quarantine import KeptPiece
from m365watch.pipeline.latency import TOGETHER, Histogram, SeriesKey, recent
from m365watch.registry.ports import WaitingBlob

PIECES_READ_MAX = 200
FEEDS_READ_MAX = 200
"""Feeds whose hours are judged for a page: some 2 ms each."""
Found = TypeVar("Found")


def sees_every_tenant(view: View) -> bool:
    """Whether who looks may see what belongs to all tenants together."""
    return view.access.tenants is None


async def feeds_listed(view: View, sources: Sources) -> list[Feed]:
    """The configuration's feeds that were listed and may be shown, those of the worst tenants first."""
    tenants, named = await sources.list_tenants(view), frozenset(feeds_of(sources.settings))
    return [
        one.feed
        for tenant in tenants
        for one in tenant.feeds
        if one.listed_at is not None and one.feed in named
    ]


async def _read(sources: Sources, read: Callable[[], Found]) -> Found | None:
    """What the ledger says; None where there is none yet. Raises: LedgerUnusable: it cannot be read."""
    try:
        return await asyncio.to_thread(read)
    except LedgerUnusable:
        if sources.has_ledger:
            raise
        return None


async def list_hours(
    view: View, sources: Sources, feeds: Sequence[Feed], hours: range
) -> list[FeedHours] | None:
    """How the hours of `feeds` stand."""
    seen = [feed for feed in feeds if view.sees(feed.tenant_id)]
    return await _read(sources, lambda: read_hours(sources.settings, seen, hours, now=view.now))


async def list_gaps(view: View, sources: Sources, feeds: Sequence[Feed], *, days: int) -> GapsFound | None:
    """The hours of `feeds` without content."""
    seen = [feed for feed in feeds if view.sees(feed.tenant_id)]
    return await _read(sources, lambda: read_gaps(sources.settings, now=view.now, days=days, feeds=seen))


async def list_audits(view: View, sources: Sources) -> list[FeedAudit] | None:
    """The last audit of each feed."""
    found = await _read(sources, lambda: read_audits(sources.settings))
    return None if found is None else [one for feed, one in found.items() if view.sees(feed.tenant_id)]


async def list_waiting(view: View, sources: Sources) -> list[WaitingBlob] | None:
    """The blobs whose fetch failed, the soonest to be tried first."""
    found = await _read(sources, lambda: waiting_blobs(sources.settings))
    return None if found is None else [one for one in found if view.sees(one.feed.tenant_id)]


async def list_pieces(view: View, sources: Sources) -> list[KeptPiece] | None:
    """The newest pieces in quarantine; those that nobody knows the tenant of are for who sees all."""
    names = [""] if view.tenants is None else [f"{one}/" for one in view.tenants]
    pieces: list[KeptPiece] = []
    for name in names:
        found = await _read(
            sources, partial(find_pieces, sources.settings, feed_part=name, count_max=PIECES_READ_MAX)
        )
        if found is None:
            return None
        pieces += found.pieces
    return sorted(pieces, key=lambda one: one.number, reverse=True)[:PIECES_READ_MAX]


async def list_outputs(sources: Sources) -> dict[str, OutputProgress] | None:
    """What is wrong with outputs, and what they lack, by name; only for who `sees_every_tenant`."""
    found = await _read(sources, lambda: read_status(sources.settings, now=sources.clock.now()))
    return None if found is None else {one.name: one for one in found.outputs}


@dataclass(frozen=True, slots=True)
class CollectorSeen:
    """Whether a collector runs: the one answer of every page."""

    holder: str | None
    """Who holds the ledger; None: nobody is seen to."""
    last_at: datetime | None
    """When one has last heard of Microsoft for a feed that may be shown; None: never."""

    @property
    def has_stopped(self) -> bool:
        """Whether one has run, and none does now."""
        return self.holder is None and self.last_at is not None

    def stopped_words(self, now: datetime | None = None) -> str:
        """That none runs, and since when; empty where one does, or none ever has.

        Without `now` it is said when that was, and not how long ago: that stays as it is.
        """
        if self.holder is not None or self.last_at is None:
            return ""
        if now is None:
            return f"no collector runs, last seen {instant_words(int(self.last_at.timestamp()))} UTC"
        return f"no collector runs, last seen {span_words((now - self.last_at).total_seconds())} ago"


async def see_collector(sources: Sources, feeds: Iterable[FeedProgress]) -> CollectorSeen:
    """Whether a collector holds the ledger, as `m365watch status --alive` asks too; `feeds` may be shown."""
    holder = await asyncio.to_thread(who_collects, sources.settings)
    heard = [at for feed in feeds for at in (feed.listed_at, feed.last_error_at) if at is not None]
    return CollectorSeen(holder, max(heard, default=None))


async def list_applications(view: View, sources: Sources) -> list[KnownApplication] | None:
    """What is known of the credentials of applications, each with the tenants that may be shown."""
    found = await _read(sources, lambda: read_expiry(sources.settings))
    if found is None:
        return None
    seen = [(one, [tenant for tenant in one.tenants if view.sees(tenant)]) for one in found]
    return [msgspec.structs.replace(one, tenants=tenants) for one, tenants in seen if tenants]


async def list_throttling(view: View, sources: Sources) -> dict[str, dict[int, int]] | None:
    """How many answers were throttled, by tenant and hour since 1970."""
    book = await _read(sources, lambda: read_throttling(sources.settings))
    if book is None:
        return None
    return {tenant: dict(hours) for tenant, hours in book.by_tenant.items() if view.sees(tenant)}


async def list_latency(view: View, sources: Sources) -> dict[SeriesKey, Histogram] | None:
    """How long records took today and yesterday."""
    book = await _read(sources, lambda: read_latency(sources.settings))
    if book is None:
        return None
    found = recent(book, view.now.date())
    return {
        key: one
        for key, one in found.items()
        if view.sees(key.tenant_id) or (key.tenant_id == TOGETHER and view.tenants is None)
    }
