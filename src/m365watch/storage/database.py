"""Database files: how they are opened, their tables by version, and what their failures mean.

Stores take connections and errors from here and name no engine, so that another can stand beside SQLite.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Literal

from m365watch.common.atomic_files import size_of

DatabaseError = sqlite3.Error
"""What a statement raises."""
Cursor = sqlite3.Cursor
"""What a statement finds."""
FAILURES = (DatabaseError, UnicodeDecodeError)
"""What working with a file raises; the second where SQLite quotes bytes of it that are no text."""
BUSY_S = 5.0
"""How long a lock of somebody else is waited for."""
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file."""
_MAGIC = b"SQLite format 3\0"
_ROOM_BYTES = 64 * 1024
"""Less than this is no room: what SQLite writes first may have this size."""


class Failure(Enum):
    """Why a statement failed."""

    DAMAGE = auto()
    """The file itself is not as it was written."""
    BUSY = auto()
    """Somebody else has a lock on it."""
    FULL = auto()
    WRITE = auto()
    """The disk does not take what is written."""
    IO = auto()
    """Another failure of the disk."""
    INTERRUPTED = auto()
    OTHER = auto()


_FAILURES = {
    sqlite3.SQLITE_IOERR_WRITE: Failure.WRITE,
    sqlite3.SQLITE_IOERR_FSYNC: Failure.WRITE,
    sqlite3.SQLITE_CORRUPT: Failure.DAMAGE,
    sqlite3.SQLITE_NOTADB: Failure.DAMAGE,
    sqlite3.SQLITE_BUSY: Failure.BUSY,
    sqlite3.SQLITE_LOCKED: Failure.BUSY,
    sqlite3.SQLITE_FULL: Failure.FULL,
    sqlite3.SQLITE_IOERR: Failure.IO,
    sqlite3.SQLITE_INTERRUPT: Failure.INTERRUPTED,
}
_UNWRITABLE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY}
"""What opening a sound file may meet on a disk that takes nothing."""


def failure_of(error: BaseException) -> Failure:
    """Why a statement failed."""
    code = getattr(error, "sqlite_errorcode", 0)
    return _FAILURES.get(code) or _FAILURES.get(code & 0xFF, Failure.OTHER)


def is_damage(error: BaseException) -> bool:
    """Whether `error` says that the file itself is not as it was written."""
    return failure_of(error) is Failure.DAMAGE


def reason_of(error: BaseException) -> str:
    """Why a file cannot be used, in the system's words or SQLite's."""
    return getattr(error, "strerror", None) or str(error)


def suspect(path: Path) -> None:
    """Have the next start look at all of the file, however long that takes."""
    with suppress(OSError):
        suspicion_of(path).touch(mode=0o600)


def suspicion_of(path: Path) -> Path:
    """The file beside the one at `path` that says that a run met damage in it."""
    return path.with_suffix(".suspect")


def has_no_room(path: Path) -> bool:
    """Whether the file's disk is full, of which SQLite may say "disk I/O error"."""
    try:
        return shutil.disk_usage(path.parent).free < _ROOM_BYTES
    except OSError:
        return False


def is_database(path: Path) -> bool:
    """Whether SQLite wrote the file; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one kind of file."""

    version: int
    tables: str
    """The statements that make them."""
    settings: tuple[str, ...] = ()
    """How SQLite keeps the file: pragmas as `name = value`."""


class OtherVersion(sqlite3.DatabaseError):
    """The file is of another version than `known`, or of another program."""

    def __init__(self, version: int, known: int) -> None:
        super().__init__(f"it has schema {version}, this version knows {known}")
        self.version = version
        self.known = known


class Database(sqlite3.Connection):
    """A connection to a file; outside of `transaction` each statement is a transaction of its own."""

    @property
    def version(self) -> int:
        """The number of the file's schema; 0 of one without tables."""
        return int(self.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block's statements happen, durably, or none."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:
                with suppress(DatabaseError):  # What has led here is told.
                    self.execute("ROLLBACK")
            raise

    def require(self, schema: Schema) -> None:
        """Nothing, where the file has these tables. Raises: OtherVersion."""
        if (version := self.version) != schema.version:
            raise OtherVersion(version, schema.version)

    def copy_to(self, target: Path, on_pages: Callable[[int, int], None], *, pages_at_once: int) -> None:
        """Make `target` one whole file with all that is in this one, as it is at one moment."""
        copy = connect(target)
        try:
            self.backup(
                copy, pages=pages_at_once, progress=lambda _, left, total: on_pages(total - left, total)
            )
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()


def connect(
    path: Path | None,
    *,
    mode: Literal["rwc", "rw", "ro", "immutable"] = "rwc",
    timeout_s: float = BUSY_S,
) -> Database:
    """A connection as it comes, to a file of whatever version; without `path`, to one in memory.

    `immutable` reads a file as it lies there and makes nothing beside it; it sees no change.
    """
    how = "immutable=1" if mode == "immutable" else f"mode={mode}"
    return sqlite3.connect(
        ":memory:" if path is None else f"{path.absolute().as_uri()}?{how}",
        uri=True,
        isolation_level=None,
        timeout=timeout_s,
        check_same_thread=False,
        factory=Database,
    )


def connect_to_read(path: Path, *, timeout_s: float = BUSY_S) -> Database:
    """A connection that can only read, beside a process that may be writing. Raises: DatabaseError."""
    database = connect(path, mode="ro", timeout_s=timeout_s)
    try:
        database.version  # noqa: B018 - the first read opens the file
    except DatabaseError as error:
        database.close()
        return connect_still(path, error)
    return database


def connect_still(path: Path, refused: DatabaseError) -> Database:
    """A connection to the file as it lies there, where that is all of it; short, for it sees no change.

    Raises: DatabaseError: `refused`, which is why it could not be opened in the ordinary way.
    """
    code = getattr(refused, "sqlite_errorcode", 0) & 0xFF
    if code not in _UNWRITABLE or not path.is_file() or _has_journal(path):
        raise refused
    return connect(path, mode="immutable")


def _has_journal(path: Path) -> bool:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def read_rows(
    path: Path, statement: str, given: Sequence[object] = (), *, schema: Schema | None = None
) -> list[tuple[Any, ...]]:
    """What the statement finds; nothing where there is no file, or none has made its tables yet.

    On a bad disk any bytes may stand in a text: those that are none are replaced, and no error quotes them.

    Raises: OtherVersion: the tables are not those of `schema`; DatabaseError; OSError.
    """
    if not path.exists():
        return []
    with closing(connect_to_read(path)) as database:
        if not database.version:
            return []
        if schema is not None:
            database.require(schema)
        database.text_factory = _text_of
        return database.execute(statement, given).fetchall()


def _text_of(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")


def open_database(
    path: Path | None, schema: Schema, *, survives_power_cuts: bool = True, timeout_s: float = BUSY_S
) -> Database:
    """The file with the tables of `schema`; a new one, as one that a crash left empty, is its owner's alone.

    A file of another version is left as it is. Without `survives_power_cuts`, one may take away the last
    transactions, and none from among them. Raises: OtherVersion; DatabaseError; OSError.
    """
    is_new = path is not None and not size_of(path)
    if path is not None and is_new:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = connect(path, timeout_s=timeout_s)
    try:
        if path is not None and is_new:
            path.chmod(0o600)  # Nothing is in it yet.
        if database.version:
            database.require(schema)
        for setting in (*schema.settings, f"synchronous = {'FULL' if survives_power_cuts else 'NORMAL'}"):
            database.execute(f"PRAGMA {setting}")
        _make_tables(database, schema)
    except BaseException:
        database.close()
        raise
    return database


def _make_tables(database: Database, schema: Schema) -> None:
    """In one transaction, unless somebody else has made them meanwhile."""
    if not database.version:
        with database.transaction():
            if not database.version:
                for statement in _statements(schema.tables):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {schema.version}")
    database.require(schema)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for piece in script.split(";"):
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
