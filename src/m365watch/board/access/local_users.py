"""The local users of the board."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

import msgspec

from m365watch.board.access.board_database import BoardStore
from m365watch.board.access.roles import Access, Role
from m365watch.common.errors import NeedsOperator

USERS_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One user, as the database has them."""

    name: str
    role: Annotated[str, msgspec.Meta(pattern="^(viewer|analyst|admin)$")]
    hash: str
    tenants: tuple[str, ...] = ()
    """Ids in lower case; empty: all."""
    contents: bool = True
    stamp: str = ""
    """Drawn anew with every change: sessions from before it are over."""

    @property
    def access(self) -> Access:
        """What they may do and see."""
        return Access(
            self.name,
            Role[self.role.upper()],
            tenants=frozenset(self.tenants) or None,
            sees_contents=self.contents,
        )


def fault_of_name(name: str) -> str | None:
    """Why nobody can be called that; None for a name that will do."""
    if _NAME.fullmatch(name):
        return None
    return "a name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit"


class Users(BoardStore):
    """The users of one state directory."""

    def find(self, name: str) -> User | None:
        """The user of that name, written in any case; None where there is none. Raises: NeedsOperator."""
        found = self.read_bodies(User, "SELECT body FROM user WHERE name = ?", (name.casefold(),))
        return found[0] if found else None

    def list(self) -> list[User]:
        """All of them, by name. Raises: NeedsOperator."""
        return self.read_bodies(User, "SELECT body FROM user ORDER BY name")

    def put(self, user: User) -> None:
        """Add the user, or replace the one of that name, with a new stamp. Raises: NeedsOperator."""
        name = user.name.casefold()
        body = msgspec.json.encode(msgspec.structs.replace(user, stamp=secrets.token_hex(8)))
        with self.change() as board:
            [others] = board.execute("SELECT count(*) FROM user WHERE name <> ?", (name,)).fetchone()
            if others >= USERS_MAX:
                raise NeedsOperator(
                    f"there are {USERS_MAX:,} users already", fix="sign in with Entra instead"
                )
            board.execute("INSERT OR REPLACE INTO user VALUES (?, ?)", (name, body))

    def remove(self, name: str) -> bool:
        """Take the user out; False where there is none. Raises: NeedsOperator."""
        with self.change() as board:
            return board.execute("DELETE FROM user WHERE name = ?", (name.casefold(),)).rowcount > 0
