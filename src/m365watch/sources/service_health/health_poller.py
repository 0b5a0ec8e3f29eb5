"""Service health as a feed's `Api`: nothing to subscribe to, nothing to list, bodies from disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from m365watch.common.errors import (
    CollectorError,
    NeedsOperator,
    RetryLater,
    Throttled,
    Unreachable,
    WindowRefused,
)
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.ledger.limits import HORIZON
from m365watch.sources.page_spool import KEPT_LIFE, KeptPages
from m365watch.sources.poll_loop import Poller, PollMeans, PollSettings
from m365watch.sources.service_health.announcement_changes import (
    Known,
    Told,
    datetime_of,
    find_news,
    known_of,
)
from m365watch.sources.service_health.service_health_client import Kind

_log = structlog.get_logger(__name__)

PREFIX = "announced:"
"""How the content id of a blob of announcements begins."""
FOLDER = "announced"
"""The folder of their bodies, in the state directory."""
BLOB_RECORDS = 200
BLOB_BYTES_MAX = 4 << 20
"""A blob with more records, or after so many bytes, is followed by another."""
WHOLE_EVERY = timedelta(days=1)
"""How often all issues and posts are read, and not only those that were modified lately."""
OVERLAP = timedelta(hours=1)
"""How far before the latest modification that was seen the next look begins."""


class Announces(Protocol):
    """What is asked of Graph; `graph.Announcements` says what it raises."""

    def pages(self, kind: Kind, *, since: datetime | None = None) -> AsyncIterator[list[bytes]]:
        """The announcements of a kind, page by page."""
        ...


@dataclass(frozen=True, slots=True)
class HealthMeans:
    """How a tenant's service health is looked at."""

    announcements: Announces
    kinds: frozenset[Kind]
    """What is wanted."""
    pages: KeptPages
    sweep: Callable[[], None]
    """Removes the bodies of the tenant's blobs that are final."""


class HealthPoller(Poller):
    """Looks at one tenant's service health for ever, or once."""

    def __init__(self, feed: Feed, health: HealthMeans, *, settings: PollSettings, means: PollMeans) -> None:
        super().__init__(feed, settings, means)
        self._health = health
        self._known: Known | None = None
        self._whole_at: dict[Kind, datetime] = {}
        self._takes_no_condition: set[Kind] = set()

    async def _poll(self) -> None:
        """One look. A kind that fails holds no other up: what failed is raised when the rest is known."""
        known = await self._recall()
        await self._make_known(known)
        # Only now: a body of which the ledger does not know yet would go.
        await self._calls(self._health.sweep)
        now = self._clock.now()
        failures: list[CollectorError] = []
        told = await self._look(known, now, failures)
        news = find_news(
            known,
            told,
            tenant_id=self.feed.tenant_id,
            at=_seen_at(known, now),
            wanted=self._health.kinds,
            start_at=self._settings.start_at,
        )
        if news.records:
            await self._keep(news.known, news.records, max(now, _seen_at(known, now)))
        elif news.known != known:
            await self._remember(news.known)
        self._whole_at |= {one.kind: now for one in told if one.is_whole}
        if failures:
            # What a person has to see to goes first: the rest passes by itself.
            raise min(failures, key=lambda error: not isinstance(error, NeedsOperator))
        await self._commit([], now, complete=True)

    async def _recall(self) -> Known:
        """What is known, from the ledger at the first look."""
        if self._known is None:
            self._known = known_of(await self._calls(self._ledger.remembered, memory_name(self.feed)))
        return self._known

    async def _look(self, known: Known, now: datetime, failures: list[CollectorError]) -> list[Told]:
        """What Graph says of each kind; overviews only where the issues that they are told with are there."""
        told: list[Told] = []
        wanted = self._health.kinds
        needed = {*wanted, *({Kind.ISSUES, Kind.OVERVIEWS} if wanted - {Kind.POSTS} else set())}
        for kind in (Kind.ISSUES, Kind.OVERVIEWS, Kind.POSTS):
            if kind not in needed or (kind is Kind.OVERVIEWS and failures):
                continue
            try:
                told.append(await self._read(kind, known, now))
            except (Throttled, Unreachable):
                raise  # The other kinds would fare no better.
            except (RetryLater, NeedsOperator) as error:
                failures.append(error.with_traceback(None))
        return told

    async def _read(self, kind: Kind, known: Known, now: datetime) -> Told:
        since = self._since(kind, known, now)
        if since is not None:
            try:
                return Told(kind, await self._texts(kind, since), is_whole=False)
            except WindowRefused as error:
                _log.warning(f"{error.where}: {error.what}; all of them are read instead", code=error.code)
                self._takes_no_condition.add(kind)
        return Told(kind, await self._texts(kind, None), is_whole=True)

    async def _texts(self, kind: Kind, since: datetime | None) -> list[bytes]:
        return [text async for page in self._health.announcements.pages(kind, since=since) for text in page]

    def _since(self, kind: Kind, known: Known, now: datetime) -> datetime | None:
        """From which modification on a kind is read; None for all of it."""
        whole_at, newest = self._whole_at.get(kind), known.newest.get(kind)
        if kind is Kind.OVERVIEWS or kind in self._takes_no_condition or not newest:
            return None
        if whole_at is None or not whole_at <= now < whole_at + WHOLE_EVERY:
            return None
        return datetime.fromtimestamp(datetime_of(newest), UTC) - OVERLAP

    async def _keep(self, after: Known, records: Sequence[bytes], now: datetime) -> None:
        """The records are on disk in blobs, which the ledger knows; a crash at any point leaves each once."""
        # Each later than those before, so that no name comes twice where a clock is set back.
        made_us = max(us_of(now), after.pending_us + 1)
        lots = cut(records)
        after.pending = [f"{PREFIX}{made_us}:{number}" for number in range(1, len(lots) + 1)]
        after.pending_us = made_us
        for ref, lot in zip(self._refs(after), lots, strict=True):
            await self._calls(self._health.pages.put, ref, lot)
        await self._remember(after)
        await self._make_known(after)

    async def _make_known(self, known: Known) -> None:
        """The ledger knows the pending blobs, perhaps since before."""
        if not known.pending:
            return
        refs = self._refs(known)
        await self._commit(refs, refs[0].created_at, complete=False)
        self._on_listed(self.feed)
        known.pending = []
        await self._remember(known)

    def _refs(self, known: Known) -> list[BlobRef]:
        made_at = instant_of_us(known.pending_us)
        return [BlobRef(self.feed, name, made_at, made_at + KEPT_LIFE) for name in known.pending]

    async def _remember(self, known: Known) -> None:
        await self._calls(self._ledger.remember, memory_name(self.feed), known.body())
        self._known = known

    async def _commit(self, refs: Sequence[BlobRef], now: datetime, *, complete: bool) -> None:
        """A look shows all that there is: nothing stays unlisted, however long ago the last one was."""
        coverage = await self._calls(self._ledger.coverage, self.feed)
        start = min(coverage[-1].end, now) if coverage else now - timedelta(seconds=1)
        window = Window(max(start, now - HORIZON), now)
        await self._calls(self._ledger.commit_listing, self.feed, window, refs, complete=complete, at=now)


def _seen_at(known: Known, now: datetime) -> datetime:
    """When what is new was seen, to the second; later than what was told before.

    A state is told apart by this time alone: two of them within a second would pass for one record.
    """
    behind = instant_of_us(known.pending_us) + timedelta(seconds=1)
    return max(now, behind).replace(microsecond=0)


def memory_name(feed: Feed) -> str:
    """Under which name the ledger keeps what is known."""
    return f"announcements {feed}"


def cut(records: Sequence[bytes]) -> list[list[bytes]]:
    """The records in blobs of a bounded size, in their order."""
    lots: list[list[bytes]] = []
    size_bytes = 0
    for record in records:
        if not lots or len(lots[-1]) >= BLOB_RECORDS or size_bytes > BLOB_BYTES_MAX:
            lots.append([])
            size_bytes = 0
        lots[-1].append(record)
        size_bytes += len(record)
    return lots


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
