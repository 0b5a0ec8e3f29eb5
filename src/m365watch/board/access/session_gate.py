"""The gate of a board that people sign in to, or open by a link: a session's cookie says who asks."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from m365watch.board.access.roles import Access
from m365watch.board.access.sessions import Sessions
from m365watch.common.clock import Clock

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
