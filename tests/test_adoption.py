"""What a ledger that knows nothing learns from its outputs and their queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.model import (
    Batch,
    BatchPart,
    BlobKey,
    BlobRef,
    ContentType,
    Feed,
    KnownBlob,
    Receipt,
    RefusedRecord,
    TenantId,
    Window,
)
from m365watch.config.models.detections import DETECTIONS
from m365watch.ledger.limits import HORIZON
from m365watch.ledger.quarantine import kept_pieces
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.reconciliation_store import Adopted
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerThread
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch.records.identity import IdentityMaker, MarkMaker
from m365watch.records.split import split_blob
from m365watch.registry.outputs import HeldPiece, MarkedPiece
from m365watch.registry.ports import OpenedBatch
from m365watch.runtime.ledger_reconciliation import AdoptionParts, adopt
from m365watch_testing.clock import FakeClock
from m365watch_testing.outputs import FakeOutput

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ONE, TWO = (TenantId(f"{digit * 8}-1111-1111-1111-111111111111") for digit in "12")
BOTH = frozenset({"devo", "lake"})


def record(name: str, tenant: str = ONE) -> bytes:
    return (
        f'{{"Id": "{name}", "CreationTime": "2026-11-24T10:00:00", "Operation": "Send",'
        f' "RecordType": 2, "OrganizationId": "{tenant}"}}'
    ).encode()


def without_id(name: str) -> bytes:
    return f'{{"CreationTime": "2026-11-24T10:00:00", "Operation": "{name}"}}'.encode()


class TellingOutput(FakeOutput):
    """A fake that can be asked; `pieces` is what it says."""

    def __init__(
        self,
        name: str,
        *,
        last_batch: int,
        pieces: Sequence[HeldPiece] = (),
        erased: Sequence[MarkedPiece] = (),
    ) -> None:
        super().__init__(name)
        self.erased = erased
        self.last_batch = last_batch
        self.pieces = pieces
        self.asked_since: list[datetime] = []

    async def take_over(self) -> int:
        return self.last_batch

    async def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        self.asked_since.append(since)
        for piece in self.pieces:
            yield piece

    async def list_erased(self) -> AsyncIterator[MarkedPiece]:
        for piece in self.erased:
            yield piece


class Place:
    """A new ledger, and whatever else is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock(NOW)
        self.ledger = SqliteLedger(folder, outputs=BOTH, now=NOW)
        self.identities = IdentityMaker(self.ledger.identity_seed)

    def queue(self, output: str) -> BatchQueue:
        return BatchQueue(self.folder / output, output=output, bytes_max=1 << 20, wide_headers=False)

    def adopt(
        self, *outputs: FakeOutput, queues: Sequence[str] = (), tenants: Sequence[TenantId] = (ONE,)
    ) -> Adopted | None:
        async def run() -> Adopted | None:
            calls = LedgerThread(self.clock, patience_s=1.0)
            parts = AdoptionParts(self.ledger.held, self.identities, calls, self.clock, tenants)
            try:
                return await adopt(parts, outputs, {name: self.queue(name) for name in queues})
            finally:
                calls.close()

        return asyncio.run(run())

    def evict(self, now: datetime) -> None:
        while self.ledger.evict(now=now):
            pass

    def known(self, name: str, tenant: TenantId = ONE, *, at: datetime = NOW) -> KnownBlob:
        feed = Feed(tenant, ContentType.EXCHANGE)
        ref = BlobRef(feed, name, at - timedelta(hours=1), at + timedelta(days=6))
        self.ledger.commit_listing(feed, Window(at - timedelta(hours=2), at), [ref], complete=True, at=at)
        due = self.ledger.due_blobs(feed, now=at, count_max=99, besides=frozenset())
        return next(one for one in due if one.ref.content_id == name)

    def part(self, records: Sequence[bytes], tenant: TenantId = ONE) -> BatchPart:
        known = self.known(f"blob of {len(records)} {records[0]!r}", tenant)
        split = split_blob(b"[" + b",".join(records) + b"]", wide=False)
        return BatchPart(
            blob=known.key,
            feed=known.ref.feed,
            received_at=NOW,
            records=split.records,
            headers=split.headers,
            tables=["t"] * len(records),
            missing_outputs=BOTH,
            identities=self.identities.identities(tenant, split.headers),
        )

    def opened(self, *records: bytes, tenant: TenantId = ONE) -> OpenedBatch:
        return self.ledger.open_batch([self.part(records, tenant)], BOTH)

    def put_in_queue(self, output: str, number: int, *records: bytes) -> None:
        part = BatchPart(
            blob=BlobKey(70 + number),
            feed=Feed(ONE, ContentType.EXCHANGE),
            received_at=NOW,
            records=list(records),
            headers=[],
            tables=["t"] * len(records),
            missing_outputs=BOTH,
        )
        self.queue(output).put(Batch(number, [part]))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    one.ledger.close()


def lake(*records: bytes, last_batch: int = 9, tenant: TenantId | None = ONE) -> TellingOutput:
    return TellingOutput("lake", last_batch=last_batch, pieces=[HeldPiece(tenant, list(records))])


def test_a_first_start_has_nothing_to_ask(place: Place) -> None:
    """And says nothing."""
    with capture_logs() as lines:
        assert place.adopt(TellingOutput("lake", last_batch=0)) is None

    assert lines == []


def test_what_one_output_holds_is_left_out_for_it_alone(place: Place) -> None:
    """The other gets it, and numbers go on behind the highest that is known."""
    place.adopt(lake(record("a"), without_id("b")), FakeOutput("devo"))

    opened = place.opened(record("a"), without_id("b"), record("c"))

    assert (opened.number, opened.duplicates) == (10, {})
    assert opened.held == {"lake": {0: {0, 1}}}
    assert place.ledger.output_position("lake").last_batch == 9


def erased_from_lake(*records: bytes, tenant: TenantId = ONE) -> TellingOutput:
    """A lake from which these were erased, under a key that no ledger has made."""
    maker = MarkMaker(b"k" * 32)
    split = split_blob(b"[" + b",".join(records) + b"]", wide=False)
    marks = maker.marks(tenant, split.headers, split.records)
    return TellingOutput("lake", last_batch=9, erased=[MarkedPiece(maker.key, marks)])


def test_what_was_erased_is_left_out_for_the_lake_alone(place: Place) -> None:
    """By what makes records the same, or by the bytes; the other output cannot tell, and gets it."""
    place.adopt(erased_from_lake(record("a"), without_id("b")), FakeOutput("devo"))

    opened = place.opened(record("a").replace(b": ", b":"), without_id("b"), record("c"), without_id("d"))
    others = place.opened(record("a"), tenant=TWO)

    assert opened.held == {"lake": {0: {0, 1}}}
    assert others.held == {}


@guarantee(17)
def test_no_alert_is_made_of_what_was_erased(place: Place) -> None:
    """The detections did see it; but what names the person is gone there as well."""
    outputs = frozenset({"lake", "devo", DETECTIONS})
    place.adopt(erased_from_lake(record("a")), FakeOutput("devo"), FakeOutput(DETECTIONS))

    part = replace(place.part([record("a"), record("b")]), missing_outputs=outputs)
    opened = place.ledger.open_batch([part], outputs)

    assert opened.held == {"lake": {0: {0}}, DETECTIONS: {0: {0}}}


def test_what_was_erased_is_left_out_after_a_restart_too(place: Place) -> None:
    """The ledger keeps the marks with their key for as long as what it was told that outputs hold."""
    place.adopt(erased_from_lake(record("a")))
    place.ledger.close()
    place.ledger = SqliteLedger(place.folder, outputs=BOTH, now=NOW)

    kept = place.opened(record("a")).held
    place.known("newer", at=NOW + HORIZON + timedelta(hours=1))  # what is listed says that time has passed
    while place.ledger.evict(now=NOW + HORIZON + timedelta(hours=1)):
        pass
    [left] = place.ledger._connection.execute("SELECT count(*) FROM held").fetchone()

    assert kept == {"lake": {0: {0}}}
    assert left == 0
    assert place.opened(record("a")).held == {}


def test_what_all_hold_counts_as_a_duplicate(place: Place) -> None:
    """In the figures as well; what is new is new."""
    devo = TellingOutput("devo", last_batch=4, pieces=[HeldPiece(ONE, [record("a")])])
    place.adopt(lake(record("a"), record("b")), devo)

    opened = place.opened(record("a"), record("b"), record("c"))
    again = place.opened(record("c"), record("b"), record("d"), record("a"))

    assert opened.duplicates == {0: {0}}
    assert opened.held == {"lake": {0: {1}}}
    # `b` went to devo with the batch before, and `c` to both.
    assert again.duplicates == {0: {0, 1, 3}}


def test_the_last_fifteen_days_are_asked_for_and_then_forgotten(place: Place) -> None:
    """Nothing older can be served again."""
    output = lake(record("a"))
    place.adopt(output)
    [since] = output.asked_since
    assert since < NOW - HORIZON

    while place.ledger.evict(now=NOW + HORIZON - timedelta(hours=1)):
        pass
    kept = place.opened(record("a")).held
    place.known("newer", at=NOW + HORIZON + timedelta(hours=1))  # what is listed says that time has passed
    while place.ledger.evict(now=NOW + HORIZON + timedelta(hours=1)):
        pass
    [left] = place.ledger._connection.execute("SELECT count(*) FROM held").fetchone()

    assert kept == {"lake": {0: {0}}}
    assert left == 0


def test_a_ledger_that_knows_its_outputs_asks_no_more(place: Place) -> None:
    """Not after it asked once, nor after a batch."""
    place.adopt(lake(record("a")))

    assert place.adopt(lake(record("b"))) is None
    assert place.opened(record("b")).held == {}


def test_a_file_tells_no_tenant_so_its_records_do(place: Place) -> None:
    """By OrganizationId; one that says nothing may be of each, and none of one tenant is another's."""
    silent = record("c", tenant="")
    place.adopt(lake(record("a"), record("b", TWO), silent, tenant=None), tenants=(ONE, TWO))

    first = place.opened(record("a"), record("b", TWO), silent)
    second = place.opened(record("a"), record("b", TWO), silent, tenant=TWO)

    assert first.held == {"lake": {0: {0, 2}}}
    assert second.held == {"lake": {0: {1, 2}}}


@guarantee(14)
def test_what_waits_in_a_queue_is_kept_under_the_new_ledger(place: Place) -> None:
    """It is delivered from there, is not fetched for that output again, and its blobs have a name."""
    place.put_in_queue("devo", 12, record("a"))
    place.put_in_queue("devo", 14, record("b"))

    adopted = place.adopt(FakeOutput("devo"), queues=["devo"])
    kept = place.ledger.settle_outputs({"lake": 0, "devo": 0}, queued={"devo": [12, 14]}, at=NOW)
    opened = place.opened(record("a"), record("c"))
    for number in kept["devo"]:
        place.ledger.commit_delivered(number, "devo", Receipt(), at=NOW)

    assert adopted is not None
    assert kept == {"devo": [12, 14]}
    assert opened.number == 15
    assert opened.held == {"devo": {0: {0}}}
    assert place.known("new").key > 70 + 14
    assert place.ledger.output_position("devo").last_batch == 14


@guarantee(3)
def test_what_an_output_refuses_of_an_adopted_queue_has_its_name(place: Place) -> None:
    """However long the queue has waited: the ledger forgot the blob, and the refusal ended the collector.

    Once the batch is delivered, the blob is forgotten like any other.
    """
    place.put_in_queue("devo", 12, record("a"))
    place.put_in_queue("devo", 14, record("b"))
    place.adopt(FakeOutput("devo"), queues=["devo"])
    place.ledger.settle_outputs({"lake": 0, "devo": 0}, queued={"devo": [12, 14]}, at=NOW)
    place.known("new", at=NOW + HORIZON)
    later = NOW + HORIZON + timedelta(days=1)
    refused = RefusedRecord(BlobKey(70 + 12), record("a"), "too long")
    feed = Feed(ONE, ContentType.EXCHANGE)

    place.evict(later)
    place.ledger.commit_delivered(12, "devo", Receipt(refused=(refused,)), at=later)
    place.ledger.commit_delivered(14, "devo", Receipt(), at=later)
    place.evict(later)

    with ledger_for_reading(place.ledger.path) as reading:
        (piece,) = kept_pieces(reading, feed_part="", count_max=9).pieces
        left = reading.execute("SELECT key FROM blob WHERE key IN (82, 84)").fetchall()
    assert (piece.feed, piece.content_id) == (feed, "from the queue of an earlier ledger, 82")
    assert left == [(82,)]


def test_what_a_queue_has_and_its_output_too_leaves_the_queue(place: Place) -> None:
    """A crash came between the output's write and the removal of the file, or in the middle of the write."""
    place.put_in_queue("lake", 9, record("a"))
    place.put_in_queue("lake", 10, record("b"), record("c"), without_id("d"))

    place.adopt(lake(record("a"), record("b"), without_id("d")), queues=["lake"])

    left = [place.queue("lake").get(number) for number in (9, 10)]
    assert [part.records for batch in left if batch for part in batch.parts] == [[], [record("c")]]


@guarantee(17)
def test_what_was_erased_leaves_the_queue_too(place: Place) -> None:
    """The lake had the batch, a crash left its file, a person was erased: none of it goes to the lake again.

    What waits for another output was erased nowhere, and goes there.
    """
    place.put_in_queue("lake", 9, record("a"), record("b"), without_id("c"))
    place.put_in_queue("devo", 9, record("a"))
    output = erased_from_lake(record("a"), without_id("c"))
    output.pieces = [HeldPiece(ONE, [record("b")])]

    adopted = place.adopt(output, FakeOutput("devo"), queues=["lake", "devo"])
    left = {name: place.queue(name).get(9) for name in ("lake", "devo")}
    records = {name: [part.records for part in batch.parts] for name, batch in left.items() if batch}

    assert adopted is not None
    assert adopted.queued == {"lake": [9], "devo": [9]}
    assert records == {"lake": [[]], "devo": [[record("a")]]}


@guarantee(14)
def test_the_rest_of_a_batch_that_an_output_has_in_part_gets_a_number_of_its_own(place: Place) -> None:
    """A full disk cut the last batch short, and the ledger was lost: the output takes no number twice."""
    place.put_in_queue("lake", 9, record("a"), record("b"))
    place.put_in_queue("lake", 10, record("c"))
    place.put_in_queue("devo", 9, record("a"), record("b"))

    adopted = place.adopt(lake(record("a")), FakeOutput("devo"), queues=["devo", "lake"])
    again = place.queue("lake")
    queued = {"devo": [9], "lake": again.open()}
    kept = place.ledger.settle_outputs({"lake": 9, "devo": 0}, queued=queued, at=NOW)

    assert adopted is not None
    assert adopted.queued == queued == kept == {"devo": [9], "lake": [10, 11]}
    rest = again.get(11)
    assert rest is not None
    assert [part.records for part in rest.parts] == [[record("b")]]
    assert place.opened(record("d")).number == 12


def test_a_damaged_file_of_a_queue_is_told_and_kept_aside(place: Place) -> None:
    """The others go on; what it had is fetched again."""
    place.put_in_queue("devo", 12, record("a"))
    place.put_in_queue("devo", 13, record("b"))
    (place.folder / "devo" / f"{12:020d}.batch").write_bytes(b"torn")

    with capture_logs() as lines:
        adopted = place.adopt(FakeOutput("devo"), queues=["devo"])

    assert adopted is not None
    assert adopted.queued == {"devo": [13]}
    [told] = [line["event"] for line in lines if line["log_level"] == "error"]
    assert told.startswith("output devo: batch 12 in its queue on disk is damaged and kept aside")
    assert place.opened(record("a"), record("b")).held == {"devo": {0: {1}}}


def test_what_cannot_be_asked_is_told(place: Place) -> None:
    """Whoever pays for what arrives wants to know."""
    with capture_logs() as lines:
        place.adopt(lake(record("a")), FakeOutput("devo"))

    [told] = [line["event"] for line in lines if "devo" in line["event"]]
    assert told.startswith("output devo: cannot be asked what it has; what is fetched now is sent to it")


def test_a_reading_that_was_cut_short_is_done_again_from_the_start(place: Place) -> None:
    """What it had found is forgotten: the output may have been changed since."""
    place.ledger.held.begin()
    place.ledger.held.add("lake", [place.ledger.held.body_key(b"of the first reading")])

    place.adopt(lake(record("a")))

    assert place.ledger._connection.execute("SELECT count(*) FROM held").fetchone() == (1,)
