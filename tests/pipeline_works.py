"""A pipeline over a real ledger, fed by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar

from m365watch.common.model import BlobRef, BlobState, ContentType, Feed, KnownBlob, TenantId, Window
from m365watch.common.progress import FeedProgress
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.pipeline.batcher import BatchBounds, Pipeline
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.records.routing import Treatment
from m365watch.records.split import split_blob
from m365watch.sources.management_api.fetch_attempts import FetchedBlob
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping
from m365watch_testing.outputs import FakeOutput

Result = TypeVar("Result")
P = ParamSpec("P")
T = TypeVar("T")
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)


class Works:
    """A pipeline that runs, with its ledger and outputs."""

    def __init__(
        self,
        folder: Path,
        outputs: tuple[FakeOutput, ...],
        *,
        patience_s: float | None = None,
        override_tag: str | None = None,
        queue_bytes_max: int = 1024 * 1024 * 1024,
        calls: KeepingCalls | None = None,
        bounds: BatchBounds | None = None,
    ) -> None:
        self.clock = LoopClock()
        self.calls = calls or KeepingCalls()
        self.names = frozenset(output.name for output in outputs)
        self.ledger = SqliteLedger(folder, outputs=self.names, now=self.clock.now())
        # Nothing here takes the machine's power away, so the disk need not be waited for.
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.outputs = outputs
        self.held: list[str] = []
        self.running: asyncio.Task[None]
        self.pipeline = Pipeline(
            [self.queued(output, folder, queue_bytes_max) for output in outputs],
            {FEED: Treatment(override_tag)},
            cycles=PullCycles(self.clock),
            ledger=self.ledger,
            calls=self.calls,
            clock=self.clock,
            on_held=lambda fetched: self.held.append(fetched.known.ref.content_id),
            on_recalled=lambda: None,
            patience_s=patience_s,
            bounds=bounds,
        )
        self._count = len(self.states())

    def queued(self, output: FakeOutput, folder: Path, bytes_max: int) -> QueuedOutput:
        queue = BatchQueue(folder / output.name, output=output.name, bytes_max=bytes_max, wide_headers=False)
        return QueuedOutput(output, queue, CallsInLine())

    def take(self, *records: bytes, feed: Feed = FEED) -> str:
        """Hand a new blob of `records` to the pipeline; its content id."""
        return self.take_body(b"[" + b",".join(records) + b"]", feed=feed)

    def take_body(self, body: bytes, *, feed: Feed = FEED, views: bool = False) -> str:
        self._count += 1
        now = self.clock.now()
        ref = BlobRef(feed, f"blob{self._count}", now, now + timedelta(days=7))
        self.ledger.commit_listing(feed, Window(now, now), [ref], complete=False, at=now)
        [known] = [one for one in self.due(feed) if one.ref.content_id == ref.content_id]
        self.pipeline.take(fetched(known, body, now, views=views))
        return ref.content_id

    def take_due(self, body: bytes) -> None:
        """Hand on what the ledger still knows, as a fetcher would after a restart."""
        for known in self.due(FEED):
            self.pipeline.take(fetched(known, body, self.clock.now()))

    def due(self, feed: Feed = FEED) -> list[KnownBlob]:
        return self.ledger.due_blobs(feed, now=self.clock.now(), count_max=1_000, besides=frozenset())

    def progress(self) -> FeedProgress:
        return next(one for one in self.ledger.feed_progress() if one.feed == FEED)

    def states(self) -> list[BlobState]:
        order = list(BlobState)
        rows = self.ledger._connection.execute("SELECT state FROM blob ORDER BY key")
        return [order[state] for (state,) in rows]


class KeepingCalls(CallsInLine):
    """Keeps which verbs were called, and the outputs whose deliveries were committed."""

    def __init__(self) -> None:
        self.verbs: list[str] = []

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.verbs.append(" ".join([verb.__name__, *(one for one in args if isinstance(one, str))]))
        return await super().__call__(verb, *args, **kwargs)


def fetched(known: KnownBlob, body: bytes, at: datetime, *, views: bool = False) -> FetchedBlob:
    return FetchedBlob(known, split_blob(body, wide=False, views=views), at, len(body))


@contextlib.asynccontextmanager
async def at_work(works: Works) -> AsyncIterator[Works]:
    """Started as the app does it: outputs opened and settled; cancelled at the end, as a crash would."""
    try:
        durable = {}
        for output in works.outputs:
            known = works.ledger.output_position(output.name)
            durable[output.name] = await output.open(last_batch=known.last_batch, position=known.position)
        works.ledger.settle_outputs(durable, queued={}, at=works.clock.now())
        works.running = asyncio.create_task(works.pipeline.run())
        yield works
        works.running.cancel()
        await asyncio.gather(works.running, return_exceptions=True)
    finally:
        works.ledger.close()


def run(
    folder: Path,
    use: Callable[[Works], Awaitable[Result]],
    *outputs: FakeOutput,
    patience_s: float | None = None,
    override_tag: str | None = None,
    calls: KeepingCalls | None = None,
    bounds: BatchBounds | None = None,
) -> Result:
    async def main() -> Result:
        settled = outputs or (FakeOutput("lake"),)
        works = Works(
            folder, settled, patience_s=patience_s, override_tag=override_tag, calls=calls, bounds=bounds
        )
        async with at_work(works):
            return await use(works)

    return run_jumping(main())


def sizes(output: FakeOutput) -> list[int]:
    return [batch.record_count for batch in output.batches]


async def drain(works: Works) -> None:
    async with asyncio.timeout(10_000):
        await works.pipeline.drain()
