"""Marks of what was erased, beside the lake, so that it does not come back when no ledger remembers it.

Below `erased`: the lake's key, and a file of marks for each day on which an erasure began. A mark is durable
before the commit that takes its record out: at any moment a record is in the lake, or marked, or both.
Nothing of it names a person. The files can be read by their owner alone; a file goes `KEPT` after its day.
To remove one, or the folder, earlier is to forget, and harms nothing else.
"""

from __future__ import annotations

import errno
import os
import secrets
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from m365watch.common.atomic_files import put_file, sync_folder
from m365watch.common.model import Header, TenantId
from m365watch.records.identity import KEY_BYTES, MARK_BYTES, MarkMaker

FOLDER = "erased"
"""Below the lake."""
KEPT = timedelta(days=400)
"""How long after their erasure: as far as one recovery reaches back. The audit search keeps records for 180
days in its standard form, and for a year in most of its Premium form."""
MARKS_PER_PIECE = 50_000
_KEY = "key"
_SUFFIX = ".marks"


class MarkBook:
    """Where one erasure writes its marks; the caller holds the lake."""

    def __init__(self, lake: Path, *, began_at: datetime) -> None:
        """Nothing is made before `add`; a resumed erasure goes on with the file that it began."""
        self._folder = lake / FOLDER
        self._path = self._folder / f"{began_at:%Y-%m-%d}{_SUFFIX}"

    def maker(self) -> MarkMaker:
        """The maker under the lake's key, which is made where there is none. Raises: OSError."""
        key = _read_key(self._folder)
        return MarkMaker(self._make_key() if key is None else key)

    def add(self, marks: Iterable[bytes]) -> None:
        """The marks are durable. Raises: OSError."""
        is_new = not self._path.exists()
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            # What a crash has left of a mark must not stand in front of whole ones.
            file.seek(os.fstat(file.fileno()).st_size // MARK_BYTES * MARK_BYTES)
            file.truncate()
            file.write(b"".join(marks))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self._folder)

    def _make_key(self) -> bytes:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self._folder.parent)
        key = secrets.token_bytes(KEY_BYTES)
        put_file(self._folder / _KEY, (key,))
        return key


@dataclass(frozen=True, slots=True)
class ErasedRecords:
    """What was erased from a lake, as far as its marks tell; 16 bytes a record in memory."""

    maker: MarkMaker
    marks: bytes
    """All of them, sorted."""

    def places(self, tenant_id: TenantId, headers: Sequence[Header], records: Sequence[bytes]) -> set[int]:
        """The places of those records that were erased."""
        marks = self.maker.marks(tenant_id, headers, records)
        return {place for place, mark in enumerate(marks) if self.has(mark)}

    def has(self, mark: bytes) -> bool:
        """Whether it is one of them."""
        count = len(self.marks) // MARK_BYTES
        place = bisect_left(range(count), mark, key=self._at)
        return place < count and self._at(place) == mark

    def _at(self, place: int) -> bytes:
        return self.marks[place * MARK_BYTES : (place + 1) * MARK_BYTES]


def read_erased(lake: Path) -> ErasedRecords | None:
    """What was erased; None where nothing is marked. Raises: OSError."""
    key = _read_key(lake / FOLDER)
    if key is None:
        return None
    marks = [mark for piece in list_marks(lake) for mark in piece]
    return ErasedRecords(MarkMaker(key), b"".join(sorted(set(marks))))


def key_of(lake: Path) -> bytes | None:
    """The lake's key; None where nothing was ever marked. Raises: OSError."""
    return _read_key(lake / FOLDER)


def list_marks(lake: Path) -> Iterator[list[bytes]]:
    """Every mark, in pieces, in no order that counts. Raises: OSError."""
    for path, _ in _files(lake):
        try:
            with path.open("rb") as file:
                while some := file.read(MARKS_PER_PIECE * MARK_BYTES):
                    whole = len(some) // MARK_BYTES * MARK_BYTES
                    yield [some[start : start + MARK_BYTES] for start in range(0, whole, MARK_BYTES)]
        except FileNotFoundError:
            continue  # It was old enough to go.


def drop_old_marks(lake: Path, *, now: datetime) -> int:
    """Remove the files of marks that are old enough; how many there were. Raises: OSError."""
    old = [path for path, day in _files(lake) if day < (now - KEPT).date()]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _files(lake: Path) -> list[tuple[Path, date]]:
    found = []
    for path in sorted((lake / FOLDER).glob(f"*{_SUFFIX}")):
        try:
            found.append((path, date.fromisoformat(path.stem)))
        except ValueError:
            continue  # Not ours.
    return found


def _read_key(folder: Path) -> bytes | None:
    try:
        key = (folder / _KEY).read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise OSError(errno.EINVAL, f"{folder / _KEY} is no key of {KEY_BYTES} bytes")
    return key
