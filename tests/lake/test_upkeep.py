"""Small files become large ones; nothing is lost, doubled or held up by it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from lake_place import records_of
from m365watch.common.clock import SystemClock
from m365watch.lake.delta.table_files import LakeFile
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT
from m365watch.lake.maintenance.compaction import (
    FILES_PER_MERGE_MAX,
    FILES_PER_MERGE_MIN,
    MERGE_BYTES_MAX,
    MERGES_PER_RUN_MAX,
    TIERS_BYTES,
    plan_merges,
)
from m365watch.lake.maintenance.maintenance_worker import (
    COMMITS_PER_UPKEEP,
    COMMITS_UNTIL_HURRY,
    Upkeep,
    is_due,
    keep_up,
)
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_records, make_simple_batch

BATCHES = COMMITS_PER_UPKEEP + COMMITS_PER_CHECKPOINT
DAYS = st.dates(date(2026, 11, 1), date(2026, 11, 3))
FILES = st.lists(st.builds(LakeFile, DAYS, st.integers(1, 64 << 20), st.uuids().map(str)), max_size=200)


class HandClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        """It shows zero."""
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        """Always the same instant."""
        return datetime(2026, 11, 17, 9, tzinfo=UTC)

    def monotonic_s(self) -> float:
        """What it was set to."""
        return self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.elapsed_s += seconds


def fill(directory: Path, batches: int, *, start: int = 1) -> AuditWriter:
    """Append `batches` batches of two records; the writer."""
    writer = AuditWriter(directory, app_id="test")
    for number in range(start, start + batches):
        writer.append(make_simple_batch(number, make_records(2, start=number * 10), output="lake"))
    return writer


@pytest.fixture(scope="module")
def busy_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of so many batches that upkeep is due; to be copied."""
    directory = tmp_path_factory.mktemp("upkeep") / "lake"
    fill(directory, BATCHES)
    return directory


@pytest.fixture
def due_lake(busy_lake: Path, tmp_path: Path) -> Path:
    """A lake in which upkeep is due."""
    return shutil.copytree(busy_lake, tmp_path / "lake")


def files_of(directory: Path) -> list[Path]:
    """The Parquet files that are there, named by the table or not."""
    return sorted((directory / "audit").rglob("day=*/*.parquet"))


@given(FILES)
def test_a_merge_is_of_one_day_and_tier_and_bounded(files: list[LakeFile]) -> None:
    """No plan ever takes more than its bounds, and no file twice or for nothing."""
    merges = plan_merges(files)

    assert len(merges) <= MERGES_PER_RUN_MAX
    planned = [file.path for merge in merges for file in merge]
    assert len(planned) == len(set(planned))
    for merge in merges:
        assert len({file.day for file in merge}) == 1
        assert len({sum(file.size_bytes >= bound for bound in TIERS_BYTES) for file in merge}) == 1
        assert 1 < len(merge) <= FILES_PER_MERGE_MAX
        assert sum(file.size_bytes for file in merge) <= MERGE_BYTES_MAX
        assert max(file.size_bytes for file in merge) < TIERS_BYTES[-1]


def test_a_few_files_are_left_alone() -> None:
    """A merge is worth its while only from so many files on."""
    files = [LakeFile(date(2026, 11, 1), 1000, str(n)) for n in range(FILES_PER_MERGE_MIN)]

    assert [len(plan_merges(files[1:])), len(plan_merges(files))] == [0, 1]


def test_merged_files_hold_the_same_records(tmp_path: Path) -> None:
    """Before and after, a reader finds the same rows; the batch numbers stay too."""
    fill(tmp_path, FILES_PER_MERGE_MIN)
    before = sorted(records_of(tmp_path))

    merges = keep_up(tmp_path, clock=SystemClock())

    table = DeltaTable(tmp_path / "audit")
    assert (merges, len(table.file_uris())) == (1, 1)
    assert before == sorted(records_of(tmp_path))
    assert AuditWriter(tmp_path, app_id="test").last_batch == FILES_PER_MERGE_MIN


def test_an_append_meanwhile_gets_in(tmp_path: Path) -> None:
    """A writer that has not seen the merge appends on top of it."""
    writer = fill(tmp_path, FILES_PER_MERGE_MIN)
    keep_up(tmp_path, clock=SystemClock())
    writer.append(make_simple_batch(99, make_records(2, start=9000), output="lake"))

    assert len(set(records_of(tmp_path))) == len(records_of(tmp_path)) == 2 * FILES_PER_MERGE_MIN + 2


@pytest.mark.file_times
def test_a_file_merged_away_stays_for_hours(tmp_path: Path) -> None:
    """A reader may hold an older version; a file of a crash goes once it is that old, no sooner."""
    fill(tmp_path, FILES_PER_MERGE_MIN)
    [folder] = {path.parent for path in files_of(tmp_path)}
    for path in files_of(tmp_path):
        os.utime(path, (1, 1))
    (folder / "old.parquet").write_bytes(b"left by a crash")
    os.utime(folder / "old.parquet", (1, 1))
    (folder / "new.parquet").write_bytes(b"being written")

    keep_up(tmp_path, clock=SystemClock())

    names = {path.name for path in files_of(tmp_path)}
    assert ("old.parquet" in names, "new.parquet" in names) == (False, True)
    assert len(names) == FILES_PER_MERGE_MIN + 2


def test_two_never_run_at_once(tmp_path: Path) -> None:
    """The lock is the operating system's; who comes second leaves at once."""
    fill(tmp_path, FILES_PER_MERGE_MIN)
    with (tmp_path / "upkeep.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert keep_up(tmp_path, clock=SystemClock()) == 0

    assert keep_up(tmp_path, clock=SystemClock()) == 1


@pytest.mark.slow
def test_it_is_due_after_so_many_commits(tmp_path: Path, due_lake: Path) -> None:
    """Told from two small files; not due again right after it was done."""
    before = [is_due(tmp_path), is_due(due_lake), is_due(due_lake, commits_min=COMMITS_UNTIL_HURRY)]

    keep_up(due_lake, clock=SystemClock())

    assert (before, is_due(due_lake)) == ([False, True, False], False)


def test_the_child_starts_late_and_does_the_work(due_lake: Path) -> None:
    """Not in a run's first minutes, not twice at a time, and as a process of its own."""
    clock = HandClock()
    upkeep = Upkeep(due_lake, clock=clock, first_after_s=300)
    early = upkeep.start_if_due()
    clock.elapsed_s = 300
    started = [upkeep.start_if_due(), upkeep.start_if_due()]
    wait_for(upkeep)

    assert (early, started) == (False, [True, False])
    assert len(DeltaTable(due_lake / "audit").file_uris()) < COMMITS_PER_UPKEEP
    upkeep.stop()
    upkeep.stop()


def test_the_child_has_no_secret_and_leaves_no_dump(
    due_lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works beside the collector, for the same user: what it has at its end it writes down itself."""
    told = tmp_path / "told"
    monkeypatch.setenv("M365WATCH_TEST_SECRET", "hunter2")
    # Python reads this module at its start, from the path that the child is given.
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, ctypes, json, os, resource\n"
        "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "seen = lambda: [dumpable(), resource.getrlimit(resource.RLIMIT_CORE)[0], [*os.environ.values()]]\n"
        f"atexit.register(lambda: open({str(told)!r}, 'w').write(json.dumps(seen())))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    upkeep = Upkeep(due_lake, clock=HandClock(), first_after_s=0)
    assert upkeep.start_if_due()
    wait_for(upkeep)

    dumpable, core_bytes, values = json.loads(told.read_text())
    assert (dumpable, core_bytes) == (0, 0)
    assert "hunter2" not in values


@guarantee(16)
def test_a_child_killed_at_work_leaves_the_lake_whole(due_lake: Path) -> None:
    """What it had not committed has not happened; the next one does it."""
    before = sorted(records_of(due_lake))
    upkeep = Upkeep(due_lake, clock=HandClock(), first_after_s=0)
    assert upkeep.start_if_due()
    upkeep.stop()

    assert before == sorted(records_of(due_lake))
    keep_up(due_lake, clock=SystemClock())
    assert before == sorted(records_of(due_lake))


@pytest.mark.parametrize("table", [None, "garbage"])
def test_a_failure_is_one_line(tmp_path: Path, table: str | None) -> None:
    """The child says on standard error what is wrong, and no more."""
    if table is not None:
        commits = tmp_path / "audit" / "_delta_log"
        commits.mkdir(parents=True)
        (commits / f"{0:020}.json").write_text(table)

    command = [sys.executable, "-m", "m365watch.lake.maintenance.maintenance_worker", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert run.stderr.startswith(f"upkeep of {tmp_path} put off: ")
    assert len(run.stderr.splitlines()) == 1


@guarantee(16)
@pytest.mark.slow
def test_appends_and_merges_at_once_lose_nothing(due_lake: Path) -> None:
    """An append wins without waiting; a merge that comes second is committed on top of it."""
    writer = AuditWriter(due_lake, app_id="test")
    upkeep = Upkeep(due_lake, clock=HandClock(), first_after_s=0)
    assert upkeep.start_if_due()
    number = BATCHES
    while upkeep.is_at_work and number < BATCHES + 100:
        number += 1
        writer.append(make_simple_batch(number, make_records(2, start=number * 10), output="lake"))
    wait_for(upkeep)

    records = records_of(due_lake)
    assert len(set(records)) == len(records) == 2 * number
    assert len(DeltaTable(due_lake / "audit").file_uris()) < number


def test_files_that_another_engine_merged_are_not_merged_again(tmp_path: Path) -> None:
    """Our lock does not bind others: a merge onto a version that moved on looks again."""
    fill(tmp_path, FILES_PER_MERGE_MIN)
    before = sorted(records_of(tmp_path))

    class OthersAreFaster(SystemClock):
        def now(self) -> datetime:
            DeltaTable(tmp_path / "audit").optimize.compact()
            return super().now()

    assert keep_up(tmp_path, clock=OthersAreFaster()) == 0
    assert before == sorted(records_of(tmp_path))


def wait_for(upkeep: Upkeep) -> None:
    """Return when the child has ended."""
    while upkeep.is_at_work:
        time.sleep(0.02)
