"""One file that still grows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from m365watch.outputs.files.file_layout import FILE_MODE, FileKey, cut_file


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
