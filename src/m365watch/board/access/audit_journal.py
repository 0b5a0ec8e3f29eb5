"""The trail on disk until it is in the lake: a line is durable before what it tells of is answered.

Lines go into one of two files, while those of the other are on their way to the lake: nobody who is noted
waits for that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Lock
from typing import Protocol

import msgspec
import structlog

from m365watch.common.atomic_files import sync_folder
from m365watch.common.timestamps import us_of
from m365watch.lake.audit_trail_table import Deed, TrailWriter
from m365watch.lake.delta.table_schema import ForeignTable
from m365watch.lake.schema import TRAIL_TABLE
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason

SLOTS = 8
"""Boards over one state directory that write at the same time, each into a file of its own."""
FILE_BYTES_MAX = 32 << 20
"""What each of the two has at most; where both have it, and no lake takes it, the older one's lines go."""
LOSS_FIX = "name a lake among the outputs that the collector writes to, or see why the lake refuses"
_MODE = 0o600
LINE_MAX = 320 << 10
"""More than any line has, whatever stands in it."""
_log = structlog.get_logger(__name__)


class TrailTable(Protocol):
    """The table of a lake in which each line stands once."""

    @property
    def last_number(self) -> int:
        """The number of the last line that is there; 0 for none."""
        ...

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make durable those that are not there yet. Raises: ForeignTable; any of WRITE_FAILURES."""
        ...


def _table_of(lake: Path, app_id: str) -> TrailTable:
    return TrailWriter(lake, app_id=app_id)


class _Lines:
    """A file of lines."""

    def __init__(self, path: Path) -> None:
        """Open it; make it where it is not there."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def lock(self) -> None:
        """Keep other boards from it. Raises: OSError: one has it."""
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self._file).st_size

    def write(self, text: bytes) -> int:
        """Make it durable at the end of the file, whole or not at all; how long that was. Raises: OSError."""
        size = self.size()
        try:
            is_cut = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"  # by a crash
            left = memoryview(b"\n" + text if is_cut else text)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError:
            # What a full disk took of a line would be one with the next line.
            with suppress(OSError):
                self.cut(size)
            raise
        return size

    def read(self) -> list[Deed]:
        """Its lines; one that a crash cut short was answered to nobody."""
        found = []
        for line in os.pread(self._file, self.size(), 0).splitlines():
            try:
                found.append(msgspec.json.decode(line, type=Deed))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
        return found

    def cut(self, size: int) -> None:
        """Leave so many of its bytes."""
        os.ftruncate(self._file, size)

    def empty(self) -> None:
        """Leave nothing of it, durably."""
        self.cut(0)
        os.fsync(self._file)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


class TrailJournal:
    """Lines on disk, which `ship` brings to the lake: one thread appends while another ships."""

    def __init__(
        self,
        state_directory: Path,
        *,
        lake: Callable[[], Path | None],
        collector_name: str,
        bytes_max: int = FILE_BYTES_MAX,
        open_table: Callable[[Path, str], TrailTable] = _table_of,
    ) -> None:
        """Take the first files that no other board has. `lake` says where their lines are to go just then."""
        self._bytes_max = bytes_max
        state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lake_now = lake
        self._lake: Path | None = None
        """The one that is written to, as soon as one could be opened."""
        for slot in range(1, SLOTS + 1):
            self.path = state_directory / f"board-trail-{slot}.ndjson"
            self._fresh = _Lines(self.path)
            """What is noted goes here."""
            try:
                self._fresh.lock()
                break
            except OSError:
                self._fresh.close()
        else:
            raise OSError(f"{SLOTS} boards write here already")
        self._older = _Lines(state_directory / f"board-trail-{slot}b.ndjson")
        """What was noted before all of that, and is on its way to the lake."""
        if _first_number(self._fresh) < _first_number(self._older):
            self._turn()
        sync_folder(state_directory)
        self._app_id = f"m365watch/board_trail/{collector_name}/{slot}"
        self._open_table = open_table
        self._writer: TrailTable | None = None
        self._complaint = ""
        self._has_looked = False
        self.loss = ""
        """Which lines of this run no lake has taken before they had to go; empty for none."""
        self._lost = 0
        self._numbered = 0
        """The number of the last line that is known."""
        self._shipping = Lock()
        """Whoever has it may use the lake, and what is on its way there; it can last."""
        self._writing = Lock()
        """Whoever has it may write a line; it comes after the other, and never lasts."""

    def append(self, deeds: Sequence[Deed]) -> None:
        """Make the lines durable, under numbers of their own. Raises: OSError."""
        if not self._has_looked:
            with self._shipping:
                self._look()
        # First: nobody pushes lines out of the files by many long ones.
        if self._fresh.size() > self._bytes_max:
            with self._shipping:
                if not self._bring():
                    self._drop()
                self._turn()
        with self._writing:
            self._append(deeds)

    def _append(self, deeds: Sequence[Deed]) -> None:
        lines = []
        for one in deeds:  # a lake that was away has had none of the time that is now
            self._numbered = max(self._numbered + 1, us_of(one.time))
            lines.append(msgspec.json.encode(msgspec.structs.replace(one, number=self._numbered)) + b"\n")
        self._fresh.write(b"".join(lines))

    def try_write(self) -> None:
        """See that a line could be made durable now: room is taken, and given back. Raises: OSError."""
        with self._writing:
            self._fresh.cut(self._fresh.write(b" " * (LINE_MAX - 1) + b"\n"))

    def ship(self) -> bool:
        """Bring what waits to the lake; False where it goes on waiting."""
        with self._shipping:
            self._look()
            if self._writer is not None and self._standing() != self._lake:
                self._bring_all()
                self._writer = None
            return self._bring_all()

    def _bring_all(self) -> bool:
        if not self._older.size() and not self._fresh.size():
            return True
        if self._open() is None or not self._bring():
            return False
        with self._writing:
            self._turn()
        return self._bring()

    def _turn(self) -> None:
        """From now on the other file is written to, which has nothing."""
        self._fresh, self._older = self._older, self._fresh

    def _bring(self) -> bool:
        """Bring what is on its way to the lake; whether it is there."""
        if not self._older.size():
            return True
        writer = self._open()
        if writer is None:
            return False
        try:
            if self._lake is not None and not (self._lake / TRAIL_TABLE.name).is_dir():
                self._complain("its folder is not where it was")  # a commit would make it anew
                return False
            writer.append(_new_to(writer.last_number, self._older.read()))
        except (*WRITE_FAILURES, ForeignTable) as failure:
            self._writer = None
            self._complain(plain_reason(failure))
            return False
        self._older.empty()
        self._complaint = ""
        return True

    def close(self) -> None:
        """Let go of the files."""
        self._older.close()
        self._fresh.close()

    def _look(self) -> None:
        """Once: go on after the last number that the lake or a file has."""
        if self._has_looked:
            return
        waiting = [*self._older.read(), *self._fresh.read()]
        self._numbered = max((one.number for one in waiting), default=0)
        self._open()
        self._has_looked = True

    def _open(self) -> TrailTable | None:
        if self._writer is None and (lake := self._standing()) is not None:
            try:
                writer = self._open_table(lake, self._app_id)
                with self._writing:
                    if self._numbered < writer.last_number:  # What waits is given numbers there (`_new_to`).
                        most = self._older.size() + self._fresh.size()
                        self._numbered = writer.last_number + most
                self._lake, self._writer = lake, writer
            except (*WRITE_FAILURES, ForeignTable) as failure:
                self._complain(plain_reason(failure))
        return self._writer

    def _standing(self) -> Path | None:
        """The lake as it is now; None where there is none, or where nobody can look, as at a lost mount."""
        try:
            return self._lake_now()
        except OSError as failure:
            self._complain(plain_reason(failure))
            return None

    def _drop(self) -> None:
        gone = self._older.read()
        self._older.empty()
        if gone:
            self._lost += len(gone)
            lines = f"{self._lost:,} line{'s' if self._lost > 1 else ''}"
            until = f"{max(one.time for one in gone):%Y-%m-%d %H:%M:%S} UTC"
            self.loss = f"{lines} until {until} had to go, as no lake took them and their room was full"
            _log.error(f"board: the trail lacks what was done: {self.loss}; {LOSS_FIX}")

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            _log.warning(f"board: the trail waits for the lake: {why}; its lines are kept in {self.path}")


def _first_number(lines: _Lines) -> float:
    return min((one.number for one in lines.read()), default=inf)


def _new_to(in_lake: int, deeds: list[Deed]) -> list[Deed]:
    """The lines of a file that a lake whose last number is `in_lake` does not have, under later numbers.

    A commit has all that the file had, so that a line with that number tells which are there. Where there is
    none, lower numbers are of a clock that went back, or of another lake, and the lines are new all the same.
    """
    numbers = [one.number for one in deeds]
    if in_lake in numbers:
        return deeds[numbers.index(in_lake) + 1 :]
    if not numbers or numbers[0] > in_lake:
        return deeds
    return [msgspec.structs.replace(one, number=in_lake + place) for place, one in enumerate(deeds, 1)]
