"""Every commit of a lake is made in one place, whatever it is for, and other engines read the result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from promises import guarantee

from doomed_upkeep import Doom, work
from keeping_lake import ANNA, APP_ID, TODAY, FixedClock, a_record, field_of, fill_days, write
from lake_place import records_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeUnusable
from m365watch.lake.delta.commit import ENGINE
from m365watch.lake.delta.missing_commits import list_lost_batches
from m365watch.lake.delta.table_files import list_files, replace_files, silently
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT, LOG, make_checkpoint
from m365watch.lake.maintenance.compaction import compact, merge_files
from m365watch.lake.maintenance.integrity_check import find_fault
from m365watch.lake.maintenance.vacuum import list_stale, vacuum
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.table_writer import AuditWriter

NEVER = 10**9
DAYS = 4


def operations(table_directory: Path) -> list[tuple[str, str]]:
    """What each commit says that made it, and for what."""
    told = []
    for path in sorted((table_directory / LOG).glob("*.json")):
        [info] = [
            one for text in path.read_text().splitlines() if (one := json.loads(text).get("commitInfo"))
        ]
        told.append((info["engineInfo"], info["operation"]))
    return told


@guarantee(16)
@pytest.mark.slow
def test_no_commit_of_a_lake_is_the_library_s(tmp_path: Path) -> None:
    """Made, written past a checkpoint, merged, vacuumed, retained and erased; two engines count the same."""
    lake = tmp_path / "lake"
    records = fill_days(lake, DAYS, batches_a_day=COMMITS_PER_CHECKPOINT // DAYS)
    for verb in ("compact", "vacuum", "retain", "erase"):
        work(verb, lake, Doom(NEVER))
    writer = AuditWriter(lake, app_id=APP_ID)
    more = [a_record(9_000_000, day=TODAY)]
    write(writer, writer.last_batch + 1, more)

    tables = sorted(path.parent for path in lake.glob("*/_delta_log"))
    told = {table.name: operations(table) for table in tables}
    assert {engine for one in told.values() for engine, _ in one} == {ENGINE}
    assert told["audit"][0] == (ENGINE, "CREATE TABLE")
    assert list(list_lost_batches(LocalStore(lake / "audit"), DeltaTable(lake / "audit").version())) == []
    expected = sorted([*filter(stays, records), *more])
    assert sorted(records_of(lake)) == expected
    counted = LakeReader(lake).query("SELECT count(*), count(DISTINCT id) FROM audit").rows
    assert counted == [(len(expected), len(expected))]
    assert find_fault(lake) is None


def stays(record: bytes) -> bool:
    """Whether neither retention nor the erasure takes the record."""
    days_max = 1 if field_of(record, "Workload") == "Exchange" else 2
    oldest = (TODAY - timedelta(days=days_max)).isoformat()
    return field_of(record, "UserId") != ANNA and field_of(record, "CreationTime")[:10] >= oldest


@pytest.mark.file_times
@pytest.mark.parametrize("keep_hours", [0, 2, 168])
@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_vacuum_takes_what_the_library_would(tmp_path: Path, keep_hours: int, has_checkpoint: bool) -> None:
    """Of what was replaced just now and hours ago, of leftovers old and young, and of what is named."""
    fill_days(tmp_path, 2)
    audit = tmp_path / "audit"
    table = DeltaTable(audit)
    now = SystemClock().now()
    for hours_ago, file in enumerate(list_files(table)[:4]):
        clock = FixedClock(now - timedelta(hours=hours_ago, minutes=1))
        assert merge_files(table, AUDIT_TABLE, LocalStore(audit), merge=[file], clock=clock)
    if has_checkpoint:
        make_checkpoint(table, LocalStore(audit))
    [day, _] = sorted(audit.glob("day=*"))
    for name, hours_ago in (("young", 0), ("old", 3), ("older", 200)):
        (day / f"{name}.parquet").write_bytes(b"left by a crash")
        at_s = now.timestamp() - hours_ago * 3600 - 60
        os.utime(day / f"{name}.parquet", (at_s, at_s))

    stale = list_stale(table, LocalStore(audit), keep_hours=keep_hours, now=now)

    expected = DeltaTable(audit).vacuum(
        keep_hours, dry_run=True, enforce_retention_duration=False, full=keep_hours >= 2
    )
    assert sorted(one.file.name for one in stale) == sorted(expected)
    assert expected, "or nothing is compared"


def test_a_dry_vacuum_removes_nothing(tmp_path: Path) -> None:
    """It tells the same as the one that does."""
    fill_days(tmp_path, 2)
    clock = FixedClock()
    compact(tmp_path, clock=clock, progress=silently)
    before = sorted(tmp_path.rglob("*"))

    dry = vacuum(tmp_path, keep_hours=0, dry_run=True, clock=clock, progress=silently)
    assert sorted(tmp_path.rglob("*")) == before
    assert vacuum(tmp_path, keep_hours=0, dry_run=False, clock=clock, progress=silently) == dry
    assert dry[0].files == 6


def before_next_commit(monkeypatch: pytest.MonkeyPatch, done: Callable[[], None]) -> None:
    """Have something done just before the next commit gets its name."""
    link = os.link

    def later(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        done()
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", later)


@guarantee(16)
def test_an_append_only_delays_a_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner is read, the files are still there, and the commit follows."""
    records = fill_days(tmp_path, 1)
    table = DeltaTable(tmp_path / "audit")
    more = [a_record(9_000_000, day=TODAY)]
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    before_next_commit(monkeypatch, lambda: write(writer, writer.last_batch + 1, more))

    assert merge_files(
        table, AUDIT_TABLE, LocalStore(tmp_path / "audit"), merge=list_files(table), clock=FixedClock()
    )
    assert sorted(records_of(tmp_path)) == sorted([*records, *more])
    assert len(list_files(DeltaTable(tmp_path / "audit"))) == 2


@guarantee(16)
def test_files_are_replaced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process was first: its rows and ours would be there twice."""
    records = fill_days(tmp_path, 1)
    audit = tmp_path / "audit"
    table = DeltaTable(audit)
    old = list_files(table)

    def of_another() -> None:
        other = DeltaTable(audit)
        assert replace_files(
            other, LocalStore(audit), old=old[:1], new=[], changes_rows=True, clock=FixedClock()
        )

    before_next_commit(monkeypatch, of_another)
    assert not merge_files(table, AUDIT_TABLE, LocalStore(audit), merge=old, clock=FixedClock())
    assert len(records_of(tmp_path)) == len(records) * 2 // 3
    assert len(list_files(DeltaTable(audit))) == len(old) - 1


def test_upkeep_refuses_a_table_that_asks_more_of_its_writers(tmp_path: Path) -> None:
    """Another engine has raised the version, which our commits do not fulfil."""
    fill_days(tmp_path, 1)
    DeltaTable(tmp_path / "audit").alter.add_constraint({"typed": "record_type > -10"})
    version = DeltaTable(tmp_path / "audit").version()

    with pytest.raises(LakeUnusable, match="`audit` there needs Delta writer version 3"):
        compact(tmp_path, clock=FixedClock(), progress=silently)
    assert DeltaTable(tmp_path / "audit").version() == version
