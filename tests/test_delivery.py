"""Outputs among others: each at its own pace, from its queue on disk, through failures and crashes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from m365watch.delivery import BATCHES_WAITING_MAX, QueuedOutput
from m365watch.errors import CollectorError, OutputUnavailable, OutputUnusable
from m365watch.feed.tries import FetchedBlob
from m365watch.ledger.sqlite import SqliteLedger
from m365watch.model import Batch, BlobRef, ContentType, Feed, KnownBlob, Receipt, TenantId, Window
from m365watch.monitor.cycles import PullCycles
from m365watch.outputs.port import Output
from m365watch.outputs.queue import BatchQueue
from m365watch.pipeline import LINGER_S, Pipeline
from m365watch.progress import FeedProgress, OutputProgress
from m365watch.records.split import split_blob
from m365watch.testing.batches import make_record, make_records
from m365watch.testing.loop import CallsInLine, LoopClock, run_jumping
from m365watch.testing.outputs import FakeDisk, FakeOutput

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


# One output and the others.


def test_an_output_that_is_down_delays_nobody(tmp_path: Path) -> None:
    """Its batches wait on disk, their blobs hold no memory, and it catches up in their order."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    async def use(house: House) -> tuple[int, int, int]:
        await house.trickle(20)
        seen = len(lake.disk.records), len(house.held), house.fetch()
        wire.is_down = False
        await house.pipeline.drain()
        return seen

    assert run(House(tmp_path, (lake, wire)), use) == (20, 20, 0)
    assert wire.received == lake.disk.records == make_records(20)


def test_an_output_that_hangs_delays_nobody_for_long(tmp_path: Path) -> None:
    """Even one that never answers: what it holds goes to disk as well."""
    lake, files = FakeOutput("lake"), FakeOutput("files")
    files.hold()

    async def use(house: House) -> tuple[int, int]:
        await house.trickle(BATCHES_WAITING_MAX + 3)
        await asyncio.sleep(5)
        seen = len(lake.disk.records), len(house.held)
        files.release()
        await house.finish()
        return seen

    assert run(House(tmp_path, (lake, files)), use) == (BATCHES_WAITING_MAX + 3, BATCHES_WAITING_MAX + 3)
    assert files.disk.records == lake.disk.records


def test_an_output_that_stands_aside_holds_nobody_up(tmp_path: Path) -> None:
    """It waits on disk for its own part; the other is alone with its pace, and needs no disk."""
    lake, detections = FakeOutput("lake"), FakeOutput("detections")
    detections.hold()

    async def use(house: House) -> tuple[int, int, bool]:
        await house.trickle(BATCHES_WAITING_MAX + 3)
        await asyncio.sleep(5)
        seen = len(lake.disk.records), len(house.held), any((tmp_path / "lake").glob("*.batch"))
        detections.release()
        await house.finish()
        return seen

    house = House(tmp_path, (lake, detections), aside=frozenset({"detections"}))
    assert run(house, use) == (BATCHES_WAITING_MAX + 3, BATCHES_WAITING_MAX + 3, False)
    assert detections.disk.records == lake.disk.records


def test_what_waits_on_disk_outlives_a_crash_and_is_not_fetched_again(tmp_path: Path) -> None:
    """The next run delivers it from there."""
    lake, received = FakeDisk(), list[bytes]()

    async def crash(house: House) -> int:
        house.outputs[1].is_down = True  # type: ignore[attr-defined]  # the fake's own switch
        house.publish(*make_records(5))
        house.fetch()
        await asyncio.sleep(5)
        return len(house.due())

    async def go_on(house: House) -> tuple[int, int]:
        due = len(house.due())
        await house.pipeline.drain()
        return due, house.progress().blobs_delivered

    first = House(tmp_path, (FakeOutput("lake", lake), FakeWire("devo", received)))
    assert run(first, crash) == 0
    second = House(tmp_path, (FakeOutput("lake", lake), FakeWire("devo", received)))
    assert run(second, go_on) == (0, 1)
    assert received == lake.records == make_records(5)
    assert not any((tmp_path / "devo").iterdir())


def test_a_full_queue_leaves_a_failing_output_out_until_it_works(tmp_path: Path) -> None:
    """The others go on; what it lacks is fetched again for it alone, and nothing is missing or twice."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    async def use(house: House) -> tuple[int, int, int]:
        await house.trickle(30)
        seen = len(lake.disk.records), len(house.held), house.fetch()
        wire.is_down = False
        await house.pipeline.drain()
        await house.finish()
        return seen

    house = House(tmp_path, (lake, wire), queue_bytes_max=2_000)
    with capture_logs() as lines:
        assert run(house, use) == (30, 30, 0)

    assert house.recalls == 1
    assert sorted(wire.received) == sorted(lake.disk.records) == sorted(make_records(30))
    assert sum("queue on disk has no room" in str(line["event"]) for line in lines) == 1


def test_a_receiver_that_is_away_delays_nobody_even_with_a_full_queue(tmp_path: Path) -> None:
    """A wire tries to connect for a minute before it gives a batch up; who is away is known at once."""
    lake, wire = FakeOutput("lake"), AwayWire("devo", [], retention_s=60.0)

    async def use(house: House) -> float:
        await house.trickle(6)
        seen_s, seen = house.clock.monotonic_s(), len(lake.disk.records)
        assert seen == 6
        wire.trouble = None
        await house.finish()
        return seen_s

    assert run(House(tmp_path, (lake, wire), queue_bytes_max=1), use) < 10
    assert sorted(wire.received) == make_records(6)


class AwayWire(FakeWire):
    """Cannot reach its receiver until `trouble` is None."""

    trouble: CollectorError | None = DOWN

    async def deliver(self, batch: Batch) -> Receipt:
        while self.trouble is not None:
            await asyncio.sleep(1)
        return await super().deliver(batch)


def test_a_slow_output_with_a_full_queue_slows_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """It works, so the run goes at its pace: nothing is fetched twice."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=2.0)
    wire.batches_at_once_max = 1

    async def use(house: House) -> None:
        await house.trickle(12)
        await house.finish()

    house = House(tmp_path, (lake, wire), queue_bytes_max=1_000)
    run(house, use)

    assert house.recalls == 0
    assert wire.received == lake.disk.records == make_records(12)


def test_a_full_queue_that_is_all_under_way_is_asked_for(tmp_path: Path) -> None:
    """Whoever waits for room in it does not wait for the retention: the wire is asked for its proof."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=10_000.0)

    async def use(house: House) -> float:
        await house.trickle(12)
        await house.finish()
        return house.clock.monotonic_s()

    waited_s = run(House(tmp_path, (lake, wire), queue_bytes_max=1_000), use)

    assert waited_s < 12
    assert wire.received == lake.disk.records == make_records(12)


def test_a_damaged_file_of_the_queue_is_fetched_again(tmp_path: Path) -> None:
    """One line says so; the output gets the records all the same, once."""
    lake, received = FakeDisk(), list[bytes]()

    async def crash(house: House) -> None:
        house.outputs[1].is_down = True  # type: ignore[attr-defined]  # the fake's own switch
        for number in range(3):
            house.publish(make_record(number))
            house.fetch()
            await asyncio.sleep(5)

    async def go_on(house: House) -> None:
        await asyncio.sleep(60)
        await house.finish()

    house = House(tmp_path, (FakeOutput("lake", lake), FakeWire("devo", received)))
    run(house, crash)
    second_file = sorted((tmp_path / "devo").iterdir())[1]
    body = bytearray(second_file.read_bytes())
    body[-20] ^= 1
    second_file.write_bytes(body)
    house.outputs = (FakeOutput("lake", lake), FakeWire("devo", received))
    with capture_logs() as lines:
        run(house, go_on)

    assert sorted(received) == lake.records == make_records(3)
    assert [line["log_level"] for line in lines if "damaged" in str(line["event"])] == ["error"]


def test_a_defect_in_an_output_does_not_end_the_run(tmp_path: Path) -> None:
    """It is named, tried again, and the other output goes on."""
    lake, files = FakeOutput("lake"), DefectiveOutput("files")

    async def use(house: House) -> dict[str, str]:
        house.publish(*make_records(3))
        house.fetch()
        await asyncio.sleep(5)
        errors = dict(house.pipeline.output_errors)
        files.is_defective = False
        await house.finish()
        return errors

    [error] = run(House(tmp_path, (lake, files)), use).values()

    assert "ZeroDivisionError" in error
    assert files.disk.records == lake.disk.records == make_records(3)


class DefectiveOutput(FakeOutput):
    """Has a defect until told otherwise."""

    is_defective = True

    async def deliver(self, batch: Batch) -> Receipt:
        if self.is_defective:
            raise ZeroDivisionError
        return await super().deliver(batch)


@pytest.mark.parametrize("fails", range(1, 5))
@pytest.mark.parametrize("disk_s", [0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.3, 1.6])
def test_a_batch_that_is_being_taken_is_not_left_out(tmp_path: Path, disk_s: float, fails: int) -> None:
    """The queue is full, and while its disk says so the output works again and takes the batch."""
    lake, files = FakeOutput("lake"), FakeOutput("files")
    files.fail(DOWN, times=fails)

    async def use(house: House) -> None:
        await house.trickle(4)
        await house.finish()

    house = House(tmp_path, (lake, files), queue_bytes_max=1, disk=SlowDisk(disk_s))
    run(house, use)

    assert sorted(files.disk.records) == sorted(lake.disk.records) == make_records(4)


class SlowDisk(CallsInLine):
    """Each piece of work takes its time."""

    def __init__(self, work_s: float) -> None:
        self._work_s = work_s

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(self._work_s)
        return await super().__call__(verb, *args, **kwargs)


# Blobs of records that came before.


@pytest.mark.parametrize("second", [2, 3])
def test_a_duplicate_is_not_final_before_the_first_copy(tmp_path: Path, second: int) -> None:
    """A crash comes before that one is durable, and its blob expires: the other has the records."""
    lake = FakeOutput("lake")

    async def crash(house: House) -> int:
        lake.hold()
        house.publish(*make_records(2))
        house.fetch()
        await asyncio.sleep(LINGER_S * 2)
        house.publish(*make_records(second))
        house.fetch()
        await asyncio.sleep(5)
        return house.progress().blobs_delivered

    async def go_on(house: House) -> tuple[int, int]:
        await house.finish()
        return house.progress().blobs_delivered, house.progress().blobs_lost

    house = House(tmp_path, (lake,))
    assert run(house, crash) == 0
    house.expired.add("blob0")
    house.outputs = (FakeOutput("lake", lake.disk),)

    assert run(house, go_on) == (1, 1)
    assert lake.disk.records == make_records(second)


@pytest.mark.parametrize("second", [2, 3])
def test_an_output_gets_from_a_newer_blob_what_an_expired_one_owes_it(tmp_path: Path, second: int) -> None:
    """The lake has the older blob and files have not when the crash comes; no output gets a record twice."""
    disks = FakeDisk(), FakeDisk()

    async def crash(house: House) -> None:
        house.outputs[1].hold()  # type: ignore[attr-defined]  # the fake's own switch
        house.publish(*make_records(2))
        house.fetch()
        await asyncio.sleep(LINGER_S * 2)

    async def go_on(house: House) -> tuple[int, int]:
        house.publish(*make_records(second))
        await house.finish()
        return house.progress().blobs_delivered, house.progress().blobs_lost

    house = House(tmp_path, (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1])))
    run(house, crash)
    house.expired.add("blob0")
    house.outputs = (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1]))

    assert run(house, go_on) == (1, 1)
    assert sorted(disks[0].records) == sorted(disks[1].records) == make_records(second)


@pytest.mark.parametrize("newest_first", [True, False])
def test_blobs_of_the_same_records_complete_an_output_in_any_order(
    tmp_path: Path, newest_first: bool
) -> None:
    """Both are fetched again after a crash, each in a batch of its own: the first one brings the records."""
    disks = FakeDisk(), FakeDisk()

    async def crash(house: House) -> None:
        house.outputs[1].hold()  # type: ignore[attr-defined]  # the fake's own switch
        for count in (2, 3):
            house.publish(*make_records(count))
            house.fetch()
            await asyncio.sleep(LINGER_S * 2)

    async def go_on(house: House) -> int:
        due = sorted(house.due(), key=lambda one: one.ref.content_id, reverse=newest_first)
        for known in due:
            house.take(known)
            await house.pipeline.drain()
        await house.finish()
        return house.progress().blobs_delivered

    house = House(tmp_path, (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1])))
    run(house, crash)
    house.outputs = (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1]))

    assert run(house, go_on) == 2
    assert sorted(disks[0].records) == sorted(disks[1].records) == make_records(3)


def test_duplicates_keep_their_place_behind_a_batch_that_waits_on_disk(tmp_path: Path) -> None:
    """They hold no memory meanwhile, survive a crash there, and are never handed to the output."""
    lake, received = FakeDisk(), list[bytes]()

    async def crash(house: House) -> tuple[int, int]:
        house.outputs[1].is_down = True  # type: ignore[attr-defined]  # the fake's own switch
        for _ in range(3):
            house.publish(*make_records(2))
            house.fetch()
            await asyncio.sleep(5)
        return len(house.held), house.progress().blobs_delivered

    async def go_on(house: House) -> tuple[int, int]:
        due = len(house.due())
        await house.pipeline.drain()
        return due, house.progress().blobs_delivered

    house = House(tmp_path, (FakeOutput("lake", lake), FakeWire("devo", received)))
    assert run(house, crash) == (3, 0)
    house.outputs = (FakeOutput("lake", lake), FakeWire("devo", received))
    assert run(house, go_on) == (0, 3)
    assert received == lake.records == make_records(2)


# What an output's trouble looks like.


def test_an_outputs_error_is_in_the_ledger_until_it_has_passed(tmp_path: Path) -> None:
    """With what to do about it, so that `status` of another process shows it; told once."""
    expired = OutputUnusable("its certificate has expired", fix="renew it", where="output files")
    lake, files = FakeOutput("lake"), FakeOutput("files")
    files.fail(expired, times=3)

    async def use(house: House) -> tuple[list[OutputProgress], list[OutputProgress]]:
        house.publish(make_record(1))
        house.fetch()
        await asyncio.sleep(2)
        during = house.ledger.output_progress()
        await house.finish()
        return during, house.ledger.output_progress()

    with capture_logs() as lines:
        [during], after = run(House(tmp_path, (lake, files)), use)

    assert (during.name, during.blobs_missing, during.blobs_queued) == ("files", 1, 1)
    assert (during.last_error, during.fix) == ("output files: its certificate has expired", "renew it")
    assert after == []
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("error", str(expired)),
        ("info", "output files: goes on"),
    ]


def test_a_receiver_that_is_away_is_known_before_a_delivery_fails(tmp_path: Path) -> None:
    """A wire tries for a minute, and tells its troubles itself; `status` does not wait for it."""
    lake, wire = FakeOutput("lake"), AwayWire("devo", [])

    async def use(house: House) -> tuple[list[str | None], int]:
        house.publish(make_record(1))
        house.fetch()
        await asyncio.sleep(5)
        errors = [output.last_error for output in house.ledger.output_progress()]
        wire.trouble = None
        await house.finish()
        return errors, len(house.ledger.output_progress())

    with capture_logs() as lines:
        errors, left = run(House(tmp_path, (lake, wire)), use)

    assert (errors, left) == (["output devo: nobody answers"], 0)
    assert lines == []


def test_a_run_does_not_wait_for_a_receiver_that_needs_a_person(tmp_path: Path) -> None:
    """`--once` leaves what it lacks in its queue at once, and says why."""
    lake, wire = FakeOutput("lake"), AwayWire("devo", [])
    wire.trouble = OutputUnusable("its certificate has expired", fix="renew it", where="output devo")

    async def use(house: House) -> tuple[float, dict[str, str]]:
        house.publish(make_record(1))
        house.fetch()
        await house.pipeline.drain()
        return house.clock.monotonic_s(), house.pipeline.output_errors

    waited_s, errors = run(House(tmp_path, (lake, wire), patience_s=15.0), use)

    assert waited_s < 5
    assert errors == {
        "devo": "output devo: its certificate has expired; renew it; what it lacks waits in its queue on disk"
        " for the next run"
    }


# The end of a run.


async def stop_after_three(house: House) -> tuple[float, int]:
    """A run that is told to stop with three records under way: how long that takes, and what waits."""
    house.publish(*make_records(3))
    house.fetch()
    await house.pipeline.drain(leaving=True)
    return house.clock.monotonic_s(), house.progress().blobs_waiting


async def end_after_three(house: House) -> tuple[float, dict[str, str]]:
    """A run that ends by itself with three records: how long that takes, and what its outputs lack."""
    house.publish(*make_records(3))
    house.fetch()
    await house.pipeline.drain()
    return house.clock.monotonic_s(), house.pipeline.output_errors


def test_the_end_of_a_run_asks_a_wire_for_its_proof(tmp_path: Path) -> None:
    """Nobody waits for the retention then."""
    wire = FakeWire("devo", [], retention_s=10_000.0)

    async def use(house: House) -> float:
        house.publish(*make_records(3))
        house.fetch()
        await house.pipeline.drain()
        return house.clock.monotonic_s()

    assert run(House(tmp_path, (wire,)), use) < 5
    assert (wire.received, wire.flushes) == (make_records(3), 1)


def test_a_run_that_ends_leaves_a_failing_outputs_batches_on_disk(tmp_path: Path) -> None:
    """It neither waits for it nor counts its blobs as delivered."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    waited_s, waiting = run(House(tmp_path, (lake, wire)), stop_after_three)

    assert waited_s < 5
    assert waiting == 1
    assert lake.disk.records == make_records(3)


def test_a_stop_does_not_wait_for_a_wire_that_has_no_proof(tmp_path: Path) -> None:
    """What it was given is on disk, and the next run sends it again."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=10_000.0)
    wire.proves = False

    waited_s, waiting = run(House(tmp_path, (lake, wire)), stop_after_three)

    assert waited_s < 5
    assert (wire.flushes, waiting) == (1, 1)


def test_patience_with_one_output_ends_without_the_others(tmp_path: Path) -> None:
    """What it lacks is on disk, so that the run ends in order; its error stands."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    waited_s, errors = run(House(tmp_path, (lake, wire), patience_s=15.0), end_after_three)

    assert 15 <= waited_s < 40
    assert errors == {
        "devo": "output devo: nobody answers; what it lacks waits in its queue on disk for the next run"
    }


def test_patience_with_a_wire_that_proves_nothing_ends_too(tmp_path: Path) -> None:
    """It takes everything and never says what was read: the run ends, and the next one sends it again."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=100_000.0)
    wire.proves = False

    waited_s, errors = run(House(tmp_path, (lake, wire), patience_s=15.0), end_after_three)

    assert 15 <= waited_s < 20
    assert list(errors) == ["devo"]
    assert errors["devo"].startswith(
        "output devo: took nothing within 15 s; what it lacks waits in its queue"
    )


# Histories.


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_every_output_gets_every_record(tmp_path: Path, seed: int) -> None:
    """Crashes, failures, full queues and slow outputs: exactly once where it can be undone, else at least."""
    random = Random(seed)
    lake_disk, files_disk, received = FakeDisk(), FakeDisk(), list[bytes]()
    records = map(make_record, itertools.count())
    house = House(tmp_path, (), queue_bytes_max=random.choice([700, 3_000, 1_000_000]))

    async def use(house: House) -> int:
        lake, files, wire = house.outputs
        assert isinstance(lake, FakeOutput)
        assert isinstance(files, FakeOutput)
        assert isinstance(wire, FakeWire)
        for _ in range(random.randrange(4, 12)):
            wire.is_down = random.random() < 0.4
            if random.random() < 0.2:
                files.fail(OutputUnavailable("full", where="output files"), times=random.randrange(1, 4))
            random.choice([lake.hold, lake.release, lake.release])()
            for _ in range(random.randrange(3)):
                house.publish(*(next(records) for _ in range(random.randrange(1, 4))))
            house.fetch()
            await asyncio.sleep(random.choice([0.0, 0.1, 0.3, 2.0, 30.0]))
        return len(house.bodies)

    async def end(house: House) -> FeedProgress:
        await house.finish()
        return house.progress()

    for _ in range(random.randrange(1, 5)):
        house.outputs = (
            FakeOutput("lake", lake_disk, can_undo=False),
            FakeOutput("files", files_disk),
            FakeWire("devo", received, retention_s=random.choice([0.5, 10.0])),
        )
        run(house, use)
    house.outputs = (
        FakeOutput("lake", lake_disk, can_undo=False),
        FakeOutput("files", files_disk),
        FakeWire("devo", received),
    )
    progress = run(house, end)

    published = sorted(
        record for body in house.bodies.values() for record in split_blob(body, wide=False).records
    )
    assert sorted(lake_disk.records) == published
    assert sorted(files_disk.records) == published
    assert Counter(received).keys() == set(published)
    assert (progress.blobs_delivered, progress.blobs_waiting) == (len(house.bodies), 0)
    assert [path for name in ("lake", "files", "devo") for path in (tmp_path / name).glob("*")] == []


# Disks and clocks.


class FullDisk(CallsInLine):
    """Takes `room` batches at once and refuses the others."""

    def __init__(self, room: int) -> None:
        self._room = room

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if verb.__name__ == "put":
            if self._room == 0:
                raise OutputUnavailable("its queue on disk cannot be written (no space)", where="output devo")
            self._room -= 1
        if verb.__name__ == "remove":
            self._room += 1
        return await super().__call__(verb, *args, **kwargs)


def test_a_full_disk_gives_way_as_batches_are_delivered(tmp_path: Path) -> None:
    """While the output is away it is left out; then what is delivered makes room, and all arrives."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    async def use(house: House) -> tuple[int, dict[str, str]]:
        await house.trickle(8)
        seen = len(lake.disk.records), dict(house.pipeline.output_errors)
        wire.is_down = False
        await house.finish()
        return seen

    seen, errors = run(House(tmp_path, (lake, wire), disk=FullDisk(2)), use)

    assert seen == 8
    assert list(errors) == ["devo"]
    assert sorted(wire.received) == sorted(lake.disk.records) == make_records(8)


def test_a_disk_that_takes_nothing_at_all_ends_once_after_its_patience(tmp_path: Path) -> None:
    """It is the output's error, and the run's."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])

    async def use(house: House) -> tuple[float, dict[str, str]]:
        house.publish(make_record(1))
        house.fetch()
        await asyncio.wait([house.running])
        return house.clock.monotonic_s(), house.pipeline.output_errors

    waited_s, errors = run(House(tmp_path, (lake, wire), patience_s=15.0, disk=FullDisk(0)), use)

    assert 15 <= waited_s < 40
    assert errors == {"devo": "its queue on disk cannot be written (no space)"}


def test_an_output_that_hangs_with_a_full_queue_delays_nobody_for_ever(tmp_path: Path) -> None:
    """After a minute without an acknowledgement it counts as failing, and catches up later."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=100_000.0)
    wire.proves = False

    async def use(house: House) -> int:
        for number in range(12):
            house.publish(make_record(number))
            house.fetch()
            await asyncio.sleep(30)
        seen = len(lake.disk.records)
        wire.proves = True
        await wire.flush()
        wire._retention_s = 1.0
        await house.finish()
        return seen

    assert run(House(tmp_path, (lake, wire), queue_bytes_max=1_000), use) >= 10
    assert set(wire.received) == set(make_records(12))


@pytest.mark.parametrize("verb", ["remove", "get"])
def test_a_queue_file_that_cannot_be_touched_for_a_while_costs_nothing(tmp_path: Path, verb: str) -> None:
    """Too many open files, a disk that is read-only for a moment: it is there afterwards."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [])
    wire.is_down = True

    class Stubborn(CallsInLine):
        refusals = 3

        async def __call__(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            if work.__name__ == verb and self.refusals:
                self.refusals -= 1
                if verb == "get":
                    raise OutputUnavailable("too many open files", where="output devo")
                raise PermissionError(1, "not permitted")
            return await super().__call__(work, *args, **kwargs)

    async def use(house: House) -> int:
        await house.trickle(6)
        wire.is_down = False
        await house.finish()
        return house.recalls

    assert run(House(tmp_path, (lake, wire), disk=Stubborn()), use) == 0
    assert wire.received == lake.disk.records == make_records(6)


def test_a_flush_with_a_defect_stops_nobody(tmp_path: Path) -> None:
    """It is named; the retention goes on, and the delivery ends by itself."""
    lake, wire = FakeOutput("lake"), FakeWire("devo", [], retention_s=5.0)

    async def broken() -> None:
        raise ZeroDivisionError

    wire.flush = broken  # type: ignore[method-assign]  # the fake's own defect

    async def use(house: House) -> None:
        house.publish(make_record(1))
        house.fetch()
        await house.finish()

    with capture_logs() as lines:
        run(House(tmp_path, (lake, wire)), use)

    assert wire.received == lake.disk.records == make_records(1, start=1)
    assert any("ZeroDivisionError" in str(line["event"]) for line in lines)


@pytest.mark.parametrize("seed", range(100))
def test_whatever_outputs_come_and_go_nothing_is_doubled_and_nothing_waits_for_ever(
    tmp_path: Path, seed: int
) -> None:
    """An output is taken out and brought back between crashes: the others have everything, once."""
    random = Random(seed)
    lake_disk, files_disk, received = FakeDisk(), FakeDisk(), list[bytes]()
    records = map(make_record, itertools.count())
    house = House(tmp_path, (), queue_bytes_max=random.choice([700, 3_000, 1_000_000]))

    def outputs() -> tuple[Output, ...]:
        made: list[Output] = [FakeOutput("lake", lake_disk, can_undo=False), FakeWire("devo", received)]
        if random.random() < 0.5:
            made.append(FakeOutput("files", files_disk))
        return tuple(made)

    async def use(house: House) -> None:
        for _ in range(random.randrange(3, 9)):
            for output in house.outputs:
                disturb(output, random)
            for _ in range(random.randrange(3)):
                house.publish(*(next(records) for _ in range(random.randrange(1, 4))))
            house.fetch()
            await asyncio.sleep(random.choice([0.0, 0.1, 0.3, 2.0, 30.0]))

    async def end(house: House) -> tuple[FeedProgress, int]:
        await house.finish()
        return house.progress(), house.fetch()

    for _ in range(random.randrange(2, 6)):
        house.outputs = outputs()
        run(house, use)
    house.outputs = (FakeOutput("lake", lake_disk, can_undo=False), FakeWire("devo", received))
    progress, due = run(house, end)

    published = sorted(
        record for body in house.bodies.values() for record in split_blob(body, wide=False).records
    )
    assert sorted(lake_disk.records) == published
    assert len(set(files_disk.records)) == len(files_disk.records)
    assert set(received) == set(published)
    assert (progress.blobs_waiting, due) == (0, 0)


def disturb(output: Output, random: Random) -> None:
    """Perhaps."""
    if isinstance(output, FakeWire):
        output.is_down = random.random() < 0.5
    elif isinstance(output, FakeOutput):
        random.choice([output.hold, output.release])()


class ForgetfulOutput(FakeOutput):
    """Makes a batch durable, and fails before it can say so, until told otherwise."""

    is_forgetful = True

    async def deliver(self, batch: Batch) -> Receipt:
        receipt = await super().deliver(batch)
        if self.is_forgetful:
            raise DOWN
        return receipt


def test_a_batch_that_was_handed_over_is_never_replaced_by_another(tmp_path: Path) -> None:
    """The disk is full: the lake fails with a batch that it has in part, and the queue takes nothing.

    It gets the same batch again, whose number it knows; under another number the records would be double.
    """
    lake, files = ForgetfulOutput("lake", can_undo=False), FakeOutput("files")

    async def use(house: House) -> None:
        await house.trickle(4)
        lake.is_forgetful = False
        await house.finish()

    run(House(tmp_path, (lake, files), disk=FullDisk(0)), use)

    assert sorted(lake.disk.records) == sorted(files.disk.records) == make_records(4)


class PreparingOutput(FakeOutput):
    """Writes down what it is told, in order."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[tuple[str, int]] = []

    def prepare(self, batch: Batch) -> None:
        if ("prepare", batch.number) not in self.told:
            self.told.append(("prepare", batch.number))

    async def deliver(self, batch: Batch) -> Receipt:
        self.told.append(("deliver", batch.number))
        await asyncio.sleep(LINGER_S * 8)
        return await super().deliver(batch)


def test_an_output_hears_of_the_next_batch_while_one_is_delivered(tmp_path: Path) -> None:
    """It can begin with it; and gets it only once the one before is committed."""
    output = PreparingOutput("lake")
    house = House(tmp_path, (output,))

    async def use(house: House) -> None:
        await house.trickle(4)
        await house.finish()

    run(house, use)

    numbers = [number for told, number in output.told if told == "deliver"]
    expected = [("deliver", numbers[0])]
    for number in numbers[1:]:
        expected += [("prepare", number), ("deliver", number)]
    assert len(numbers) == 4
    assert output.told == expected
