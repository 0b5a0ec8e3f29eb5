"""Rollups made: appends are added to a day, and it is counted again where one of its files has gone."""

from __future__ import annotations

import fcntl
import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import msgspec

from m365watch.common.atomic_files import sync_file
from m365watch.lake.integrity_errors import is_of_a_file
from m365watch.lake.rollups.facts import ACTIVITY, DAY_S, KEPT, Slice
from m365watch.lake.rollups.rollup_manifest import (
    FOLDER,
    FORMAT,
    NOTE,
    WEEKS,
    DayRollup,
    Note,
    Part,
    WeekNote,
    WeekRollup,
    days_kept,
    drop_stale,
    files_by_day,
    monday_of,
    read_day,
    read_week,
    tags_of,
)
from m365watch.lake.schema import AUDIT, AUDIT_TABLE

DAYS_PER_RUN_MAX = 400
MEMORY = "512MiB"
GROWTH = 4
"""What is new takes in a part before it that is less than so many times as large."""
_ENCODED = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 1"
"""Version 2 writes instants as differences: they are read in a third of the time, and take less room."""
_FEW = frozenset(part for rollup in KEPT for part in rollup.slices if part.only != "true")
_ALL_S = 1 << 40
"""Longer than anything: a week is not told apart by time."""


def keep_rollups(lake: Path, *, days_max: int = DAYS_PER_RUN_MAX, now_s: float = math.inf) -> int:
    """Bring the rollups up to the table, the newest days first; how many days were counted.

    At `now_s` those days are added up to weeks that have rested or are not the last; at the end of time, all.
    0 too where another process is at it. A file that goes meanwhile leaves its day for the next time.
    """
    if not (lake / AUDIT).is_dir():
        return 0
    with _held(lake) as is_ours:
        if not is_ours:
            return 0
        present = files_by_day(lake)
        drop_stale(lake, present)
        due = [day for day in sorted(present, reverse=True) if _is_due(lake, day, present[day])]
        done = 0
        for day in due[:days_max]:
            try:
                _make_day(lake, day, present[day])
            except duckdb.Error as failure:
                if not is_of_a_file(failure):
                    raise
                continue
            done += 1
        _keep_weeks(lake, present, now_s)
        # An erasure may have come in between: what it took out is not to stay here.
        drop_stale(lake)
        return done


def _is_due(lake: Path, day: date, files: frozenset[str]) -> bool:
    kept = read_day(lake, day)
    return kept is None or kept.sources != files


def _make_day(lake: Path, day: date, files: frozenset[str]) -> None:
    """Count the day's files; those that a rollup has counted already are not read again.

    What is new is a part of its own, and takes in the smaller parts before it: so a record is counted again
    only as often as the day grows by a quarter.
    """
    kept = read_day(lake, day)
    if kept is not None and not kept.sources <= files:
        kept = None
    folder = lake / FOLDER / day.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [] if kept is None else list(kept.note.parts)
    new = sorted(files - (frozenset() if kept is None else kept.sources))
    sources, size = list(new), sum((lake / AUDIT / path).stat().st_size for path in new)
    taken: list[Part] = []
    while parts and parts[-1].size_bytes < GROWTH * size:
        taken.append(parts.pop())
        sources += taken[-1].sources
        size += taken[-1].size_bytes
    made = Part(sorted(sources), _tag(sources), size)
    day_of_it = DayRollup(folder, Note(FORMAT, [made]))
    _count(day_of_it, taken, [str(lake / AUDIT / path) for path in new])
    made = msgspec.structs.replace(made, until_s=_until_s(day_of_it.file(ACTIVITY, made)))
    note = Note(FORMAT, [*parts, made])
    _put_note(folder, note, [part.tag for part in note.parts])


def _count(day: DayRollup, taken: list[Part], new: list[str]) -> None:
    """Write the files of the day's one part, from the parts taken in and from new files of the lake."""
    [part] = day.note.parts
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for rollup in KEPT:
            facts = rollup.over_records(AUDIT_TABLE.rows_in("$new"))
            given: dict[str, object] = {"new": new}
            if taken:
                facts += " UNION ALL " + rollup.over_rollups("read_parquet($kept)")
                given["kept"] = [day.file(rollup, one) for one in taken]
            whole = day.file(rollup, part)
            _write(connection, rollup.summed(facts), given, whole, rows=rollup.rows_per_group)
            made: dict[Slice, str] = {}
            for one in sorted(rollup.slices, key=lambda one: -len(one.columns)):
                path = made[one] = day.file(one, part)
                counts = rollup.summed(rollup.over_rollups("read_parquet($larger)", one.columns), one)
                larger = _least_of(one, made) or whole
                _write(connection, counts, {"larger": [larger]}, path, rows=one.rows_per_group)


def _until_s(path: str) -> int:
    """The second after the last of a file's facts."""
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
        [(last_s,)] = connection.execute(
            "SELECT max(last_s) FROM read_parquet($path)", {"path": path}
        ).fetchall()
    return 0 if last_s is None else int(last_s) + 1


def _least_of(wanted: Slice, made: Mapping[Slice, str]) -> str | None:
    """The smallest file of a slice that has all that one needs; none where only the rollup itself has it."""
    enough = [
        path
        for one, path in made.items()
        if one not in (wanted, *_FEW)
        and one.grain_s <= wanted.grain_s
        and set(wanted.columns) <= set(one.columns)
    ]
    return min(enough, key=lambda path: Path(path).stat().st_size, default=None)


def _put_note(folder: Path, note: Note | WeekNote, tags: Collection[str]) -> None:
    """Let the files with these tags count from now on, and remove the others."""
    fresh = folder / f"{NOTE}.new"
    fresh.write_bytes(msgspec.json.encode(note))
    sync_file(fresh)
    fresh.replace(folder / NOTE)
    for path in folder.glob("*.parquet"):
        if not path.stem.endswith(tuple(tags)):
            path.unlink(missing_ok=True)


def _keep_weeks(lake: Path, present: Collection[date], now_s: float) -> None:
    """Add up the days of every week that are over: most of what a day has, the next day has too.

    The day before the newest one has to have rested: of what is older than that little comes.
    """
    yesterday = max(present) - timedelta(days=1) if present else date.min
    for monday in sorted({monday_of(day) for day in present}):
        kept, week = days_kept(lake, monday), read_week(lake, monday)
        added = week.days if week is not None and week.is_of(kept) else frozenset[date]()
        over = {
            day
            for day, one in kept.items()
            if day < yesterday or (day == yesterday and one.has_rested(now_s))
        }
        if not over <= added:
            _make_week(lake, monday, {day: kept[day] for day in sorted(over | added)})


def _make_week(lake: Path, monday: date, days: Mapping[date, DayRollup]) -> None:
    tags = tags_of(days)
    week = WeekRollup(lake / FOLDER / WEEKS / monday.isoformat(), WeekNote(tags, _tag(tags.values())))
    week.folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for rollup in KEPT:
            for part in [one for one in rollup.slices if one.is_added_up]:
                facts = rollup.over_rollups("read_parquet($days)", part.columns)
                given: dict[str, object] = {
                    "days": [file for day in days.values() for file in day.files(part)]
                }
                counts = rollup.summed(
                    facts, replace(part, grain_s=_ALL_S) if part.grain_s == DAY_S else part
                )
                _write(connection, counts, given, week.file(part), rows=part.rows_per_group)
    _put_note(week.folder, week.note, [week.note.tag])


def _write(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    given: dict[str, object],
    path: str,
    *,
    rows: int,
) -> None:
    target = path.replace("'", "''")
    connection.execute(f"COPY ({sql}) TO '{target}' ({_ENCODED}, ROW_GROUP_SIZE {rows})", given)
    sync_file(Path(path))


def _tag(names: Iterable[str]) -> str:
    """Another for every set of names, and in every format: a week is the sum of days of its own alone."""
    told = "\n".join([str(FORMAT), *sorted(names)])
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


@contextmanager
def _held(lake: Path) -> Iterator[bool]:
    """Whether nobody else makes rollups of this lake; while entered, nobody else does."""
    (lake / FOLDER).mkdir(exist_ok=True)
    with (lake / f"{FOLDER}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
