"""The writers of the lake. Of table `audit` there is one: each batch is one commit, and no batch is two.

A commit carries two of Delta's app transactions: the number of its batch and that of the
batch before it. The library does not refuse a repeat; the writer looks first.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, wait
from datetime import date
from itertools import chain
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from m365watch.common.model import Batch, BatchPart
from m365watch.lake.delta.commit import COMMITS_OVERTAKEN_MAX, OVERTAKEN, put_commit
from m365watch.lake.delta.log_appender import LastCommit
from m365watch.lake.delta.missing_commits import BEFORE, checkpoint_if_due, require_commits
from m365watch.lake.delta.table_schema import new_table_lines
from m365watch.lake.delta.transaction_log import (
    LOG,
    is_checkpoint_due,
    set_torn_aside,
    sync_commits,
    sync_found,
)
from m365watch.lake.schema import AUDIT_TABLE, PARTITION, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.writer.arrow_compute import keep_equal, unique
from m365watch.lake.writer.parquet_files import FRESH, Part, write_unsynced
from m365watch.lake.writer.record_columns import tabulate

COMMITTED_MEANWHILE = "another process has committed under the same name meanwhile"
DAYS_CUT_MAX = 8
"""Days of one part for which it is cut; one with more says something else than days."""
DAYS_KNOWN_MAX = 1_000
"""Days of which is remembered that their folders are on the disk."""
WRITE_FAILURES = (OSError, DeltaError, pa.ArrowException)
"""What a full or failing disk comes out as, by way of either library."""
_SYSTEM_ERROR = re.compile(r"(?:\[[Ee]rrno |os error )(\d+)")
"""How Python and the lake's libraries mark a number of the operating system's."""


def system_number_of(failure: BaseException) -> int | None:
    """The operating system's number of the failure, whichever library tells it; None where there is none."""
    if isinstance(failure, OSError) and failure.errno is not None:
        return failure.errno
    named = _SYSTEM_ERROR.search(str(failure))
    return None if named is None else int(named[1])


def plain_reason(failure: BaseException) -> str:
    """Why, in one line; the system's own words where there are some: No space left on device."""
    named = _SYSTEM_ERROR.search(str(failure))
    if named is not None:
        return os.strerror(int(named[1]))
    told = (str(failure).splitlines() or [type(failure).__name__])[0]
    return "".join(sign if sign.isprintable() else " " for sign in told)


class OpenTable:
    """A table of a lake, open for appending by one process."""

    def __init__(
        self, lake: Path, shape: TableShape, *, durable_later: bool = False, is_acknowledged: bool = False
    ) -> None:
        """Open the table below the directory `lake`; make it if it was never there, with all columns.

        All that is there is durable at once, for who comes after a process that was killed believes what it
        finds. With `durable_later` a table without rows is with its first commit, which spares a start some
        waits for it. `is_acknowledged` says that there were rows.

        Raises: ForeignTable; any of WRITE_FAILURES, CommitsLost among them.
        """
        self.shape = shape
        self.store = table_store(lake, shape.name)
        require_commits(self.store, is_acknowledged=is_acknowledged)
        set_torn_aside(self.store)
        self._last = LastCommit(_open_table(self.store, shape), self.store, shape)
        # Of a process that was killed, the table that it made need not be on the disk, nor its only commit.
        self._is_young = self.version <= 1
        self._synced_version = -1
        if not durable_later or self.version > 0:
            self._bring_to_disk()
        if self._last.add_columns(synced_version=self._synced_version):
            self._bring_to_disk()

    @property
    def version(self) -> int:
        """The number of the last commit that has been seen."""
        return self._last.version

    def number_of(self, app_id: str) -> int:
        """The number under `app_id` in the last commit that has one; 0 for none."""
        return self._last.number_of(app_id)

    def commit(self, parts: Iterable[Part], *, numbers: Mapping[str, int]) -> None:
        """Make the parts rows of the table in one durable commit, with a number for each app id.

        Where a number says after which one it comes (`BEFORE`), and another process has committed one since,
        it is refused.

        Raises: any of WRITE_FAILURES: whether the commit got in, a table opened anew will tell.
        """
        self._put(list(parts), numbers)
        before = self._synced_version
        self._synced_version = sync_commits(self.store, self.version, after=before)
        self._sync_folders()
        if is_checkpoint_due(self.version, before=before):
            table = self.store.open(self.version)
            checkpoint_if_due(table, self.store, self.version, before=before)
            self._last.forget_table()

    def _put(self, parts: Sequence[Part], numbers: Mapping[str, int]) -> None:
        for _ in range(COMMITS_OVERTAKEN_MAX):
            self._last.follow()
            if numbers and all(self.number_of(app_id) >= number for app_id, number in numbers.items()):
                return
            if any(
                app_id.endswith(BEFORE) and self.number_of(app_id.removesuffix(BEFORE)) != number
                for app_id, number in numbers.items()
            ):
                raise CommitFailedError(COMMITTED_MEANWHILE)
            if self._last.put(parts, numbers, synced_version=self._synced_version):
                return
        raise CommitFailedError(OVERTAKEN)

    def _bring_to_disk(self) -> None:
        """Return once all that was found would outlive a power cut."""
        self._synced_version = sync_found(self.store, self.version)
        self._sync_folders()

    def _sync_folders(self) -> None:
        if self._is_young:
            self.store.sync_folder()
            self.store.sync_folder("..")
            self._is_young = False


class AuditWriter:
    """Table `audit` of a lake, open for appending by one process."""

    def __init__(
        self, directory: Path, *, app_id: str, syncing: Executor | None = None, is_acknowledged: bool = False
    ) -> None:
        """Open the table below the lake's `directory`; make it if it was never there.

        Files go to the disk side by side in the threads of `syncing`; without it, one after the other.
        `is_acknowledged` says that a batch was.

        Raises: ForeignTable; any of WRITE_FAILURES, CommitsLost among them.
        """
        self.app_id = app_id
        self._syncing = syncing
        self._lake = directory
        self._table = OpenTable(directory, AUDIT_TABLE, durable_later=True, is_acknowledged=is_acknowledged)
        self._synced_days: set[date] = set()
        """Days whose folders are on the disk, as far as is known here."""

    @property
    def version(self) -> int:
        """The number of the table's last commit that has been seen."""
        return self._table.version

    @property
    def last_batch(self) -> int:
        """The number of the last batch that is in the table; 0 for none."""
        return self._table.number_of(self.app_id)

    @property
    def batch_before(self) -> int:
        """The number of the batch before `last_batch`; 0 for none."""
        return self._table.number_of(self.app_id + BEFORE)

    def append(self, batch: Batch, parts: Sequence[Part] | None = None) -> None:
        """Make the batch durable as one commit; one that is in already is left alone.

        `parts` are its files, if `write_batch` has written them.

        Raises: any of WRITE_FAILURES: whether the batch got in, a new AuditWriter will tell.
        """
        last_batch = self.last_batch
        if batch.number <= last_batch:
            return
        if parts is None:
            parts = write_batch(self._lake, batch, app_id=self.app_id)
        self._sync(parts)
        self._table.commit(parts, numbers={self.app_id: batch.number, self.app_id + BEFORE: last_batch})

    def _sync(self, parts: Sequence[Part]) -> None:
        """Return once the files, and their folders, would outlive a power cut."""
        store = self._table.store
        if self._syncing is None or len(parts) < 2:
            for part in parts:
                store.put(part.path)
        else:
            # A disk waits no longer for several than for one. Where one fails, none is left at work: its
            # file is removed, and may then be written anew.
            at_once = [self._syncing.submit(store.put, part.path) for part in parts]
            wait(at_once)
            for synced in at_once:
                synced.result()
        days = {part.day for part in parts}
        if not days <= self._synced_days:
            store.sync_folder()
            if len(self._synced_days) >= DAYS_KNOWN_MAX:
                self._synced_days.clear()
            self._synced_days |= days


def write_batch(lake: Path, batch: Batch, *, app_id: str) -> list[Part]:
    """The files of the batch, one for each day, not yet durable; no commit names them yet.

    Never of a batch that is in the table: its files would be written anew under the eyes of readers.

    Raises: any of WRITE_FAILURES.
    """
    return [
        write_unsynced(
            table_store(lake, AUDIT_TABLE.name),
            AUDIT_TABLE,
            day=day,
            name=f"{file_prefix(app_id)}-{batch.number:012}",
            chunks=[rows],
            compression=FRESH,
        )
        for day, rows in sorted(_rows_by_day(batch).items())
    ]


def file_prefix(app_id: str) -> str:
    """How the names of the files begin that a collector's output writes."""
    return hashlib.blake2s(app_id.encode(), digest_size=6).hexdigest()


def _open_table(store: Store, shape: TableShape) -> DeltaTable:
    if not store.has_commits():
        store.path(LOG).mkdir(parents=True, exist_ok=True)
        # Where another process is first, its table is ours.
        put_commit(store, 0, "CREATE TABLE", new_table_lines(shape), synced_version=-1)
    return store.open()


def _rows_by_day(batch: Batch) -> dict[date, pa.Table]:
    """The batch as rows, a table for each day.

    Parts are put together by day before they become rows, of which each day's then are a slice: to filter
    them afterwards copies every record, which took 2.4 microseconds a record for a batch of three days.
    """
    parts: dict[str, list[BatchPart]] = {}
    for part in batch.parts:
        for said, some in _cut_by_day(part):
            parts.setdefault(said, []).append(some)
    rows = tabulate(Batch(batch.number, list(chain.from_iterable(parts.values()))))
    found: dict[date, list[pa.Table]] = {}
    start = 0
    for together in parts.values():
        count = sum(len(part.records) for part in together)
        for day, few in _split_by_day(rows.slice(start, count)):
            found.setdefault(day, []).append(few)
        start += count
    # One table is one row group, and each row group costs as much as a thousand records.
    return {day: pa.concat_tables(tables) for day, tables in found.items()}


def _cut_by_day(part: BatchPart) -> Iterator[tuple[str, BatchPart]]:
    """The part by the days that its records name; left whole, under no day, where those are many."""
    distinct = {(header.CreationTime or "")[:10] for header in part.headers}
    if len(distinct) == 1:
        yield distinct.pop(), part
    elif len(distinct) > DAYS_CUT_MAX:
        yield "", part
    else:
        days = [(header.CreationTime or "")[:10] for header in part.headers]
        yield from (
            (said, part.at([place for place, day in enumerate(days) if day == said]))
            for said in sorted(distinct)
        )


def _split_by_day(rows: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    days = unique(rows[PARTITION])
    if len(days) == 1:
        yield days[0], rows
        return
    for day in sorted(days):
        yield day, keep_equal(rows, PARTITION, pa.scalar(day, pa.date32()))
