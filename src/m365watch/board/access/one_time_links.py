"""One-time links that open a board on which nobody signs in: the codes that are pending, as hashes.

`m365watch board link` can add one while the board runs.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from urllib.parse import urlencode

from m365watch.board.access.board_database import BoardStore, hash_of

LIFETIME = timedelta(minutes=10)
PENDING_MAX = 100
"""Codes that wait to be used; the oldest gives way."""
OPEN = "/open"
_CODE_BYTES = 32


class OpenLinks(BoardStore):
    """The pending codes of one state directory."""

    def create(self, now: datetime) -> str:
        """A new code, of which the hash is kept. Raises: NeedsOperator: it cannot be kept."""
        code = new_code()
        with self.change() as board:
            board.execute("DELETE FROM link WHERE expires_at <= ?", (now.timestamp(),))
            board.execute(
                "DELETE FROM link WHERE hash IN"
                " (SELECT hash FROM link ORDER BY expires_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (PENDING_MAX - 1,),
            )
            board.execute("INSERT INTO link VALUES (?, ?)", (hash_of(code), (now + LIFETIME).timestamp()))
        return code

    def redeem(self, code: str, now: datetime) -> bool:
        """Whether the code is pending; it counts once, whoever else redeems it at the same time.

        Raises: NeedsOperator: the database cannot be used.
        """
        with self.change() as board:
            burned = board.execute("DELETE FROM link WHERE hash = ? RETURNING expires_at", (hash_of(code),))
            row = burned.fetchone()
        return row is not None and row[0] > now.timestamp()


def link_to(address: str, code: str, *, page: str = "/") -> str:
    """The link with this code: browsers send what stands behind # to nobody."""
    query = "" if page == "/" else f"?{urlencode({'next': page}, safe='/?=')}"
    return f"{address}{OPEN}{query}#{code}"


def new_code() -> str:
    """A code that nobody guesses."""
    return secrets.token_urlsafe(_CODE_BYTES)
