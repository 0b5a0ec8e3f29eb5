"""Everything around a poller and a fetcher, on a loop whose time jumps, over a scripted tenant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.common.progress import FeedProgress
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.sources.feed_errors import Trouble, Troubles
from m365watch.sources.management_api.blob_fetcher import BlobFetcher
from m365watch.sources.management_api.feed_poller import FeedPoller
from m365watch.sources.management_api.fetch_attempts import FetchedBlob, TenantAccess
from m365watch.sources.management_api.in_flight_limit import BytesInFlight
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper
from m365watch.sources.poll_loop import PollMeans, PollSettings
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.api import FakeApi
from m365watch_testing.loop import CallsInLine, LoopClock

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
OTHER_TENANT = TenantId("22222222-2222-2222-2222-222222222222")
EXCHANGE, SHAREPOINT = ContentType.EXCHANGE, ContentType.SHAREPOINT
FEED = Feed(TENANT, EXCHANGE)
SHAREPOINT_FEED = Feed(TENANT, SHAREPOINT)
FOREIGN_FEED = Feed(OTHER_TENANT, EXCHANGE)


class Even:
    """Chance without surprises: jitter multiplies by one."""

    def random(self) -> float:
        return 0.5


class House:
    """A ledger, tenants that answer as scripted, and what is told about them."""

    def __init__(self, folder: Path) -> None:
        self.clock = LoopClock()
        self.calls: LedgerCalls = CallsInLine()
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        # Nothing here crashes, so the disk need not be waited for.
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.told: list[Trouble] = []
        self.troubles = Troubles(self.ledger, self.calls, self.clock, self.told.append)
        self.apis = {tenant: FakeApi(tenant, self.clock) for tenant in (TENANT, OTHER_TENANT)}
        self.keepers = {tenant: SubscriptionKeeper(api, self.clock) for tenant, api in self.apis.items()}
        self.woken: list[Feed] = []
        self.api = self.apis[TENANT]
        self.others: dict[TenantId, TenantAccess] = {}
        """Tenants that do not answer as scripted, and how they are reached."""

    def access(self, tenant: TenantId) -> TenantAccess:
        return self.others.get(tenant) or TenantAccess(
            self.apis[tenant], self.keepers[tenant], self.apis[tenant].clock
        )

    def ago(self, **span: float) -> datetime:
        return self.clock.now() - timedelta(**span)

    def poller(
        self,
        feed: Feed = FEED,
        *,
        start_at: datetime | None = None,
        lookback_s: float = 7_200.0,
        period_s: float = 300.0,
    ) -> FeedPoller:
        return FeedPoller(
            feed,
            self.access(feed.tenant_id),
            settings=PollSettings(start_at, timedelta(seconds=lookback_s), period_s),
            means=PollMeans(
                cycles=PullCycles(self.clock),
                ledger=self.ledger,
                calls=self.calls,
                troubles=self.troubles,
                clock=self.clock,
                random=Even(),
                on_listed=self.woken.append,
            ),
        )

    async def poll_once(self, poller: FeedPoller | None = None) -> FeedPoller:
        """Poll as `--once` does."""
        poller = poller or self.poller()
        await poller.run(once=True, stop=asyncio.Event())
        return poller

    def know(self, *refs: BlobRef) -> None:
        """Put blobs into the ledger as if they had been listed."""
        now = self.clock.now()
        for ref in refs:
            self.ledger.commit_listing(
                ref.feed, Window(now - timedelta(hours=1), now), [ref], complete=False, at=now
            )

    def publish(self, content_id: str, *bodies: bytes, feed: Feed = FEED, age_s: float = 600.0) -> BlobRef:
        """Serve a blob that the ledger knows already."""
        api = self.apis[feed.tenant_id]
        ref = api.publish(feed.audit_type, content_id, *bodies, created_at=self.ago(seconds=age_s))
        self.know(ref)
        return ref

    @contextlib.asynccontextmanager
    async def fetching(
        self, *feeds: Feed, bytes_max: int = 32 * 1024 * 1024, settles: bool = True, once: bool = False
    ) -> AsyncIterator[Fetching]:
        """A fetcher that runs; what it hands on is final at once unless it is told not to be."""
        fetching = Fetching(self, feeds or (FEED,), bytes_max=bytes_max, settles=settles, once=once)
        fetching.running = asyncio.create_task(fetching.fetcher.run())
        try:
            yield fetching
        finally:
            fetching.running.cancel()
            await asyncio.gather(fetching.running, return_exceptions=True)

    def progress(self, feed: Feed = FEED) -> FeedProgress:
        return next(one for one in self.ledger.feed_progress() if one.feed == feed)


class Fetching:
    """A fetcher, and what it has handed on."""

    def __init__(
        self, house: House, feeds: tuple[Feed, ...], *, bytes_max: int, settles: bool, once: bool
    ) -> None:
        self.handed_on: list[FetchedBlob] = []
        self.handed_on_at_quiet: list[int] = []
        self.flight = BytesInFlight(bytes_max)
        self.running: asyncio.Task[None]
        self._house = house
        self._settles = settles
        access = {tenant: house.access(tenant) for tenant in (*house.apis, *house.others)}
        self.fetcher = BlobFetcher(
            {feed: access[feed.tenant_id] for feed in feeds},
            ledger=house.ledger,
            calls=house.calls,
            troubles=house.troubles,
            clock=house.clock,
            random=Even(),
            once=once,
            flight=self.flight,
            wide_headers=False,
            on_fetched=self._take,
            on_quiet=self._hear_quiet,
        )

    @property
    def content_ids(self) -> list[str]:
        return [fetched.known.ref.content_id for fetched in self.handed_on]

    def _hear_quiet(self) -> None:
        self.handed_on_at_quiet.append(len(self.handed_on))

    def _take(self, fetched: FetchedBlob) -> None:
        self.handed_on.append(fetched)
        if self._settles:
            # Final without a delivery: what matters here is that it is not fetched again.
            self._house.ledger.commit_lost(fetched.known.key, "final", at=self._house.clock.now())
            self.fetcher.settle(fetched)


@contextlib.asynccontextmanager
async def house_in(folder: Path) -> AsyncIterator[House]:
    """A house whose ledger is closed at the end."""
    house = House(folder)
    try:
        yield house
    finally:
        house.ledger.close()
