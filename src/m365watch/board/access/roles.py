"""Who asks, what they may do, and whose records they may see.

Every loader is handed an `Access`; the lake's reader takes nothing else, so that no panel can forget it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from starlette.requests import HTTPConnection

from m365watch.board.access.scopes import Scope


class Role(IntEnum):
    """What somebody may do; each may do what those before may."""

    VIEWER = 1
    """Sees figures, tables and alerts."""
    ANALYST = 2
    """Acknowledges and closes alerts, asks SQL, exports."""
    ADMIN = 3
    """Changes the configuration."""


@dataclass(frozen=True, slots=True)
class Access:
    """One person's rights, for one request."""

    name: str
    role: Role
    tenants: frozenset[str] | None
    """Ids in lower case; None: all tenants."""
    sees_contents: bool = True
    """Whether subjects, names of files, texts and raw records are shown to them."""
    session: str = ""
    """What tells this session from their others; empty where nobody has signed in."""
    scopes: frozenset[Scope] | None = None
    """What their token is good for; None: they are a person, with all that the role may do."""
    token: str = ""
    """The token's own id; empty for a person."""

    @property
    def asker(self) -> str:
        """Whom they take turns as with others: a token, or a person with all of their sessions."""
        return f"token/{self.token}" if self.token else f"person/{self.name}"

    @property
    def is_token(self) -> bool:
        """Whether they have shown a token, which no other page's request can have."""
        return self.scopes is not None

    def allows(self, scope: Scope) -> bool:
        """Whether it may be done with what they have shown."""
        return self.scopes is None or scope in self.scopes

    def may(self, role: Role) -> bool:
        """Whether they may do what `role` may."""
        return self.role >= role

    def sees(self, tenant_id: str) -> bool:
        """Whether what is the tenant's may be shown to them."""
        return self.tenants is None or tenant_id.lower() in self.tenants

    def narrowed(self, asked: tuple[str, ...]) -> tuple[str, ...] | None:
        """The tenants that count when `asked` are wished for; None: all there are; empty: none at all."""
        wanted = tuple(one.lower() for one in asked)
        if self.tenants is None:
            return wanted or None
        return tuple(sorted(self.tenants & set(wanted) if wanted else self.tenants))


LOCAL_USER = Access("local user", Role.ADMIN, tenants=None)
"""Whoever opened the board by a link: a user of this machine."""


class Gate(Protocol):
    """Says who asks."""

    def access_of(self, connection: HTTPConnection) -> Access | None:
        """Their rights; None where they have to sign in first."""
        ...
