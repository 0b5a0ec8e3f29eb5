"""Records that are older, or more, than the settings say go from the lake.

What goes is decided for each day (the partition) and each of Devo's tables, purely. A file of which all
rows go is only taken out of the table; one of which some rows go is written anew without them. Each step is
one commit, so that what is interrupted is done as far as it went, and the rest by the next.

Nothing here tells the collector anything: the numbers of its batches stay in the lake, and the identities of
the records in the ledger, so that nothing that went is delivered again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from pathlib import Path

import msgspec
import pyarrow as pa
from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.config.models.retention import Retention, TableRetention
from m365watch.lake.delta.table_files import (
    KnownFile,
    LakeFile,
    Progress,
    count_tables,
    list_known_files,
    open_table,
    read_chunks,
    replace_files,
)
from m365watch.lake.delta.table_schema import shape_of
from m365watch.lake.schema import AUDIT, TABLES, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.views import APART
from m365watch.lake.writer.parquet_files import MERGED, Part, write_part

STEPS_PER_RUN_MAX = 32
"""Commits of one upkeep of a running collector; the next goes on."""
RETENTION_EVERY_S = 3600.0
"""How often a running collector looks what has to go."""
REMOVALS_PER_STEP_MAX = 512
REWRITES_PER_STEP_MAX = 16
REWRITE_BYTES_MAX = 256 << 20
NOTE = "retained.json"
ALL = ""
"""Stands for all tables of a day where nobody has to know which."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """Which tables' rows of a day go."""

    others: bool = False
    """Whether those of tables that are not named go."""
    named: tuple[tuple[str, bool], ...] = ()

    def takes(self, table: str) -> bool:
        """Whether the rows of `table` go."""
        return dict(self.named).get(table, self.others)

    @property
    def takes_all(self) -> bool:
        """Whether every row goes, whatever its table."""
        return self.others and all(goes for _, goes in self.named)

    @property
    def takes_some(self) -> bool:
        """Whether any row goes."""
        return self.others or any(goes for _, goes in self.named)

    def joined(self, other: Doomed) -> Doomed:
        """What goes by either of the two."""
        names = sorted({name for name, _ in (*self.named, *other.named)})
        return Doomed(
            self.others or other.others,
            tuple((name, self.takes(name) or other.takes(name)) for name in names),
        )


@dataclass(frozen=True, slots=True)
class Share:
    """What one table's records of one day take on disk."""

    day: date
    table: str
    size_bytes: float


@dataclass
class Retained:
    """What went, or would go."""

    records: dict[tuple[str, date], int] = field(default_factory=dict)
    """By Devo's table and day."""
    files_removed: int = 0
    files_rewritten: int = 0
    bytes_removed: int = 0
    """By how much what the table names has become smaller; a dry run knows only of whole files."""
    complete: bool = True
    """Whether nothing is left to be done."""
    steps: int = 0


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of one file."""

    file: LakeFile
    gone: Mapping[str, int]
    """The rows that go, by table."""
    is_whole: bool
    """Whether all of them do."""


class _Note(msgspec.Struct):
    """What the last run left beside the table."""

    at_s: float = 0.0
    """When everything had been looked through, in seconds since 1970."""
    seen: dict[str, str] = {}
    """By table and day, a digest of the rules and files of which nothing more has to go."""


def plan_by_age(days: Iterable[date], retention: Retention, *, today: date) -> dict[date, Doomed]:
    """What goes of these days because it is too old."""
    plan = {}
    for day in set(days):
        age_days = (today - day).days
        doomed = Doomed(
            _is_too_old(age_days, retention.days),
            tuple(
                (name, _is_too_old(age_days, own.days or retention.days))
                for name, own in retention.tables.items()
            ),
        )
        if doomed.takes_some:
            plan[day] = doomed
    return plan


def _is_too_old(age_days: int, days_max: int | None) -> bool:
    return days_max is not None and age_days > days_max


def plan_by_size(shares: Sequence[Share], retention: Retention, *, today: date) -> dict[date, Doomed]:
    """What goes beyond that because it is too much: the oldest days first, and nothing of today."""
    plan: dict[date, Doomed] = {}
    for name, own in retention.tables.items():
        mine = [share for share in shares if share.table == name]
        for day in _oldest_beyond(mine, own.size_bytes, today):
            plan[day] = plan.get(day, Doomed()).joined(Doomed(named=((name, True),)))
    left = [share for share in shares if not plan.get(share.day, Doomed()).takes(share.table)]
    for day in _oldest_beyond(left, retention.size_bytes, today):
        plan[day] = Doomed(others=True)
    return plan


def _oldest_beyond(shares: Iterable[Share], size_bytes_max: int | None, today: date) -> list[date]:
    """The days, oldest first, without which the rest fits."""
    if size_bytes_max is None:
        return []
    sizes: dict[date, float] = {}
    for share in shares:
        sizes[share.day] = sizes.get(share.day, 0.0) + share.size_bytes
    over = sum(sizes.values()) - size_bytes_max
    gone = []
    for day in sorted(day for day in sizes if day < today):
        if over <= 0:
            break
        gone.append(day)
        over -= sizes[day]
    return gone


def is_retention_due(lake: Path, retention: Retention, *, now: datetime) -> bool:
    """Whether a running collector has to look again; reads one small file."""
    return retention.is_set and now.timestamp() - _read_note(lake).at_s >= RETENTION_EVERY_S


def retain(
    lake: Path,
    retention: Retention,
    *,
    clock: Clock,
    progress: Progress,
    steps_max: int | None = None,
    dry_run: bool = False,
) -> Retained:
    """Take out of every table what has to go, in at most `steps_max` commits; the caller holds the lake.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    found = Retained()
    note = _read_note(lake)
    for shape in TABLES:
        table = open_table(lake, shape)
        own = _of_table(retention, shape)
        if table is not None and own.is_set:
            one = _Retention(table, shape, table_store(lake, shape.name), clock=clock, note=note, found=found)
            one.run(own, progress=progress, steps_max=steps_max, dry_run=dry_run)
    if not dry_run:
        at_s = clock.now().timestamp() if found.complete else note.at_s
        (lake / NOTE).write_bytes(msgspec.json.encode(_Note(at_s, note.seen)))
    return found


def _of_table(retention: Retention, shape: TableShape) -> Retention:
    """What holds for one Delta table: some are one of Devo's tables each, `audit` has all the others."""
    if shape.name != AUDIT:
        own = retention.tables.get(shape.devo_table, TableRetention())
        return Retention.model_construct(days=own.days or retention.days, megabytes=own.megabytes)
    others = {name: own for name, own in retention.tables.items() if name not in APART}
    return retention.model_copy(update={"tables": others})


class _Retention:
    """One look through one table."""

    def __init__(
        self,
        table: DeltaTable,
        shape: TableShape,
        store: Store,
        *,
        clock: Clock,
        note: _Note,
        found: Retained,
    ) -> None:
        self._table = table
        self._shape = shape
        self._store = store
        self._clock = clock
        self._note = note
        self._found = found

    def run(self, retention: Retention, *, progress: Progress, steps_max: int | None, dry_run: bool) -> None:
        """Do what has to be done, day by day, the oldest first."""
        plan = self._plan(retention)
        days = {day: [known for known in members if day in plan] for day, members in self._by_day()}
        for place, day in enumerate(sorted(plan)):
            progress(f"looking through {self._shape.name}", place, len(plan))
            known, doomed = days[day], plan[day]
            if self._digest(doomed, (one.file for one in known)) == self._note.seen.get(self._key(day)):
                continue
            for step in _steps(list(self._fates(known, doomed))):
                if steps_max is not None and self._found.steps >= steps_max:
                    self._found.complete = False
                    return
                if dry_run:
                    self._count(step, new=[])
                else:
                    self._do(step, doomed)
            if not dry_run:
                self._remember(day, doomed)
        self._forget_days(plan)

    def _by_day(self) -> Iterator[tuple[date, list[KnownFile]]]:
        known = sorted(list_known_files(self._table), key=lambda one: one.file)
        return ((day, list(members)) for day, members in groupby(known, key=lambda one: one.file.day))

    def _plan(self, retention: Retention) -> dict[date, Doomed]:
        known = list_known_files(self._table)
        today = self._clock.now().date()
        plan = plan_by_age((one.file.day for one in known), retention, today=today)
        if retention.megabytes is None and all(own.megabytes is None for own in retention.tables.values()):
            return plan
        by_table = any(own.megabytes for own in retention.tables.values())
        shares = [
            share for one in known for share in self._shares(one, plan.get(one.file.day), by_table=by_table)
        ]
        for day, doomed in plan_by_size(shares, retention, today=today).items():
            plan[day] = plan.get(day, Doomed()).joined(doomed)
        return plan

    def _shares(self, known: KnownFile, doomed: Doomed | None, *, by_table: bool) -> Iterator[Share]:
        """What of the file stays once the old has gone; by table only where that has to be known."""
        file = known.file
        if doomed is not None and doomed.takes_all:
            return
        if doomed is None and not by_table:
            yield Share(file.day, ALL, file.size_bytes)
            return
        counts = count_tables(self._store, known, self._shape)
        rows = sum(counts.values())
        for table, count in counts.items():
            if doomed is None or not doomed.takes(table):
                yield Share(file.day, table, file.size_bytes * count / rows)

    def _fates(self, known: Iterable[KnownFile], doomed: Doomed) -> Iterator[_Fate]:
        for one in known:
            counts = count_tables(self._store, one, self._shape)
            gone = {table: count for table, count in counts.items() if doomed.takes(table)}
            if gone or doomed.takes_all:
                yield _Fate(one.file, gone, is_whole=len(gone) == len(counts))

    def _do(self, step: Sequence[_Fate], doomed: Doomed) -> None:
        shape = shape_of(self._table, self._shape)
        new = [
            write_part(
                self._store,
                shape,
                day=fate.file.day,
                name=f"kept-{_short_digest([fate.file.path, repr(doomed)])}",
                chunks=_kept_rows(self._store.path(fate.file.path), shape, doomed),
                compression=MERGED,
            )
            for fate in step
            if not fate.is_whole
        ]
        old = [fate.file for fate in step]
        self._found.steps += 1
        if replace_files(self._table, self._store, old=old, new=new, changes_rows=True, clock=self._clock):
            self._count(step, new=new)
        else:
            self._found.complete = False

    def _count(self, step: Sequence[_Fate], *, new: Sequence[Part]) -> None:
        found = self._found
        for fate in step:
            for table, count in fate.gone.items():
                found.records[table, fate.file.day] = found.records.get((table, fate.file.day), 0) + count
            found.files_removed += fate.is_whole
            found.files_rewritten += not fate.is_whole
            if fate.is_whole or new:
                found.bytes_removed += fate.file.size_bytes
        found.bytes_removed -= sum(part.size_bytes for part in new)

    def _remember(self, day: date, doomed: Doomed) -> None:
        """Note that nothing more has to go of these files, so that the next look need not open them."""
        files = [known.file for known in list_known_files(self._table) if known.file.day == day]
        if files and self._found.complete:
            self._note.seen[self._key(day)] = self._digest(doomed, files)

    def _forget_days(self, plan: Mapping[date, Doomed]) -> None:
        present = {self._key(day) for day, _ in self._by_day() if day in plan}
        mine = [key for key in self._note.seen if key.startswith(f"{self._shape.name}/")]
        for key in set(mine) - present:
            del self._note.seen[key]

    def _key(self, day: date) -> str:
        return f"{self._shape.name}/{day.isoformat()}"

    @staticmethod
    def _digest(doomed: Doomed, files: Iterable[LakeFile]) -> str:
        return _short_digest([repr(doomed), *sorted(file.path for file in files)])


def _steps(fates: list[_Fate]) -> Iterator[list[_Fate]]:
    """The files in portions that are one commit each: whole ones first, which cost nothing."""
    whole = [fate for fate in fates if fate.is_whole]
    for start in range(0, len(whole), REMOVALS_PER_STEP_MAX):
        yield whole[start : start + REMOVALS_PER_STEP_MAX]
    step: list[_Fate] = []
    for fate in fates:
        if fate.is_whole:
            continue
        full = sum(one.file.size_bytes for one in step) + fate.file.size_bytes > REWRITE_BYTES_MAX
        if step and (full or len(step) == REWRITES_PER_STEP_MAX):
            yield step
            step = []
        step.append(fate)
    if step:
        yield step


def _kept_rows(path: Path, shape: TableShape, doomed: Doomed) -> Iterator[pa.Table]:
    """The rows that stay."""
    # A collector that only asks whether anything is due does without: it takes a while to load.
    import pyarrow.compute as pc

    for rows in read_chunks(path, shape):
        tables = pc.coalesce(rows["devo_table"], ALL)
        gone = [table for table in pc.unique(tables).to_pylist() if doomed.takes(table)]
        kept = rows.filter(pc.invert(pc.is_in(tables, pa.array(gone, pa.string()))))
        if kept.num_rows:
            yield kept


def _short_digest(texts: Sequence[str]) -> str:
    return hashlib.blake2s("\n".join(texts).encode(), digest_size=16).hexdigest()


def _read_note(lake: Path) -> _Note:
    try:
        return msgspec.json.decode((lake / NOTE).read_bytes(), type=_Note)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Note()
