"""What stands before every request: the host it names, the page it comes from, and the headers it goes with.

A page of somebody else in the same browser can send requests here, and can have its own name point to this
machine. So a request counts only with a host that is ours, and what changes something only with a token
that no other page can read.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m365watch.board.access import Access, Gate
from m365watch.board.api.problems import FORGERY_REFUSED, HOST_REFUSED, problem_answer
from m365watch.board.token_gate import is_of_the_api

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
TOKEN_HEADER = "X-CSRF-Token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OWN_SITES = frozenset({"same-origin", "none"})


class Tokens:
    """The tokens with which a page proves that it is ours; others after every start."""

    def __init__(self) -> None:
        """Draw a secret."""
        self._secret = secrets.token_bytes(32)

    def token_of(self, access: Access) -> str:
        """The token of the pages of that person."""
        return hmac.new(self._secret, access.name.encode(), hashlib.sha256).hexdigest()

    def is_right(self, access: Access, token: str) -> bool:
        """Whether it is theirs."""
        return hmac.compare_digest(self.token_of(access).encode(), token.encode())


class Guarded:
    """The application behind the checks of host and token, with the headers on all of its answers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: Gate,
        tokens: Tokens,
        host: str,
        port: int,
        names: Iterable[str] = (),
    ) -> None:
        """Answer requests to `host`, to loopback's names, and to `names`."""
        self._app = app
        self._gate = gate
        self._tokens = tokens
        self._hosts = {one.lower() for one in (*_LOOPBACK, host, f"[{host}]", *names)}
        self._port = str(port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(sent: Message) -> None:
            if sent["type"] == "http.response.start":
                _add_headers(sent)
            await send(sent)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await refusal(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, _, port = _split_host(headers.get("host", ""))
        if host.lower() not in self._hosts or port not in {"", self._port}:
            return _refused(scope, 421, "this host is not served here")
        if scope["method"] in _SAFE:
            return None
        access = self._gate.access_of(HTTPConnection(scope))
        if access.is_token if access else is_of_the_api(scope["path"]):
            return None  # no page of somebody else can send a token; the API itself asks whoever has none
        if headers.get("sec-fetch-site", "same-origin") not in _OWN_SITES:
            return _refused(scope, 403, "this comes from another site")
        if access is None or not self._tokens.is_right(access, headers.get(TOKEN_HEADER, "")):
            return _refused(scope, 403, "this page is too old: load it again")
        return None


def _refused(scope: Scope, status: int, says: str) -> Response:
    if not is_of_the_api(scope["path"]):
        return PlainTextResponse(f"{says}\n", status_code=status)
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        return problem_answer(HOST_REFUSED, says)
    return problem_answer(
        FORGERY_REFUSED,
        "this would change something, and has neither a token nor that of a page of ours",
        fix="send Authorization: Bearer TOKEN; m365watch board token create makes one",
    )


def _split_host(text: str) -> tuple[str, str, str]:
    if text.startswith("["):
        address, bracket, rest = text.partition("]")
        return address + bracket, ":", rest.removeprefix(":")
    return text.partition(":")


def _add_headers(sent: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=sent)
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-store")
