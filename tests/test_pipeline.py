"""From fetched blobs to acknowledged batches: nothing left out, nothing twice, no output in another's way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from masks_written import mask_of
from pipeline_works import FEED, Works, drain, run, sizes
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.model import BlobState, ContentType, Feed, TenantId
from m365watch.common.progress import FeedProgress
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.pipeline.batcher import BATCH_BYTES, LINGER_S, BatchBounds
from m365watch.records.masking import Masker
from m365watch.records.routing import Treatment
from m365watch.registry.outputs import MANY_RECORDS
from m365watch_testing.batches import make_record, make_records
from m365watch_testing.outputs import FakeOutput

FOREIGN_FEED = Feed(TenantId("22222222-2222-2222-2222-222222222222"), ContentType.EXCHANGE)


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
    masker = Masker([mask_of(("UserId",), "***", ())], spent_s=lambda: 0.0)

    async def use(works: Works) -> None:
        works.pipeline.treat({FEED: Treatment(masker=masker)})
        works.take_body(b"[" + make_record(1) + b"]", views=True)
        await drain(works)

    run(tmp_path, use, files)

    assert files.disk.records == [make_record(1).replace(b"user1@contoso.example", b"***")]


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


@guarantee(26)
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


@guarantee(10)
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


@guarantee(9)
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


@guarantee(9)
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
