"""One batch, one commit: what the table says after each, and after every kind of failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from promises import guarantee

from lake_place import WRITER_ID, LakePlace, file_size_limit, records_of, rows_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.parquet_files import FRESH, MERGED, Part, write_part
from m365watch.lake.writer.record_columns import tabulate
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch_testing.batches import make_batch, make_part, make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"


def batch_of(number: int, count: int = 3) -> Batch:
    """A batch whose records no other batch has."""
    return make_simple_batch(number, make_records(count, start=number * 1000), output="lake")


def open_with(directory: Path, last_batch: int) -> int:
    """What a new output over the lake answers to the ledger's `last_batch`."""

    async def answer() -> int:
        output = LakePlace(directory).make()
        try:
            return await output.open(last_batch=last_batch, position="")
        finally:
            await output.close()

    return asyncio.run(answer())


def test_a_batch_is_one_commit_whatever_its_days(tmp_path: Path) -> None:
    """Records of many days are as many files and one version."""
    records = [b'{"CreationTime":"2026-10-%02dT09:00:00"}' % day for day in range(1, 31)]
    writer = AuditWriter(tmp_path, app_id=APP_ID)

    writer.append(make_simple_batch(1, records, output="lake"))

    table = DeltaTable(tmp_path / "audit")
    assert (table.version(), len(table.file_uris())) == (1, 30)
    assert set(rows_of(tmp_path)["day"].to_pylist()) == {date(2026, 10, day) for day in range(1, 31)}


def test_a_batch_that_is_in_is_not_written_again(tmp_path: Path) -> None:
    """The library would append it a second time; the writer looks first, over restarts too."""
    for _ in range(2):
        writer = AuditWriter(tmp_path, app_id=APP_ID)
        writer.append(batch_of(1))
        writer.append(batch_of(1))

    assert DeltaTable(tmp_path / "audit").version() == 1


def test_numbers_may_leave_gaps(tmp_path: Path) -> None:
    """The lake may be one batch ahead of the ledger, however far the numbers are apart."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    for number in (3, 40, 700):
        writer.append(batch_of(number))

    assert [open_with(tmp_path, 40), open_with(tmp_path, 700)] == [700, 700]


@pytest.mark.parametrize(
    ("last_batch", "told"),
    [
        (
            3,
            "lake ends with batch 700, but the ledger knows only of batch 3; put back the state",
        ),
        (701, "has delivered batch 701 here, but the lake ends with batch 700; put back the lake"),
    ],
)
def test_a_lake_of_another_ledger_is_refused(tmp_path: Path, last_batch: int, told: str) -> None:
    """Further apart than one batch, going on would double records or hide a loss."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    for number in (3, 40, 700):
        writer.append(batch_of(number))

    with pytest.raises(OutputUnusable, match=told):
        open_with(tmp_path, last_batch)


def test_collectors_share_a_lake(tmp_path: Path) -> None:
    """Each has progress of its own, and all records are there."""

    async def fill(writer_id: str, batch: Batch) -> None:
        output = LakeOutput("lake", tmp_path, writer_id=writer_id, clock=SystemClock())
        assert await output.open(last_batch=0, position="") == 0
        await output.deliver(batch)
        await output.close()

    for number, writer_id in enumerate(["one", "two"], start=1):
        asyncio.run(fill(writer_id, batch_of(number)))

    assert rows_of(tmp_path).num_rows == 6


@guarantee(20)
def test_two_collectors_of_one_name_are_never_both_let_in(tmp_path: Path) -> None:
    """Each ledger numbers its own batches: the lake would take one's for those that it has of the other."""

    async def open_twice() -> None:
        first, second = (LakeOutput("lake", tmp_path, writer_id="one", clock=SystemClock()) for _ in range(2))
        await first.open(last_batch=0, position="")
        with pytest.raises(OutputUnusable, match="another process writes to this lake under the same names"):
            await second.open(last_batch=0, position="")
        with pytest.raises(OutputUnusable, match="another process writes to this lake under the same names"):
            await second.take_over()
        await first.close()
        await second.open(last_batch=0, position="")
        await second.close()

    asyncio.run(open_twice())


def test_what_a_batch_took_goes_back_to_the_system(tmp_path: Path) -> None:
    """Arrow's own pools keep it for later, which a collector pays for with a tenth of its memory."""
    own = next(name for name in pa.supported_memory_backends() if name != "system")
    pa.set_memory_pool(getattr(pa, f"{own}_memory_pool")())

    open_with(tmp_path, 0)

    assert pa.default_memory_pool().backend_name == "system"


def test_each_day_of_a_batch_is_one_row_group(tmp_path: Path) -> None:
    """Also where a blob lies on both sides of midnight, and where a time has a zone: each costs its own."""
    times = ["2026-10-01T09:00:00", "2026-10-02T09:00:00", "2026-10-02T01:00:00+02:00", "no time"]
    first, second, zoned, lost = (f'{{"Id":"{at}","CreationTime":"{at}"}}'.encode() for at in times)
    lots = [[first, second, first], [second], [zoned], [lost, second], [first]]

    AuditWriter(tmp_path, app_id=APP_ID).append(
        make_batch(1, [make_part(lot, outputs=["lake"]) for lot in lots])
    )

    files = {path.parent.name: pq.ParquetFile(path) for path in (tmp_path / "audit").glob("*/*.parquet")}
    assert {day: (file.num_row_groups, file.metadata.num_rows) for day, file in files.items()} == {
        "day=2026-10-01": (1, 4),
        "day=2026-10-02": (1, 3),
        "day=2026-11-17": (1, 1),
    }
    assert sorted(records_of(tmp_path)) == sorted(record for lot in lots for record in lot)


def test_two_writers_at_once_both_get_in(tmp_path: Path) -> None:
    """An append meets no conflict: the later one is tried again on top of the other."""
    first, second = AuditWriter(tmp_path, app_id="first"), AuditWriter(tmp_path, app_id="second")
    for number in range(1, 6):
        first.append(batch_of(number))
        second.append(batch_of(number + 10))

    assert len(set(records_of(tmp_path))) == 30


@guarantee(28)
@pytest.mark.parametrize("limit_bytes", [0, 300, 3000])
def test_a_full_disk_is_told_in_one_line_and_costs_nothing(tmp_path: Path, limit_bytes: int) -> None:
    """Whether the Parquet file or Delta's commit has no room: nothing counts, and then it does."""

    async def deliver() -> str:
        output = LakePlace(tmp_path).make()
        await output.open(last_batch=0, position="")
        await output.deliver(batch_of(1))
        with file_size_limit(limit_bytes), pytest.raises(OutputUnavailable) as failure:
            await output.deliver(batch_of(2, count=500))
        await output.deliver(batch_of(2, count=500))
        await output.close()
        return str(failure.value)

    told = asyncio.run(deliver()).partition(": ")

    place, _, what = told
    assert place == f"output lake ({tmp_path})"
    assert what == "batch 2 could not be written: File too large; tried again, nothing lost"
    assert sorted(records_of(tmp_path)) == sorted(
        [*make_records(3, start=1000), *make_records(500, start=2000)]
    )


def test_a_commit_whose_answer_was_lost_is_found(tmp_path: Path) -> None:
    """After any failure the table is read again before the batch is."""

    class LosesAnswers(AuditWriter):
        def append(self, batch: Batch, parts: Sequence[Part] | None = None) -> None:
            super().append(batch, parts)
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        LosesAnswers(tmp_path, app_id=APP_ID).append(batch_of(1))
    AuditWriter(tmp_path, app_id=APP_ID).append(batch_of(1))

    assert rows_of(tmp_path).num_rows == 3


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    """A Delta table that is not ours is left alone."""
    write_deltalake(tmp_path / "audit", pa.table({"day": ["Monday"]}))

    with pytest.raises(OutputUnusable, match="other columns than this version's; move it away"):
        open_with(tmp_path, 0)


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    """One line says what is wrong."""
    (tmp_path / "lake").write_text("a file")

    with pytest.raises(OutputUnusable, match="cannot be opened: Not a directory; see to it"):
        open_with(tmp_path / "lake", 0)


def test_a_broken_table_is_refused_in_one_line(tmp_path: Path) -> None:
    """The library's traceback is not shown."""
    commits = tmp_path / "audit" / "_delta_log"
    commits.mkdir(parents=True)
    (commits / f"{0:020}.json").write_text("garbage")

    with pytest.raises(OutputUnusable) as refusal:
        open_with(tmp_path, 0)

    assert len(str(refusal.value).splitlines()) == 1
    assert "put it back from a copy of the lake" in refusal.value.fix


def test_a_checkpoint_is_made_every_so_often(tmp_path: Path) -> None:
    """Opening reads the last checkpoint and the few commits after it, never all of them."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    for number in range(1, COMMITS_PER_CHECKPOINT + 1):
        writer.append(batch_of(number, count=1))

    found = json.loads((tmp_path / "audit" / "_delta_log" / "_last_checkpoint").read_text())
    assert found["version"] == COMMITS_PER_CHECKPOINT


def test_the_files_say_what_is_in_them(tmp_path: Path) -> None:
    """Statistics let every engine skip files; they hold for all rows of the file."""
    part = make_part(make_records(100), outputs=["lake"])
    AuditWriter(tmp_path, app_id=APP_ID).append(make_batch(1, [part]))

    [facts] = pa.table(DeltaTable(tmp_path / "audit").get_add_actions(flatten=True)).to_pylist()

    rows = rows_of(tmp_path)
    assert facts["num_records"] == 100
    assert facts["min.created_at"] == min(rows["created_at"].to_pylist())
    assert facts["max.created_at"] == max(rows["created_at"].to_pylist())
    assert facts["null_count.record_type"] == 0


def test_a_fresh_file_compresses_its_long_columns_alone(tmp_path: Path) -> None:
    """Of few records the others would take longer to compress than all is worth; a merged file is to stay."""
    fresh, merged = (
        write_part(
            LocalStore(tmp_path),
            AUDIT_TABLE,
            day=date(2026, 11, 17),
            name=f"of-{compression.level}",
            chunks=[tabulate(batch_of(1))],
            compression=compression,
        )
        for compression in (FRESH, MERGED)
    )

    assert compressed_columns(tmp_path / fresh.path) == {*AUDIT_TABLE.long}
    assert compressed_columns(tmp_path / merged.path) == {*AUDIT_TABLE.file_schema.names}


def compressed_columns(path: Path) -> set[str]:
    group = pq.read_metadata(path).row_group(0)
    columns = map(group.column, range(group.num_columns))
    return {one.path_in_schema for one in columns if one.compression == "ZSTD"}


def test_times_keep_their_least_and_greatest_without_a_dictionary(tmp_path: Path) -> None:
    """They hardly repeat, and whoever asks for a span passes over row groups by them."""
    part = write_part(
        LocalStore(tmp_path),
        AUDIT_TABLE,
        day=date(2026, 11, 17),
        name="a",
        chunks=[tabulate(batch_of(1))],
        compression=FRESH,
    )

    column = pq.read_metadata(tmp_path / part.path).row_group(0).column(0)
    assert column.path_in_schema == "created_at"
    assert column.has_dictionary_page is False
    assert column.statistics.has_min_max
