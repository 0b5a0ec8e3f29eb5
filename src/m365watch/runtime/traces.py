"""How many records in one file name a person: read only, in pieces, and no record leaves here."""

from __future__ import annotations

import gzip
import io
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zstandard

from m365watch.common.errors import OutputUnusable
from m365watch.detection.store.detection_erasure import Naming, find_named
from m365watch.lake.erasure.person_matching import Person
from m365watch.ledger.queries import quarantined_bodies
from m365watch.notifications.notification_erasure import count_told
from m365watch.pipeline.disk_queue import records_in_file

LINE_BYTES_MAX = 16 << 20
"""A longer line is looked at in pieces; the service's records are far shorter."""
_SQLITE = b"SQLite format 3\0"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Traces:
    """What one file has of a person."""

    path: Path
    records: int
    """Records, or kept pieces, that name the person."""
    is_whole: bool
    """Whether all of the file could be read."""


def in_lines(path: Path, person: Person) -> Traces:
    """Of a file of lines, plain or compressed, whatever its name."""
    found = 0
    try:
        with path.open("rb") as file, _inflated(file) as text:
            while line := text.readline(LINE_BYTES_MAX):
                found += person.is_mentioned(line)
    except FileNotFoundError:
        # A collector has published it, or a shipper has taken it away.
        return Traces(path, 0, is_whole=True)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        return Traces(path, found, is_whole=False)
    return Traces(path, found, is_whole=True)


def _inflated(file: io.BufferedReader) -> io.BufferedReader:
    begin = file.peek(4)
    if begin.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    if begin.startswith(_ZSTD):
        frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return io.BufferedReader(frames)
    return file


def in_queue_file(path: Path, person: Person) -> Traces:
    """Of a batch that waits in a queue on disk."""
    records = records_in_file(path)
    return Traces(path, _count(records or (), person), is_whole=records is not None)


def in_page(path: Path, person: Person) -> Traces:
    """Of a page that a recovery has kept."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return Traces(path, 0, is_whole=True)
    except OSError:
        return Traces(path, 0, is_whole=False)
    try:
        records = [bytes(one) for one in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # A kill cut it short, or it is no page: a name is found in it all the same.
        records = [body]
    return Traces(path, _count(records, person), is_whole=True)


def in_ledger_copy(path: Path, person: Person) -> Traces:
    """Of the quarantine in a ledger that is in use no more, of whatever version, perhaps damaged."""
    # Without a log beside it nothing is made beside it either.
    how = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    found = 0
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as connection:
            for body in quarantined_bodies(connection):
                found += person.is_mentioned(body)
    except sqlite3.Error:
        return Traces(path, found, is_whole=False)
    return Traces(path, found, is_whole=True)


def in_detections(path: Path, person: Person) -> Traces:
    """Of the alerts, and what is kept of records, in a file of detections."""
    try:
        found = find_named(path, Naming(person.is_mentioned))
    except sqlite3.Error:
        return Traces(path, 0, is_whole=False)
    return Traces(path, found.alerts + found.matches + found.reasons, is_whole=True)


def in_notifications(path: Path, person: Person) -> Traces:
    """Of the alerts that somebody was told of, or is to be."""
    try:
        return Traces(path, count_told(path, person.is_mentioned), is_whole=True)
    except (sqlite3.Error, OutputUnusable):
        return Traces(path, 0, is_whole=False)


def is_database(path: Path) -> bool:
    """Whether SQLite wrote it; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _count(pieces: Iterable[bytes], person: Person) -> int:
    return sum(person.is_mentioned(piece) for piece in pieces)
