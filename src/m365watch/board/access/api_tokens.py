"""The tokens of the API as they are kept: of each the digest, never the token itself.

A token is shown once, when it is made. It names itself by a part that is no secret, so that it is found
without comparing it with others, and its secret has 256 bits, so that a plain digest cannot be guessed back.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import structlog
from starlette.requests import HTTPConnection

from m365watch.board.access.roles import Access, Gate, Role, Scope
from m365watch.common.atomic_files import put_file
from m365watch.common.clock import Clock
from m365watch.common.errors import CollectorError, NeedsOperator

FILE_NAME = "board-tokens.json"
TOKENS_MAX = 1_000
NAME_LENGTH_MAX = 60
_FILE_BYTES_MAX = 4 << 20
_FORM = re.compile(r"m365w_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_PRIVATE = 0o600


class KeptToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as the file has it."""

    id: str
    """Its part that is no secret: 12 hexadecimal digits."""
    name: str
    digest: str
    """SHA-256 of its secret, in hexadecimal digits."""
    scopes: tuple[Scope, ...]
    tenants: tuple[str, ...] | None
    """Ids in lower case; null: all tenants, also those that come later."""
    created_at: datetime
    created_by: str
    expires_at: datetime
    contents: bool = True
    """Whether subjects, names of files, texts and raw records are shown to it."""

    def is_in_force(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return now < self.expires_at


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    tokens: list[KeptToken]


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """What a new token is to be."""

    name: str
    scopes: tuple[Scope, ...]
    tenants: tuple[str, ...] | None
    created_by: str
    expires_at: datetime
    contents: bool = True


class TokenFile:
    """The file in a state directory; what is changed there counts with the next request."""

    def __init__(self, directory: Path) -> None:
        """Nothing is read yet."""
        self.path = directory / FILE_NAME
        self._sign: object = None
        self._tokens: dict[str, KeptToken] = {}

    def kept(self) -> list[KeptToken]:
        """Those that are kept, the oldest first. Raises: NeedsOperator: the file cannot be read."""
        sign = self._sign_now()
        if sign is None or sign != self._sign:
            self._tokens = {one.id: one for one in _read(self.path)}
            self._sign = sign
        return [*self._tokens.values()]

    def find(self, token: str, now: datetime) -> KeptToken | None:
        """The one that `token` is, while it is in force; it takes as long for a wrong one.

        Raises: NeedsOperator: the file cannot be read.
        """
        form = _FORM.fullmatch(token)
        if form is None:
            return None
        self.kept()
        kept = self._tokens.get(form[1])
        is_right = hmac.compare_digest(_digest_of(form[2]), kept.digest if kept else _digest_of(""))
        return kept if kept and is_right and kept.is_in_force(now) else None

    def create(self, wanted: TokenWanted, now: datetime) -> tuple[str, KeptToken]:
        """A new token, which is kept nowhere, and what is kept of it.

        Raises: NeedsOperator: there is one of that name, or the file cannot be written.
        """
        secret = secrets.token_urlsafe(32)
        kept = KeptToken(
            id=secrets.token_hex(6),
            name=wanted.name,
            digest=_digest_of(secret),
            scopes=wanted.scopes,
            tenants=wanted.tenants,
            created_at=now,
            created_by=wanted.created_by,
            expires_at=wanted.expires_at,
            contents=wanted.contents,
        )
        self._change(lambda tokens: _with(tokens, kept, now))
        return f"m365w_{kept.id}_{secret}", kept

    def revoke(self, given: str) -> KeptToken:
        """The token of that name or id, which is no more.

        Raises: NeedsOperator: there is none, or the file cannot be written.
        """
        found: list[KeptToken] = []

        def without(tokens: Sequence[KeptToken]) -> list[KeptToken]:
            found[:] = [one for one in tokens if given == one.id] or [
                one for one in tokens if given == one.name
            ]
            if not found:
                raise NeedsOperator(
                    f"there is no token {given!r}", fix="`m365watch board token list` names all"
                )
            return [one for one in tokens if one not in found]

        self._change(without)
        return found[0]

    def _sign_now(self) -> object:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def _change(self, change: Callable[[Sequence[KeptToken]], list[KeptToken]]) -> None:
        try:
            with _alone(self.path.with_suffix(".lock")):
                tokens = change(_read(self.path))
                put_file(self.path, (msgspec.json.format(msgspec.json.encode(_Kept(1, tokens))), b"\n"))
        except OSError as error:
            raise NeedsOperator(
                f"cannot be written: {error.strerror or type(error).__name__}",
                fix="run this as the user that the collector runs as",
                where=str(self.path),
            ) from None


def _with(tokens: Sequence[KeptToken], kept: KeptToken, now: datetime) -> list[KeptToken]:
    if any(one.name == kept.name and one.is_in_force(now) for one in tokens):
        raise NeedsOperator(
            f"there is a token {kept.name!r} already",
            fix=f"choose another name, or revoke it: m365watch board token revoke {kept.name}",
        )
    # One that has expired makes room for its successor's name.
    left = [one for one in tokens if one.name != kept.name]
    if len(left) >= TOKENS_MAX:
        raise NeedsOperator(f"there are {TOKENS_MAX:,} tokens", fix="revoke those that nobody uses")
    return [*left, kept]


def _digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(path: Path) -> list[KeptToken]:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX)
        return msgspec.json.decode(content, type=_Kept).tokens
    except FileNotFoundError:
        return []
    except OSError as error:
        what = f"cannot be read: {error.strerror or type(error).__name__}"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        what = "is no file of tokens any more"
    raise NeedsOperator(
        what,
        fix="let the collector's user read it; or remove it, and make the tokens anew",
        where=str(path),
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One change at a time; the lock is the system's, and goes with the process."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


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
