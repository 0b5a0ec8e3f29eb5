"""A table whose `_delta_log` is gone, by a restore or by hand: no empty one takes its place."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from keeping_lake import FixedClock
from lake_place import WRITER_ID, LakePlace, records_of
from m365watch.common.errors import (
    CollectorError,
    LakeUnusable,
    OutputUnavailable,
    OutputUnusable,
    QueryStopped,
)
from m365watch.common.model import Batch, Window
from m365watch.lake.delta.missing_commits import BATCHES_OF_YOUNG_MAX, are_commits_lost
from m365watch.lake.delta.table_files import hold_lake, open_table, require_lake, silently
from m365watch.lake.integrity_errors import BACK_FIX
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.integrity_check import check_lake
from m365watch.lake.record_scan import LakeScan, ScanAsked
from m365watch.lake.schema import AUDIT_TABLE, NOTICE_TABLE
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.store import LocalStore, StoredFile
from m365watch.lake.writer.event_table import NoticeWriter
from m365watch.lake.writer.table_writer import AuditWriter, write_batch
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"
GONE = "audit/_delta_log has no commit, but files of records lie beside it"
DAY = Window(datetime(2026, 11, 17, tzinfo=UTC), datetime(2026, 11, 18, tzinfo=UTC))


def batch_of(number: int) -> Batch:
    """Records that no other batch has; every third batch also some of the day before."""
    records = make_records(2, start=number * 1000)
    if number % 3 == 0:
        records[0] = records[0].replace(b"2026-11-17", b"2026-11-16")
    return make_simple_batch(number, records, output="lake")


def append(lake: Path, last: int, *, first: int = 1, app_id: str = APP_ID) -> AuditWriter:
    """Append the batches of these numbers."""
    writer = AuditWriter(lake, app_id=app_id)
    for number in range(first, last + 1):
        writer.append(batch_of(number))
    return writer


def lose_commits(lake: Path) -> None:
    """What a restore of the files of records alone has left."""
    shutil.rmtree(lake / "audit" / "_delta_log")


def open_with(lake: Path, last_batch: int) -> int:
    """What an output over the lake answers to the ledger's `last_batch`."""

    async def answer() -> int:
        output = LakePlace(lake).make()
        try:
            return await output.open(last_batch=last_batch, position="")
        finally:
            await output.close()

    return asyncio.run(answer())


@guarantee(15)
@pytest.mark.parametrize("log", ["gone", "empty", "of empty commits"])
@pytest.mark.parametrize("last_batch", [0, BATCHES_OF_YOUNG_MAX + 1])
def test_no_empty_table_takes_the_place_of_one_whose_log_is_gone(
    tmp_path: Path, last_batch: int, log: str
) -> None:
    """Whether the ledger knows of it or is new too; its upkeep would remove the records."""
    append(tmp_path, BATCHES_OF_YOUNG_MAX + 1)
    if log == "of empty commits":
        for commit in (tmp_path / "audit" / "_delta_log").iterdir():
            commit.write_bytes(b"")
    else:
        lose_commits(tmp_path)
    if log == "empty":
        (tmp_path / "audit" / "_delta_log").mkdir()
    before = sorted(tmp_path.glob("audit/**/*"))

    with pytest.raises(OutputUnusable) as told:
        open_with(tmp_path, last_batch)

    assert (told.value.what, told.value.fix) == (f"the lake cannot be opened: {GONE}", BACK_FIX)
    assert sorted(tmp_path.glob("audit/**/*")) == before


@guarantee(15)
def test_one_acknowledged_batch_is_enough(tmp_path: Path) -> None:
    """Its commit was on the disk before, so that no power cut has taken it."""
    append(tmp_path, 1)
    lose_commits(tmp_path)

    with pytest.raises(OutputUnusable, match=GONE):
        open_with(tmp_path, 1)
    assert not (tmp_path / "audit" / "_delta_log").exists()


@guarantee(15)
def test_a_merged_file_is_enough(tmp_path: Path) -> None:
    """It was made of what commits named."""
    append(tmp_path, 2)
    clock = FixedClock()
    with hold_lake(tmp_path, clock=clock, acknowledged={}):
        compact(tmp_path, clock=clock, progress=silently)
    for path in tmp_path.glob("audit/day=*/*-0*.parquet"):
        path.unlink()
    lose_commits(tmp_path)

    with pytest.raises(OutputUnusable, match=GONE):
        open_with(tmp_path, 0)


def test_a_log_that_goes_while_the_collector_runs_is_not_begun_anew(tmp_path: Path) -> None:
    """Batches wait until it is put back, and none is missing then."""
    log = tmp_path / "audit" / "_delta_log"

    async def run() -> None:
        output = LakePlace(tmp_path).make()
        await output.open(last_batch=0, position="")
        await output.deliver(batch_of(1))
        log.rename(tmp_path / "away")
        for _ in range(2):
            with pytest.raises(OutputUnavailable):
                await output.deliver(batch_of(2))
        assert not log.exists()
        (tmp_path / "away").rename(log)
        await output.deliver(batch_of(2))
        await output.close()

    asyncio.run(run())

    assert len(records_of(tmp_path)) == 4


@guarantee(15)
@pytest.mark.parametrize("starts", range(1, BATCHES_OF_YOUNG_MAX // 2 + 1))
def test_starts_that_power_cuts_ended_at_once_are_begun_anew(tmp_path: Path, starts: int) -> None:
    """Each has written a batch and prepared the next; the ledger never uses a number twice."""
    for number in range(1, 2 * starts + 1):
        write_batch(tmp_path, batch_of(number), app_id=APP_ID)

    assert open_with(tmp_path, 0) == 0
    append(tmp_path, 2 * starts + 1, first=2 * starts + 1)
    assert len(records_of(tmp_path)) == 2


def test_collectors_that_began_a_lake_together_begin_it_anew(tmp_path: Path) -> None:
    """A power cut took every commit, each collector's first and more than one; it was closed for ever."""
    for place in range(BATCHES_OF_YOUNG_MAX + 1):
        append(tmp_path, 1, app_id=f"m365watch/lake/collector-{place}")
    for commit in (tmp_path / "audit" / "_delta_log").iterdir():
        commit.write_bytes(b"")

    assert open_with(tmp_path, 0) == 0
    append(tmp_path, 1)
    assert len(records_of(tmp_path)) == 2


class Overtaken(LocalStore):
    """A table that another process makes between the look at its log and the one at its files."""

    def list_after(self, prefix: str, start: str = "") -> Iterator[StoredFile]:
        if prefix == "day=":
            append(self.lake, BATCHES_OF_YOUNG_MAX + 1)
        return super().list_after(prefix, start)


def test_a_table_that_another_one_makes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    assert not are_commits_lost(Overtaken(tmp_path / "audit"))
    assert len(records_of(tmp_path)) == 2 * (BATCHES_OF_YOUNG_MAX + 1)


@guarantee(15)
def test_whoever_reads_is_told_that_the_log_is_gone(tmp_path: Path) -> None:
    """And not that there is no lake, or nothing in it."""
    append(tmp_path, BATCHES_OF_YOUNG_MAX + 1)
    lose_commits(tmp_path)
    told: list[CollectorError] = []

    for read in (
        lambda: require_lake(tmp_path),
        lambda: open_table(tmp_path, AUDIT_TABLE),
        lambda: LakeScan(tmp_path, ScanAsked(DAY)).feeds(),
    ):
        with pytest.raises(LakeUnusable) as refusal:
            read()
        told.append(refusal.value)
    with pytest.raises(QueryStopped) as stop:
        LakeReader(tmp_path).query("SELECT count(*) FROM audit")

    assert [(one.what, one.fix) for one in told] == [(GONE, BACK_FIX)] * 3
    assert (stop.value.what, stop.value.fix) == (f"the lake cannot be read: {GONE}", BACK_FIX)


def test_a_check_names_a_table_besides_whose_log_is_gone(tmp_path: Path) -> None:
    """The records are whole; of the notices it says what to do."""
    append(tmp_path, 1)
    folder = tmp_path / NOTICE_TABLE.name / "day=2026-11-17"
    folder.mkdir(parents=True)
    (folder / "merged-1.parquet").write_bytes(b"")

    [problem] = check_lake(tmp_path, reads_all=False, progress=silently).problems
    with pytest.raises(OSError, match="collectors_out/_delta_log has no commit"):
        NoticeWriter(tmp_path, app_id=APP_ID)

    assert problem.startswith(f"{GONE.replace('audit', 'collectors_out')}: put it back")
    assert "stop `m365watch run` and move the folder `collectors_out` out of the lake" in problem
