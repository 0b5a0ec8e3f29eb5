"""The directory of one `files` output: growing files, published files, and the steps between.

All of it is plain blocking file work; `FilesOutput` runs it in one thread.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import zstandard
from isal import isal_zlib

from m365watch.common.atomic_files import sync_folder
from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.file_access import disk_fix
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.outputs.files.file_layout import (
    FILE_MODE,
    FOLDER_MODE,
    FileKey,
    cut_file,
    flush_published,
    folder_of,
    make_key,
    publish,
)
from m365watch.outputs.files.file_recovery import UndoNote, cut_back, list_records, take_over, write_undo
from m365watch.outputs.files.spec import FilesSection

Pack = Callable[[Sequence[bytes]], Iterator[list[bytes]]]
"""From lines without their ends to pieces of the file, in order, as many together as one call writes."""

PIECES_MAX = 1_024
"""Pieces that one call writes: the bound of Linux and macOS."""
_GZIP_LEVEL = 1
_GZIP_WINDOW_BITS = 31  # 15 for the largest window, 16 more for a gzip header
_ZSTD_LEVEL = 1
_MEGABYTE_BYTES = 1_000_000


def make_pack(compression: str) -> Pack:
    """The function for `compression`; with one, a batch's lines become a whole gzip member or zstd frame.

    Measured on one core with real records of 1.35 kB in chunks of 5,000: gzip (isal) 0.7
    microseconds a record and a twelfth of the size, zstd 0.8 and a twentieth; higher levels cost
    more than they save.
    """
    if compression == "gzip":
        return lambda lines: iter([[isal_zlib.compress(_join(lines), _GZIP_LEVEL, _GZIP_WINDOW_BITS)]])
    if compression == "zstd":
        compress = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress
        return lambda lines: iter([[compress(_join(lines))]])
    return _list_pieces


def _join(lines: Sequence[bytes]) -> bytes:
    return b"\n".join((*lines, b""))


def _list_pieces(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Lines and their ends as they are.

    The system takes each from where it lies. To join a batch first takes as much memory again, which the
    first batches of a run pay for with 1.3 to 2.3 microseconds a record in place of 0.6.
    """
    count = PIECES_MAX // 2
    for start in range(0, len(lines), count):
        some = lines[start : start + count]
        pieces = [b"\n"] * (2 * len(some))
        pieces[::2] = some
        yield pieces


_LINE_BREAK = ord("\n")


def sort_by_folder(batch: Batch) -> dict[str, list[bytes]]:
    """The batch's records by folder, in order; a part of one table is taken whole."""
    by_folder: dict[str, list[bytes]] = {}
    for part in batch.parts:
        if not part.records:
            continue
        first = part.tables[0]
        if part.tables.count(first) == len(part.tables):
            by_folder.setdefault(folder_of(first), []).extend(part.records)
            continue
        for folder, record in zip(map(folder_of, part.tables), part.records, strict=True):
            by_folder.setdefault(folder, []).append(record)
    return by_folder


def is_line_each(records: Sequence[bytes]) -> bool:
    """Whether no record has a line break inside; a view never has one."""
    if set(map(type, records)) == {msgspec.Raw}:
        return True
    return not any(map(_has_line_break, records))


def list_lines(records: Sequence[bytes]) -> list[bytes]:
    """The records without a line break inside."""
    return [record for record in records if not _has_line_break(record)]


def list_refused(batch: Batch) -> list[RefusedRecord]:
    """The batch's records that would not be one line."""
    return [
        RefusedRecord(part.blob, record, "a line break inside the record")
        for part in batch.parts
        for record in part.records
        if _has_line_break(record)
    ]


def _has_line_break(record: bytes) -> bool:
    # A number is found faster than a byte string.
    return type(record) is not msgspec.Raw and _LINE_BREAK in record


@dataclass(slots=True)
class Part:
    """What counts of a growing file, and what of it is not certain yet."""

    key: FileKey
    opened_s: float
    length: int = 0
    """Bytes of whole batches; whatever lies behind them in the file does not count."""
    length_before: int = 0
    """`length` without the newest batch in it."""
    number: int = 0
    """The newest batch in it."""
    written_s: float = 0.0
    _written: int = 0
    """The length that counts once `accept` is called."""
    _descriptor: int | None = None

    def write(self, pieces: Iterable[list[bytes]], *, directory: Path) -> None:
        """Put `pieces` behind what counts, durably; they count once `accept` is called."""
        if self._descriptor is None:
            # A file that counts for something is not made anew: it would begin with a hole.
            flags = os.O_WRONLY | (0 if self.length else os.O_CREAT | os.O_TRUNC)
            self._descriptor = os.open(directory / self.key.part_name, flags, FILE_MODE)
        self._written = self.length
        for some in pieces:
            self._written += _write_whole(self._descriptor, some, at=self._written)
        os.fdatasync(self._descriptor)

    def accept(self, *, number: int, written_s: float) -> None:
        """Count what batch `number` has written."""
        self.length_before = self.length
        self.length = self._written
        self.number = number
        self.written_s = written_s

    def cut_back(self, *, directory: Path) -> None:
        """Remove from the file what does not count, and the file if nothing does."""
        path = directory / self.key.part_name
        if self.length:
            cut_file(path, length=self.length)
        else:
            self.close()
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, which stays where it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _write_whole(descriptor: int, pieces: list[bytes], *, at: int) -> int:
    """Write all of `pieces` from `at` on, in one call where the system allows it; how many bytes."""
    size_bytes = sum(map(len, pieces))
    count = os.pwritev(descriptor, pieces, at)
    if count < size_bytes:
        rest = memoryview(b"".join(pieces))
        while count < size_bytes:
            count += os.pwrite(descriptor, rest[count:], at + count)
    return size_bytes


OPEN_FILES_MAX = 64
"""Files held open at a time; also how many may grow from one batch to the next."""


class _Position(msgspec.Struct, frozen=True):
    """What the ledger keeps: the committed length in bytes of each growing file."""

    lengths: dict[str, int]


class Archive:
    """The records of one output on disk; between `open` and `release` it holds the lock."""

    def __init__(self, settings: FilesSection, *, clock: Clock, quiet_s: float) -> None:
        """Nothing is touched before `open`."""
        self._directory = settings.config.directory
        self._config = settings.config
        self._where = f"output {settings.name}"
        self._clock = clock
        self._quiet_s = quiet_s
        self._pack = make_pack(settings.config.compression)
        self._parts: dict[str, Part] = {}
        self._pending: list[Part] = []
        self._last_batch = 0
        self._last_written = 0
        self._previous_written = 0
        self._receipt = Receipt()
        self._undo: dict[str, int] = {}
        self._unflushed: list[FileKey] = []
        self._lock: int | None = None

    @property
    def has_parts(self) -> bool:
        """Whether some file waits to be published."""
        return bool(self._parts)

    def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> None:
        """Take the directory, cut it back to `last_batch`, and publish what is left.

        Raises: OutputUnusable: it cannot be written, is in use, or belongs to another ledger.
        """
        with self._failures_named():
            self._take()
            kept = cut_back(
                self._directory,
                last_batch=last_batch,
                newest_batch=newest_batch,
                committed=_parse_position(position, where=self._where).lengths,
                where=self._where,
            )
            for key in kept:
                publish(self._directory, key)
            flush_published(self._directory, kept)
        self._last_batch = self._last_written = self._previous_written = last_batch
        self._receipt = Receipt(position)

    def take_over(self) -> int:
        """Publish whatever is there, whole records only; the highest number of a batch, 0 for none.

        Raises: OutputUnusable: as for `open`.
        """
        with self._failures_named():
            if not (self._directory / ".parts").is_dir():
                return 0
            self._take()
            newest = take_over(self._directory)
        self.release()
        return newest

    def list_records(self, since: datetime) -> Iterator[list[bytes]]:
        """The published records that came after `since`, perhaps older ones too.

        Raises: OSError.
        """
        return list_records(self._directory, since=since)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        """What fails in the block is told as the output's own failure, and the directory let go."""
        try:
            yield
        except OSError as error:
            self.release()
            raise OutputUnusable(
                f"cannot write to {error.filename or self._directory}: {error.strerror}",
                fix="let this user write there, or set another `directory`",
                where=self._where,
            ) from error
        except OutputUnusable:
            self.release()
            raise

    def deliver(self, batch: Batch) -> Receipt:
        """Append every record of `batch` to the file of its table, durably.

        Raises: OutputUnavailable: the files are as they were before.
        """
        if batch.number <= self._last_batch:
            return self._receipt
        try:
            self._mend()
            # The caller brings a batch only after the ledger has committed the one before.
            self._undo = {}
            self._publish(self._list_due(), uncertain=False)
            refused = self._append(batch)
        except OSError as error:
            with suppress(OSError):  # What cannot be mended now is mended before the next batch.
                self._mend()
            raise OutputUnavailable(
                f"cannot write to {error.filename or self._directory}: {error.strerror}",
                where=self._where,
                fix=disk_fix(error.errno, self._directory),
            ) from error
        self._accept(batch.number)
        self._receipt = Receipt(self._position(), refused)
        return self._receipt

    def publish_due(self) -> None:
        """Publish every file that is full, old or quiet.

        Raises: OSError: some file could not be renamed; it stays in `.parts`, nothing is lost.
        """
        if not self._pending:
            self._publish(self._list_due(), uncertain=True)

    def publish_all(self) -> None:
        """Publish every file.

        Raises: OSError: as for `publish_due`.
        """
        self._mend()
        self._publish(list(self._parts.values()), uncertain=True)

    def release(self) -> None:
        """Let go of every file and of the lock; publish nothing."""
        for part in self._parts.values():
            part.close()
        self._parts = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self) -> None:
        """Make the directory and lock it; the lock ends with the process, however it ends."""
        parts_directory = self._directory / ".parts"
        if not self._directory.is_dir():
            self._directory.mkdir(mode=FOLDER_MODE, parents=True)
            sync_folder(self._directory.parent)
        parts_directory.mkdir(mode=FOLDER_MODE, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT
        self._lock = os.open(parts_directory / "lock", flags, FILE_MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputUnusable(
                f"another process writes to {self._directory}",
                fix="stop that process, or set another `directory`",
                where=self._where,
            ) from error
        sync_folder(self._directory)

    def _append(self, batch: Batch) -> tuple[RefusedRecord, ...]:
        """Write each folder's lines behind what counts of its file; the records left out."""
        every_record_fits = True
        file_count = len(self._parts)
        for folder, records in sort_by_folder(batch).items():
            lines = records
            if not is_line_each(records):
                every_record_fits = False
                lines = list_lines(records)
            if lines:
                self._write(folder, self._pack(lines), batch.number)
        if len(self._parts) > file_count:
            sync_folder(self._directory / ".parts")
        return () if every_record_fits else tuple(list_refused(batch))

    def _write(self, folder: str, pieces: Iterable[list[bytes]], number: int) -> None:
        part = self._parts.get(folder) or self._open_part(folder, number)
        self._pending.append(part)
        part.write(pieces, directory=self._directory)
        if len(self._parts) > OPEN_FILES_MAX:
            part.close()

    def _open_part(self, folder: str, number: int) -> Part:
        compression = self._config.compression
        key = make_key(folder, number=number, opened_at=self._clock.now(), compression=compression)
        part = self._parts[folder] = Part(key, opened_s=self._clock.monotonic_s())
        return part

    def _accept(self, number: int) -> None:
        """Count what was written as delivered."""
        written_s = self._clock.monotonic_s()
        for part in self._pending:
            part.accept(number=number, written_s=written_s)
        if self._pending:
            self._previous_written, self._last_written = self._last_written, number
        self._pending = []
        self._last_batch = number

    def _mend(self) -> None:
        """Cut back whatever a failed batch has left in the files."""
        while self._pending:
            part = self._pending[-1]
            part.cut_back(directory=self._directory)
            if not part.length:
                self._parts.pop(part.key.folder, None)
            self._pending.pop()

    def _position(self) -> str:
        lengths = {part.key.published_name: part.length for part in self._parts.values()}
        return msgspec.json.encode(_Position(lengths)).decode() if lengths else ""

    def _list_due(self) -> list[Part]:
        """The files to publish now; the longest unwritten ones too, if too many grow."""
        now_s = self._clock.monotonic_s()
        by_use = sorted(self._parts.values(), key=lambda part: part.written_s)
        surplus = max(0, len(by_use) - OPEN_FILES_MAX)
        return by_use[:surplus] + [part for part in by_use[surplus:] if self._is_due(part, now_s)]

    def _is_due(self, part: Part, now_s: float) -> bool:
        return (
            part.length >= self._config.rotate_megabytes * _MEGABYTE_BYTES
            or now_s - part.opened_s >= self._config.rotate_secs
            or now_s - part.written_s >= self._quiet_s
        )

    def _publish(self, parts: list[Part], *, uncertain: bool) -> None:
        """Give `parts` their published names; `uncertain`: the newest batch may be uncommitted."""
        doubtful = {
            part.key.published_name: part.length_before
            for part in parts
            if uncertain and part.number == self._last_batch
        }
        if doubtful:
            self._undo |= doubtful
            note = UndoNote(self._last_batch, self._previous_written, self._undo)
            write_undo(self._directory, note)
        try:
            for part in parts:
                publish(self._directory, part.key)
                self._unflushed.append(part.key)
                part.close()
                del self._parts[part.key.folder]
        finally:
            self._flush_names()

    def _flush_names(self) -> None:
        """Make the published names durable, also those that an earlier call has failed to.

        Until then no receipt may be without a file that would grow again after a power cut.
        """
        if self._unflushed:
            flush_published(self._directory, self._unflushed)
            self._unflushed = []


def _parse_position(position: str, *, where: str) -> _Position:
    """The lengths that the ledger committed; none before the first receipt."""
    if not position:
        return _Position({})
    try:
        return msgspec.json.decode(position, type=_Position)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OutputUnusable(
            "the ledger's position is not one of a `files` output",
            fix="give this output the name it had before, or a new name and `directory`",
            where=where,
        ) from error
