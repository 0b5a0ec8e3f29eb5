"""The gate of a board that people sign in to: a session's cookie says who asks."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from m365watch.board.access import Access
from m365watch.board.sessions import Sessions
from m365watch.clock import Clock

BY_ITSELF_HEADER = "X-By-Itself"
"""What a page sends with what it asks without anybody having touched it: no session lasts longer by it."""
_BY_THEMSELVES = frozenset({"/live"})


def cookie_name(*, secure: bool) -> str:
    """What the session's cookie is called: the prefix binds it to https and to this host alone."""
    return "__Host-m365watch" if secure else "m365watch"


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
