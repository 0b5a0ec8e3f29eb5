"""An output's queue on disk: batches that wait there until the output has them.

One file for each batch, whole or not there at all: written beside its place, synced, and renamed.
The files hold records in the clear and can be read by their owner alone.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec
import xxhash

from m365watch.common.atomic_files import put_file, sync_folder
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.file_access import disk_fix
from m365watch.common.model import Batch, BatchPart, BlobKey, Feed, Header, TenantId, content_named
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.records.split import split_blob

QUEUES_FOLDER = "queues"
"""The folder of the outputs' queues, in the state directory."""

P = ParamSpec("P")
T = TypeVar("T")
_SUFFIX = ".batch"
_MAGIC = b"m365wq01"
_SUM_BYTES = 8


class _KeptPart(msgspec.Struct, array_like=True):
    """A part of a batch as the file has it; headers are read from the records again."""

    blob: int
    tenant_id: str
    content_type: str
    received_us: int
    records: list[bytes]
    tables: list[str]
    missing_outputs: list[str]
    pulling_id: int
    environment: str | None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[_KeptPart])


class BatchQueue:
    """The batches of one output that wait on disk, by number; bounded in bytes."""

    def __init__(self, directory: Path, *, output: str, bytes_max: int, wide_headers: bool) -> None:
        """`wide_headers` says what `get` reads of the records."""
        self.directory = directory
        self._where = f"output {output}"
        self._bytes_max = bytes_max
        self._wide_headers = wide_headers
        self._sizes: dict[int, int] = {}
        self.size_bytes = 0
        """What all files have together."""

    def open(self) -> list[int]:
        """The batches that are there, in order; what a crash left unfinished is removed.

        The directory is made with the first batch. Raises: OutputUnusable.
        """
        try:
            if not self.directory.is_dir() and self.directory.exists():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            for path in sorted(self.directory.glob("*")):
                if path.suffix == _SUFFIX and path.stem.isdecimal():
                    self._note(int(path.stem), path.stat().st_size)
                elif path.name.endswith(".partial"):
                    path.unlink()
        except OSError as error:
            raise OutputUnusable(
                f"its queue on disk cannot be read ({error.strerror})",
                where=f"{self._where}: {self.directory}",
                fix="make it a directory that this user can read and write",
            ) from error
        return sorted(self._sizes)

    def put(self, batch: Batch) -> bool:
        """Keep `batch`, durably; False where it has no room beside what waits already.

        Raises: OutputUnavailable: the disk does not take it.
        """
        body = _ENCODER.encode([_kept(part) for part in batch.parts])
        if self._sizes and self.size_bytes + _size_of(body) > self._bytes_max:
            return False
        self._store(batch.number, body)
        return True

    def replace(self, batch: Batch) -> None:
        """Keep `batch`, durably, in place of the larger one with its number.

        Raises: OutputUnavailable: the disk does not take it.
        """
        self._store(batch.number, _ENCODER.encode([_kept(part) for part in batch.parts]))

    def renumber(self, number: int, behind: int) -> None:
        """Keep batch `number`, durably, under the number `behind`, which none has.

        Raises: OutputUnavailable: the disk does not take it.
        """
        path = self._path(behind)
        try:
            self._path(number).rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise OutputUnavailable(
                f"its queue on disk cannot be written ({error.strerror})",
                where=self._where,
                fix=disk_fix(error.errno, self.directory),
            ) from error
        self._sizes[behind] = self._sizes.pop(number)

    def _store(self, number: int, body: bytes) -> None:
        path = self._path(number)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            put_file(path, (_MAGIC, xxhash.xxh3_64_digest(body), body))
        except OSError as error:
            with suppress(OSError):
                path.with_suffix(".partial").unlink(missing_ok=True)
            raise OutputUnavailable(
                f"its queue on disk cannot be written ({error.strerror})",
                where=self._where,
                fix=disk_fix(error.errno, self.directory),
            ) from error
        self._note(number, _size_of(body))

    def get(self, number: int) -> Batch | None:
        """Batch `number`; None where its file is gone or damaged, and then kept aside as `.damaged`.

        Raises: OutputUnavailable: it cannot be read just now.
        """
        path = self._path(number)
        try:
            kept = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputUnavailable(
                f"its queue on disk cannot be read ({error.strerror})", where=self._where
            ) from error
        begin = len(_MAGIC) + _SUM_BYTES
        body = memoryview(kept)[begin:]
        if kept[:begin] != _MAGIC + xxhash.xxh3_64_digest(body):
            with suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
            return None
        parts = [self._part(part) for part in _DECODER.decode(body)]
        return Batch(number, parts)

    def remove(self, number: int) -> None:
        """Forget batch `number`; once more does no harm."""
        self._path(number).unlink(missing_ok=True)
        self.size_bytes -= self._sizes.pop(number, 0)

    @property
    def has_room(self) -> bool:
        """Whether it is less than half full."""
        return self.size_bytes * 2 < self._bytes_max

    def _note(self, number: int, size_bytes: int) -> None:
        self.size_bytes += size_bytes - self._sizes.get(number, 0)
        self._sizes[number] = size_bytes

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:020d}{_SUFFIX}"

    def _part(self, part: _KeptPart) -> BatchPart:
        headers: list[Header] = []
        if self._wide_headers:
            headers = split_blob(b"[" + b",".join(part.records) + b"]", wide=True).headers
        return BatchPart(
            blob=BlobKey(part.blob),
            feed=Feed(TenantId(part.tenant_id), content_named(part.content_type)),
            received_at=instant_of_us(part.received_us),
            records=part.records,
            headers=headers,
            tables=part.tables,
            missing_outputs=frozenset(part.missing_outputs),
            pulling_id=part.pulling_id,
            environment=part.environment,
        )


def _size_of(body: bytes) -> int:
    return len(_MAGIC) + _SUM_BYTES + len(body)


def records_in_file(path: Path) -> list[bytes] | None:
    """The records in a file of a queue, for somebody who only looks; None where it cannot be read.

    A file that is gone has none: its batch was delivered meanwhile.
    """
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError:
        return None
    begin = len(_MAGIC) + _SUM_BYTES
    try:
        parts = _DECODER.decode(memoryview(kept)[begin:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return [record for part in parts for record in part.records]


def _kept(part: BatchPart) -> _KeptPart:
    return _KeptPart(
        blob=part.blob,
        tenant_id=part.feed.tenant_id,
        content_type=part.feed.content_type,
        received_us=us_of(part.received_at),
        records=part.records,
        tables=part.tables,
        missing_outputs=sorted(part.missing_outputs),
        pulling_id=part.pulling_id,
        environment=part.environment,
    )


def foreign_queue(path: Path, *, output: str) -> OutputUnusable:
    """What is raised where the queue of `output`, at `path`, belongs to another ledger."""
    return OutputUnusable(
        "its queue on disk has batches that this ledger has never numbered",
        fix="put back the ledger that belongs to it, or move the folder away: its batches are given up then;"
        " `m365watch ledger restore` with the present ledger's own file goes on with both",
        where=f"output {output}: {path}",
    )
