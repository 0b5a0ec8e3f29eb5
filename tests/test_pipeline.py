"""From fetched blobs to acknowledged batches: nothing left out, nothing twice, no output in another's way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from m365watch.config.settings import MaskSettings
from m365watch.config.wire_values import TABLE_PREFIX
from m365watch.delivery import BATCHES_WAITING_MAX, QueuedOutput
from m365watch.errors import OutputUnavailable, OutputUnusable
from m365watch.feed.tries import FetchedBlob
from m365watch.ledger.sqlite import SqliteLedger
from m365watch.model import (
    Batch,
    BlobRef,
    BlobState,
    ContentType,
    Feed,
    KnownBlob,
    Receipt,
    TenantId,
    Window,
)
from m365watch.monitor.cycles import PullCycles
from m365watch.outputs.port import MANY_RECORDS
from m365watch.outputs.queue import BatchQueue
from m365watch.pipeline import BATCH_BYTES, LINGER_S, BatchBounds, Pipeline
from m365watch.progress import FeedProgress
from m365watch.records.masking import Masker
from m365watch.records.split import split_blob
from m365watch.records.treatment import Treatment
from m365watch.testing.batches import make_record, make_records
from m365watch.testing.loop import CallsInLine, LoopClock, run_jumping
from m365watch.testing.outputs import FakeDisk, FakeOutput

Result = TypeVar("Result")
P = ParamSpec("P")
T = TypeVar("T")

FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
FOREIGN_FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.EXCHANGE)
FULL = OutputUnavailable("the disk is full", where="output lake")


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


# What is delivered.


def test_every_record_of_every_blob_arrives_verbatim(tmp_path: Path) -> None:
    """All elements of each array, not the first alone; in the order of their arrival."""
    lake = FakeOutput("lake")
    records = make_records(60)

    async def use(works: Works) -> FeedProgress:
        for start in range(0, 60, 20):
            works.take(*records[start : start + 20])
        await drain(works)
        return works.progress()

    progress = run(tmp_path, use, lake)

    assert lake.disk.records == records
    assert (progress.blobs_delivered, progress.records_delivered, progress.blobs_waiting) == (3, 60, 0)


def test_a_batch_says_how_many_bytes_its_records_have(tmp_path: Path) -> None:
    """Of the records that go on, without duplicates and without what lies between them."""
    lake = FakeOutput("lake")
    records = make_records(3)

    async def use(works: Works) -> None:
        works.take(records[0], *records)
        await drain(works)

    run(tmp_path, use, lake)

    assert [batch.size_bytes for batch in lake.batches] == [sum(map(len, records))]


def test_records_go_to_their_tables(tmp_path: Path) -> None:
    """By Workload; an unknown one is delivered all the same."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> None:
        works.take(make_record(1), make_record(2, workload="Novel"), b'{"Id":"3"}')
        await drain(works)

    run(tmp_path, use, lake)

    assert lake.batches[0].parts[0].tables == [
        f"{TABLE_PREFIX}{table}" for table in ("exchange", "novel", "unknown")
    ]


def test_an_override_tag_names_the_table(tmp_path: Path) -> None:
    """For every record of the service."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> None:
        works.take(make_record(1), make_record(2, workload="Novel"))
        await drain(works)

    run(tmp_path, use, lake, override_tag="my.app.table")

    assert lake.batches[0].parts[0].tables == ["my.app.table"] * 2


def test_records_that_came_as_views_are_masked_as_others(tmp_path: Path) -> None:
    """A mask looks into a record, which a view does not let it."""
    files = FakeOutput("files")
    masker = Masker([MaskSettings(("UserId",), "***", ())], spent_s=lambda: 0.0)

    async def use(works: Works) -> None:
        works.pipeline.treat({FEED: Treatment(masker=masker)})
        works.take_body(b"[" + make_record(1) + b"]", views=True)
        await drain(works)

    run(tmp_path, use, files)

    assert files.disk.records == [make_record(1).replace(b"user1@contoso.example", b"***")]


# Batches.


def test_a_batch_waits_a_moment_for_more(tmp_path: Path) -> None:
    """The moment is counted from the first blob on, so that a trickle does not keep it waiting."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> float:
        for number in range(20):
            works.take(make_record(number))
            await asyncio.sleep(LINGER_S / 4)
        waited_s = works.clock.monotonic_s()
        await drain(works)
        return works.clock.monotonic_s() - waited_s

    waited_s = run(tmp_path, use, lake)

    assert waited_s <= LINGER_S
    assert sum(sizes(lake)) == 20
    assert {4, 5} >= set(sizes(lake)[:-1]) != set()


def test_a_batch_does_not_wait_for_more_where_nothing_is_on_its_way(tmp_path: Path) -> None:
    """Told so, it is closed at once; what comes later starts another one."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> float:
        started_s = works.clock.monotonic_s()
        works.take(make_record(1))
        works.pipeline.flush()
        await drain(works)
        works.take(make_record(2))
        await drain(works)
        return works.clock.monotonic_s() - started_s

    assert LINGER_S <= run(tmp_path, use, lake) < 2 * LINGER_S
    assert sizes(lake) == [1, 1]


def test_a_batch_is_closed_when_it_has_enough_records(tmp_path: Path) -> None:
    """The rest goes into the next one, without a wait."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> None:
        for start in range(0, 36, 4):
            works.take(*make_records(4, start=start))
        await drain(works)

    run(tmp_path, use, lake, bounds=BatchBounds(records=10))

    assert sizes(lake) == [12, 12, 12]


class ExpectingOutput(FakeOutput):
    """Keeps what it is told to expect, with the number of batches that it had by then."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.expected: list[tuple[int, int]] = []

    def expect(self, records: int) -> None:
        self.expected.append((records, len(self.batches)))


def test_an_output_hears_of_much_before_the_batch_is_filled(tmp_path: Path) -> None:
    """Once for each large batch, and not for a small one."""
    detections = ExpectingOutput("detections")

    async def use(works: Works) -> None:
        for start in range(0, 5 * MANY_RECORDS // 2, MANY_RECORDS // 2):
            works.take(*make_records(MANY_RECORDS // 2, start=start))
        await drain(works)

    run(tmp_path, use, detections, bounds=BatchBounds(records=2 * MANY_RECORDS))

    assert sizes(detections) == [2 * MANY_RECORDS, MANY_RECORDS // 2]
    assert detections.expected == [(MANY_RECORDS, 0)]


def test_a_batch_is_closed_when_it_has_enough_bytes(tmp_path: Path) -> None:
    """At most one blob more than the bound."""
    lake = FakeOutput("lake")
    blob_bytes = BATCH_BYTES // 4 + 1

    async def use(works: Works) -> None:
        for number in range(8):
            works.take(b'{"Id":"%d","Pad":"%s"}' % (number, b"x" * blob_bytes))
        await drain(works)

    run(tmp_path, use, lake)

    assert sizes(lake) == [4, 4]


# Duplicates.


def test_a_duplicate_is_left_out_and_the_first_one_kept(tmp_path: Path) -> None:
    """Within a blob, within a batch and across batches; counted in plain sight."""
    lake = FakeOutput("lake")
    first = make_records(4)

    async def use(works: Works) -> FeedProgress:
        works.take(first[0], first[1], first[0])
        works.take(first[1], first[2])
        await drain(works)
        works.take(*first)
        await drain(works)
        return works.progress()

    progress = run(tmp_path, use, lake)

    assert lake.disk.records == first
    assert (progress.records_delivered, progress.records_duplicate) == (4, 5)


def test_a_duplicate_is_known_by_its_identity_and_by_nothing_else(tmp_path: Path) -> None:
    """Another order of keys is the same record; another time, operation, type or tenant is another."""
    lake = FakeOutput("lake")
    record = b'{"Id":"1","CreationTime":"2026-11-17T08:00:00","Operation":"A","RecordType":1}'
    reordered = b'{"RecordType":1,"Operation":"A","CreationTime":"2026-11-17T08:00:00","Id":"1"}'
    others = [
        record.replace(b"08:00:00", b"08:00:01"),
        record.replace(b'"A"', b'"B"'),
        record.replace(b":1}", b":2}"),
    ]
    nameless = b'{"Operation":"A"}'

    async def use(works: Works) -> None:
        works.take(record, reordered, *others, nameless, nameless)
        await drain(works)
        works.take(record, feed=FOREIGN_FEED)
        await drain(works)

    run(tmp_path, use, lake)

    assert lake.disk.records == [record, *others, nameless, nameless, record]


def test_a_batch_of_nothing_but_duplicates_is_committed_undelivered(tmp_path: Path) -> None:
    """The blob is final, and the output is not troubled."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> list[BlobState]:
        works.take(make_record(1))
        await drain(works)
        works.take(make_record(1))
        await drain(works)
        return works.states()

    assert run(tmp_path, use, lake) == [BlobState.DELIVERED] * 2
    assert sizes(lake) == [1]


# What is not a record.


def test_a_fragment_is_quarantined_and_its_neighbours_arrive(tmp_path: Path) -> None:
    """By name and verbatim, with one line that says so and does not show it."""
    lake = FakeOutput("lake")
    body = b"[" + make_record(1) + b',"secret",' + make_record(2) + b"]"

    async def use(works: Works) -> tuple[list[bytes], list[BlobState]]:
        works.take_body(body)
        await drain(works)
        kept = [row[0] for row in works.ledger._connection.execute("SELECT body FROM quarantine")]
        return kept, works.states()

    with capture_logs() as lines:
        kept, states = run(tmp_path, use, lake)

    assert (kept, states) == ([b'"secret"'], [BlobState.DELIVERED])
    assert lake.disk.records == make_records(2, start=1)
    assert [line["code"] for line in lines if line["log_level"] == "error"] == ["quarantined"]
    assert "secret" not in str(lines)


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2, 3]"], ids=["no array", "fragments"])
def test_a_blob_of_nothing_but_fragments_ends_in_quarantine(tmp_path: Path, body: bytes) -> None:
    """It is not counted as delivered; blobs beside it and behind it go on."""
    lake = FakeOutput("lake")

    async def use(works: Works) -> tuple[list[str], FeedProgress, list[BlobState]]:
        works.take_body(body)
        await drain(works)
        works.take_body(body + b" ")
        works.take(make_record(1))
        await drain(works)
        return works.held, works.progress(), works.states()

    final, progress, states = run(tmp_path, use, lake)

    assert sorted(final) == ["blob1", "blob2", "blob3"]
    assert (progress.blobs_quarantined, progress.blobs_delivered, progress.blobs_waiting) == (2, 1, 0)
    assert states == [BlobState.QUARANTINED, BlobState.QUARANTINED, BlobState.DELIVERED]


def test_an_empty_blob_is_delivered(tmp_path: Path) -> None:
    """Nothing was in it, and nothing of it is missing."""

    async def use(works: Works) -> list[BlobState]:
        works.take_body(b"[]")
        await drain(works)
        return works.states()

    assert run(tmp_path, use) == [BlobState.DELIVERED]


def test_what_an_output_refuses_is_quarantined_and_its_neighbours_arrive(tmp_path: Path) -> None:
    """For that output alone: the other one has it."""
    lake, files = FakeOutput("lake"), FakeOutput("files")
    records = make_records(3)
    lake.refuses = {records[1]: "too long a name"}

    async def use(works: Works) -> list[tuple[str, str]]:
        works.take(*records)
        await drain(works)
        rows = works.ledger._connection.execute("SELECT output, reason FROM quarantine")
        return [(output, reason) for output, reason in rows]

    assert run(tmp_path, use, lake, files) == [("lake", "too long a name")]
    assert lake.disk.records == [records[0], records[2]]
    assert files.disk.records == records


# Order.


def test_a_batch_is_written_down_then_delivered_then_committed(tmp_path: Path) -> None:
    """State is never saved before the delivery, and an output never sees what the ledger does not know."""
    lake = FakeOutput("lake")
    lake.hold()

    async def use(works: Works) -> list[list[str]]:
        seen = []
        works.take(make_record(1))
        await asyncio.sleep(1)
        seen.append([*works.calls.verbs])
        assert (len(lake.batches), works.held) == (1, [])
        lake.release()
        await drain(works)
        return [*seen, works.calls.verbs]

    assert run(tmp_path, use, lake) == [
        ["open_batch"],
        ["open_batch", "note_output_error lake", "commit_delivered lake"],
    ]


def test_batches_arrive_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """At each output, so that no duplicate is left out in favour of a record that did not arrive."""
    outputs = FakeOutput("lake"), FakeOutput("files")
    outputs[0].fail(FULL, times=3)

    async def use(works: Works) -> None:
        for number in range(8):
            works.take(make_record(number))
            await asyncio.sleep(LINGER_S * 2)
        await drain(works)

    run(tmp_path, use, *outputs)

    for output in outputs:
        numbers = [batch.number for batch in output.batches]
        assert numbers == sorted(numbers)
        assert output.disk.records == make_records(8)


def test_a_blob_is_final_only_when_every_output_has_it(tmp_path: Path) -> None:
    """One output's word is not enough."""
    lake, files = FakeOutput("lake"), FakeOutput("files")
    files.hold()

    async def use(works: Works) -> list[tuple[list[str], list[BlobState]]]:
        seen = []
        works.take(make_record(1))
        await asyncio.sleep(1)
        seen.append(([*works.held], works.states()))
        files.release()
        await drain(works)
        return [*seen, (works.held, works.states())]

    assert run(tmp_path, use, lake, files) == [
        ([], [BlobState.WAITING]),
        (["blob1"], [BlobState.DELIVERED]),
    ]


def test_draining_waits_for_the_last_blob_and_for_nothing_else(tmp_path: Path) -> None:
    """With nothing taken it is over at once."""
    lake = FakeOutput("lake")
    lake.hold()

    async def use(works: Works) -> tuple[bool, bool]:
        await works.pipeline.drain()
        works.take(make_record(1))
        draining = asyncio.create_task(works.pipeline.drain())
        await asyncio.sleep(100)
        before = draining.done()
        lake.release()
        await draining
        return before, works.held == ["blob1"]

    assert run(tmp_path, use, lake) == (False, True)


# One output and the other.


def test_a_slow_output_does_not_delay_the_other_and_catches_up(tmp_path: Path) -> None:
    """Its batches wait on disk, and it takes them from there in their order."""
    slow, quick = FakeOutput("slow"), FakeOutput("quick")
    slow.hold()
    batches = BATCHES_WAITING_MAX + 5

    async def use(works: Works) -> int:
        for number in range(batches):
            works.take(make_record(number))
            await asyncio.sleep(LINGER_S * 2)
        ahead = len(quick.disk.records)
        slow.release()
        await drain(works)
        return ahead

    ahead = run(tmp_path, use, slow, quick)

    assert ahead == batches
    assert slow.disk.records == quick.disk.records == make_records(batches)


def test_an_output_that_cannot_write_is_tried_again(tmp_path: Path) -> None:
    """With longer and longer pauses, up to a minute; it says so once, and once that it goes on."""
    lake = TimedOutput("lake")
    lake.fail(FULL, times=10)

    async def use(works: Works) -> tuple[dict[str, str], dict[str, str]]:
        works.take(*make_records(5))
        await asyncio.sleep(5)
        during = dict(works.pipeline.output_errors)
        await drain(works)
        return during, works.pipeline.output_errors

    with capture_logs() as lines:
        during, after = run(tmp_path, use, lake)

    pauses_s = [later - earlier for earlier, later in pairwise(lake.tries_s)]
    assert pauses_s == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60])
    assert (during, after) == ({"lake": str(FULL)}, {})
    assert [line["event"] for line in lines] == [str(FULL), "output lake: goes on"]
    assert lake.disk.records == make_records(5)


class TimedOutput(FakeOutput):
    """Keeps when each batch was handed to it, in seconds."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.tries_s: list[float] = []

    async def deliver(self, batch: Batch) -> Receipt:
        self.tries_s.append(asyncio.get_running_loop().time())
        return await super().deliver(batch)


def test_an_output_is_given_the_time_that_it_asks_for(tmp_path: Path) -> None:
    """Where it is longer than the pipeline's own pause; another complaint is said as well."""
    lake = FakeOutput("lake")
    lake.fail(OutputUnavailable("busy", where="output lake", after_s=90.0))
    lake.fail(FULL)

    async def use(works: Works) -> float:
        works.take(make_record(1))
        await drain(works)
        return works.clock.monotonic_s()

    with capture_logs() as lines:
        waited_s = run(tmp_path, use, lake)

    assert 91 <= waited_s < 92
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info"]


def test_one_output_that_cannot_write_leaves_the_other_alone(tmp_path: Path) -> None:
    """Its neighbour has the records long before."""
    lake, files = FakeOutput("lake"), FakeOutput("files")
    lake.fail(FULL, times=5)

    async def use(works: Works) -> int:
        works.take(*make_records(5))
        await asyncio.sleep(LINGER_S * 2)
        early = len(files.disk.records)
        await drain(works)
        return early

    assert run(tmp_path, use, lake, files) == 5
    assert lake.disk.records == make_records(5)


def test_patience_with_an_output_ends(tmp_path: Path) -> None:
    """`--once` gives up after its patience: the batch is not committed, and the error goes up."""
    lake = FakeOutput("lake")
    lake.disk.is_full = True

    async def use(works: Works) -> tuple[BaseException | None, float, list[BlobState]]:
        works.take(make_record(1))
        await asyncio.wait([works.running])
        return works.running.exception(), works.clock.monotonic_s(), works.states()

    failure, waited_s, states = run(tmp_path, use, lake, patience_s=15.0)

    assert isinstance(failure, ExceptionGroup)
    assert failure.subgroup(OutputUnavailable) is not None
    assert 15 <= waited_s < 32
    assert states == [BlobState.WAITING]


def test_an_output_that_needs_a_person_ends_the_run(tmp_path: Path) -> None:
    """It is not tried again, and nothing of the batch counts."""
    lake = FakeOutput("lake")
    lake.fail(OutputUnusable("the table is not ours", fix="name another"))

    async def use(works: Works) -> tuple[BaseException | None, list[BlobState]]:
        works.take(make_record(1))
        await asyncio.wait([works.running])
        return works.running.exception(), works.states()

    failure, states = run(tmp_path, use, lake)

    assert isinstance(failure, ExceptionGroup)
    assert states == [BlobState.WAITING]


# Crashes.


def body_of(count: int) -> bytes:
    return b"[" + b",".join(make_records(count)) + b"]"


@pytest.mark.parametrize("can_undo", [True, False])
def test_a_crash_before_the_commit_repeats_nothing_and_loses_nothing(tmp_path: Path, can_undo: bool) -> None:
    """The output is durable and the ledger is not: it is undone there, or owned up to here."""
    disk = FakeDisk()

    async def crash(works: Works) -> list[BlobState]:
        works.take_body(body_of(6))
        await asyncio.sleep(5)
        return works.states()

    async def go_on(works: Works) -> list[BlobState]:
        works.take_due(body_of(6))
        await drain(works)
        return works.states()

    output = FakeOutput("lake", disk, can_undo=can_undo)
    assert run(tmp_path, crash, output, calls=NeverCommits()) == [BlobState.WAITING]
    assert disk.records == make_records(6)
    assert run(tmp_path, go_on, FakeOutput("lake", disk, can_undo=can_undo)) == [BlobState.DELIVERED]
    assert disk.records == make_records(6)


class NeverCommits(KeepingCalls):
    """Calls of a process that dies at the commit of a delivery."""

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if verb.__name__ == "commit_delivered":
            await asyncio.Event().wait()
        return await super().__call__(verb, *args, **kwargs)


def test_an_output_that_has_a_blob_does_not_get_it_again(tmp_path: Path) -> None:
    """After a crash in which one output was slower, only that one is given the blob once more."""
    lake, files = FakeDisk(), FakeDisk()

    async def crash(works: Works) -> frozenset[str]:
        works.outputs[1].hold()
        works.take_body(body_of(6))
        await asyncio.sleep(5)
        [known] = works.due()
        return known.missing_outputs

    again = FakeOutput("lake", lake), FakeOutput("files", files)

    async def go_on(works: Works) -> list[BlobState]:
        works.take_due(body_of(6))
        works.take(make_record(7))
        await drain(works)
        return works.states()

    missing = run(tmp_path, crash, FakeOutput("lake", lake), FakeOutput("files", files))
    states = run(tmp_path, go_on, *again)

    assert missing == {"files"}
    assert states == [BlobState.DELIVERED] * 2
    assert [sizes(output) for output in again] == [[1], [7]]
    assert sorted(lake.records) == sorted(files.records) == sorted([*make_records(6), make_record(7)])


def test_a_crash_while_writing_leaves_nothing_half(tmp_path: Path) -> None:
    """What was not safe is gone, and comes again with the blob."""
    disk = FakeDisk()

    async def crash(works: Works) -> int:
        works.outputs[0].hold()
        works.take_body(body_of(6))
        await asyncio.sleep(5)
        return len(disk.volatile)

    async def go_on(works: Works) -> None:
        works.take_due(body_of(6))
        await drain(works)

    assert run(tmp_path, crash, FakeOutput("lake", disk)) == 1
    assert disk.records == []
    run(tmp_path, go_on, FakeOutput("lake", disk))
    assert disk.records == make_records(6)
