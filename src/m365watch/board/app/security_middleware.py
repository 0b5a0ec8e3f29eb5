"""What stands before every request: its host, the page it comes from, who asks, and the headers it goes with.

A page of somebody else in the same browser can send requests here, and can have its own name point to this
machine. So a request counts only with a host that is ours, and what changes something only with a token
that no other page can read; of what another site causes, only links to pages count. Whoever has to sign in
first, comes no further than the page for that.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from m365watch.board.access.api_tokens import METRICS, is_of_the_api
from m365watch.board.access.fetch_metadata import (
    PROBED,
    SAFE_METHODS,
    SIGN_IN,
    Verdict,
    decide,
    is_of_sign_in,
    is_probe,
)
from m365watch.board.access.one_time_links import OPEN
from m365watch.board.access.roles import Access, Gate
from m365watch.board.api.problem_details import FORGERY_REFUSED, HOST_REFUSED, problem_answer
from m365watch.common.urls import split_url

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
_NO_REFERRER = {"Referrer-Policy": "no-referrer"}
TOKEN_HEADER = "X-CSRF-Token"
ACCESS = "m365watch.access"
"""Where a request's scope says who asks."""
_LINK_NEEDED = (
    "open the board with a link first: m365watch board link prints one;"
    " programs read /api/v1 with a token: m365watch board token create\n"
)
_QUERY_SIGNS = string.punctuation
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Tokens:
    """The tokens with which a page proves that it is ours; others after every start."""

    def __init__(self) -> None:
        """Draw a secret."""
        self._secret = secrets.token_bytes(32)

    def token_of(self, access: Access) -> str:
        """The token of the pages of that person."""
        return self.token_for(f"{access.name}/{access.session}")

    def token_for(self, text: str) -> str:
        """The token that goes with a text."""
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

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
        is_shell: Callable[[str], bool],
        names: Iterable[str] = (),
        secure: bool = False,
        door: str = SIGN_IN,
    ) -> None:
        """Answer requests to `host`, to loopback's names, and to `names`, which may have a port of theirs.

        `secure` says that browsers come by https, `is_shell` of a path whether it is a page without contents,
        and `door` is the path of the page at which whoever is not known yet has to begin.
        """
        self._app = app
        self._gate = gate
        self._tokens = tokens
        self._hosts = {one.lower() for one in (*_LOOPBACK, host, f"[{host}]")}
        self._port = str(port)
        self._is_shell = is_shell
        self._door = door
        self._names = {one.lower() for one in names}
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if not (query := scope.get("query_string", b"")).isascii():
            # No browser sends such bytes; whoever reads them as text would fail.
            scope["query_string"] = quote(query, safe=_QUERY_SIGNS).encode()
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(sent: Message) -> None:
            if sent["type"] == "http.response.start":
                _add_headers(sent, self._headers | (_NO_REFERRER if scope["path"] == OPEN else {}))
            await send(sent)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await refusal(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "").lower()) and not self._comes_by_address(scope):
            return _refused(scope, 421, "this host is not served here")
        verdict = decide(headers, scope["method"], scope["path"], is_shell=self._is_shell)
        if verdict is Verdict.REFUSE:
            return _refused(scope, 403, "this comes from another site")
        access = self._gate.access_of(HTTPConnection(scope))
        if access is not None and verdict is Verdict.NO_COOKIE and not access.is_token:
            access = None
        scope[ACCESS] = access
        if access is None:
            # The API tells whoever has no token so itself, as a document.
            is_let = _is_for_everybody(scope["path"], self._door) or is_of_the_api(scope["path"])
            return None if is_let else _first_sign_in(scope, headers, self._door)
        is_door = scope["path"] in {SIGN_IN, OPEN}
        if scope["method"] in SAFE_METHODS or is_door or access.is_token:
            return None
        if not self._tokens.is_right(access, headers.get(TOKEN_HEADER, "")):
            return _refused(scope, 403, "this page is too old: load it again")
        return None

    def _comes_by_address(self, scope: Scope) -> bool:
        """Whether the name is all the same: nothing is told, or there is a token, which no page can add."""
        if is_probe(scope["method"], scope["path"]):
            return True
        access = self._gate.access_of(HTTPConnection(scope)) if scope["path"] == METRICS else None
        return access is not None and access.is_token

    def _is_ours(self, asked: str) -> bool:
        host, _, port = _split_host(asked)
        return asked in self._names or (host in self._hosts and port in {"", self._port})


def access_of(connection: HTTPConnection) -> Access:
    """Who asks, where `Guarded` has let the request through."""
    access = connection.scope[ACCESS]
    assert isinstance(access, Access)  # noqa: S101 - whoever has none comes to pages for everybody only
    return access


def access_or_none(connection: HTTPConnection) -> Access | None:
    """The same, where those without a right may come as well."""
    access = connection.scope[ACCESS]
    assert access is None or isinstance(access, Access)  # noqa: S101 - nobody else sets it
    return access


def _is_for_everybody(path: str, door: str) -> bool:
    """What is answered before anybody has signed in; everything else, whatever it will be, is not."""
    is_at_door = is_of_sign_in(path) and (path == OPEN) is (door == OPEN)
    return path in PROBED or path.startswith("/static/") or is_at_door


def _first_sign_in(scope: Scope, headers: Headers, door: str) -> Response:
    """To the page for that, and back from there to what was asked for; to what is no browser, in words."""
    if "HX-Request" in headers:
        current = split_url(headers.get("HX-Current-URL", "/"))
        back = f"{current.path}?{current.query}" if current.query else current.path
        return Response(status_code=401, headers={"HX-Redirect": _door_url(door, back)})
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(_door_url(door, f"{scope['path']}?{query}" if query else scope["path"]), 303)
    return PlainTextResponse(_LINK_NEEDED if door == OPEN else "sign in first\n", status_code=401)


def _door_url(door: str, back: str) -> str:
    return door if back in {"", "/"} else f"{door}?{urlencode({'next': back})}"


def _refused(scope: Scope, status: int, says: str) -> Response:
    if not is_of_the_api(scope["path"]):
        return PlainTextResponse(f"{says}\n", status_code=status)
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        return problem_answer(HOST_REFUSED, says)
    return problem_answer(
        FORGERY_REFUSED,
        f"{says}; it has neither an API token nor what shows that a page of the board asks",
        fix="send Authorization: Bearer TOKEN; m365watch board token create makes one",
    )


def _split_host(text: str) -> tuple[str, str, str]:
    if text.startswith("["):
        address, bracket, rest = text.partition("]")
        return address + bracket, ":", rest.removeprefix(":")
    return text.partition(":")


def _add_headers(sent: MutableMapping[str, Any], wanted: Mapping[str, str]) -> None:
    headers = MutableHeaders(scope=sent)
    for name, value in wanted.items():
        headers[name] = value
    headers.setdefault("Cache-Control", "no-store")
