"""What a directory of files holds, for a ledger that does not know: whole records, read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
import zstandard
from isal import isal_zlib

from m365watch.common.atomic_files import put_file, size_of, sync_folder
from m365watch.common.errors import OutputUnusable
from m365watch.outputs.files.file_layout import (
    FILE_MODE,
    FileKey,
    cut_file,
    flush_published,
    parse_part_name,
    parse_published_name,
    publish,
)

_NAME = ".parts/undo.json"
_log = structlog.get_logger(__name__)


class UndoNote(msgspec.Struct, frozen=True):
    """How to take batch `number` out of files that are already published."""

    number: int
    previous: int
    """The batch with records before it; a ledger that ends earlier belongs to another past."""
    lengths: dict[str, int]
    """Each file's length in bytes without the batch; 0: the batch opened it."""


def write_undo(directory: Path, note: UndoNote) -> None:
    """Replace the note, durably."""
    put_file(directory / _NAME, (msgspec.json.encode(note),), mode=FILE_MODE)


def read_undo(directory: Path) -> UndoNote | None:
    """The note; None if there is none, or none that can be believed, which is told.

    Without it nothing is cut. Where that would have been needed, the files are longer than the ledger says,
    or newer, and the start is refused for that.

    Raises: OSError.
    """
    path = directory / _NAME
    try:
        note = msgspec.json.decode(path.read_bytes(), type=UndoNote)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        note = None
    if note is not None and all(map(_is_ours, note.lengths, note.lengths.values())):
        return note
    _log.warning(f"{path} is damaged and not used; no file is cut back by it, and nothing is lost")
    return None


def _is_ours(name: str, length: int) -> bool:
    """Whether the note speaks of a file that this output may have published, here and nowhere else."""
    folder, _, file = name.partition("/")
    return length >= 0 and not folder.startswith(".") and parse_published_name(folder, file) is not None


def remove_undo(directory: Path) -> None:
    """Forget the note."""
    (directory / _NAME).unlink(missing_ok=True)


def cut_back(
    directory: Path, *, last_batch: int, newest_batch: int | None, committed: Mapping[str, int], where: str
) -> list[FileKey]:
    """Undo what came after `last_batch`; answer the files in `.parts` that are left to publish.

    `committed` gives the length in bytes of each file that was growing then, by published name.
    A published file is never touched, unless the undo note names it. What a batch beyond `newest_batch`
    (the highest number that the ledger has ever given, None if not known) wrote is another ledger's.

    Raises: OutputUnusable: the ledger is older than the directory, or belongs to another one.
    """
    note = read_undo(directory)
    is_foreign = newest_batch is not None and newest_here(directory, note) > newest_batch
    if note is not None and note.number <= last_batch:
        note = None
    if is_foreign or _is_ahead(directory, last_batch=last_batch, committed=committed, note=note):
        raise OutputUnusable(
            f"{directory} holds batches that the ledger does not know (it ends at {last_batch})",
            fix="put back the ledger that belongs to these files, or set another `directory`;"
            " `m365watch ledger restore` with the present ledger's own file goes on with it",
            where=where,
        )
    if note is not None:
        _undo_published(directory, note)
    remove_undo(directory)
    parts = [
        key
        for key in list_parts(directory)
        if _cut_part(directory, key, last_batch=last_batch, committed=committed)
    ]
    sync_folder(directory / ".parts")
    return parts


def newest_here(directory: Path, note: UndoNote | None) -> int:
    """The highest number of a batch that has left its name here; 0 if none has."""
    keys = [*list_parts(directory), *list_published(directory)]
    return max([key.number for key in keys] + ([note.number] if note else []), default=0)


def _is_ahead(
    directory: Path, *, last_batch: int, committed: Mapping[str, int], note: UndoNote | None
) -> bool:
    """Whether files were published that hold more than one batch beyond the ledger's last."""
    if note is not None and last_batch < note.previous:
        return True
    undoable = note.lengths if note is not None else {}
    opened_later = (
        key.number > last_batch and key.published_name not in undoable for key in list_published(directory)
    )
    grown = (
        size_of(directory / name) > length and name not in undoable for name, length in committed.items()
    )
    return any(opened_later) or any(grown)


def _undo_published(directory: Path, note: UndoNote) -> None:
    """Cut the files of the note back; one that the batch opened goes away whole."""
    for name, length in note.lengths.items():
        path = directory / name
        if not path.exists():
            continue
        if length:
            cut_file(path, length=length)
        else:
            path.unlink()
            sync_folder(path.parent)


def _cut_part(directory: Path, key: FileKey, *, last_batch: int, committed: Mapping[str, int]) -> bool:
    """Whether the growing file `key`, cut back to what was committed, is left to publish."""
    path = directory / key.part_name
    length = committed.get(key.published_name)
    if length is None and key.number > last_batch:
        path.unlink()
        return False
    if length is None or path.stat().st_size < length:
        kept = path.rename(path.with_name(f"{path.name}.damaged"))
        _log.warning(
            "a file was changed by somebody else; it is kept aside and not published",
            file=str(kept),
            committed_bytes=length,
        )
        return False
    cut_file(path, length=length)
    return True


def list_parts(directory: Path) -> list[FileKey]:
    """The files that were growing, in the order of their names."""
    names = sorted(path.name for path in (directory / ".parts").iterdir())
    return [key for key in map(parse_part_name, names) if key is not None]


def list_published(directory: Path) -> Iterator[FileKey]:
    """Every published file of ours."""
    for folder in directory.iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        for path in folder.iterdir():
            key = parse_published_name(folder.name, path.name)
            if key is not None:
                yield key


_READ_BYTES = 1 << 20
_PACKED_BYTES = 1 << 16
"""What is read of a compressed file at a time; a member of it is held whole: at most one batch."""
_GZIP_WINDOW_BITS = 31


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
