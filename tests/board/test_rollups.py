"""Rollups are a function of the lake's files, whatever happens to these."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from promises import guarantee

from m365watch.lake.rollups import rollup_builder as keeping
from m365watch.lake.rollups import rollup_manifest as notes
from m365watch.lake.rollups.facts import ACTIVITY, KEPT, Rollup, Slice
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.rollups.rollup_manifest import (
    FOLDER,
    FORMAT,
    NOTE,
    REST_S,
    days_kept,
    drop_stale,
    files_by_day,
    monday_of,
    read_day,
    read_week,
)
from m365watch.lake.schema import AUDIT
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part, make_record, make_records


def append(lake: Path, number: int, count: int = 50) -> None:
    """One more batch."""
    writer = AuditWriter(lake, app_id="m365watch/lake/test")
    records = make_records(count, start=number * 1000)
    writer.append(make_batch(number, [make_part(records, outputs=["lake"], blob=number)]))


SLICES = [part for rollup in KEPT for part in rollup.slices]
KINDS: list[Rollup | Slice] = [*KEPT, *SLICES]
"""Everything of which a day has a file."""


def counted(lake: Path) -> dict[str, int]:
    """The sum of every kind of rollup over all days."""
    kept = [read_day(lake, day) for day in files_by_day(lake)]
    return {
        rollup.name: duckdb.execute(
            "SELECT coalesce(sum(n), 0)::BIGINT FROM read_parquet($files)",
            {"files": [file for one in kept if one is not None for file in one.files(rollup)]},
        ).fetchall()[0][0]
        for rollup in KINDS
    }


@pytest.mark.slow
def test_appends_are_added(tmp_path: Path) -> None:
    """What was counted is not counted again, and what came since is; the files that this replaces go."""
    append(tmp_path, 1)
    assert keep_rollups(tmp_path) == 1
    append(tmp_path, 2, count=30)
    assert keep_rollups(tmp_path) == 1
    [day] = files_by_day(tmp_path)
    kept = read_day(tmp_path, day)
    assert kept is not None
    (last,) = duckdb.execute("SELECT max(last_s) FROM read_parquet($1)", [kept.files(ACTIVITY)]).fetchall()[0]
    assert kept.until_s == last + 1

    assert {counted(tmp_path)[one] for one in ("activity", "hours", "actors", "mailbox_days")} == {80}
    assert keep_rollups(tmp_path) == 0
    assert len(list(kept.folder.glob("*.parquet"))) == len(KINDS)


@pytest.mark.slow
def test_a_little_more_is_counted_by_itself(tmp_path: Path) -> None:
    """A large day is not counted again for a few records; parts of a size become one."""
    append(tmp_path, 1, count=900)
    keep_rollups(tmp_path)
    [day] = files_by_day(tmp_path)
    counts = []
    for number in range(2, 5):
        append(tmp_path, number, count=20)
        keep_rollups(tmp_path)
        kept = read_day(tmp_path, day)
        assert kept is not None
        counts.append(len(kept.note.parts))
    assert max(counts) == 2
    assert counted(tmp_path)["persons"] == 960
    last = read_day(tmp_path, day)
    assert last is not None
    assert last.sources == files_by_day(tmp_path)[day]


@guarantee(45)
@pytest.mark.slow
def test_a_merged_day_is_counted_anew(tmp_path: Path) -> None:
    """A rollup of files that are no more does not count, and is made again."""
    append(tmp_path, 1)
    append(tmp_path, 2)
    keep_rollups(tmp_path)
    [day] = files_by_day(tmp_path)
    merge(tmp_path)

    assert keep_rollups(tmp_path) == 1
    kept = read_day(tmp_path, day)
    assert kept is not None
    assert kept.sources == files_by_day(tmp_path)[day]
    assert counted(tmp_path)["hours"] == 100


def merge(lake: Path) -> None:
    """All files of the lake become one."""
    from deltalake import DeltaTable

    DeltaTable(lake / AUDIT).optimize.compact(min_commit_interval=timedelta(0))


@guarantee(45)
def test_what_is_erased_from_the_lake_is_erased_here(tmp_path: Path) -> None:
    """A person who was erased is in no rollup either, even before it is made anew."""
    append(tmp_path, 1)
    append(tmp_path, 2)
    keep_rollups(tmp_path)
    [day] = files_by_day(tmp_path)
    merge(tmp_path)

    assert drop_stale(tmp_path) == 1
    assert read_day(tmp_path, day) is None


def test_a_week_that_is_over_is_added_up(tmp_path: Path) -> None:
    """And what is erased from one of its days is erased from the week, at once."""
    append(tmp_path, 1)
    [day] = files_by_day(tmp_path)
    monday = monday_of(day)
    later = [make_record(number).replace(b"2026-11-17", b"2026-11-24") for number in range(10)]
    AuditWriter(tmp_path, app_id="m365watch/lake/test").append(
        make_batch(2, [make_part(later, outputs=["lake"], blob=2)])
    )
    keep_rollups(tmp_path)

    week = read_week(tmp_path, monday)
    assert week is not None
    assert week.is_of(days_kept(tmp_path, monday))
    assert read_week(tmp_path, monday + timedelta(days=7)) is None
    [persons] = [one for one in SLICES if one.name == "persons"]
    [(count,)] = duckdb.execute(
        "SELECT sum(n)::BIGINT FROM read_parquet($file)", {"file": week.file(persons)}
    ).fetchall()
    assert count == 50

    shutil.rmtree(tmp_path / FOLDER / day.isoformat())
    drop_stale(tmp_path)
    assert read_week(tmp_path, monday) is None
    assert not week.folder.exists()


@pytest.mark.slow
def test_a_week_of_another_format_is_added_up_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its days were counted by then is not what they are counted by now."""
    append(tmp_path, 1)
    [day] = files_by_day(tmp_path)
    later = [make_record(number).replace(b"2026-11-17", b"2026-11-24") for number in range(10)]
    AuditWriter(tmp_path, app_id="m365watch/lake/test").append(
        make_batch(2, [make_part(later, outputs=["lake"], blob=2)])
    )
    with monkeypatch.context() as before:
        for module in (keeping, notes):
            before.setattr(module, "FORMAT", FORMAT - 1)
        keep_rollups(tmp_path)
    old = read_week(tmp_path, monday_of(day))
    keep_rollups(tmp_path)
    new = read_week(tmp_path, monday_of(day))
    assert old is not None
    assert new is not None

    assert not old.is_of(days_kept(tmp_path, monday_of(day)))
    assert new.is_of(days_kept(tmp_path, monday_of(day)))


@pytest.mark.slow
def test_of_this_week_those_days_are_added_up_that_are_over(tmp_path: Path) -> None:
    """The last of them once it has rested: late records come one by one, and each would cost a sum."""
    monday = date(2026, 11, 16)
    days = [monday + timedelta(days=number) for number in range(4)]
    for number, day in enumerate(days):
        made = [make_record(one).replace(b"2026-11-17", f"{day}".encode()) for one in range(10)]
        AuditWriter(tmp_path, app_id="m365watch/lake/test").append(
            make_batch(number + 1, [make_part(made, outputs=["lake"], blob=number + 1)])
        )

    def added(now_s: float) -> frozenset[date]:
        keep_rollups(tmp_path, now_s=now_s)
        week = read_week(tmp_path, monday)
        assert week is not None
        return week.days

    assert added(0) == set(days[:2])
    changed_s = (tmp_path / FOLDER / f"{days[2]}" / NOTE).stat().st_mtime
    assert added(changed_s) == set(days[:2])
    assert added(changed_s + 2 * REST_S) == set(days[:3])
    assert added(changed_s) == set(days[:3])  # what is added up stays so


def test_a_note_is_read_again_once_it_is_another(tmp_path: Path) -> None:
    """It is remembered only as long as its file is as it was: whoever erases is not kept waiting."""
    append(tmp_path, 1)
    keep_rollups(tmp_path)
    [day] = files_by_day(tmp_path)
    first = read_day(tmp_path, day)
    assert read_day(tmp_path, day) is first

    append(tmp_path, 2)
    keep_rollups(tmp_path)
    second = read_day(tmp_path, day)
    assert first is not None
    assert second is not None
    assert len(second.sources) == len(first.sources) + 1

    (tmp_path / FOLDER / day.isoformat() / NOTE).unlink()
    assert read_day(tmp_path, day) is None


@pytest.mark.slow
def test_a_torn_note_counts_for_nothing(tmp_path: Path) -> None:
    """After a power cut the day is counted from its records."""
    append(tmp_path, 1)
    keep_rollups(tmp_path)
    [day] = files_by_day(tmp_path)
    (tmp_path / FOLDER / day.isoformat() / "note.json").write_bytes(b'{"format":')

    assert read_day(tmp_path, day) is None
    assert keep_rollups(tmp_path) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.name)
def test_a_rollup_has_the_columns_it_promises(kind: Rollup | Slice) -> None:
    """Each counts by tenant, so that it can be narrowed to a scope; a slice has columns of its whole."""
    assert "tenant_id" in kind.columns
    if isinstance(kind, Slice):
        [whole] = [one for one in KEPT if kind in one.slices]
        assert set(kind.columns) <= set(whole.columns)
        assert kind.grain_s >= whole.grain_s
