"""Outputs among others: each at its own pace, from its queue on disk, through failures and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from delivery_house import DOWN, AwayWire, FakeWire, House, P, T, run
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.model import Batch, Receipt
from m365watch.pipeline.output_lane import BATCHES_WAITING_MAX
from m365watch_testing.batches import make_record, make_records
from m365watch_testing.loop import CallsInLine
from m365watch_testing.outputs import FakeDisk, FakeOutput


@guarantee(14)
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


@guarantee(14)
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


@guarantee(37)
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


@guarantee(14)
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


@guarantee(14)
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


@guarantee(14)
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


@guarantee(14)
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


@guarantee(14)
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
