"""Who asks, what they may do, and whose records they may see.

Every loader is handed an `Access`; the lake's reader takes nothing else, so that no panel can forget it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol

from starlette.requests import HTTPConnection


class Scope(StrEnum):
    """One thing that a token is good for; it is good for nothing else."""

    READ = "read"
    """Reads what the pages show: panels, and alerts with what analysts have made of them."""
    ALERTS_WRITE = "alerts:write"
    """Acknowledges alerts, closes them with a reason, and opens them again."""
    EXPORT = "export"
    """Takes panels along as CSV, and records as they were sent."""
    SQL = "sql"
    """Asks SQL over the records of its tenants."""
    METRICS = "metrics"
    """Reads the collector's figures as Prometheus scrapes them."""


SAYS = {
    Scope.READ: "read panels and alerts",
    Scope.ALERTS_WRITE: "acknowledge, close and reopen alerts",
    Scope.EXPORT: "take panels along as CSV, and records",
    Scope.SQL: "ask SQL",
    Scope.METRICS: "scrape /metrics",
}
"""Each in a few words, for help texts and documents."""


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
