"""One-time links that open a board on which nobody signs in: the codes that are pending, as hashes.

They are in a file of the state directory, so that `m365watch board link` can add one while the board runs.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from m365watch.common.errors import NeedsOperator
from m365watch.storage.database import Database, DatabaseError, Schema, open_database

FILE_NAME = "board-links.sqlite"
LIFETIME = timedelta(minutes=10)
PENDING_MAX = 100
"""Codes that wait to be used; the oldest gives way."""
OPEN = "/open"
_CODE_BYTES = 32
_LINKS = Schema(
    1, "CREATE TABLE IF NOT EXISTS link (hash TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT;"
)


class OpenLinks:
    """The pending codes of one state directory."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read or written yet."""
        self.path = directory / FILE_NAME

    def prepare(self) -> None:
        """Make the file, so that it is the board's own whoever adds a code. Raises: NeedsOperator."""
        with self._opened():
            pass

    def create(self, now: datetime) -> str:
        """A new code, of which the hash is kept. Raises: NeedsOperator: it cannot be kept."""
        code = new_code()
        with self._opened() as file:
            file.execute("DELETE FROM link WHERE expires_at <= ?", (now.timestamp(),))
            file.execute(
                "DELETE FROM link WHERE hash IN"
                " (SELECT hash FROM link ORDER BY expires_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (PENDING_MAX - 1,),
            )
            file.execute("INSERT INTO link VALUES (?, ?)", (hash_of(code), (now + LIFETIME).timestamp()))
        return code

    def redeem(self, code: str, now: datetime) -> bool:
        """Whether the code is pending; it counts once, whoever else redeems it at the same time.

        Raises: NeedsOperator: the file cannot be used.
        """
        with self._opened() as file:
            burned = file.execute("DELETE FROM link WHERE hash = ? RETURNING expires_at", (hash_of(code),))
            row = burned.fetchone()
        return row is not None and row[0] > now.timestamp()

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        """The file, its owner's alone, for one transaction."""
        try:
            with closing(open_database(self.path, _LINKS)) as file, file.transaction():
                yield file
        except (OSError, DatabaseError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> NeedsOperator:
        why = getattr(error, "strerror", None) or str(error)
        return NeedsOperator(
            f"links that open the board cannot be kept: {why}",
            fix="run it as the user that may write in the state directory, as the collector does",
            where=str(self.path),
        )


def link_to(address: str, code: str, *, page: str = "/") -> str:
    """The link with this code: browsers send what stands behind # to nobody."""
    query = "" if page == "/" else f"?{urlencode({'next': page}, safe='/?=')}"
    return f"{address}{OPEN}{query}#{code}"


def new_code() -> str:
    """A code that nobody guesses."""
    return secrets.token_urlsafe(_CODE_BYTES)


def hash_of(code: str) -> str:
    """What is kept of it."""
    return hashlib.sha256(code.encode()).hexdigest()
