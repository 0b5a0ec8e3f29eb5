"""What a directory of files holds, for a ledger that does not know: whole records, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog
import zstandard
from isal import isal_zlib

from m365watch.common.atomic_files import sync_folder
from m365watch.outputs.files.file_layout import FileKey, cut_file, flush_published, publish
from m365watch.outputs.files.recovery import list_parts, list_published, newest_here
from m365watch.outputs.files.undo import read_undo, remove_undo

_READ_BYTES = 1 << 20
_PACKED_BYTES = 1 << 16
"""What is read of a compressed file at a time; a member of it is held whole: at most one batch."""
_GZIP_WINDOW_BITS = 31
_log = structlog.get_logger(__name__)


def take_over(directory: Path) -> int:
    """Publish every growing file, cut behind its last whole record; the highest batch number here.

    Whether the last batch was committed nobody knows any more. It stays: what is in a file counts as held.
    """
    newest = newest_here(directory, read_undo(directory))
    published: list[FileKey] = []
    for key in list_parts(directory):
        path = directory / key.part_name
        length = max((end for end, _ in _whole_pieces(path, key)), default=0)
        if length == 0:
            path.unlink()
            continue
        if length < path.stat().st_size:
            cut_file(path, length=length)
        publish(directory, key)
        published.append(key)
    flush_published(directory, published)
    remove_undo(directory)
    sync_folder(directory / ".parts")
    return newest


def list_records(directory: Path, *, since: datetime) -> Iterator[list[bytes]]:
    """The lines of the published files that were begun or changed after `since`, in pieces."""
    for key in sorted(list_published(directory), key=lambda key: key.published_name):
        path = directory / key.published_name
        try:
            if _is_recent(path, key, since):
                for _, lines in _whole_pieces(path, key):
                    yield lines
        except FileNotFoundError:
            continue  # A shipper took it away.


def _is_recent(path: Path, key: FileKey, since: datetime) -> bool:
    began_at = datetime.strptime(key.stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return began_at >= since or path.stat().st_mtime >= since.timestamp()


def _whole_pieces(path: Path, key: FileKey) -> Iterator[tuple[int, list[bytes]]]:
    """Records of the file in order, each piece with the length in bytes up to its end.

    Ends, and says so, before the first byte that is no whole record, or no whole member if compressed.
    """
    match key.compression_suffix:
        case ".gz":
            pieces = _members(path, _open_gzip)
        case ".zst":
            pieces = _members(path, _open_zstd)
        case _:
            pieces = _plain_pieces(path)
    end = 0
    for end, text in pieces:
        yield end, text.split(b"\n")[:-1]
    size_bytes = path.stat().st_size
    if end < size_bytes:
        _log.warning(f"{path}: its last {size_bytes - end} bytes are no whole records, and do not count")


def _plain_pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    end, rest = 0, b""
    with path.open("rb") as file:
        while some := file.read(_READ_BYTES):
            text = rest + some
            whole = text[: text.rfind(b"\n") + 1]
            good = _good_length(whole)
            if good:
                end += good
                yield end, text[:good]
            if good < len(whole):
                return
            rest = text[good:]


def _good_length(lines: bytes) -> int:
    """How many of the bytes are lines of ours; what was not yet durable at a power cut may be zeros."""
    if b"\0" not in lines:
        return len(lines)
    torn = lines.index(b"\0")
    return lines.rfind(b"\n", 0, torn) + 1


def _members(path: Path, open_member: Callable[[], _Inflater]) -> Iterator[tuple[int, bytes]]:
    """The text of each whole member or frame, and where it ends in the file."""
    end = taken = 0
    inflater, texts = open_member(), list[bytes]()
    with path.open("rb") as file:
        while some := file.read(_PACKED_BYTES):
            taken += len(some)
            while some:
                try:
                    texts.append(inflater.decompress(some))
                except (isal_zlib.error, zstandard.ZstdError):  # type: ignore[misc]  # isal's stub calls it an instance.
                    return
                if not inflater.eof:
                    break
                some = inflater.unused_data
                end = taken - len(some)
                yield end, b"".join(texts)
                inflater, texts = open_member(), []


class _Inflater(Protocol):
    """What both libraries offer for one member."""

    def decompress(self, some: bytes, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def _open_gzip() -> _Inflater:
    return isal_zlib.decompressobj(_GZIP_WINDOW_BITS)


def _open_zstd() -> _Inflater:
    return zstandard.ZstdDecompressor().decompressobj()
