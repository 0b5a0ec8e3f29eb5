"""A commit in the middle of the log that has become empty: a check says which, and what is missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from promises import guarantee

from keeping_lake import FixedClock
from lake_place import WRITER_ID, LakePlace, records_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeUnusable, OutputUnusable
from m365watch.lake.delta import missing_commits as following
from m365watch.lake.delta.table_files import hold_lake, silently
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT, commit_name, last_checkpoint
from m365watch.lake.integrity_errors import BACK_FIX
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.integrity_check import check_lake, try_table
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"
OTHER_ID = "m365watch/lake/collector-2"


def append(lake: Path, *numbers: int, app_id: str = APP_ID) -> None:
    """Append the batches of these numbers."""
    writer = AuditWriter(lake, app_id=app_id)
    for number in numbers:
        writer.append(make_simple_batch(number, make_records(2, start=number * 1000), output="lake"))


def empty(lake: Path, *versions: int) -> None:
    """Let the commits be empty, as a file system that lost their contents shows them."""
    for version in versions:
        (lake / "audit" / commit_name(version)).write_bytes(b"")


def problems_of(lake: Path) -> list[str]:
    """What a check says."""
    return check_lake(lake, reads_all=True, progress=silently).problems


def is_empty(version: int, batch: int) -> str:
    """What is said of that commit."""
    named = f"audit/_delta_log/{version:020}.json"
    return f"{named}: is empty, and no commit holds batch {batch}: put the file back from a backup"


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_check_names_a_commit_in_the_middle_that_is_empty(tmp_path: Path, version: int) -> None:
    """Delta takes it for one without changes, and opens a table without its records."""
    append(tmp_path, 10, 20, 30, 40, 50)
    assert problems_of(tmp_path) == []
    empty(tmp_path, version)

    assert problems_of(tmp_path) == [is_empty(version, version * 10)]


def test_each_of_several_is_named_once(tmp_path: Path) -> None:
    """Which batch was in which is not to be told: the last of them is."""
    append(tmp_path, 1, 2, 3, 4, 5, 6)
    empty(tmp_path, 2, 3, 5)

    assert problems_of(tmp_path) == [is_empty(2, 3), is_empty(3, 3), is_empty(5, 5)]


@guarantee(15)
def test_the_first_after_a_checkpoint_follows_what_that_holds(tmp_path: Path) -> None:
    """And what is empty before it is none: the checkpoint has its rows."""
    append(tmp_path, *range(1, COMMITS_PER_CHECKPOINT + 4))
    empty(tmp_path, 7)
    assert problems_of(tmp_path) == []
    empty(tmp_path, COMMITS_PER_CHECKPOINT + 1)

    assert problems_of(tmp_path) == [is_empty(COMMITS_PER_CHECKPOINT + 1, COMMITS_PER_CHECKPOINT + 1)]


def test_each_collector_of_a_lake_has_its_own_batches(tmp_path: Path) -> None:
    """Whose numbers have nothing to do with each other's."""
    append(tmp_path, 500, 501)
    append(tmp_path, 7, app_id=OTHER_ID)
    append(tmp_path, 502)
    append(tmp_path, 8, app_id=OTHER_ID)
    assert problems_of(tmp_path) == []
    empty(tmp_path, 3)

    assert problems_of(tmp_path) == [is_empty(3, 7)]


def test_a_commit_that_a_power_cut_has_emptied_is_none(tmp_path: Path) -> None:
    """Its batch was acknowledged to nobody, and came again."""
    append(tmp_path, 1, 2, 3)
    empty(tmp_path, 3)
    append(tmp_path, 3, 4)

    assert problems_of(tmp_path) == []


def test_a_commit_that_is_another_one_s_is_told_by_the_next(tmp_path: Path) -> None:
    """It can be read, and has no batch."""
    append(tmp_path, 1, 2, 3)
    (tmp_path / "audit" / commit_name(2)).write_bytes(b'{"commitInfo":{}}\n')

    [problem] = problems_of(tmp_path)
    assert problem.startswith(f"audit/_delta_log/{3:020}.json: follows batch 2, which no commit holds: ")


def test_a_first_commit_that_is_empty_is_named(tmp_path: Path) -> None:
    """Nothing opens without it, and of what was wrong nothing was said."""
    append(tmp_path, 1, 2)
    empty(tmp_path, 0)

    assert problems_of(tmp_path) == [
        f"audit/_delta_log/{0:020}.json: is empty: put the file back from a backup"
    ]


@guarantee(15)
def test_no_file_goes_while_a_batch_is_missing(tmp_path: Path) -> None:
    """Its commit put back from a copy makes all good; its files, which no commit names, had been removed."""
    append(tmp_path, 1, 2, 3, 4)
    whole = (tmp_path / "audit" / commit_name(2)).read_bytes()
    empty(tmp_path, 2)
    for path in tmp_path.glob("audit/day=*/*.parquet"):
        os.utime(path, (1_600_000_000, 1_600_000_000))

    with pytest.raises(LakeUnusable, match=r"2\.json is empty, and no commit holds batch 2"):
        keep_up(tmp_path, clock=SystemClock())
    (tmp_path / "audit" / commit_name(2)).write_bytes(whole)

    assert problems_of(tmp_path) == []
    assert len(records_of(tmp_path)) == 8


def merge(lake: Path) -> None:
    """Merge whatever there is to merge."""
    clock = FixedClock()
    with hold_lake(lake, clock=clock, acknowledged={}):
        compact(lake, clock=clock, progress=silently)


@guarantee(15)
@pytest.mark.parametrize("before", [0, COMMITS_PER_CHECKPOINT])
def test_a_merge_that_was_merged_again_is_missed(tmp_path: Path, before: int) -> None:
    """Its records were there twice, and the next merge made that final; also of files of a checkpoint."""
    append(tmp_path, *range(1, before + 3))
    merge(tmp_path)
    append(tmp_path, before + 3, before + 4)
    merge(tmp_path)
    assert problems_of(tmp_path) == []
    version = before + 3
    whole = (tmp_path / "audit" / commit_name(version)).read_bytes()
    empty(tmp_path, version)

    named = f"audit/_delta_log/{version:020}.json"
    what = "is empty, and no commit holds files that a later one replaces"
    assert problems_of(tmp_path) == [f"{named}: {what}: put the file back from a backup"]
    with pytest.raises(LakeUnusable, match="is empty, and no commit holds files"):
        merge(tmp_path)
    (tmp_path / "audit" / commit_name(version)).write_bytes(whole)
    assert problems_of(tmp_path) == []
    assert len(records_of(tmp_path)) == 2 * (before + 4)


def test_a_merge_that_is_another_s_commit_is_told_by_the_next(tmp_path: Path) -> None:
    """It can be read, and says nothing of files."""
    append(tmp_path, 1, 2)
    merge(tmp_path)
    append(tmp_path, 3)
    merge(tmp_path)
    (tmp_path / "audit" / commit_name(3)).write_bytes(b'{"commitInfo":{}}\n')

    [problem] = problems_of(tmp_path)
    assert problem.startswith(f"audit/_delta_log/{5:020}.json: replaces files that no commit holds: ")


def test_a_merge_that_nothing_counts_on_has_lost_nothing(tmp_path: Path) -> None:
    """What it replaced is there as it was, and is merged again; also beside what a checkpoint holds."""
    append(tmp_path, *range(1, COMMITS_PER_CHECKPOINT + 3))
    merge(tmp_path)
    empty(tmp_path, COMMITS_PER_CHECKPOINT + 3)
    assert problems_of(tmp_path) == []
    merge(tmp_path)

    assert problems_of(tmp_path) == []
    assert len(records_of(tmp_path)) == 2 * (COMMITS_PER_CHECKPOINT + 2)


@guarantee(15)
@pytest.mark.slow
@pytest.mark.parametrize("by", ["a batch", "a merge"])
def test_no_checkpoint_is_made_while_a_batch_is_missing(tmp_path: Path, by: str) -> None:
    """It would be without the batch for good, and a check then finds nothing wrong."""
    audit = tmp_path / "audit"
    append(tmp_path, *range(1, COMMITS_PER_CHECKPOINT))
    whole = (audit / commit_name(4)).read_bytes()
    if by == "a batch":
        empty(tmp_path, 4)
    else:
        clock = FixedClock()
        with hold_lake(tmp_path, clock=clock, acknowledged={}):
            # A moment after that was looked at.
            empty(tmp_path, 4)
            compact(tmp_path, clock=clock, progress=silently)
    append(tmp_path, COMMITS_PER_CHECKPOINT)

    assert last_checkpoint(LocalStore(audit)) is None
    assert problems_of(tmp_path) == [is_empty(4, 4)]

    (audit / commit_name(4)).write_bytes(whole)
    append(tmp_path, *range(COMMITS_PER_CHECKPOINT + 1, 2 * COMMITS_PER_CHECKPOINT + 1))
    assert last_checkpoint(LocalStore(audit)) == 2 * COMMITS_PER_CHECKPOINT
    assert problems_of(tmp_path) == []
    assert len(records_of(tmp_path)) == 2 * 2 * COMMITS_PER_CHECKPOINT


@guarantee(15)
def test_a_start_and_whoever_looks_before_one_name_a_batch_that_is_missing(tmp_path: Path) -> None:
    """While it can be put back: the table opened without its records, and nobody was told."""
    append(tmp_path, 1, 2, 3)
    empty(tmp_path, 2)

    async def start() -> None:
        await LakePlace(tmp_path).make().open(last_batch=3, position="")

    with pytest.raises(OutputUnusable) as refused:
        asyncio.run(start())
    with pytest.raises(OutputUnusable) as tried:
        try_table(tmp_path, AUDIT_TABLE, where="lake")

    said = f"audit/_delta_log/{2:020}.json is empty, and no commit holds batch 2"
    assert (refused.value.what, refused.value.fix) == (f"the lake cannot be opened: {said}", BACK_FIX)
    assert (tried.value.what, tried.value.fix) == (f"its table `audit` is damaged: {said}", BACK_FIX)


def test_a_start_opens_no_older_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the checkpoint holds is asked only where a commit after it is no batch's, and may have been."""
    append(tmp_path, *range(1, COMMITS_PER_CHECKPOINT + 3))
    append(tmp_path, 7, app_id=OTHER_ID)
    monkeypatch.setattr(following, "DeltaTable", None)

    assert list(following.list_lost_batches(LocalStore(tmp_path / "audit"), COMMITS_PER_CHECKPOINT + 3)) == []
