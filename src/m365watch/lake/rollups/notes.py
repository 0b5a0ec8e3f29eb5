"""What a rollup on disk says of itself: which files of the lake it counts, and so how far it counts.

The lake's files never change, they only come and go. So a day's rollup is a function of the set of its
files, and its note says of which set. Whoever reads compares that set with the table as it is:

* the same: the rollup serves;
* the table has more (appends): the rollup serves, and the new files are counted beside it;
* the table lacks one (merging, retention, erasure): the rollup does not count, until it is made anew.

A page is therefore never behind the lake, however late or seldom rollups are made.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from datetime import date
from pathlib import Path

import msgspec

from m365watch.lake.files import list_files, open_table
from m365watch.lake.rollups.facts import Rollup, Slice
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.values import dataclass

FOLDER = "rollups"
"""Below the lake's directory."""
FORMAT = 5
"""Changes with the columns: rollups of another format do not count."""
NOTE = "note.json"


class Note(msgspec.Struct, frozen=True):
    """Which files of the lake a day's rollup counts, and in which files it is."""

    format: int
    sources: list[str]
    """Paths below the table's directory, sorted."""
    tag: str
    """A part of the names of its own files; another set of sources has another."""


@dataclass(frozen=True, slots=True)
class DayRollup:
    """One day's rollup on disk."""

    folder: Path
    note: Note

    def file(self, rollup: Rollup | Slice) -> str:
        """Where the counts of that kind are."""
        return str(self.folder / f"{rollup.name}-{self.note.tag}.parquet")


def read_day(lake: Path, day: date) -> DayRollup | None:
    """The day's rollup; None where there is none that this version knows how to read."""
    folder = lake / FOLDER / day.isoformat()
    try:
        note = msgspec.json.decode((folder / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return None
    return DayRollup(folder, note) if note.format == FORMAT else None


def files_by_day(lake: Path) -> dict[date, frozenset[str]]:
    """The files of `audit` as they are now, by day; none where there is no table yet."""
    table = open_table(lake, AUDIT_TABLE)
    days: dict[date, set[str]] = {}
    for file in list_files(table) if table is not None else ():
        days.setdefault(file.day, set()).add(file.path)
    return {day: frozenset(paths) for day, paths in days.items()}


def drop_stale(lake: Path, present: Mapping[date, Collection[str]] | None = None) -> int:
    """Remove the rollups that count files which the table no longer has; how many days were removed.

    What was erased from the lake is erased from here with it.
    """
    if not (lake / FOLDER).is_dir():
        return 0
    present = files_by_day(lake) if present is None else present
    removed = 0
    for folder in [one for one in (lake / FOLDER).iterdir() if one.is_dir()]:
        day = _day_of(folder)
        kept = None if day is None else read_day(lake, day)
        if day is None or kept is None or not set(kept.note.sources) <= set(present.get(day, ())):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _day_of(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name)
    except ValueError:
        return None
