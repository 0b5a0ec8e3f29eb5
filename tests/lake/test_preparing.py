"""A batch's files may be written before its turn; they count for nothing until it is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from lake_place import LakePlace, file_size_limit, records_of
from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import Batch
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch_testing.batches import make_records, make_simple_batch


def batch_of(number: int, count: int = 3) -> Batch:
    """A batch whose records no other batch has."""
    return make_simple_batch(number, make_records(count, start=number * 1000), output="lake")


def with_output(directory: Path, use: Callable[[LakeOutput], Awaitable[None]]) -> None:
    """Do something with a lake that has batch 1."""

    async def main() -> None:
        output = LakePlace(directory).make()
        await output.open(last_batch=0, position="")
        await output.deliver(batch_of(1))
        await use(output)
        await output.close()

    asyncio.run(main())


def files_of(directory: Path) -> int:
    return len(list((directory / "audit").rglob("*.parquet")))


def test_a_prepared_batch_is_written_once_and_counts_once_delivered(tmp_path: Path) -> None:
    """Its files are those that the commit names."""

    async def use(output: LakeOutput) -> None:
        second = batch_of(2)
        output.prepare(second)
        output.prepare(second)
        await output.deliver(second)

    with_output(tmp_path, use)

    assert sorted(records_of(tmp_path)) == sorted(make_records(3, start=1000) + make_records(3, start=2000))
    assert files_of(tmp_path) == 2


def test_a_prepared_batch_that_is_not_delivered_leaves_nothing(tmp_path: Path) -> None:
    """Neither a row nor a file: another batch comes in its place, or the run ends."""

    async def use(output: LakeOutput) -> None:
        output.prepare(batch_of(2))
        output.prepare(batch_of(3))
        await output.deliver(batch_of(4))
        output.prepare(batch_of(5))

    with_output(tmp_path, use)

    assert sorted(records_of(tmp_path)) == sorted(make_records(3, start=1000) + make_records(3, start=4000))
    assert files_of(tmp_path) == 2


def test_a_batch_read_again_from_the_queue_replaces_the_prepared_one(tmp_path: Path) -> None:
    """Of one number there is one batch, and its files outlive what was prepared under their names."""

    async def use(output: LakeOutput) -> None:
        output.prepare(batch_of(2))
        await output.deliver(batch_of(2))
        output.prepare(batch_of(3))

    with_output(tmp_path, use)

    assert sorted(records_of(tmp_path)) == sorted(make_records(3, start=1000) + make_records(3, start=2000))


def test_a_batch_that_is_in_is_not_written_anew(tmp_path: Path) -> None:
    """Readers have its files open: one that is delivered or prepared again is let be."""
    (tmp_path / "lake").mkdir()

    def files() -> list[Path]:
        return list(tmp_path.rglob("*.parquet"))

    def look(at: Iterable[Path]) -> dict[Path, tuple[int, int]]:
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in at}

    async def use(output: LakeOutput) -> None:
        before = look(files())
        output.prepare(batch_of(1))
        await output.deliver(batch_of(1))
        output.prepare(batch_of(1))
        output.prepare(batch_of(2))
        await output.deliver(batch_of(1))

        # The files of batch 2 may be there by now, or may be yet to come.
        assert len(before) == 1
        assert look(before) == before

    with_output(tmp_path / "lake", use)

    assert sorted(records_of(tmp_path / "lake")) == sorted(make_records(3, start=1000))


@pytest.mark.parametrize("limit_bytes", [0, 3000])
def test_a_disk_that_is_full_while_preparing_is_told_at_the_delivery(
    tmp_path: Path, limit_bytes: int
) -> None:
    """Nobody hears of it before; nothing counts, and the batch is written when it is delivered again."""

    async def use(output: LakeOutput) -> None:
        second = batch_of(2, count=500)
        with file_size_limit(limit_bytes):
            output.prepare(second)
            with pytest.raises(OutputUnavailable, match="batch 2 could not be written"):
                await output.deliver(second)
        await output.deliver(second)

    with_output(tmp_path, use)

    assert sorted(records_of(tmp_path)) == sorted(make_records(3, start=1000) + make_records(500, start=2000))
    assert files_of(tmp_path) == 2


def test_what_was_prepared_for_a_later_batch_survives_a_failure_before_it(tmp_path: Path) -> None:
    """The batch before fails and comes again: both are in, in their order, once."""

    async def use(output: LakeOutput) -> None:
        second, third = batch_of(2, count=500), batch_of(3)
        with file_size_limit(0), pytest.raises(OutputUnavailable):
            await output.deliver(second)
        output.prepare(third)
        await output.deliver(second)
        await output.deliver(third)

    with_output(tmp_path, use)

    expected = make_records(3, start=1000) + make_records(500, start=2000) + make_records(3, start=3000)
    assert sorted(records_of(tmp_path)) == sorted(expected)
