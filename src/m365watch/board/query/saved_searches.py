"""Searches that somebody has kept under a name, for themselves or for others, in the state directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from m365watch.board.access.roles import Access
from m365watch.common.errors import NeedsOperator
from m365watch.detection.alerts.alert import clean_text
from m365watch.storage.database import FAILURES, Database, Schema, open_database

FILE_NAME = "searches.sqlite"
NAME_MAX = 80
URL_MAX = 12_000
OF_ONE_MAX = 200
"""Searches that one person keeps."""
SHOWN_MAX = 500
_SEARCHES = Schema(
    1,
    "CREATE TABLE IF NOT EXISTS search (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL,"
    " url TEXT NOT NULL, is_shared INTEGER NOT NULL, tenants TEXT, saved_at INTEGER NOT NULL,"
    " UNIQUE (owner, name)) STRICT;",
)


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """One of them."""

    id: int
    owner: str
    name: str
    url: str
    """Path and query of the page that it is."""
    is_shared: bool
    is_own: bool
    """Whether it is theirs who look."""


class TooMany(Exception):
    """Somebody keeps as many as there may be."""


class SavedSearches:
    """The file; made when the first search is kept.

    A shared search may name people of its owner's tenants, so that it is shown only to those who may see
    all of these tenants themselves; and what its name and its filter say may be contents.
    """

    def __init__(self, state_directory: Path) -> None:
        """Nothing is opened yet."""
        self._path = state_directory / FILE_NAME

    def list(self, access: Access) -> list[SavedSearch]:
        """Their own, and those that others share with them, by name. Raises: NeedsOperator."""
        if not self._path.exists():
            return []
        with self._opened() as file:
            rows = file.execute(
                "SELECT id, owner, name, url, is_shared, tenants FROM search WHERE owner = ? OR is_shared"
                " ORDER BY owner <> ?, lower(name), id",
                (access.name, access.name),
            ).fetchall()
        found = [
            SavedSearch(number, owner, name, url, bool(is_shared), owner == access.name)
            for number, owner, name, url, is_shared, tenants in rows
            if owner == access.name or (access.sees_contents and _may_see(access, tenants))
        ]
        return found[:SHOWN_MAX]

    def keep(self, access: Access, name: str, url: str, *, is_shared: bool, now_s: int) -> bool:
        """Keep one under a name, in place of their own of that name; whether there was one.

        Raises: TooMany; NeedsOperator: it cannot be written.
        """
        tenants = None if access.tenants is None else msgspec.json.encode(sorted(access.tenants)).decode()
        with self._opened() as file, file.transaction():
            count, others = file.execute(
                "SELECT count(*), count(*) FILTER (WHERE name <> ?) FROM search WHERE owner = ?",
                (name, access.name),
            ).fetchone()
            if count == others >= OF_ONE_MAX:
                raise TooMany
            file.execute(
                "INSERT INTO search (owner, name, url, is_shared, tenants, saved_at)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (owner, name) DO UPDATE SET url = excluded.url, is_shared = excluded.is_shared,"
                " tenants = excluded.tenants, saved_at = excluded.saved_at",
                (access.name, name, url, is_shared, tenants, now_s),
            )
        return bool(count != others)

    def remove(self, access: Access, number: int) -> bool:
        """Forget one of their own; whether there was one. Raises: NeedsOperator."""
        if not self._path.exists():
            return False
        with self._opened() as file, file.transaction():
            gone = file.execute("DELETE FROM search WHERE id = ? AND owner = ?", (number, access.name))
            return gone.rowcount > 0

    @contextmanager
    def _opened(self) -> Iterator[Database]:
        try:
            with closing(open_database(self._path, _SEARCHES)) as file:
                # On a bad disk any bytes may stand there, which an error would quote.
                file.text_factory = _text_of
                yield file
        except (OSError, *FAILURES) as error:  # its words may quote what is damaged
            raise NeedsOperator(
                f"kept searches cannot be read or written: {clean_text(str(error))}",
                fix="make room, or give this user the right to write the file",
                where=str(self._path),
            ) from None


def _may_see(access: Access, tenants: str | None) -> bool:
    """Whether somebody may see all that the owner of a search might have named in it."""
    if access.tenants is None:
        return True
    try:
        theirs = None if tenants is None else msgspec.json.decode(tenants, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # on a bad disk: nobody knows whom it may name
    return theirs is not None and access.tenants.issuperset(theirs)


def _text_of(stored: bytes) -> str:
    return stored.decode("utf-8", "replace")
