"""Bad days of outputs and disks, drawn and hand-made: nothing is lost, doubled, or waits for ever."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from delivery_house import DOWN, FakeWire, House, P, T, run
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import Batch, Receipt
from m365watch.common.progress import FeedProgress
from m365watch.pipeline.batcher import LINGER_S
from m365watch.records.split import split_blob
from m365watch.registry.outputs import Output
from m365watch_testing.batches import make_record, make_records
from m365watch_testing.loop import CallsInLine
from m365watch_testing.outputs import FakeDisk, FakeOutput


@guarantee(1)
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


@guarantee(1)
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
