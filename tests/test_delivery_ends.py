"""How a run ends with outputs that fail, hang or prove nothing, and what is told of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from delivery_house import AwayWire, FakeWire, House, run
from structlog.testing import capture_logs

from m365watch.common.errors import OutputUnusable
from m365watch.common.progress import OutputProgress
from m365watch_testing.batches import make_record, make_records
from m365watch_testing.outputs import FakeOutput


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
