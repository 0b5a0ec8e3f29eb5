"""One process per ledger, held by the operating system, so that a killed process leaves no lock."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Event

from m365watch.common.atomic_files import FULL
from m365watch.common.errors import LedgerHeld, LedgerUnusable

LOCK_FILE = "ledger.lock"
_NAMED = re.compile(r"pid ([1-9][0-9]{0,9}) on ")
_OPEN_FILES_MAX = 1024
"""Of a process that are looked through for its lock, which it opens among the first."""

_LOOK_S = 0.001
_LOOKS_MAX = 1000
"""How often, and how many times, the lock is tried while others look whether somebody has it."""


def cure_beside_collector(error: OSError) -> str:
    """What helps a command that cannot write a file into a collector's state directory."""
    if error.errno in FULL:
        return "make room on the disk of the state directory"
    return "call it as the user that the collector runs as"


class LedgerLock:
    """Holds `ledger.lock` in the state directory from `acquire` to `release`."""

    def __init__(self, path: Path, *, says: str = "") -> None:
        """`path` is the lock's file; its directory has to exist. `says` is told behind the pid and host."""
        self._path = path
        self._says = f", {says}" if says else ""
        self._file: int | None = None
        self.is_kept = False
        """Whether `release` waits: while one ledger is closed and opened again, nobody comes in between."""

    def acquire(self) -> None:
        """Take the lock, unless it was kept.

        Raises: LedgerHeld: another process has it; its pid and host are named. OSError.
        """
        if self._file is not None:
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _take(file):
            holder = _named_in(file)
            os.close(file)
            raise LedgerHeld(
                f"held by {holder}",
                where=str(self._path),
                fix="stop that process first, or give this one another state directory",
            )
        os.ftruncate(file, 0)
        os.pwrite(file, f"pid {os.getpid()} on {socket.gethostname()}{self._says}\n".encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give the lock back, unless it is to be kept; twice does no harm."""
        if self._file is not None and not self.is_kept:
            os.close(self._file)
            self._file = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Once it was taken in the block, it is held to the end of that."""
        self.is_kept = True
        try:
            yield
        finally:
            self.is_kept = False
            self.release()


def hold_ledger(path: Path) -> LedgerLock:
    """The lock of the ledger at `path`, held until it is released; its directory is made.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: it cannot be held.
    """
    lock = LedgerLock(path.with_name(LOCK_FILE))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire()
    except OSError as error:
        raise LedgerUnusable(
            f"the ledger cannot be held ({error.strerror or error})",
            where=str(path),
            fix=cure_beside_collector(error),
        ) from error
    return lock


def holder_of(path: Path) -> str | None:
    """Who holds the lock at `path`: pid and host; None if nobody does. Nothing is written there.

    Raises: OSError: the file is there, and cannot be looked at.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named_in(file)
    finally:
        os.close(file)
    return None


def _take(file: int) -> bool:
    """Whether the lock of the open file is had now.

    Who only looks shares it, for a moment: as long as it can be shared, nobody has it, and it is tried again.
    """
    for _ in range(_LOOKS_MAX):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
        Event().wait(_LOOK_S)
    return False


def _named_in(file: int) -> str:
    """Who has written into the lock's open file that the lock is theirs."""
    return os.pread(file, 200, 0).decode("utf-8", "replace").strip() or "another process"


def pid_holding(path: Path) -> int | None:
    """The other process of this machine that holds the lock at `path`, by its pid; None if none is seen to.

    The lock is not tried, so that nobody is refused it meanwhile. The pid is only where to look: in another
    container it is a stranger's, and so it is once it was used again. What Linux says of the open files of
    that process decides, and says it to the same user alone.
    """
    try:
        with path.open("rb") as lock:
            named = _NAMED.match(lock.read(200).decode("utf-8", "replace"))
        if named is None or int(named[1]) == os.getpid():
            return None
        process = Path("/proc", named[1])
        for file in islice((process / "fdinfo").iterdir(), _OPEN_FILES_MAX):
            with suppress(FileNotFoundError):  # it has been closed meanwhile
                if b"FLOCK" in file.read_bytes() and (process / "fd" / file.name).samefile(path):
                    return int(named[1])
    except OSError:
        pass
    return None
