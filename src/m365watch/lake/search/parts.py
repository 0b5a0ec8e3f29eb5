"""In which parts a lake is searched: the newest days first, each part small enough to be answered at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from m365watch.lake.delta.table_files import KnownFile

PART_RECORDS = 400_000
"""Records of a part whose texts are read; a day with more is a part by itself."""
PLAIN_FACTOR = 10
"""So many times more are in a part of which only typed columns are read."""
FIRST_FACTOR = 0.25
"""The first part is smaller: something is to be seen at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some days' files."""

    first: date
    last: date
    paths: tuple[str, ...]
    records: int


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open [start, end) in whole seconds since 1970."""

    start_s: int
    end_s: int


def plan_parts(files: Iterable[KnownFile], span: Span, *, records: int) -> list[Part]:
    """The parts that have the span's records, the newest first, each of about so many `records`."""
    first, last = _day(span.start_s), _day(span.end_s - 1)
    days: dict[date, list[KnownFile]] = {}
    for known in files:
        if first <= known.file.day <= last:
            days.setdefault(known.file.day, []).append(known)
    parts: list[Part] = []
    taken: list[KnownFile] = []
    for day in sorted(days, reverse=True):
        room = records * (1 if parts else FIRST_FACTOR)
        if taken and _records(taken) + _records(days[day]) > room:
            parts.append(_part(taken))
            taken = []
        taken += days[day]
    return [*parts, _part(taken)] if taken else parts


def _part(files: Sequence[KnownFile]) -> Part:
    days = [known.file.day for known in files]
    paths = tuple(sorted(known.file.path for known in files))
    return Part(min(days), max(days), paths, _records(files))


def _records(files: Sequence[KnownFile]) -> int:
    return sum(known.rows or 0 for known in files)


def _day(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()
