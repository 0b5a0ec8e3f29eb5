"""One file that still grows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from m365watch.outputs.files.layout import FILE_MODE, FileKey, cut_file


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
    _descriptor: int | None = None

    def write(self, lines: bytes, *, directory: Path) -> None:
        """Put `lines` behind what counts, durably; they count once `accept` is called."""
        if self._descriptor is None:
            truncate = 0 if self.length else os.O_TRUNC
            flags = os.O_WRONLY | os.O_CREAT | truncate
            self._descriptor = os.open(directory / self.key.part_name, flags, FILE_MODE)
        rest = memoryview(lines)
        while rest:
            start = self.length + len(lines) - len(rest)
            rest = rest[os.pwrite(self._descriptor, rest, start) :]
        os.fdatasync(self._descriptor)

    def accept(self, size_bytes: int, *, number: int, written_s: float) -> None:
        """Count the bytes that batch `number` has written."""
        self.length_before = self.length
        self.length += size_bytes
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
