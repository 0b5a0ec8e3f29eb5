"""What the board must not lose: one file of the state directory, which only its owner may read."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator
from m365watch.detection.alerts.alert import clean_text
from m365watch.lake.schema import OUTBOX_FILE
from m365watch.storage.damage import set_aside_damaged
from m365watch.storage.database import (
    FAILURES,
    Database,
    DatabaseError,
    Schema,
    connect,
    open_database,
    read_rows,
    reason_of,
)

FILE_NAME = OUTBOX_FILE
LOCK_FILE = "board.lock"
_OTHERS = 0o077
_BOARD = Schema(
    1,
    """
CREATE TABLE trail_outbox (
    number INTEGER PRIMARY KEY, end_bytes INTEGER NOT NULL, line BLOB NOT NULL
) STRICT;
-- One row: the last line's number and the bytes of all lines that ever were.
CREATE TABLE trail_outbox_end (
    id TEXT NOT NULL, number INTEGER NOT NULL, end_bytes INTEGER NOT NULL, room BLOB
) STRICT;
-- Its own name: another file has other lines under the same numbers.
INSERT INTO trail_outbox_end VALUES (lower(hex(randomblob(8))), 0, 0, NULL);
-- The name without its case; the body as JSON.
CREATE TABLE user (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
CREATE TABLE token (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body BLOB NOT NULL) STRICT;
CREATE TABLE link (hash TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT;
CREATE TABLE known_address (hash TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;
-- Tenants are the owner's, with spaces between them; NULL: all.
CREATE TABLE search (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, url TEXT NOT NULL,
    is_shared INTEGER NOT NULL, tenants TEXT, saved_at INTEGER NOT NULL, UNIQUE (owner, name)
) STRICT;
""",
    ("journal_mode = WAL",),
)
_Kept = TypeVar("_Kept")
_log = structlog.get_logger(__name__)


def hash_of(secret: str) -> str:
    """What is kept of something random that lets somebody in."""
    return hashlib.sha256(secret.encode()).hexdigest()


def open_board(state_directory: Path) -> Database:
    """The file, made if it is not there. Raises: DatabaseError; OSError."""
    return open_database(state_directory / FILE_NAME, _BOARD)


def set_aside_if_damaged(state_directory: Path, clock: Clock) -> None:
    """Let the board begin with a new file where SQLite finds the old one damaged, with one line."""
    path = state_directory / FILE_NAME
    # Opening it meets these failures, and says so.
    with suppress(OSError, *FAILURES), open(state_directory / LOCK_FILE, "wb", opener=_owner_only) as lock:
        # Two boards start together: what one has made anew is not set aside by the other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists() and (found := set_aside_damaged(path, clock)) is not None:
            _log.error(
                f"board: {path} was damaged ({found.problem}); it is kept as {found.kept}, with the users,"
                " tokens and searches, and lines of the trail that no lake had yet; add the users again:"
                " m365watch board user add NAME"
            )


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class BoardStore:
    """A part of the file in a state directory; a change by another process is seen at the next look."""

    def __init__(self, state_directory: Path) -> None:
        """Nothing is read yet."""
        self.path = state_directory / FILE_NAME
        self._reading = connect(None)  # until the first look
        self._inode = 0

    def __del__(self) -> None:
        """Let go of the file."""
        self._reading.close()

    def read(self, statement: str, given: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What the statement finds; nothing where there is no file yet. Raises: NeedsOperator."""
        with self._told():
            try:
                return self._connected().execute(statement, given).fetchall()
            except FileNotFoundError:
                return []
            except DatabaseError:  # Without tables yet, on a disk that takes nothing, or damaged.
                return read_rows(self.path, statement, given, schema=_BOARD)

    def read_bodies(self, kind: type[_Kept], statement: str, given: Sequence[object] = ()) -> list[_Kept]:
        """The bodies that the statement finds. Raises: NeedsOperator."""
        with self._told():
            return [msgspec.json.decode(body, type=kind) for (body,) in self.read(statement, given)]

    @contextmanager
    def change(self) -> Iterator[Database]:
        """The file, made if it is not there, for one transaction. Raises: NeedsOperator."""
        with self._told(), closing(open_board(self.path.parent)) as board, board.transaction():
            self._private_inode()
            yield board

    def _connected(self) -> Database:
        """A connection to the file that has the name now: opening it for each look takes 20 times as long."""
        inode = self._private_inode()
        if self._inode != inode:
            self._reading.close()
            self._reading = connect(self.path, mode="rw")
            self._reading.require(_BOARD)
            self._inode = inode
        return self._reading

    def _private_inode(self) -> int:
        status = self.path.stat()
        if status.st_size and status.st_mode & _OTHERS:  # an empty one is new
            raise NeedsOperator(
                f"others can read the board's users and tokens (mode {status.st_mode & 0o777:04o})",
                fix=f"run: chmod 600 {self.path}; then give each user another password, and make new tokens",
                where=str(self.path),
            )
        return status.st_ino

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, DatabaseError, UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
            raise NeedsOperator(
                # The reason may quote what is damaged.
                f"the board's database cannot be used: {clean_text(reason_of(error))}",
                fix="run this as the user that the collector runs as, and make room on the disk; move a"
                " damaged file away, and add the users again: m365watch board user add NAME",
                where=str(self.path),
            ) from None
