"""From which addresses names have signed in lately: kept in the state directory, over restarts."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import closing
from pathlib import Path

import structlog

from m365watch.storage.database import DatabaseError, Schema, open_database

FILE_NAME = "board-known.sqlite"
KNOWN_MAX = 10_000
"""Names with addresses; only who signs in adds to them, and the oldest gives way."""
_KNOWN = Schema(1, "CREATE TABLE IF NOT EXISTS known (hash TEXT PRIMARY KEY, at REAL NOT NULL) STRICT;")
_log = structlog.get_logger(__name__)


class KnownAddresses:
    """When names have signed in from addresses; hashes of both are kept."""

    def __init__(self, path: Path | None = None) -> None:
        """Read `path`; without one, or where that cannot be used, they are forgotten with this process."""
        self._path = path
        self._at: OrderedDict[str, float] = OrderedDict()
        self._write()

    def when(self, name: str, address: str) -> float | None:
        """When the name signed in from the address last; None: never that it is known."""
        return self._at.get(_hashed(name, address))

    def put(self, name: str, address: str, at_s: float) -> None:
        """The name has signed in from the address."""
        hashed = _hashed(name, address)
        self._at[hashed] = at_s
        self._at.move_to_end(hashed)
        while len(self._at) > KNOWN_MAX:
            self._at.popitem(last=False)
        self._write((hashed, at_s))

    def _write(self, *rows: tuple[str, float]) -> None:
        """Write what is new, or read what is there where nothing is."""
        if self._path is None:
            return
        try:
            with closing(open_database(self._path, _KNOWN)) as file, file.transaction():
                file.executemany("INSERT OR REPLACE INTO known VALUES (?, ?)", rows)
                file.execute(
                    "DELETE FROM known WHERE hash IN"
                    " (SELECT hash FROM known ORDER BY at DESC LIMIT -1 OFFSET ?)",
                    (KNOWN_MAX,),
                )
                if not rows:
                    self._at.update(file.execute("SELECT hash, at FROM known ORDER BY at"))
        except (OSError, DatabaseError) as error:
            _log.warning(
                f"board: {self._path.name} cannot be used: {error}; from which addresses people signed in is"
                " forgotten with this process"
            )
            self._path = None


def _hashed(name: str, address: str) -> str:
    return hashlib.sha256(f"{address}/{name}".encode()).hexdigest()
