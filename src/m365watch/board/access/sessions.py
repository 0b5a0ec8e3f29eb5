"""Who is signed in: random ids of which the board keeps the hashes, each with two limits of time.

They are in a file of the state directory, so that they outlast a restart and end everywhere at once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from m365watch.board.access.board_database import hash_of
from m365watch.board.access.roles import Access
from m365watch.common.clock import Clock
from m365watch.storage.database import Database, DatabaseError, Schema, open_database

FILE_NAME = "board-sessions.sqlite"
SESSIONS_MAX = 5_000
EACH_MAX = 20
"""Sessions of one person; the one that was used longest ago gives way."""
USED_EVERY_S = 30.0
"""How often a use is written down: a session may end that much early, and never late."""
_ID_BYTES = 32
_SESSIONS = Schema(
    1,
    "CREATE TABLE IF NOT EXISTS session (key TEXT PRIMARY KEY, name TEXT NOT NULL, rights TEXT NOT NULL,"
    " stamp TEXT NOT NULL, house TEXT NOT NULL, opened_at REAL NOT NULL, used_at REAL NOT NULL) STRICT;"
    "CREATE INDEX IF NOT EXISTS session_use ON session (used_at);"
    "CREATE INDEX IF NOT EXISTS session_name ON session (name, used_at);",
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """How long a session lasts."""

    idle_s: float
    """After its last use."""
    life_s: float
    """After its beginning, however much it is used."""


class Sessions:
    """The sessions of one state directory. A file that fails lets nobody in, and is complained of."""

    def __init__(
        self,
        times: SessionTimes,
        *,
        stamp_of: Callable[[str], str | None],
        path: Path | None = None,
        house: str = "",
    ) -> None:
        """A session is over after its times, and once the user's stamp (`stamp_of` their name) is another.

        `house` says what rights were given by: sessions that began under other grants are over. Without
        `path`, or where that cannot be used, they end with this process.
        """
        self._times = times
        self._stamp_of = stamp_of
        self._house = house
        self._path = path
        self._file = _opened(path)

    def open(self, access: Access, *, stamp: str, now_s: float) -> str:
        """A new session; what comes back is for the browser alone."""
        drawn = secrets.token_urlsafe(_ID_BYTES)
        rights = msgspec.json.encode(access).decode()
        row = (hash_of(drawn), access.name, rights, stamp, self._house, now_s, now_s)
        try:
            self._put(row, now_s)
        except DatabaseError as error:
            self._give_up(error)
            self._put(row, now_s)
        return drawn

    def _put(self, row: tuple[str, str, str, str, str, float, float], now_s: float) -> None:
        with self._file.transaction():
            self._make_room(row[1], now_s)
            self._file.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _make_room(self, name: str, now_s: float) -> None:
        """Forget what is over, and what was used longest ago where there are too many."""
        over = "DELETE FROM session WHERE used_at <= ? OR opened_at <= ?"
        self._file.execute(over, (now_s - self._times.idle_s, now_s - self._times.life_s))
        for condition, given, most in (("name = ?", (name,), EACH_MAX), ("true", (), SESSIONS_MAX)):
            self._file.execute(
                f"DELETE FROM session WHERE key IN (SELECT key FROM session WHERE {condition}"  # noqa: S608
                " ORDER BY used_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (*given, most - 1),
            )

    def find(self, drawn: str, *, now_s: float, is_use: bool = True) -> Access | None:
        """Whose session it is; None where it is none, or none any more. A use puts off its end."""
        key = hash_of(drawn)
        try:
            row = self._file.execute(
                "SELECT name, rights, stamp, house, opened_at, used_at FROM session WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            name, rights, stamp, house, opened_at_s, used_at_s = row
            idle_s, lasted_s = now_s - used_at_s, now_s - opened_at_s
            is_over = idle_s >= self._times.idle_s or lasted_s >= self._times.life_s
            if is_over or house != self._house or (stamp and self._stamp_of(name) != stamp):
                self._forget(key)
                return None
            if is_use and idle_s >= min(USED_EVERY_S, self._times.idle_s / 2):
                self._file.execute("UPDATE session SET used_at = ? WHERE key = ?", (now_s, key))
            return replace(msgspec.json.decode(rights, type=Access), session=key[:16])
        except (DatabaseError, msgspec.DecodeError, ValueError, RecursionError) as error:
            _log.error(f"board: sessions cannot be read: {error}; nobody is let in by one")
            return None

    def count(self, now_s: float) -> int:
        """How many are open: in time, and not of before other grants."""
        within = (now_s - self._times.idle_s, now_s - self._times.life_s, self._house)
        try:
            [number] = self._file.execute(
                "SELECT count(*) FROM session WHERE used_at > ? AND opened_at > ? AND house = ?", within
            ).fetchone()
        except DatabaseError:
            return 0  # whoever comes with one is told, and so is the log
        return int(number)

    def close(self, drawn: str) -> None:
        """End it, if there is one."""
        self._forget(hash_of(drawn))

    def shut(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _forget(self, key: str) -> None:
        try:
            self._file.execute("DELETE FROM session WHERE key = ?", (key,))
        except DatabaseError as error:
            self._give_up(error)

    def _give_up(self, error: DatabaseError) -> None:
        """Go on without the file, and with nobody signed in: none that has ended may come back from it."""
        _log.error(
            f"board: sessions cannot be written: {error}; all of them are over, and end with this process"
        )
        self._file.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._file = _opened(None)


def _opened(path: Path | None) -> Database:
    """The file, its owner's alone; one in memory where there is none, or where it cannot be used."""
    try:
        file = open_database(path, _SESSIONS)
        if path is not None:
            path.chmod(0o600)
    except (OSError, DatabaseError) as error:
        _log.error(f"board: sessions cannot be kept in {FILE_NAME}: {error}; they end with this process")
        return _opened(None)
    return file


def house_of(*given: object) -> str:
    """A word that is another one when what rights are given by is."""
    return hashlib.sha256(repr(given).encode()).hexdigest()[:16]


BY_ITSELF_HEADER = "X-By-Itself"
"""What a page sends with what it asks without anybody having touched it: no session lasts longer by it."""
_BY_THEMSELVES = frozenset({"/live"})


def cookie_name(*, secure: bool, port: int | None = None) -> str:
    """What the session's cookie is called: the prefix binds it to https and to this host alone.

    Browsers send a cookie to every port of its host: with `port`, boards at several do not replace each
    other's.
    """
    return ("__Host-m365watch" if secure else "m365watch") + (f"-{port}" if port is not None else "")


class SessionGate:
    """Lets in whoever has a session."""

    def __init__(self, sessions: Sessions, *, cookie: str, clock: Clock) -> None:
        """`cookie` is the name of the session's cookie."""
        self._sessions = sessions
        self._cookie = cookie
        self._clock = clock

    def access_of(self, connection: HTTPConnection) -> Access | None:
        """The rights of whoever signed in; None where nobody has, or not any more."""
        drawn = connection.cookies.get(self._cookie, "")
        is_use = connection.scope["path"] not in _BY_THEMSELVES and BY_ITSELF_HEADER not in connection.headers
        now_s = self._clock.now().timestamp()
        return self._sessions.find(drawn, now_s=now_s, is_use=is_use) if drawn else None


class SessionCookie:
    """Begins and ends sessions, whose ids browsers keep in a cookie."""

    def __init__(self, sessions: Sessions, *, name: str, secure: bool, clock: Clock) -> None:
        """`secure` says that browsers come by https."""
        self.name = name
        self._sessions = sessions
        self._secure = secure
        self._clock = clock

    @property
    def gate(self) -> SessionGate:
        """Lets in whoever has a session."""
        return SessionGate(self._sessions, cookie=self.name, clock=self._clock)

    def begin(self, request: Request, access: Access, *, stamp: str, back: str) -> Response:
        """To the page that was asked for, with a new session; the one that the browser had is over."""
        self._sessions.close(request.cookies.get(self.name, ""))
        drawn = self._sessions.open(access, stamp=stamp, now_s=self._clock.now().timestamp())
        answer = RedirectResponse(back, status_code=303)
        self.keep(answer, self.name, drawn)
        return answer

    def end(self, request: Request, *, to: str) -> Response:
        """Sign out, and go to that page."""
        self._sessions.close(request.cookies.get(self.name, ""))
        answer = Response(status_code=204, headers={"HX-Redirect": to})
        self.drop(answer, self.name)
        return answer

    def keep(self, answer: Response, name: str, value: str) -> None:
        """Set a cookie, for no script and no request that another site makes."""
        answer.set_cookie(name, value, path="/", httponly=True, secure=self._secure, samesite="lax")

    def drop(self, answer: Response, name: str) -> None:
        """Delete a cookie."""
        answer.delete_cookie(name, path="/", httponly=True, secure=self._secure, samesite="lax")
