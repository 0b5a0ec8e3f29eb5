"""Signing in and out: the page for it, what comes of name and password, and the session's cookie."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from m365watch.board.access.audit_recorder import tell
from m365watch.board.access.fetch_metadata import SIGN_IN, is_of_sign_in
from m365watch.board.access.id_token import TokenWrong
from m365watch.board.access.local_users import Users
from m365watch.board.access.login_throttle import Attempts
from m365watch.board.access.openid_connect import BACK, NotSignedIn, OpenIdSignIn
from m365watch.board.access.passwords import Crowded, Passwords
from m365watch.board.access.roles import Access
from m365watch.board.access.sessions import SessionCookie, SessionGate, Sessions, cookie_name
from m365watch.board.app.form_fields import form_of
from m365watch.board.app.security_middleware import Tokens
from m365watch.board.widgets.template_renderer import Templates
from m365watch.common.clock import Clock
from m365watch.common.errors import NeedsOperator, RetryLater
from m365watch.common.urls import split_url

ENTRA = f"{SIGN_IN}/entra"
_BACK_CHARACTERS_MAX = 2_000
_WRONG = "The name or the password is not right."
_TOO_OLD = "This page was too old. Sign in again."
_CROWDED = "Too many people are signing in. Try again in a moment."
_FAULT = "Nobody can sign in just now: the board's log says why."
_NO_ENTRA = "Signing in with Microsoft does not work just now: the board's log says why."
_SIGNED_OUT = "You are signed out."
_log = structlog.get_logger(__name__)


@dataclass
class Entrance:
    """How people come in, and leave."""

    door: ClassVar[str] = SIGN_IN
    users: Users
    sessions: Sessions
    clock: Clock
    secure: bool
    """Whether browsers come by https."""
    passwords: Passwords = field(default_factory=Passwords)
    attempts: Attempts = field(default_factory=Attempts)
    templates: Templates = field(default_factory=Templates)
    tokens: Tokens = field(default_factory=Tokens)
    openid: OpenIdSignIn | None = None
    """Signing in with Entra; None: there is none."""

    @property
    def gate(self) -> SessionGate:
        """Lets in whoever has signed in."""
        return self._session.gate

    def routes(self) -> list[BaseRoute]:
        """Its pages."""
        return [
            Route(SIGN_IN, self._show, methods=["GET"]),
            Route(SIGN_IN, self._take, methods=["POST"]),
            Route("/sign-out", self._leave, methods=["POST"]),
            *([Route(ENTRA, self._to_entra), Route(BACK, self._from_entra)] if self.openid else ()),
        ]

    @property
    def _session(self) -> SessionCookie:
        name = cookie_name(secure=self.secure)
        return SessionCookie(self.sessions, name=name, secure=self.secure, clock=self.clock)

    @property
    def _form_cookie(self) -> str:
        return f"{self._session.name}-form"

    async def _show(self, request: Request) -> Response:
        says = _SIGNED_OUT if "out" in request.query_params else ""
        return self._page(request, back=safe_back(request.query_params.get("next", "")), says=says)

    async def _take(self, request: Request) -> Response:
        form = await form_of(request)
        back = safe_back(form.get("next", ""))
        if not self._is_our_form(request, form):
            return self._page(request, back=back, fault=_TOO_OLD, status=403)
        name = form.get("name", "").strip()
        address, now_s = _address_of(request), self.clock.now().timestamp()
        wait_s = self.attempts.wait_s(name, address, now_s=now_s)
        if wait_s:
            return self._told_to_wait(request, wait_s, back=back, name=name)
        self.attempts.count(name, address, now_s=now_s)
        try:
            user = self.users.find(name)
            is_right = await self.passwords.is_right(
                form.get("password", ""),
                user.hash if user else None,
                is_known=self.attempts.knows(name, address, now_s=now_s),
            )
        except Crowded:
            return self._page(request, back=back, name=name, fault=_CROWDED, status=503)
        except NeedsOperator as error:
            _log.error(f"board: {error}")
            return self._page(request, back=back, name=name, fault=_FAULT, status=503)
        if user is not None:
            tell(request.scope, "", who=user.access)  # names that nobody has may be somebody's password
        if user is None or not is_right:
            return self._page(request, back=back, name=name, fault=_WRONG, status=401)
        self.attempts.forgive(name, address, now_s=now_s)
        return self.let_in(request, user.access, stamp=user.stamp, back=back)

    def let_in(self, request: Request, access: Access, *, stamp: str, back: str) -> Response:
        """To the page that was asked for, with a new session; the one that the browser had is over."""
        answer = self._session.begin(request, access, stamp=stamp, back=back)
        self._session.drop(answer, self._form_cookie)
        return answer

    async def _to_entra(self, request: Request) -> Response:
        assert self.openid is not None  # noqa: S101 - else there is no such route
        back = safe_back(request.query_params.get("next", ""))
        browser = secrets.token_urlsafe(24)
        try:
            chooses = "other" in request.query_params
            url = await self.openid.begin(browser, back=back, chooses=chooses)
        except NotSignedIn as error:
            return self._refused_by_entra(request, error, back=back)
        except RetryLater as error:
            _log.error(f"board: {error.where}: {error.what}")
            return self._page(request, back=back, fault=_NO_ENTRA, status=503)
        answer = RedirectResponse(url, status_code=303)
        self._session.keep(answer, self._entra_cookie, browser)
        return answer

    async def _from_entra(self, request: Request) -> Response:
        assert self.openid is not None  # noqa: S101 - else there is no such route
        browser = request.cookies.get(self._entra_cookie, "")
        try:
            access, back = await self.openid.end(browser, request.query_params)
        except NotSignedIn as error:
            return self._refused_by_entra(request, error, back=error.back)
        except RetryLater as error:
            _log.error(f"board: {error.where}: {error.what}")
            return self._page(request, back="/", fault=_NO_ENTRA, status=503)
        except TokenWrong as error:
            _log.error(f"board: signing in with Entra: the id token is refused: {error}")
            return self._page(request, back="/", fault=_NO_ENTRA, status=403)
        tell(request.scope, "Entra", who=access)
        answer = self.let_in(request, access, stamp="", back=back)
        self._session.drop(answer, self._entra_cookie)
        return answer

    def _refused_by_entra(self, request: Request, error: NotSignedIn, *, back: str) -> Response:
        if error.told:
            _log.error(f"board: signing in with Entra: {error.told}")
        status = 503 if error.is_ours else 403
        return self._page(request, back=back, fault=str(error), status=status, wants_other=error.wants_other)

    @property
    def _entra_cookie(self) -> str:
        return f"{self._session.name}-entra"

    async def _leave(self, request: Request) -> Response:
        return self._session.end(request, to=f"{SIGN_IN}?out")

    def _told_to_wait(self, request: Request, wait_s: int, *, back: str, name: str) -> Response:
        minutes = -(-wait_s // 60)
        words = "a minute" if minutes == 1 else f"{minutes} minutes"
        fault = f"Too many attempts. Try again in {words}."
        answer = self._page(request, back=back, name=name, fault=fault, status=429)
        answer.headers["Retry-After"] = str(wait_s)
        return answer

    def _page(
        self,
        request: Request,
        *,
        back: str,
        name: str = "",
        fault: str = "",
        says: str = "",
        status: int = 200,
        wants_other: bool = False,
    ) -> Response:
        drawn = request.cookies.get(self._form_cookie) or secrets.token_urlsafe(24)
        page = self.templates.render(
            "sign_in.html",
            token=self.tokens.token_for(f"form/{drawn}"),
            back=back,
            name=name[:64],
            fault=fault,
            says=says,
            entra=self.openid is not None,
            wants_other=wants_other,
        )
        answer = HTMLResponse(page, status_code=status)
        self._session.keep(answer, self._form_cookie, drawn)
        return answer

    def _is_our_form(self, request: Request, form: Mapping[str, str]) -> bool:
        drawn = request.cookies.get(self._form_cookie, "")
        right = self.tokens.token_for(f"form/{drawn}")
        return bool(drawn) and hmac.compare_digest(right.encode(), form.get("token", "").encode())


def safe_back(text: str) -> str:
    """Where to go after signing in: a page of ours, or the first one, whatever the URL says."""
    is_plain = text.isprintable() and len(text) <= _BACK_CHARACTERS_MAX and "\\" not in text
    is_ours = is_plain and text.startswith("/") and not text.startswith("//")
    return text if is_ours and not is_of_sign_in(split_url(text).path) else "/"


def _address_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"
