"""Searches that somebody has kept under a name, for themselves or for others."""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.board.access.board_database import BoardStore
from m365watch.board.access.roles import Access

NAME_MAX = 80
URL_MAX = 12_000
OF_ONE_MAX = 200
"""Searches that one person keeps."""
SHOWN_MAX = 500


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


class SavedSearches(BoardStore):
    """The searches of one state directory.

    A shared search may name people of its owner's tenants, so that it is shown only to those who may see
    all of these tenants themselves; and what its name and its filter say may be contents.
    """

    def list(self, access: Access) -> list[SavedSearch]:
        """Their own, and those that others share with them, by name. Raises: NeedsOperator."""
        rows = self.read(
            "SELECT id, owner, name, url, is_shared, tenants FROM search WHERE owner = ? OR is_shared"
            " ORDER BY owner <> ?, lower(name), id",
            (access.name, access.name),
        )
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
        tenants = None if access.tenants is None else " ".join(sorted(access.tenants))
        with self.change() as board:
            count, others = board.execute(
                "SELECT count(*), count(*) FILTER (WHERE name <> ?) FROM search WHERE owner = ?",
                (name, access.name),
            ).fetchone()
            if count == others >= OF_ONE_MAX:
                raise TooMany
            board.execute(
                "INSERT INTO search (owner, name, url, is_shared, tenants, saved_at)"
                " VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (owner, name) DO UPDATE SET url = excluded.url, is_shared = excluded.is_shared,"
                " tenants = excluded.tenants, saved_at = excluded.saved_at",
                (access.name, name, url, is_shared, tenants, now_s),
            )
        return bool(count != others)

    def remove(self, access: Access, number: int) -> bool:
        """Forget one of their own; whether there was one. Raises: NeedsOperator."""
        with self.change() as board:
            gone = board.execute("DELETE FROM search WHERE id = ? AND owner = ?", (number, access.name))
            return gone.rowcount > 0


def _may_see(access: Access, tenants: str | None) -> bool:
    """Whether somebody may see all that the owner of a search might have named in it."""
    theirs = frozenset((tenants or "").split())  # none on a bad disk: nobody knows whom it may name
    return access.tenants is None or access.tenants >= theirs > frozenset()
