"""The tokens of the API as they are kept: of each the digest, never the token itself.

A token is shown once, when it is made. It names itself by a part that is no secret, so that it is found
without comparing it with others, and its secret has 256 bits, so that a plain digest cannot be guessed back.
"""

from __future__ import annotations

import hmac
import re
import secrets
from datetime import datetime

import msgspec
import structlog
from starlette.requests import HTTPConnection

from m365watch.board.access.board_database import BoardStore, hash_of
from m365watch.board.access.roles import Access, Gate, Role, Scope
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, NeedsOperator

TOKENS_MAX = 1_000
NAME_LENGTH_MAX = 60
_FORM = re.compile(r"m365w_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class TokenWanted(msgspec.Struct, frozen=True):
    """What a new token is to be."""

    name: str
    scopes: tuple[Scope, ...]
    tenants: tuple[str, ...] | None
    """Ids in lower case; null: all tenants, also those that come later."""
    created_by: str
    expires_at: datetime
    contents: bool = True
    """Whether subjects, names of files, texts and raw records are shown to it."""


class KeptToken(TokenWanted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token as the database has it."""

    id: str
    """Its part that is no secret: 12 hexadecimal digits."""
    digest: str
    """SHA-256 of its secret, in hexadecimal digits."""
    created_at: datetime

    def is_in_force(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return now < self.expires_at


class ApiTokens(BoardStore):
    """The tokens of one state directory; what is changed there counts with the next request."""

    def kept(self) -> list[KeptToken]:
        """Those that are kept, the oldest first. Raises: NeedsOperator: they cannot be read."""
        return self.read_bodies(KeptToken, "SELECT body FROM token ORDER BY rowid")

    def find(self, token: str, now: datetime) -> KeptToken | None:
        """The one that `token` is, while it is in force; it takes as long for a wrong one.

        Raises: NeedsOperator: they cannot be read.
        """
        form = _FORM.fullmatch(token)
        if form is None:
            return None
        found = self.read_bodies(KeptToken, "SELECT body FROM token WHERE id = ?", (form[1],))
        kept = found[0] if found else None
        is_right = hmac.compare_digest(hash_of(form[2]), kept.digest if kept else hash_of(""))
        return kept if kept and is_right and kept.is_in_force(now) else None

    def create(self, wanted: TokenWanted, now: datetime) -> tuple[str, KeptToken]:
        """A new token, which is kept nowhere, and what is kept of it.

        Raises: NeedsOperator: there is one of that name, or it cannot be kept.
        """
        secret = secrets.token_urlsafe(32)
        kept = KeptToken(
            **msgspec.structs.asdict(wanted),
            id=secrets.token_hex(6),
            digest=hash_of(secret),
            created_at=now,
        )
        with self.change() as board:
            # One that has expired makes room for its successor's name.
            others = [one for one in self.kept() if one.name != kept.name or one.is_in_force(now)]
            if any(one.name == kept.name for one in others):
                raise NeedsOperator(
                    f"there is a token {kept.name!r} already",
                    fix=f"choose another name, or revoke it: m365watch board token revoke {kept.name}",
                )
            if len(others) >= TOKENS_MAX:
                raise NeedsOperator(f"there are {TOKENS_MAX:,} tokens", fix="revoke those that nobody uses")
            row = (kept.id, kept.name, msgspec.json.encode(kept))
            board.execute("INSERT OR REPLACE INTO token VALUES (?, ?, ?)", row)
        return f"m365w_{kept.id}_{secret}", kept

    def revoke(self, given: str) -> KeptToken:
        """The token of that name or id, which is no more.

        Raises: NeedsOperator: there is none, or the database cannot be written.
        """
        with self.change() as board:
            row = board.execute(
                "DELETE FROM token WHERE id = (SELECT id FROM token WHERE ?1 IN (id, name)"
                " ORDER BY id <> ?1 LIMIT 1) RETURNING body",
                (given,),
            ).fetchone()
            if row is None:
                raise NeedsOperator(
                    f"there is no token {given!r}", fix="`m365watch board token list` names all"
                )
            return msgspec.json.decode(row[0], type=KeptToken)


METRICS = "/metrics"
_log = structlog.get_logger(__name__)
_ANALYSTS = frozenset({Scope.ALERTS_WRITE, Scope.EXPORT, Scope.SQL})
"""What an analyst may do, and a viewer may not."""


class TokenGate:
    """Tokens are good for the API alone, and never for a page."""

    def __init__(self, tokens: ApiTokens, *, clock: Clock, otherwise: Gate) -> None:
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
