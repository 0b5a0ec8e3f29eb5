"""Duplicates whose first copy is still on its way to an output."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from delivery_house import FakeWire, House, run
from promises import guarantee

from m365watch.pipeline.batcher import LINGER_S
from m365watch_testing.batches import make_records
from m365watch_testing.outputs import FakeDisk, FakeOutput


@guarantee(10)
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


@guarantee(10)
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


@guarantee(10)
def test_a_restart_knows_which_blob_brought_what_an_expired_one_owed(tmp_path: Path) -> None:
    """A third blob of the same records brings nothing to the output that has them from the second one."""
    disks = FakeDisk(), FakeDisk()

    async def crash(house: House) -> None:
        house.outputs[1].hold()  # type: ignore[attr-defined]  # the fake's own switch
        house.publish(*make_records(2))
        house.fetch()
        await asyncio.sleep(LINGER_S * 2)

    async def go_on(house: House) -> int:
        house.publish(*make_records(2))
        await house.finish()
        return house.progress().blobs_delivered

    house = House(tmp_path, (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1])))
    run(house, crash)
    house.expired.add("blob0")
    delivered = []
    for _ in range(2):
        house.outputs = (FakeOutput("lake", disks[0]), FakeOutput("files", disks[1]))
        delivered.append(run(house, go_on))

    assert delivered == [1, 2]
    assert sorted(disks[0].records) == sorted(disks[1].records) == make_records(2)


@guarantee(10)
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
