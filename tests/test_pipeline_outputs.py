"""Batches and their outputs: the order of things, outputs that fail, and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from pipeline_works import KeepingCalls, P, T, Works, drain, run, sizes
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, BlobState, Receipt
from m365watch.pipeline.batcher import LINGER_S
from m365watch.pipeline.output_lane import BATCHES_WAITING_MAX
from m365watch_testing.batches import make_record, make_records
from m365watch_testing.outputs import FakeDisk, FakeOutput

FULL = OutputUnavailable("the disk is full", where="output lake")


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


@guarantee(10)
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


@guarantee(14)
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


@guarantee(14)
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
