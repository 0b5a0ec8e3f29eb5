"""Whether the rollups' files are there and can be read: pages that need one fail by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

from m365watch.lake.rollups.facts import KEPT, Rollup, Slice
from m365watch.lake.rollups.rollup_manifest import FOLDER, WEEKS, days_named, read_day, read_week

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
