"""Batches of one output into the lake, with its failures in words that the collector knows.

Everything here blocks; `outputs.lake` keeps it in a thread of its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from m365watch.common.clock import Clock
from m365watch.common.collector_events import Notice
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.file_access import disk_fix
from m365watch.common.missing_files import MissingFiles
from m365watch.common.model import Batch
from m365watch.config.models.retention import Retention
from m365watch.lake.delta.missing_commits import LAKE_GONE, list_lost_batches
from m365watch.lake.delta.table_schema import ForeignTable
from m365watch.lake.integrity_errors import BACK_FIX, ahead, behind
from m365watch.lake.schema import AUDIT
from m365watch.lake.store import table_store
from m365watch.lake.writer.event_table import NoticeWriter
from m365watch.lake.writer.parquet_files import Part
from m365watch.lake.writer.table_writer import (
    WRITE_FAILURES,
    AuditWriter,
    file_prefix,
    plain_reason,
    system_number_of,
    write_batch,
)

if TYPE_CHECKING:
    from m365watch.lake.maintenance.maintenance_worker import Upkeep


# As glibc's <malloc.h> has them.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_BLOCK_BYTES_MAX = 32 << 20
"""Blocks up to this size come from memory that was freed before; glibc takes no larger number."""
KEPT_BYTES_MAX = 128 << 20
"""Freed memory that is not given back to the system."""


def keep_freed_memory() -> None:
    """Let a batch use the memory of the one before; where the C library is another than glibc, nothing.

    Left to itself glibc gives large blocks back and takes them anew, each page of them cleared by the system:
    28,000 of 85,000 page faults of a run of 200,000 records, and 3 % of its CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES_MAX)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES_MAX)


COMMITS_PER_LOOK = 32
"""Commits between two looks at whether upkeep is due."""
SYNCS_AT_ONCE_MAX = 4
"""Files of one batch that are brought to the disk together."""
FIRST_UPKEEP_AFTER_S = 300.0
"""A run's first minutes are for its backfill."""


class Delivery:
    """What the output `app_id` has delivered to the lake below `directory`."""

    def __init__(
        self,
        directory: Path,
        *,
        app_id: str,
        where: str,
        clock: Clock,
        retention: Retention | None = None,
    ) -> None:
        """Nothing is touched before `open`; `where` names the output in errors."""
        self._directory = directory
        self._app_id = app_id
        self._where = where
        self._writer: AuditWriter | None = None
        self._notice_writer: NoticeWriter | None = None
        self._lock: int | None = None
        self._syncing: ThreadPoolExecutor | None = None
        self._clock = clock
        self._retention = retention
        self._upkeep_from_s = clock.monotonic_s() + FIRST_UPKEEP_AFTER_S
        self._upkeep: Upkeep | None = None
        self._commits = 0
        self._newest = 0
        """The last batch that is known to be in the lake, or was acknowledged."""

    def take_over(self) -> int:
        """The number of the last batch of this output that is in the lake; 0 for none. Makes nothing.

        Raises: OutputUnusable.
        """
        with self._failures_named():
            if not (self._directory / AUDIT / "_delta_log").is_dir():
                return 0
            self._take()
            return self._open_writer().last_batch

    def list_held(self, since: datetime) -> Iterator[tuple[str, list[bytes]]]:
        """Tenants and their records that the lake received after `since`, perhaps older ones too, in pieces.

        Raises: OutputUnusable.
        """
        from m365watch.lake.stored_records import list_records

        with self._failures_named():
            yield from list_records(self._directory, since=since)

    def list_erased(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """The key and the marks of what was erased, in pieces; nothing where nothing was.

        Raises: OutputUnusable.
        """
        from m365watch.lake.erasure.tombstones import key_of, list_marks

        with self._failures_named():
            key = key_of(self._directory)
            if key is not None:
                yield from ((key, marks) for marks in list_marks(self._directory))

    def open(self, last_batch: int, *, newest_batch: int | None) -> int:
        """The last batch that is in the lake, made if need be: `last_batch`, or the one after it.

        Raises: OutputUnusable.
        """
        # Arrow's own pools keep what a batch took: 326 MB at most in place of 284, for the same CPU.
        pa.set_memory_pool(pa.system_memory_pool())
        keep_freed_memory()
        self._newest = last_batch
        try:
            with self._failures_named():
                if not self._directory.exists():
                    self._directory.mkdir(parents=True)
                self._take()
                writer = self._open_writer()
                self._refuse_losses(writer)
            self._refuse_strangers(writer, last_batch, newest_batch)
        except OutputUnusable:
            self.close()
            raise
        self._writer = writer
        self._newest = writer.last_batch
        return self._newest

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What fails in the block is told as the output's own failure."""
        try:
            yield
        except ForeignTable as refusal:
            raise OutputUnusable(refusal.what, fix=refusal.fix, where=self._where) from None
        except WRITE_FAILURES as failure:
            from m365watch.lake.maintenance.integrity_check import cause_of

            cause = cause_of(self._directory, failure)
            raise OutputUnusable(
                f"the lake cannot be opened: {cause.what}", fix=cause.fix, where=self._where
            ) from failure

    def holds(self, number: int) -> bool:
        """Whether the batch of this number is in the lake.

        Raises: OutputUnavailable: the table cannot be read.
        """
        with self._batch_named(number):
            return number <= self._audit().last_batch

    def write(self, batch: Batch) -> list[Part]:
        """The files of the batch, which count for nothing before `append` has been given them; it syncs them.

        May be called in another thread than everything else here, and while that is at work.

        Raises: OutputUnavailable: there are no files.
        """
        if batch.number <= self._newest:
            # Its files are there, and named in its commit.
            return []
        with self._batch_named(batch.number):
            self._require_lake()
            return write_batch(self._directory, batch, app_id=self._app_id)

    def append(self, batch: Batch, parts: Sequence[Part] | None = None) -> None:
        """Make the batch durable, unless it is in the lake already; `parts` are its files, if written.

        Raises: OutputUnavailable: nothing of the batch counts.
        """
        try:
            with self._batch_named(batch.number):
                self._audit().append(batch, parts)
        except OutputUnavailable:
            # Whether the commit got in is read from the table at the next try.
            self._writer = None
            raise
        self._newest = batch.number
        self._look_after()

    def forget(self, parts: Sequence[Part]) -> None:
        """Remove files that no commit will name; one that stays goes with the others like it (`vacuum`)."""
        for part in parts:
            with suppress(OSError):
                (self._directory / AUDIT / part.path).unlink(missing_ok=True)

    def _require_lake(self) -> None:
        """Nothing, where the lake is: no folder of it is made where it was, which would be taken for it.

        Raises: FileNotFoundError: it has moved away.
        """
        if not (self._directory / AUDIT).is_dir():
            raise FileNotFoundError(LAKE_GONE)

    def _audit(self) -> AuditWriter:
        self._require_lake()
        if self._writer is None:
            writer = self._open_writer()
            if writer.last_batch < self._newest:
                # An older copy: what is acknowledged and not there would be missed by nobody later.
                raise OSError(behind(self._newest, writer.last_batch).what)
            self._writer = writer
        return self._writer

    @contextmanager
    def _batch_named(self, number: int) -> Iterator[None]:
        """What fails in the block is told as that of the batch."""
        try:
            yield
        except (*WRITE_FAILURES, ForeignTable) as failure:
            raise OutputUnavailable(
                f"batch {number} could not be written: {plain_reason(failure)}",
                where=self._where,
                fix=disk_fix(system_number_of(failure), self._directory),
            ) from failure

    def expect_notices(self) -> None:
        """Open `collectors_out`, or make it, while there is little to do; else `append_notices` does."""
        with suppress(*WRITE_FAILURES, ForeignTable):
            self._notices()

    def _notices(self) -> NoticeWriter:
        self._require_lake()
        if self._notice_writer is None:
            self._notice_writer = NoticeWriter(self._directory, app_id=self._app_id)
        return self._notice_writer

    def append_notices(self, notices: Sequence[Notice]) -> None:
        """Make the notices durable in `collectors_out`; a failure leaves `audit` as it is.

        Raises: OutputUnavailable.
        """
        try:
            self._notices().append(notices)
        except (*WRITE_FAILURES, ForeignTable) as failure:
            # Opened anew, it sees whether the commit got in, and names no file as a committed one is named.
            self._notice_writer = None
            raise OutputUnavailable(
                f"{len(notices)} notices could not be written: {plain_reason(failure)}", where=self._where
            ) from failure
        self._look_after()

    def find_missing_files(self) -> MissingFiles | None:
        """The data files that are gone; may be called in another thread than everything else here.

        Raises: OutputUnavailable: the table cannot be read.
        """
        from m365watch.lake.missing_files import find_missing

        try:
            return find_missing(self._directory, now=self._clock.now())
        except WRITE_FAILURES as failure:
            raise OutputUnavailable(
                f"its files could not be listed: {plain_reason(failure)}", where=self._where
            ) from failure

    def _look_after(self) -> None:
        """Every so many commits of either table, see whether upkeep is due."""
        self._commits += 1
        if self._commits % COMMITS_PER_LOOK == 0:
            if self._upkeep is None:
                self._upkeep = self._make_upkeep()
            self._upkeep.start_if_due()

    def _make_upkeep(self) -> Upkeep:
        """What only a run of many commits needs, and what it imports."""
        from m365watch.lake.maintenance.maintenance_worker import Upkeep

        first_after_s = self._upkeep_from_s - self._clock.monotonic_s()
        return Upkeep(
            self._directory,
            clock=self._clock,
            first_after_s=first_after_s,
            retention=self._retention,
            acknowledged=lambda: {self._app_id: self._newest},
        )

    def close(self) -> None:
        """Stop the upkeep; every batch appended is durable already."""
        if self._upkeep is not None:
            self._upkeep.stop()
        self._writer = None
        self._notice_writer = None
        if self._syncing is not None:
            self._syncing.shutdown()
            self._syncing = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self) -> None:
        """Hold what this output writes, until `close` or the process's end.

        Two ledgers would number their batches each for itself, and the lake would take the lower number of
        one for a batch that it has. Raises: OutputUnusable: another process has it; OSError.
        """
        if self._lock is not None:
            return
        path = self._directory / f"writer-{file_prefix(self._app_id)}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise OutputUnusable(
                "another process writes to this lake under the same names",
                fix="stop that process, or give this collector a lake of its own; with another `globals.name`"
                " it shares this one, whose end each knows for its own batches alone",
                where=self._where,
            ) from None
        self._lock = lock

    def _refuse_losses(self, writer: AuditWriter) -> None:
        """Refuse a lake that has lost a batch in its middle, while that can still be put back."""
        for path, reason in list_lost_batches(table_store(self._directory, AUDIT), writer.version):
            raise OutputUnusable(
                f"the lake cannot be opened: {AUDIT}/{path} {reason}",
                fix=BACK_FIX,
                where=self._where,
            )

    def _refuse_strangers(self, writer: AuditWriter, last_batch: int, newest_batch: int | None) -> None:
        """Refuse a lake that is not the ledger's own: going on would lose or double records.

        One batch further than the ledger's last may be the ledger's own, if it has ever given that number.
        """
        found = writer.last_batch
        is_given = newest_batch is None or found <= newest_batch
        if found == last_batch or (is_given and writer.batch_before <= last_batch < found):
            return
        cause = behind(last_batch, found) if found < last_batch else ahead(last_batch, found)
        raise OutputUnusable(cause.what, fix=cause.fix, where=self._where)

    def _open_writer(self) -> AuditWriter:
        if self._syncing is None:
            self._syncing = ThreadPoolExecutor(SYNCS_AT_ONCE_MAX, thread_name_prefix="syncing")
        return AuditWriter(
            self._directory,
            app_id=self._app_id,
            syncing=self._syncing,
            is_acknowledged=self._newest > 0,
        )
