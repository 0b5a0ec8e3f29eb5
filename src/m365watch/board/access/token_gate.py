"""The gate of those who come with a token of the API; who comes without one is the next gate's."""

from __future__ import annotations

import structlog
from starlette.requests import HTTPConnection

from m365watch.board.access.api_tokens import KeptToken, TokenFile
from m365watch.board.access.roles import Access, Gate, Role
from m365watch.board.access.scopes import Scope
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError

METRICS = "/metrics"
_log = structlog.get_logger(__name__)
_ANALYSTS = frozenset({Scope.ALERTS_WRITE, Scope.EXPORT, Scope.SQL})
"""What an analyst may do, and a viewer may not."""


class TokenGate:
    """Tokens are good for the API alone, and never for a page."""

    def __init__(self, tokens: TokenFile, *, clock: Clock, otherwise: Gate) -> None:
        """Read `tokens` whenever they have changed."""
        self._tokens = tokens
        self._clock = clock
        self._otherwise = otherwise
        self._complaint = ""

    def access_of(self, connection: HTTPConnection) -> Access | None:
        """The rights of the token; None where it is none, whatever else the request has."""
        token = bearer_of(connection)
        if token is None or not is_of_the_api(connection.scope["path"]):
            return self._otherwise.access_of(connection)
        kept = self._find(token)
        return None if kept is None else access_with(kept)

    def _find(self, token: str) -> KeptToken | None:
        try:
            return self._tokens.find(token, self._clock.now())
        except CollectorError as error:
            if self._complaint != (complaint := str(error)):
                self._complaint = complaint
                _log.error(f"board: no token is believed: {complaint}")
            return None


def is_of_the_api(path: str) -> bool:
    """Whether tokens count there."""
    return path.startswith("/api/") or path == METRICS


def bearer_of(connection: HTTPConnection) -> str | None:
    """The token that a request comes with; None where it comes without."""
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def access_with(kept: KeptToken) -> Access:
    """What a token's bearer may do."""
    scopes = frozenset(kept.scopes)
    role = Role.ANALYST if scopes & _ANALYSTS else Role.VIEWER
    tenants = None if kept.tenants is None else frozenset(kept.tenants)
    return Access(
        f"token {kept.name}",
        role,
        tenants,
        sees_contents=kept.contents,
        scopes=scopes,
        token=kept.id,
    )
