"""What a rollup on disk says of itself: which files of the lake it counts, and so how far it counts.

The lake's files never change, they only come and go. So a day's rollup is a function of the set of its
files, and its note says of which set. Whoever reads compares that set with the table as it is:

* the same: the rollup serves;
* the table has more (appends): the rollup serves, and the new files are counted beside it;
* the table lacks one (merging, retention, erasure): the rollup does not count, until it is made anew.

A page is therefore never behind the lake, however late or seldom rollups are made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import msgspec

from m365watch.lake.delta.table_files import list_files, open_table
from m365watch.lake.rollups.facts import KEPT, Rollup, Slice
from m365watch.lake.schema import AUDIT_TABLE

Kept = TypeVar("Kept", "DayRollup", "WeekRollup")
FOLDER = "rollups"
"""Below the lake's directory."""
FORMAT = 16
"""Changes with the columns and what they are made of: rollups of another format do not count."""
NOTE = "note.json"
REST_S = 3_600
"""A day that has been as it is for so long is added to its week: late records come one after the other."""
WEEKS = "weeks"
"""Below `FOLDER`: a folder for each week, named by its Monday."""
REMEMBERED_MAX = 4_096
"""Notes that are not read again while their files are as they were: each query of a page asks for all."""


class Part(msgspec.Struct, frozen=True):
    """Some of a day's files of the lake, counted together."""

    sources: list[str]
    """Paths below the table's directory, sorted."""
    tag: str
    """A part of the names of its own files; another set of sources has another."""
    size_bytes: int
    """What the sources have together."""
    until_s: int = 0
    """The second after the last of its records; 0 where nobody has looked."""


class Note(msgspec.Struct, frozen=True):
    """Which files of the lake a day's rollup counts, and in which files it is."""

    format: int
    parts: list[Part]
    """The largest and oldest first."""


@dataclass(frozen=True)
class DayRollup:
    """One day's rollup on disk."""

    folder: Path
    note: Note

    @cached_property
    def sources(self) -> frozenset[str]:
        """All files of the lake that it counts."""
        return frozenset(path for part in self.note.parts for path in part.sources)

    @cached_property
    def tag(self) -> str:
        """Another for every set of sources."""
        return "-".join(part.tag for part in self.note.parts)

    @property
    def until_s(self) -> int:
        """The second after the last of its records."""
        return max((part.until_s for part in self.note.parts), default=0)

    def has_rested(self, now_s: float) -> bool:
        """Whether the day has been as it is for a while."""
        try:
            return (self.folder / NOTE).stat().st_mtime + REST_S <= now_s
        except OSError:
            return False

    def files(self, kind: Rollup | Slice) -> list[str]:
        """Where the counts of that kind are."""
        return [self.file(kind, part) for part in self.note.parts]

    def file(self, kind: Rollup | Slice, part: Part) -> str:
        """Where those of one part are."""
        return f"{self.folder}/{kind.name}-{part.tag}.parquet"


class WeekNote(msgspec.Struct, frozen=True):
    """Of which days' rollups those of a week are the sum."""

    tags: dict[str, str]
    """The day's own tag by the day; without records there is none, nor perhaps where it still changes."""
    tag: str


@dataclass(frozen=True)
class WeekRollup:
    """One week's slices on disk, of those that count by days."""

    folder: Path
    note: WeekNote

    def file(self, part: Slice) -> str:
        """Where the counts of that kind are."""
        return f"{self.folder}/{part.name}-{self.note.tag}.parquet"

    @cached_property
    def days(self) -> frozenset[date]:
        """Those that it is the sum of."""
        return frozenset(map(date.fromisoformat, self.note.tags))

    def is_of(self, days: Mapping[date, DayRollup]) -> bool:
        """Whether it is the sum of these days, or of some of them as they are."""
        return bool(self.note.tags) and self.note.tags.items() <= tags_of(days).items()


def tags_of(days: Mapping[date, DayRollup]) -> dict[str, str]:
    """What a week's note says of these days."""
    return {day.isoformat(): rolled.tag for day, rolled in sorted(days.items())}


def monday_of(day: date) -> date:
    """The first day of its week."""
    return day - timedelta(days=day.weekday())


def read_week(lake: Path, monday: date) -> WeekRollup | None:
    """The week's rollup; None where there is none."""
    return _read_note(f"{lake}/{FOLDER}/{WEEKS}/{monday.isoformat()}", _week_as_it_is)


def days_kept(lake: Path, monday: date) -> dict[date, DayRollup]:
    """The rollups of the days of a week."""
    days = (monday + timedelta(days=number) for number in range(7))
    return {day: kept for day in days if (kept := read_day(lake, day)) is not None}


def read_day(lake: Path, day: date) -> DayRollup | None:
    """The day's rollup; None where there is none that this version knows how to read."""
    rolled = _read_note(f"{lake}/{FOLDER}/{day.isoformat()}", _day_as_it_is)
    return rolled if rolled is not None and rolled.note.format == FORMAT else None


_AsItIs = tuple[int, int, int]
"""What changes with a file that is put in another's place: its number, its time and its size."""


def _read_note(folder: str, read: Callable[[str, _AsItIs], Kept]) -> Kept | None:
    try:
        found = os.stat(f"{folder}/{NOTE}")  # noqa: PTH116 - a path is made in more time than it is looked at
        return read(folder, (found.st_ino, found.st_mtime_ns, found.st_size))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


@lru_cache(REMEMBERED_MAX)
def _day_as_it_is(folder: str, _: _AsItIs) -> DayRollup:
    path = Path(folder)
    return DayRollup(path, msgspec.json.decode((path / NOTE).read_bytes(), type=Note))


@lru_cache(REMEMBERED_MAX)
def _week_as_it_is(folder: str, _: _AsItIs) -> WeekRollup:
    path = Path(folder)
    return WeekRollup(path, msgspec.json.decode((path / NOTE).read_bytes(), type=WeekNote))


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
    for folder in _folders(lake / FOLDER):
        day = _day_of(folder)
        kept = None if day is None else read_day(lake, day)
        if day is None or kept is None or not kept.sources <= set(present.get(day, ())):
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    for folder in _folders(lake / FOLDER / WEEKS):
        monday = _day_of(folder)
        week = None if monday is None else read_week(lake, monday)
        if monday is None or week is None or not week.is_of(days_kept(lake, monday)):
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def days_named(place: Path) -> list[date]:
    """The days that the folders in `place` are named by, in order."""
    return sorted(day for folder in _folders(place) if (day := _day_of(folder)) is not None)


def _folders(place: Path) -> list[Path]:
    return [one for one in place.iterdir() if one.is_dir() and one.name != WEEKS] if place.is_dir() else []


def _day_of(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name)
    except ValueError:
        return None


_TRIES_MAX = 3
Problem = Callable[[Path], str]
"""What is wrong with a file; empty where nothing is."""


def rollup_problems(lake: Path, problem_of: Problem) -> Iterator[str]:
    """A line for each folder of rollups of which a file cannot be read, and what to do.

    Of those that count: what a note does not name any more is nobody's, and what is being made has no note.
    """
    places = [(lake / FOLDER, _files_of_day), (lake / FOLDER / WEEKS, _files_of_week)]
    for place, files_of in places:
        for day in days_named(place):
            if problem := _problem_in(lake, day, files_of, problem_of):
                folder = place.relative_to(lake) / day.isoformat()
                yield f"{folder}/{problem}: remove the folder {folder}, and it is counted anew"


def _problem_in(
    lake: Path, day: date, files_of: Callable[[Path, date], list[Path]], problem_of: Problem
) -> str:
    """What is wrong with the first of its files; a folder that somebody is writing is looked at again."""
    for _ in range(_TRIES_MAX):
        files = files_of(lake, day)
        found = next((f"{path.name}: {said}" for path in files if (said := problem_of(path))), "")
        if not found or files == files_of(lake, day):
            return found
    return ""


def _files_of_day(lake: Path, day: date) -> list[Path]:
    kept = read_day(lake, day)
    kinds: list[Rollup | Slice] = [*KEPT]
    kinds += [one for rollup in KEPT for one in rollup.slices]
    return [] if kept is None else [Path(file) for kind in kinds for file in kept.files(kind)]


def _files_of_week(lake: Path, monday: date) -> list[Path]:
    kept = read_week(lake, monday)
    kinds = [kind for rollup in KEPT for kind in rollup.slices if kind.is_added_up]
    return [] if kept is None else [Path(kept.file(kind)) for kind in kinds]
