"""A file of SQLite that is read where SQLite can put nothing beside it, as on a full disk.

To read a file in WAL mode SQLite makes two more, and refuses where they find no room. While nothing waits in
the journal, the file by itself is all there is.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

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
