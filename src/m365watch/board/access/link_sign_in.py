"""Opening a board on which nobody signs in: the page behind a link exchanges its code for a session."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from m365watch.board.access.audit_recorder import tell
from m365watch.board.access.board_database import hash_of
from m365watch.board.access.login_routes import safe_back
from m365watch.board.access.one_time_links import LIFETIME, OPEN, OpenLinks, link_to, new_code
from m365watch.board.access.roles import LOCAL_USER
from m365watch.board.access.sessions import SessionCookie, SessionGate, Sessions, cookie_name
from m365watch.board.app.application import Listening
from m365watch.board.app.form_fields import form_of
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator

_WRONG = "This link was used already, or is older than 10 minutes."
_FAULT = "No link can be checked now: the board's log says why."
_CLOSED = "You are signed out."
_log = structlog.get_logger(__name__)


class LinkEntrance:
    """Lets in whoever has a code that is pending, once."""

    door = OPEN

    def __init__(self, links: OpenLinks, sessions: Sessions, listening: Listening, *, clock: Clock) -> None:
        """`links` are those of the state directory in which `sessions` are kept."""
        self.sessions = sessions
        self._links = links
        self._listening = listening
        self._clock = clock
        self._templates = Templates()
        name = cookie_name(secure=listening.is_secure, port=listening.port)
        self._only = ("", clock.now())
        """Hash and end of the one link of a board that can keep none in its state directory."""
        self._session = SessionCookie(sessions, name=name, secure=listening.is_secure, clock=clock)

    @property
    def gate(self) -> SessionGate:
        """Lets in whoever has opened the board."""
        return self._session.gate

    def new_link(self) -> str:
        """A link that opens the board; where its code cannot be kept, it is this process's one link."""
        now = self._clock.now()
        try:
            code = self._links.create(now)
        except NeedsOperator as error:
            _log.warning(f"board: {error}; until then each start of the board prints its only link")
            code = new_code()
            self._only = (hash_of(code), now + LIFETIME)
        return link_to(self._listening.url, code)

    def _redeem(self, code: str) -> bool:
        """Whether the code is right, which it is once. Raises: NeedsOperator."""
        hashed, ends = self._only
        if hash_of(code) == hashed:
            self._only = ("", ends)
            return self._clock.now() < ends
        return self._links.redeem(code, self._clock.now())

    def routes(self) -> list[BaseRoute]:
        """Its pages."""
        return [
            Route(OPEN, self._show, methods=["GET"]),
            Route(OPEN, self._exchange, methods=["POST"]),
            Route("/sign-out", self._leave, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        says = _CLOSED if "out" in request.query_params else ""
        return self._page(back=safe_back(request.query_params.get("next", "")), says=says)

    async def _exchange(self, request: Request) -> Response:
        form = await form_of(request)
        back = safe_back(form.get("next", ""))
        code = form.get("code", "").rpartition("#")[2].strip()  # whoever pastes it may paste the whole link
        try:
            is_right = self._redeem(code)
        except NeedsOperator as error:
            _log.error(f"board: {error}")
            return self._page(back=back, fault=_FAULT, status=503)
        if not is_right:
            return self._page(back=back, fault=_WRONG, status=403)
        tell(request.scope, "link", who=LOCAL_USER)
        return self._session.begin(request, LOCAL_USER, stamp="", back=back)

    async def _leave(self, request: Request) -> Response:
        return self._session.end(request, to=f"{OPEN}?out")

    def _page(self, *, back: str, fault: str = "", says: str = "", status: int = 200) -> Response:
        page = self._templates.render("open.html", back=back, fault=fault, says=says)
        return HTMLResponse(page, status_code=status)
