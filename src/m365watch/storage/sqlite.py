"""The ledger's SQLite file: how it is opened, and what its failures mean."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from m365watch.common.errors import LedgerUnavailable, LedgerUnusable
from m365watch.common.file_access import why_denied
from m365watch.ledger.schema import migrate

sync_content: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""As SQLite itself does it; not every system can leave out a file's times."""


class Durability:
    """Syncs the write-ahead log of a connection: all transactions before are durable then.

    A log counts up to its first frame that is not whole, so that a power cut before the sync takes away the
    last transactions and none from among them (https://sqlite.org/walformat.html, "The WAL File Format").
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, sync: Callable[[int], None] = sync_content
    ) -> None:
        """Leave transactions as they are, durable one by one, until `defer`; `path` is the database's."""
        self._connection = connection
        self._path = path
        self._sync = sync
        self._synced_changes = -1

    def defer(self) -> Callable[[], None]:
        """Let transactions from here on be durable with `settle` only, which is returned."""
        self._connection.execute("PRAGMA synchronous = NORMAL")
        return self.settle

    def settle(self) -> None:
        """Make durable what was committed since the last time; nothing where nothing was.

        Raises: LedgerUnusable: what has happened since then may be lost.
        """
        changes = self._connection.total_changes
        if changes == self._synced_changes:
            return
        try:
            if self._synced_changes < 0:
                self._sync_file(self._path.parent)  # The log's name, which is there from now on.
            self._sync_file(Path(f"{self._path}-wal"))
        except OSError as error:
            raise LedgerUnusable(
                f"the ledger's log cannot be brought to the disk ({error.strerror or error})",
                where=str(self._path),
                fix="look at the disk, then start `m365watch run` again: it goes on with what the disk has",
            ) from error
        self._synced_changes = changes

    def _sync_file(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._sync(descriptor)
        finally:
            os.close(descriptor)


_NO_ROOM = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that can only read, beside a process that may be writing. Raises: sqlite3.Error."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        connection.close()
        return connect_still(path, error)
    return connection


def connect_still(path: Path, refused: sqlite3.Error) -> sqlite3.Connection:
    """A connection to the file as it lies there, where that is all of it; short, for it sees no change.

    Raises: sqlite3.Error: `refused`, which is why it could not be opened in the ordinary way.
    """
    code = getattr(refused, "sqlite_errorcode", 0) & 0xFF
    if code not in _NO_ROOM or not path.is_file() or _has_journal(path):
        raise refused
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )


def _has_journal(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


P = ParamSpec("P")
T = TypeVar("T")
_CACHE_KIB = 4_000
_ROOM_BYTES = 64 * 1024
"""Less than this is no room: what SQLite writes first may have this size."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}

FAILURES = (sqlite3.Error, UnicodeDecodeError)
"""What working with a file raises; the second where SQLite quotes bytes of it that are no text."""


class HasPath(Protocol):
    """What names its file in an error."""

    path: Path


Named = TypeVar("Named", bound=HasPath)


def open_database(path: Path) -> sqlite3.Connection:
    """The ledger's file, created or brought to the present schema; statements commit one by one.

    Raises: LedgerUnusable; LedgerUnavailable.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA busy_timeout = 5000")
        migrate(connection)
    except FAILURES as error:
        raise name_failure(error, path) from error
    path.chmod(0o600)
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's statements happen, durably, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def failures_named(method: Callable[Concatenate[Named, P], T]) -> Callable[Concatenate[Named, P], T]:
    """The method, its failures at the database in words that the collector knows."""

    @wraps(method)
    def named(self: Named, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except FAILURES as error:
            raise name_failure(error, self.path) from error

    return named


def name_failure(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerUnavailable | LedgerUnusable:
    """A full disk or a lock passes; damage is mended by the next start; anything else needs a person."""
    if is_damage(error):
        # The next start then looks at all of it, however long that takes.
        with contextlib.suppress(OSError):
            suspicion_of(path).touch(mode=0o600)
        return LedgerUnusable(
            f"the ledger is damaged ({error})",
            where=str(path),
            fix="look at the disk, then start `m365watch run` again: it sets a damaged ledger aside, "
            "and reads what the outputs hold",
        )
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
        why = "its disk is full: make room on it" if _has_no_room(path) else str(error)
        return LedgerUnavailable(f"the ledger cannot be written ({why})", where=str(path))
    if closed := why_denied(path):
        fix = "run the collector as the user whose it is, or let this one read and write it"
        return LedgerUnusable(f"the ledger {closed}", where=str(path), fix=fix)
    why = "it holds bytes that are no text" if isinstance(error, UnicodeDecodeError) else str(error)
    return LedgerUnusable(
        f"the ledger cannot be used ({why})",
        where=str(path),
        fix="check the disk; where the file is moved aside, the next run begins a new one",
    )


def _has_no_room(path: Path) -> bool:
    """Whether the file's disk is full, of which SQLite may say "disk I/O error"."""
    try:
        return shutil.disk_usage(path.parent).free < _ROOM_BYTES
    except OSError:
        return False


def is_damage(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether `error` says that the file itself is not as SQLite wrote it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def suspicion_of(path: Path) -> Path:
    """The file beside the ledger at `path` that says that a run met damage in it."""
    return path.with_suffix(".suspect")


def directory_unusable(directory: Path, error: OSError) -> LedgerUnusable:
    """What to say of a state directory that fails before the ledger is opened."""
    return LedgerUnusable(
        f"the state directory cannot be used ({error.strerror or error})",
        where=str(directory),
        fix="make it a directory that this user can write",
    )
