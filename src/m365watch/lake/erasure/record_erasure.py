"""One person's records go from the lake, and from every file that still holds them.

1. Each file with such rows is replaced by one without them, a commit for a few files of one day. Before it,
   the rows are marked (see `erased`), so that they are known if they are fetched again.
2. Files on disk that no version names any more are looked through as well: those that were merged, retained
   or erased before stay for older versions, and crashes leave some. What holds the person's rows is removed.
3. Everything is read once more: nothing may be found.

Step 1 is repeated for what arrives meanwhile, a bounded number of times. Only one chunk of rows is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.common.model import TenantId
from m365watch.common.timestamps import ms_of
from m365watch.lake.delta.table_files import (
    LakeFile,
    Progress,
    list_files,
    open_table,
    read_chunks,
    replace_files,
)
from m365watch.lake.delta.table_schema import shape_of
from m365watch.lake.delta.transaction_log import sync_found
from m365watch.lake.erasure.erasure_journal import Asked, ErasingNote, Step, open_note
from m365watch.lake.erasure.person_matching import (
    Person,
    person_marks,
    received,
    search_chunks,
    tables_of,
    tables_to_search,
)
from m365watch.lake.erasure.tombstones import ErasedRecords, MarkBook, drop_old_marks, read_erased
from m365watch.lake.maintenance.vacuum import HOUR_MS, SAFE_HOURS_MIN, list_unnamed
from m365watch.lake.rollups.rollup_manifest import drop_stale
from m365watch.lake.schema import ALERT_TABLE, ALERTS_PREFIX, AUDIT_TABLE, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.stored_records import by_tenant
from m365watch.lake.writer.parquet_files import MERGED, write_part
from m365watch.records.headers import headers_of

APP_ID = "m365watch/erase"
"""Under which a table keeps the number of its last commit of an erasure."""
PASSES_MAX = 5
"""How often what arrived meanwhile is looked through."""
FILES_PER_STEP_MAX = 16
BYTES_PER_STEP_MAX = 256 << 20
YOUNG_LOOKS_MAX = 20
YOUNG_LOOK_AGAIN_S = 0.5
"""A batch that is being written is committed within a moment."""
_OF_UPKEEP = ("merged-", "kept-", "erased-", ALERTS_PREFIX)
"""How the names of files begin that a batch is never written to."""


@dataclass
class Found:
    """What one look through files found."""

    records: dict[tuple[str, date], int] = field(default_factory=dict)
    """By Devo's table and day."""
    files: int = 0
    """Files that hold them."""
    files_read: int = 0
    rows_read: int = 0

    @property
    def total(self) -> int:
        """How many records."""
        return sum(self.records.values())


@dataclass
class Verified:
    """What was found once everything was done."""

    remaining: int = 0
    """Records that had been received when the erasure began and are still there; should be 0."""
    arrived: int = 0
    """Records of the person that were received after it began."""
    old_files: int = 0
    """Files of older versions that still hold records of the person; should be 0."""
    young_files: int = 0
    """Files that no commit names and that hold such records or cannot be read, but are too young to go."""
    files_read: int = 0
    rows_read: int = 0
    paths: set[Path] = field(default_factory=set)
    """The files that were read."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left that should have gone."""
        return not (self.remaining or self.old_files or self.young_files)


@dataclass
class Erased:
    """What was done."""

    started_at: datetime
    finished_at: datetime
    was_resumed: bool
    records: dict[tuple[str, date], int]
    files_replaced: int
    """Files of the table that held them."""
    files_rewritten: int
    """Of these, those that held other records too."""
    files_removed: int
    """Files that this process, the last where one was killed, removed from the disk: these and older ones."""
    verified: Verified


@dataclass(frozen=True, slots=True)
class _Hit:
    """A file with rows of the person."""

    file: LakeFile
    records: Mapping[tuple[str, date], int]
    is_whole: bool
    """Whether it holds nothing else."""


class Erasure:
    """The erasure of one person's records from one lake."""

    def __init__(self, lake: Path, asked: Asked, *, clock: Clock, progress: Progress) -> None:
        """Nothing is touched before `run`."""
        self._lake = lake
        self._asked = asked
        self._person = Person(asked.names, anywhere=asked.anywhere)
        self._clock = clock
        self._progress = progress

    def look(self) -> Found:
        """What there is to erase; nothing is changed, and nobody kept out.

        Raises: LakeUnusable; any of WRITE_FAILURES.
        """
        found = Found()
        for shape, table in self._tables():
            files = self._in_range(list_files(table), shape)
            for place, file in enumerate(files):
                self._progress(f"searching {shape.name}", place, len(files))
                self._count(self._store(shape).path(file.path), shape, file.day, found)
        return found

    def run(self) -> Erased:
        """Erase, and look whether it worked; the caller holds the lake.

        Raises: ErasureOpen; LakeUnusable; any of WRITE_FAILURES: to be repeated, nothing is lost.
        """
        note = open_note(self._lake, self._asked, now=self._clock.now())
        was_resumed = bool(note.steps)
        book = MarkBook(self._lake, began_at=note.opened.started_at)
        removed = 0
        for _ in range(PASSES_MAX):
            changed = 0
            for shape, table in self._tables():
                changed += self._rewrite(table, shape, note, book)
                removed += self._clear(shape, book)
            if not changed:
                break
        drop_stale(self._lake)
        return self._told(note, was_resumed=was_resumed, removed=removed)

    def look_again(self, erased: Erased) -> None:
        """Add to what was verified what has got into the lake since."""
        for shape, table in self._tables():
            self._verify_files(shape, table, erased.started_at, erased.verified)

    def close(self) -> None:
        """Forget the person: what was done is written down elsewhere."""
        drop_old_marks(self._lake, now=self._clock.now())
        open_note(self._lake, self._asked, now=self._clock.now()).close()

    def _tables(self) -> Iterator[tuple[TableShape, DeltaTable]]:
        """The tables to look through, opened anew."""
        for shape in tables_to_search(anywhere=self._asked.anywhere):
            table = open_table(self._lake, shape)
            if table is not None:
                yield shape, table

    def _store(self, shape: TableShape) -> Store:
        return table_store(self._lake, shape.name)

    def _in_range(self, files: Sequence[LakeFile], shape: TableShape) -> list[LakeFile]:
        # An alert lies on the day on which it began, and may have gone on.
        start, end = None if shape is ALERT_TABLE else self._asked.start, self._asked.end
        return sorted(
            file
            for file in files
            if (start is None or file.day >= start.date()) and (end is None or file.day <= end.date())
        )

    def _rewrite(self, table: DeltaTable, shape: TableShape, note: ErasingNote, book: MarkBook) -> int:
        """Replace every file with rows of the person; how many there were."""
        files = self._in_range(list_files(table), shape)
        done = changed = 0
        for _, members in groupby(files, key=lambda file: file.day):
            step: list[_Hit] = []
            for file in members:
                self._progress(f"searching {shape.name}", done, len(files))
                done += 1
                hit = self._hit(shape, file)
                if hit is None:
                    continue
                if step and sum(one.file.size_bytes for one in step) + file.size_bytes > BYTES_PER_STEP_MAX:
                    self._replace(table, shape, step, note, book)
                    step = []
                step.append(hit)
                changed += 1
                if len(step) == FILES_PER_STEP_MAX:
                    self._replace(table, shape, step, note, book)
                    step = []
            if step:
                self._replace(table, shape, step, note, book)
        return changed

    def _hit(self, shape: TableShape, file: LakeFile) -> _Hit | None:
        found = Found()
        self._count(self._store(shape).path(file.path), shape, file.day, found)
        return _Hit(file, found.records, is_whole=found.total == found.rows_read) if found.total else None

    def _replace(
        self,
        table: DeltaTable,
        shape: TableShape,
        step: Sequence[_Hit],
        note: ErasingNote,
        book: MarkBook,
    ) -> None:
        store = self._store(shape)
        for hit in step:
            self._mark(store.path(hit.file.path), shape, book)
        number = (table.transaction_version(APP_ID) or 0) + 1
        whole = shape_of(table, shape)
        new = [
            write_part(
                store,
                whole,
                day=hit.file.day,
                name=f"erased-{number:06}-{_digest(hit.file.path)}",
                chunks=self._kept(store.path(hit.file.path), shape, whole),
                compression=MERGED,
            )
            for hit in step
            if not hit.is_whole
        ]
        note.add(
            Step(
                table=shape.name,
                number=number,
                records=[(name, day, n) for hit in step for (name, day), n in hit.records.items()],
                old=[hit.file.path for hit in step],
                rewritten=len(new),
            )
        )
        replace_files(
            table,
            store,
            old=[hit.file for hit in step],
            new=new,
            changes_rows=True,
            clock=self._clock,
            numbers={APP_ID: number},
        )

    def _mark(
        self, path: Path, shape: TableShape, book: MarkBook, *, known: ErasedRecords | None = None
    ) -> None:
        """Mark the person's records in the file, durably, but for those that are `known` to be marked.

        Only records have one: what a collector said, or made of records, is not fetched from anywhere.
        """
        if shape is not AUDIT_TABLE:
            return
        maker = book.maker()
        for rows in search_chunks(path, shape, besides=("tenant_id", "raw_bytes")):
            new: list[bytes] = []
            for tenant, records in by_tenant(rows.filter(self._marks(rows, shape))):
                new += maker.marks(TenantId(tenant), headers_of(records), records)
            if known is not None:
                new = [mark for mark in new if not known.has(mark)]
            if new:
                book.add(new)

    def _kept(self, path: Path, shape: TableShape, whole: TableShape) -> Iterator[pa.Table]:
        for rows in read_chunks(path, whole):
            kept = rows.filter(pc.invert(self._marks(rows, shape)))
            if kept.num_rows:
                yield kept

    def _marks(self, rows: pa.Table, shape: TableShape) -> pa.BooleanArray:
        """Which rows are to go."""
        return person_marks(rows, shape, self._person, self._asked)

    def _count(
        self, path: Path, shape: TableShape, day: date, found: Found, *, until: datetime | None = None
    ) -> None:
        """Add the person's rows of a file to `found`; with `until`, only those received by then."""
        before = found.total
        for rows in search_chunks(path, shape):
            found.rows_read += rows.num_rows
            marks = self._marks(rows, shape)
            if until is not None:
                there = received(rows, shape)
                marks = pc.and_(marks, pc.less_equal(there, pa.scalar(until, there.type)))
            for table, count in tables_of(rows, marks, shape):
                found.records[table, day] = found.records.get((table, day), 0) + count
        found.files_read += 1
        found.files += found.total > before

    def _clear(self, shape: TableShape, book: MarkBook) -> int:
        """Remove the files that no version needs and that hold the person's rows; how many there were."""
        store = self._store(shape)
        removed, known = 0, None
        for name, is_removable in self._strays(shape):
            holds = is_removable and self._holds(store.path(name), shape)
            if holds:
                # Retention may have taken them out of the table before, and then they are not marked.
                known = known or read_erased(self._lake)
                self._mark(store.path(name), shape, book, known=known)
            if holds is not False:
                store.delete(name)
                store.sync_folder(name.rpartition("/")[0])
                removed += 1
        return removed

    def _strays(self, shape: TableShape) -> Iterator[tuple[str, bool]]:
        """The files on disk that the table's newest version does not name, and whether they may go.

        They may if the table says that they were replaced, if upkeep left them, which is kept out just
        now, or if they are so old that they cannot be a batch which is being written.
        """
        store = self._store(shape)
        table = store.open()
        unnamed = list_unnamed(table, store)
        # Of a process that was killed: without its commit the files that it replaced would be needed again.
        sync_found(store, table.version())
        safe_ms = ms_of(self._clock.now()) - SAFE_HOURS_MIN * HOUR_MS
        for place, one in enumerate(unnamed):
            self._progress(f"searching older files of {shape.name}", place, len(unnamed))
            may_go = one.replaced_at_ms is not None or Path(one.file.name).name.startswith(_OF_UPKEEP)
            yield one.file.name, may_go or one.file.modified_ms <= safe_ms

    def _holds(self, path: Path, shape: TableShape) -> bool | None:
        """Whether the file holds rows of the person; None where it cannot be read."""
        found = Found()
        try:
            self._count(path, shape, date.min, found)
        except FileNotFoundError:
            return False
        except (OSError, pa.ArrowException):
            return None
        return found.total > 0

    def _told(self, note: ErasingNote, *, was_resumed: bool, removed: int) -> Erased:
        records: dict[tuple[str, date], int] = {}
        done = [step for step in note.steps.values() if step.number <= self._last_number(step.table)]
        for step in done:
            for table, day, count in step.records:
                records[table, day] = records.get((table, day), 0) + count
        return Erased(
            started_at=note.opened.started_at,
            verified=self._verify(note.opened.started_at),
            finished_at=self._clock.now(),
            was_resumed=was_resumed,
            records=records,
            files_replaced=sum(len(step.old) for step in done),
            files_rewritten=sum(step.rewritten for step in done),
            files_removed=removed,
        )

    def _last_number(self, table: str) -> int:
        return table_store(self._lake, table).open().transaction_version(APP_ID) or 0

    def _verify(self, started_at: datetime) -> Verified:
        """Read everything in range once more, and what older versions have left on disk."""
        verified = Verified()
        for shape, table in self._tables():
            self._verify_files(shape, table, started_at, verified)
            old, young = self._count_strays(shape)
            verified.old_files += old
            verified.young_files += young
        return verified

    def _verify_files(
        self, shape: TableShape, table: DeltaTable, started_at: datetime, verified: Verified
    ) -> None:
        """Read the files that `verified` does not know yet."""
        files = [
            (self._store(shape).path(one.path), one.day) for one in self._in_range(list_files(table), shape)
        ]
        new = [one for one in files if one[0] not in verified.paths]
        everything, received = Found(), Found()
        for place, (path, day) in enumerate(new):
            self._progress(f"verifying {shape.name}", place, len(new))
            before = everything.total
            self._count(path, shape, day, everything)
            if everything.total > before:
                self._count(path, shape, day, received, until=started_at)
        verified.paths.update(path for path, _ in new)
        verified.remaining += received.total
        verified.arrived += everything.total - received.total
        verified.files_read += everything.files_read
        verified.rows_read += everything.rows_read

    def _count_strays(self, shape: TableShape) -> tuple[int, int]:
        """How many old and how many young files hold rows of the person, once what was under way is in."""
        for _ in range(YOUNG_LOOKS_MAX):
            strays = ((self._store(shape).path(name), may_go) for name, may_go in self._strays(shape))
            kept = [may_go for path, may_go in strays if self._holds(path, shape) is not False]
            if all(kept):
                break
            asyncio.run(self._clock.sleep(YOUNG_LOOK_AGAIN_S))
        return sum(kept), len(kept) - sum(kept)


def _digest(path: str) -> str:
    return hashlib.blake2s(path.encode(), digest_size=16).hexdigest()
