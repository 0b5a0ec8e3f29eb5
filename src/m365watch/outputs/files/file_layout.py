"""Which file is where, and what it is called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2s
from pathlib import Path

from m365watch.common.atomic_files import sync_folder

SUFFIXES = {"none": ".ndjson", "gzip": ".ndjson.gz", "zstd": ".ndjson.zst"}
"""How published names end, by `compression`."""

FILE_MODE = 0o640
FOLDER_MODE = 0o750
"""Audit records are for the owner and the group."""

_FOLDER_LENGTH_MAX = 120
_UNSAFE = re.compile(r"[^a-z0-9._-]")
_PUBLISHED_NAME = re.compile(r"(\d{12,})-(\d{8}T\d{6}Z)\.ndjson(\.gz|\.zst)?")
_PART_NAME = re.compile(r"(.+)@(\d{12,})-(\d{8}T\d{6}Z)\.part(\.gz|\.zst)?")


@dataclass(frozen=True, slots=True)
class FileKey:
    """One file's identity, whether it still grows or is published.

    Names sort in the order of delivery, because they begin with the number of the batch that
    opened the file.
    """

    folder: str
    number: int
    stamp: str
    """When the file was opened, for people: 20261117T090000Z."""
    compression_suffix: str
    """Empty, .gz or .zst; a file keeps its own, also if the setting changes meanwhile."""

    @property
    def published_name(self) -> str:
        """The path below the directory once it is published; the ledger and `.undo` use it too."""
        return f"{self.folder}/{self.number:012}-{self.stamp}.ndjson{self.compression_suffix}"

    @property
    def part_name(self) -> str:
        """The path below the directory while it grows; no pattern for NDJSON files matches it."""
        return f".parts/{self.folder}@{self.number:012}-{self.stamp}.part{self.compression_suffix}"


def make_key(folder: str, *, number: int, opened_at: datetime, compression: str) -> FileKey:
    """The key of a file that batch `number` opens in `folder`."""
    suffix = SUFFIXES[compression].removeprefix(".ndjson")
    return FileKey(folder, number, f"{opened_at:%Y%m%dT%H%M%SZ}", suffix)


def parse_part_name(name: str) -> FileKey | None:
    """The key of a file in `.parts`; None for anything that is not ours."""
    found = _PART_NAME.fullmatch(name)
    return found and FileKey(found[1], int(found[2]), found[3], found[4] or "")


def parse_published_name(folder: str, name: str) -> FileKey | None:
    """The key of a file in a table's folder; None for anything that is not ours."""
    found = _PUBLISHED_NAME.fullmatch(name)
    return found and FileKey(folder, int(found[1]), found[2], found[3] or "")


@lru_cache(maxsize=4096)
def folder_of(table: str) -> str:
    """The folder of `table`: only a-z, 0-9, dot, underscore and hyphen, never hidden.

    A name that had to be changed gets a hash of the original, which keeps tables apart; should
    two meet all the same, they share their files and lose nothing.
    """
    safe = _UNSAFE.sub("_", table.lower())[:_FOLDER_LENGTH_MAX]
    if safe.startswith("."):
        safe = f"_{safe[1:]}"
    if safe and safe == table:
        return safe
    digest = blake2s(table.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{safe or '_'}-{digest}"


def publish(directory: Path, key: FileKey) -> None:
    """Give the file its published name, which is durable after `flush_published`."""
    folder = directory / key.folder
    if not folder.is_dir():
        folder.mkdir(mode=FOLDER_MODE)
    (directory / key.part_name).rename(directory / key.published_name)


def flush_published(directory: Path, keys: Iterable[FileKey]) -> None:
    """Make the published names of `keys` durable.

    All at once, after the last of them was given: a file system with a journal writes it for the first
    folder, and has nothing left to write for the others.
    """
    sync_folder(directory)
    for folder in sorted({key.folder for key in keys}):
        sync_folder(directory / folder)


def cut_file(path: Path, *, length: int) -> None:
    """Cut the file back to `length` bytes, durably."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, length)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
