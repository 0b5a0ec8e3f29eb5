"""A whole run over scripted tenants, on a loop whose time jumps: it polls, fetches and delivers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.common.progress import FeedProgress
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.records.routing import Treatment
from m365watch.runtime.collector_run import CollectorRun, RunParts
from m365watch.sources.factory import ReachedFeed
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.management_api.fetch_attempts import TenantAccess
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper
from m365watch.sources.poll_loop import PollSettings
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.api import FakeApi
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping
from m365watch_testing.outputs import FakeDisk, FakeOutput

Result = TypeVar("Result")
ONE, TWO, THREE = (TenantId(f"{number}1111111-1111-1111-1111-111111111111") for number in (1, 2, 3))
EXCHANGE = ContentType.EXCHANGE
PERIOD_S = 300.0


class Even:
    """Chance without surprises: jitter multiplies by one."""

    def random(self) -> float:
        return 0.5


def feed(tenant: TenantId) -> Feed:
    return Feed(tenant, EXCHANGE)


class Site:
    """Tenants that answer as scripted, a ledger, and outputs whose disks outlive runs."""

    def __init__(self, folder: Path, outputs: tuple[str, ...] = ("lake",)) -> None:
        self.clock = LoopClock()
        self.folder = folder
        self.apis = {tenant: FakeApi(tenant, self.clock) for tenant in (ONE, TWO, THREE)}
        self.disks = {name: FakeDisk() for name in outputs}
        self.outputs: dict[str, FakeOutput] = {}
        self.make_output: Callable[[str, FakeDisk], FakeOutput] = FakeOutput
        self.ledger: SqliteLedger
        self.run: CollectorRun
        self._published = 0
        self.excluded: dict[TenantId, frozenset[str]] = {}
        """The outputs that are not for a tenant."""

    def reached(self, *tenants: TenantId, **treatment: str) -> dict[Feed, ReachedFeed]:
        """The feeds of `tenants`, each time made anew."""
        found = {}
        for tenant in tenants:
            access = TenantAccess(
                self.apis[tenant], SubscriptionKeeper(self.apis[tenant], self.clock), self.apis[tenant].clock
            )
            polling = PollSettings(None, timedelta(hours=2), PERIOD_S)
            found[feed(tenant)] = ReachedFeed(access, polling, Treatment(**treatment))  # type: ignore[arg-type]
        return found

    def publish(self, tenant: TenantId, count: int = 1, *, again: str | None = None) -> None:
        """So many blobs with a record each that is named after its tenant, or that is `again` another one."""
        for _ in range(count):
            self._published += 1
            record = {
                "Id": again or f"{tenant[0]}-{self._published}",
                "CreationTime": "2026-11-24T09:00:00",
                "Operation": "MailItemsAccessed",
                "RecordType": 2,
                "Workload": "Exchange",
            }
            at = self.clock.now() - timedelta(seconds=60)
            body = json.dumps([record]).encode()
            self.apis[tenant].publish(EXCHANGE, f"blob{self._published}", body, created_at=at)

    def held(self, output: str = "lake") -> list[str]:
        """The Ids that the output has made durable, in their order."""
        return [json.loads(record)["Id"] for record in self.disks[output].records]

    def progress(self, tenant: TenantId) -> FeedProgress:
        return next(one for one in self.ledger.feed_progress() if one.feed == feed(tenant))

    @asynccontextmanager
    async def collecting(self, feeds: Mapping[Feed, ReachedFeed]) -> AsyncIterator[asyncio.Event]:
        """A run over `feeds`, from the opening of the ledger to its orderly end."""
        calls, names = CallsInLine(), frozenset(self.disks)
        self.ledger = ledger = SqliteLedger(self.folder, outputs=names, now=self.clock.now())
        ledger._connection.execute("PRAGMA synchronous = OFF")
        ledger.routes.exclude(self.excluded)
        self.outputs = {name: self.make_output(name, disk) for name, disk in self.disks.items()}
        queued, durable, found = [], {}, {}
        for name, output in self.outputs.items():
            known = ledger.output_position(name)
            durable[name] = await output.open(last_batch=known.last_batch, position=known.position)
            queue = BatchQueue(
                self.folder / "queues" / name, output=name, bytes_max=1 << 30, wide_headers=False
            )
            found[name] = queue.open()
            queued.append(QueuedOutput(output, queue, calls))
        kept = ledger.settle_outputs(durable, queued=found, at=self.clock.now())
        parts = RunParts(
            ledger,
            calls,
            Troubles(ledger, calls, self.clock),
            PullCycles(self.clock),
            clock=self.clock,
            random=Even(),
            # Hours pass here.
            upkeep_s=60.0,
        )
        self.run = CollectorRun(parts, feeds, queued, started_at=self.clock.now(), patience_s=None)
        self.run.resume(kept)
        stop = asyncio.Event()
        running = asyncio.create_task(self.run.until_end(once=False, stop=stop))
        try:
            yield stop
        finally:
            stop.set()
            await running
            ledger.close()


def run(
    folder: Path,
    use: Callable[[Site], Awaitable[Result]],
    *,
    outputs: tuple[str, ...] = ("lake",),
) -> Result:
    async def main() -> Result:
        return await use(Site(folder, outputs))

    return run_jumping(main())
