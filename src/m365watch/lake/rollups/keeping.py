"""Rollups made: appends are added to a day, and it is counted again where one of its files has gone."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import duckdb
import msgspec

from m365watch.lake.rollups.facts import KEPT
from m365watch.lake.rollups.notes import (
    FOLDER,
    FORMAT,
    NOTE,
    DayRollup,
    Note,
    drop_stale,
    files_by_day,
    read_day,
)
from m365watch.lake.schema import AUDIT

DAYS_PER_RUN_MAX = 400
MEMORY = "512MiB"
ROWS_PER_GROUP = 16_384
"""Rows of a file that are read or passed over together: about a thirtieth of a large organisation's day."""


def keep_rollups(lake: Path, *, days_max: int = DAYS_PER_RUN_MAX) -> int:
    """Bring the rollups up to the table, the newest days first; how many days were counted.

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
            except duckdb.IOException:
                continue
            done += 1
        # An erasure may have come in between: what it took out is not to stay here.
        drop_stale(lake)
        return done


def _is_due(lake: Path, day: date, files: frozenset[str]) -> bool:
    kept = read_day(lake, day)
    return kept is None or set(kept.note.sources) != files


def _make_day(lake: Path, day: date, files: frozenset[str]) -> None:
    """Count the day's files; those that a rollup has counted already are not read again."""
    kept = read_day(lake, day)
    counted = set(kept.note.sources) if kept is not None else set()
    if not counted <= files:
        kept, counted = None, set()
    folder = lake / FOLDER / day.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    new = [str(lake / AUDIT / path) for path in sorted(files - counted)]
    note = Note(FORMAT, sorted(files), _tag(files))
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for rollup in KEPT:
            facts = rollup.over_records("read_parquet($new)")
            given: dict[str, object] = {"new": new}
            if kept is not None:
                facts += " UNION ALL " + rollup.over_rollups("read_parquet($kept)")
                given["kept"] = [kept.file(rollup)]
            made = DayRollup(folder, note).file(rollup)
            _write(connection, rollup.summed(facts), given, made)
            for part in rollup.slices:
                whole: dict[str, object] = {"whole": [made]}
                counts = rollup.summed(rollup.over_rollups("read_parquet($whole)"), part)
                _write(connection, counts, whole, DayRollup(folder, note).file(part))
    fresh = folder / f"{NOTE}.new"
    fresh.write_bytes(msgspec.json.encode(note))
    _sync(fresh)
    fresh.replace(folder / NOTE)
    for path in folder.glob("*.parquet"):
        if not path.stem.endswith(note.tag):
            path.unlink(missing_ok=True)


def _write(connection: duckdb.DuckDBPyConnection, sql: str, given: dict[str, object], path: str) -> None:
    rows = connection.sql(sql, params=given)
    rows.write_parquet(path, compression="zstd", row_group_size=ROWS_PER_GROUP)
    _sync(Path(path))


def _tag(files: frozenset[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(files)).encode(), digest_size=8).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


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
