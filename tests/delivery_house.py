"""A collector without a service: a ledger, a queue on disk for each output, and outputs that fail as told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

from m365watch.common.errors import CollectorError, OutputUnavailable
from m365watch.common.model import Batch, BlobRef, ContentType, Feed, KnownBlob, Receipt, TenantId, Window
from m365watch.common.progress import FeedProgress
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.pipeline.batcher import LINGER_S, Pipeline
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.records.split import split_blob
from m365watch.registry.outputs import Output
from m365watch.sources.management_api.fetch_attempts import FetchedBlob
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.batches import make_record
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

Result = TypeVar("Result")
P = ParamSpec("P")
T = TypeVar("T")
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
DOWN = OutputUnavailable("nobody answers", where="output devo")


class FakeWire:
    """An output without acknowledgement: it learns late what is durable, and cannot take back."""

    needs_wide_headers = False
    batches_at_once_max = 8
    waits_on_disk = True

    def __init__(self, name: str, received: list[bytes], *, retention_s: float = 10.0) -> None:
        """`received` is the receiver's side, which outlives the sender."""
        self.name = name
        self.received = received
        self.is_down = False
        self.proves = True
        self.flushes = 0
        self._retention_s = retention_s
        self._proof = asyncio.Event()

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        del position, newest_batch
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        if self.is_down:
            raise DOWN
        self.received += [record for part in batch.parts for record in part.records]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._retention_s):
                await self._proof.wait()
        if self.is_down:
            raise DOWN
        return Receipt()

    async def flush(self) -> None:
        self.flushes += 1
        if not self.proves:
            return
        self._proof.set()
        await asyncio.sleep(0)
        self._proof.clear()

    async def close(self) -> None:
        return


@dataclass
class House:
    """A tenant's blobs, and a collector's part from fetched blobs on, which can crash and start again."""

    folder: Path
    outputs: tuple[Output, ...]
    queue_bytes_max: int = 1024 * 1024
    patience_s: float | None = None
    aside: frozenset[str] = frozenset()
    """The outputs that set the pace of nothing."""
    disk: CallsInLine = field(default_factory=CallsInLine)
    bodies: dict[str, bytes] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)
    """The blobs that are not served any more."""
    held: set[str] = field(default_factory=set)
    recalls: int = 0

    async def start(self) -> None:
        self.clock = LoopClock()
        names = frozenset(output.name for output in self.outputs)
        self.ledger = SqliteLedger(self.folder, outputs=names, now=self.clock.now())
        # Nothing here takes the machine's power away, so the disk need not be waited for.
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.in_flight: set[str] = set()
        self.queues = {
            name: BatchQueue(
                self.folder / name, output=name, bytes_max=self.queue_bytes_max, wide_headers=False
            )
            for name in names
        }
        self.pipeline = Pipeline(
            [
                QueuedOutput(one, self.queues[one.name], self.disk, stands_aside=one.name in self.aside)
                for one in self.outputs
            ],
            {},
            cycles=PullCycles(self.clock),
            ledger=self.ledger,
            calls=CallsInLine(),
            clock=self.clock,
            on_held=self._hold,
            on_recalled=self._recall,
            patience_s=self.patience_s,
        )
        durable = {}
        for output in self.outputs:
            known = self.ledger.output_position(output.name)
            durable[output.name] = await output.open(
                last_batch=known.last_batch,
                position=known.position,
                newest_batch=self.ledger.newest_batch(),
            )
        found = {name: queue.open() for name, queue in self.queues.items()}
        kept = self.ledger.settle_outputs(durable, queued=found, at=self.clock.now())
        for name, numbers in found.items():
            for number in set(numbers) - set(kept[name]):
                self.queues[name].remove(number)
        self.pipeline.resume(kept)
        self.running = asyncio.create_task(self.pipeline.run())

    async def stop(self) -> None:
        """End as a crash does, but for the ledger's file, which is closed."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        self.ledger.close()

    def _hold(self, fetched: FetchedBlob) -> None:
        self.in_flight.discard(fetched.known.ref.content_id)
        self.held.add(fetched.known.ref.content_id)

    def _recall(self) -> None:
        self.recalls += 1

    def publish(self, *records: bytes) -> None:
        """A new blob is listed."""
        name = f"blob{len(self.bodies)}"
        self.bodies[name] = b"[" + b",".join(records) + b"]"
        now = self.clock.now()
        ref = BlobRef(FEED, name, now, now + timedelta(days=7))
        self.ledger.commit_listing(FEED, Window(now, now), [ref], complete=False, at=now)

    def due(self) -> list[KnownBlob]:
        known = self.ledger.due_blobs(FEED, now=self.clock.now(), count_max=1_000, besides=frozenset())
        return [one for one in known if one.ref.content_id not in self.in_flight]

    def fetch(self) -> int:
        """Fetch what is due, as the fetcher does; how many blobs."""
        due = self.due()
        for known in due:
            if known.ref.content_id in self.expired:
                self.ledger.commit_lost(known.key, "no longer served", at=self.clock.now())
                continue
            self.take(known)
        return len(due)

    def take(self, known: KnownBlob) -> None:
        """The blob is fetched, and goes into the pipeline."""
        body = self.bodies[known.ref.content_id]
        self.in_flight.add(known.ref.content_id)
        split = split_blob(body, wide=False)
        self.pipeline.take(FetchedBlob(known, split, self.clock.now(), len(body)))

    async def trickle(self, count: int) -> None:
        """Publish and fetch `count` blobs of one record each, slowly enough for a batch each."""
        for number in range(count):
            self.publish(make_record(number))
            self.fetch()
            await asyncio.sleep(LINGER_S * 2)

    def progress(self) -> FeedProgress:
        return next(one for one in self.ledger.feed_progress() if one.feed == FEED)

    async def finish(self) -> None:
        """Fetch and deliver until every blob is final."""
        async with asyncio.timeout(100_000):
            while self.fetch() or self.progress().blobs_waiting:
                await self.pipeline.drain()
                await asyncio.sleep(1)


def run(house: House, use: Callable[[House], Awaitable[Result]]) -> Result:
    """What `use` finds in a started house."""

    async def main() -> Result:
        await house.start()
        try:
            return await use(house)
        finally:
            await house.stop()

    return run_jumping(main())


class AwayWire(FakeWire):
    """Cannot reach its receiver until `trouble` is None."""

    trouble: CollectorError | None = DOWN

    async def deliver(self, batch: Batch) -> Receipt:
        while self.trouble is not None:
            await asyncio.sleep(1)
        return await super().deliver(batch)
