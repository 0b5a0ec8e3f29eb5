"""The trail on disk until it is in the lake: a line is durable before what it tells of is answered."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from m365watch.lake.schema import TRAIL_TABLE
from m365watch.lake.trail import Deed, TrailWriter
from m365watch.lake.writer import WRITE_FAILURES, ForeignTable, plain_reason

SLOTS = 8
"""Boards over one state directory that write at the same time, each into a file of its own."""
FILE_BYTES_MAX = 32 << 20
"""What waits for a lake at most, twice: then the older half goes. Without a lake that is all there is."""
_MODE = 0o600
LINE_MAX = 320 << 10
"""More than any line has, whatever stands in it."""
_log = structlog.get_logger(__name__)


class TrailJournal:
    """A file of lines, which `ship` brings to the lake; used by one thread at a time."""

    def __init__(
        self,
        state_directory: Path,
        *,
        lake: Callable[[], Path | None],
        collector_name: str,
        bytes_max: int = FILE_BYTES_MAX,
    ) -> None:
        """Take the first file that no other board has. `lake` says where its lines are to go just then."""
        self._bytes_max = bytes_max
        state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lake_now = lake
        self._lake: Path | None = None
        """The one that has counted the lines, as soon as one could be opened."""
        for slot in range(1, SLOTS + 1):
            self.path = state_directory / f"board-trail-{slot}.ndjson"
            self._file: BinaryIO = os.fdopen(
                os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, _MODE), "r+b"
            )
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                self._file.close()
        else:
            raise OSError(f"{SLOTS} boards write here already")
        self._app_id = f"m365watch/board_trail/{collector_name}/{slot}"
        self._writer: TrailWriter | None = None
        self._complaint = ""
        self._numbered = 0
        """The number of the last line that is known; 0 before the lake and the file were looked at."""

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make the lines durable, under numbers of their own. Raises: OSError."""
        self._look()
        # First: nobody pushes lines out of the file by many long ones.
        if self.path.stat().st_size > self._bytes_max and not self.ship():
            self._set_aside()
        self._append(deeds)

    def _append(self, deeds: Sequence[Deed]) -> None:
        lines = []
        for one in deeds:
            self._numbered += 1
            lines.append(msgspec.json.encode(msgspec.structs.replace(one, number=self._numbered)) + b"\n")
        self._write(b"".join(lines))

    def try_write(self) -> None:
        """See that a line could be made durable now: room is taken, and given back. Raises: OSError."""
        os.ftruncate(self._file.fileno(), self._write(b" " * (LINE_MAX - 1) + b"\n"))

    def _write(self, text: bytes) -> int:
        """Make it durable at the end of the file, whole or not at all; how long that was. Raises: OSError."""
        file, size = self._file.fileno(), self.path.stat().st_size
        try:
            is_cut = size > 0 and os.pread(file, 1, size - 1) != b"\n"  # by a crash
            left = memoryview(b"\n" + text if is_cut else text)
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except OSError:
            # What a full disk took of a line would be one with the next line.
            with suppress(OSError):
                os.ftruncate(file, size)
            raise
        return size

    def ship(self) -> bool:
        """Bring what waits to the lake; False where it goes on waiting."""
        if self._writer is not None and self._lake_now() != self._lake:
            self._bring()
            self._writer = None
        return self._bring()

    def _bring(self) -> bool:
        self._look()
        if not self._read():
            return True
        writer = self._open()
        if writer is None:
            return False
        if self._lake is not None and not (self._lake / TRAIL_TABLE.name).is_dir():
            self._complain("its folder is not where it was")  # a commit would make it anew
            return False
        deeds = self._read()
        try:
            writer.append(deeds)
        except (*WRITE_FAILURES, ForeignTable) as failure:
            self._writer = None
            self._complain(plain_reason(failure))
            return False
        os.ftruncate(self._file.fileno(), 0)
        os.fsync(self._file.fileno())
        self._complaint = ""
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _look(self) -> None:
        """Go on after the last number that the lake or the file has."""
        if self._numbered:
            return
        writer = self._open()
        in_lake = writer.last_number if writer is not None else 0
        self._numbered = max((one.number for one in self._read()), default=0)
        self._numbered = max(self._numbered, in_lake)

    def _open(self) -> TrailWriter | None:
        if self._writer is None and (lake := self._lake_now()) is not None:
            try:
                writer = TrailWriter(lake, app_id=self._app_id)
                if self._numbered and lake != self._lake:
                    self._renumber(writer.last_number)
                self._lake, self._writer = lake, writer
            except (*WRITE_FAILURES, ForeignTable) as failure:
                self._complain(plain_reason(failure))
        return self._writer

    def _renumber(self, in_lake: int) -> None:
        """Give lines that were counted without this lake numbers that it has not had. Raises: OSError."""
        unknown = [one for one in self._read() if one.number <= in_lake]
        self._numbered = max(self._numbered, in_lake)
        if unknown:
            self._append(unknown)

    def _read(self) -> list[Deed]:
        """The lines that wait; one that a crash cut short was answered to nobody."""
        found = []
        for line in self.path.read_bytes().splitlines():
            try:
                found.append(msgspec.json.decode(line, type=Deed))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        return found

    def _set_aside(self) -> None:
        """Begin the file anew; what was in it is kept beside it, in place of what was there before."""
        self.path.with_suffix(".older").write_bytes(self.path.read_bytes())
        self.path.with_suffix(".older").chmod(_MODE)
        os.ftruncate(self._file.fileno(), 0)

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            _log.warning(f"board: the trail waits for the lake: {why}; its lines are kept in {self.path}")
