"""What comes to our own doors: the webhook, the browser's way back, the board, and the simulated service."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from fuzz_contract import Attempt, Broken, Loop, Target
from fuzz_values import TEXTS, json_text, texts_in_urls, value
from m365watch.auth.consent.authorization_request import ConsentAttempt, ConsentForm
from m365watch.auth.consent.redirect_server import RedirectServer, _parse_head, _read_head
from m365watch.board.access.api_tokens import ApiTokens, TokenGate
from m365watch.board.access.local_users import Users
from m365watch.board.access.login_routes import Entrance
from m365watch.board.access.roles import Access, Role
from m365watch.board.access.sessions import Sessions, SessionTimes
from m365watch.board.app.application import Board, Listening
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.common.clock import SystemClock
from m365watch.common.model import TenantId
from m365watch.config.loader import load_settings
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.webhook import WebhookSection
from m365watch.http.bounded_listener import HEAD_BYTES_MAX
from m365watch.sources.management_api.webhook.webhook_server import WebhookServer
from m365watch_testing.clock import FakeClock

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
AUTH_ID = "an-auth-id-that-nobody-guesses"
HOST = "127.0.0.1:8365"
_READ_BYTES = 256 << 10


class _Writer:
    """Takes what is written."""

    def write(self, _: bytes) -> None:
        """Take it."""

    async def drain(self) -> None:
        """There is room."""


def _reader_of(given: bytes, *, limit: int = 1 << 16) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=limit)
    reader.feed_data(given)
    reader.feed_eof()
    return reader


def _prepare_webhook(_: Path) -> Attempt:
    loop, clock = Loop(), FakeClock()
    settings = WebhookSection(
        address="https://hook.example/told", listen="127.0.0.1:0", auth_id=SecretStr(AUTH_ID)
    )
    server = WebhookServer(settings, tenants=frozenset({TENANT}), clock=clock, on_notified=lambda _: None)
    writer = cast(asyncio.StreamWriter, _Writer())

    async def answer(given: bytes) -> None:
        clock._elapsed_s += 60
        with capture_logs() as said:
            status = await server._answer(_reader_of(given), writer)
        if status is not None and status >= 500:
            raise Broken("a defect", said)

    return lambda given: loop.run(answer(given))


_NOTIFIED = [
    {
        "tenantId": TENANT, "clientId": "x", "contentType": "Audit.Exchange",
        "contentId": "20261117090001500000001$20261117090001500000001$audit_exchange$Audit_Exchange$emea0036$IsFromNotification",
        "contentUri": "https://evil.example/", "contentCreated": "2026-11-17T09:00:48.000Z", "contentExpiration": "2026-11-24T09:00:01.500Z",
    }
]  # fmt: skip


def _notification(body: bytes, *headers: str) -> bytes:
    lines = [
        f"POST /told/{TENANT} HTTP/1.1",
        "Host: hook.example",
        f"Webhook-AuthID: {AUTH_ID}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def notifications() -> list[bytes]:
    chunked = (
        _notification(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        + b"2\r\n[]\r\n0\r\n\r\n"
    )
    return [
        _notification(json.dumps(_NOTIFIED).encode()),
        _notification(b'{"validationCode":"x"}', "Webhook-ValidationCode: x"),
        _notification(b"[]", "Expect: 100-continue"),
        chunked,
    ]


def grow_notification(random: Random) -> bytes:
    names = (*_NOTIFIED[0], "validationCode")
    said = [
        dict(_NOTIFIED[0]) | {random.choice(names): value(random, names)} for _ in range(random.randrange(3))
    ]
    return _notification(json_text(random, [said, value(random, names)]))


def _prepare_returns(_: Path) -> Attempt:
    loop = Loop()
    cloud = Cloud("test", "https://a.example", "https://a.example", "https://a.example")
    attempt = ConsentAttempt(form=ConsentForm.ADMIN, cloud=cloud, client_id="app", state="s")

    async def answer(given: bytes) -> None:
        # The listener in front of it lets no longer head pass.
        head = await _read_head(_reader_of(given[:HEAD_BYTES_MAX], limit=2 * HEAD_BYTES_MAX))
        request = None if head is None else _parse_head(head)
        if request is None:
            return
        server = RedirectServer(attempt, finish=_finish, on_foreign=lambda: None)
        waits = asyncio.get_running_loop()
        server._redirect, server._verdict = waits.create_future(), waits.create_future()
        server._verdict.set_result(None)  # type: ignore[arg-type]
        await server._answer(request)
        if server._redirect.done():
            server._redirect.exception()

    return lambda given: loop.run(answer(given))


async def _finish(_: object) -> TenantId:
    return TENANT


def returns() -> list[bytes]:
    query = b"/?admin_consent=True&tenant=41463f53-8812-40f4-890f-865bf6e35190&state=s"
    heads = [
        b"Host: localhost:8400",
        b"Host: 127.0.0.1:8400\r\nConnection: Upgrade\r\nUpgrade: websocket",
        b"Host: evil.example",
    ]
    return [b"GET " + query + b" HTTP/1.1\r\n" + head + b"\r\n\r\n" for head in heads]


@dataclass
class Call:
    """A request in plain lines: method and target, headers, an empty line, the body."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


def call_of(given: bytes) -> Call:
    """What the lines say, so far as it can be sent at all: that is all a server hands on."""
    head, _, body = given.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    headers = []
    for line in lines[:100]:
        name, colon, said = line.partition(b": ")
        if (
            colon
            and re.fullmatch(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name)
            and not re.search(rb"[\0\r\n]", said)
        ):
            headers.append((name.lower(), said.strip()))
    target = re.sub(rb"[\0-\x20\x7f]", b"", target)
    return Call(
        method.decode("latin-1").upper() if method.isalpha() else "GET",
        b"/" + target.lstrip(b"/"),
        headers,
        body,
    )


class OneGate:
    """Lets everybody in as the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, _: object) -> Access:
        return self._access


_CONFIGURATION = f"""\
inputs:
  office365:
    credentials: {{tenant_id: "{TENANT}", client_id: "99999999-8888-4777-8666-555555555555", client_secret: "made-up-secret"}}
outputs:
  lake: {{type: lake}}
"""
CSRF = b"@CSRF@"


def _boards(folder: Path) -> list[Board]:
    path = folder / "m365watch.yaml"
    path.write_text(_CONFIGURATION)
    path.chmod(0o600)
    settings = load_settings(path, environment={}, for_reading=True)
    clock = SystemClock()
    sources = Sources(settings, None, clock)
    listening = Listening("127.0.0.1", 8365)
    admin = OneGate(Access("ann", Role.ADMIN, tenants=None))
    gate = TokenGate(ApiTokens(folder), clock=clock, otherwise=admin)
    sessions = Sessions(SessionTimes(60, 60), stamp_of=lambda _: None)
    entrance = Entrance(Users(folder), sessions, clock, secure=False)
    return [
        Board(sources, gate=gate, listening=listening),
        Board(sources, gate=entrance.gate, listening=listening, entrance=entrance),
    ]


async def ask(board: Board, call: Call) -> tuple[int, bytes]:
    """Status and body that the board answers with, to a browser that goes away once it has."""
    path, _, query = call.target.partition(b"?")
    scope: MutableMapping[str, Any] = {
        "type": "http", "http_version": "1.1", "method": call.method, "scheme": "http", "root_path": "",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"), "raw_path": path, "query_string": query,
        "headers": [(b"host", HOST.encode()), *call.headers], "server": ("127.0.0.1", 8365), "client": ("127.0.0.1", 50_000),
    }  # fmt: skip
    wanted = [{"type": "http.request", "body": call.body, "more_body": False}]
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return wanted.pop() if wanted else {"type": "http.disconnect"}

    async def send(part: MutableMapping[str, Any]) -> None:
        sent.append(part)

    await asyncio.wait_for(board.app(scope, receive, send), 60)
    if not sent:
        return 499, b""  # it saw that the browser had gone
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


async def ask_soundly(board: Board, call: Call) -> tuple[int, bytes]:
    """The same, where the board has found no defect of its own in it."""
    with capture_logs() as said:
        status, body = await ask(board, call)
    defects = [str(one["event"]) for one in said if one.get("code") == "defect"]
    if status == 500 or defects:
        raise Broken(f"a defect: {(defects or ['HTTP 500'])[0]}", call.method, call.target[:300])
    return status, body


def csrf_token(loop: Loop, board: Board) -> bytes:
    """What its pages prove themselves with; empty where somebody has to sign in first."""
    _, page = loop.run(ask(board, Call("GET", b"/overview", [], b"")))
    found = re.search(rb'name="csrf-token" content="([0-9a-f]{64})"', page)
    return found[1] if found else b""


def _prepare_board(folder: Path) -> Attempt:
    loop, boards = Loop(), _boards(folder)
    structlog.configure(cache_logger_on_first_use=False)
    token = csrf_token(loop, boards[0])

    async def answer(given: bytes) -> None:
        call = call_of(given.replace(CSRF, token))
        for board in boards:
            await ask_soundly(board, call)

    return lambda given: loop.run(answer(given))


_PATHS = (
    "alerts/state", "narrow", "live", "search", "sql", "sign-in", "sign-out", "healthz", "api/v1/openapi.json", "api/v1/alerts",
    "api/v1/records", "api/v1/search", "collectors/review", "collectors/apply", "collectors/try", "searches", "record", "alert",
)  # fmt: skip
_QUERY = (
    "range", "from", "to", "tenant", "user", "operation", "workload", "ip", "q", "sql", "alert", "record", "page", "dimension",
    "value", "sense", "back", "sort", "limit", "cursor", "state", "severity", "not-user", "panel", "next",
)  # fmt: skip


def board_calls() -> list[bytes]:
    pages = [f"GET /{page.name}?range=7d\n\n".encode() for page in PAGES]
    panels = [
        f"GET /panel/{page.name}/{panel.name}?range=30d\n\n".encode()
        for page in PAGES
        for panel in page.panels[:2]
    ]
    posts = [
        b"POST /alerts/state\nX-CSRF-Token: @CSRF@\nContent-Type: application/json\n\n" + body
        for body in (
            b'{"alerts":["0123456789abcdef0123456789abcdef"],"state":"closed","reason":"x"}',
            b'{"a":' * 3_000,
            b'"\x80',
        )
    ]
    changes = [
        b"POST /collectors/review\nX-CSRF-Token: @CSRF@\nContent-Type: application/json\n\n"
        + json.dumps(body).encode()
        for body in (
            {
                "change": {
                    "act": "write",
                    "kind": "output",
                    "name": "x",
                    "text": "type: lake\n",
                    "is_new": True,
                },
                "base": "0" * 32,
            },
        )
    ]
    forms = [
        b"POST /sign-in\nContent-Type: application/x-www-form-urlencoded\n\nname=ann&password=x&back=%2Foverview"
    ]
    swapped = [
        b"GET /panel/overview/recent\nHX-Request: true\nHX-Current-URL: http://127.0.0.1:8365/overview?range=7d\n\n"
    ]
    return [
        *pages,
        *panels,
        *posts,
        *changes,
        *forms,
        *swapped,
        b"GET /live\nLast-Event-ID: 7\nCookie: a=b; c\n\n",
    ]


def _swapped(random: Random) -> str:
    """What htmx says of the page that it is on, where it asks."""
    said = re.sub(r"[\0\r\n]", "", random.choice(TEXTS))
    return random.choice(("", f"HX-Request: true\nHX-Current-URL: {said}\n"))


def grow_board_call(random: Random) -> bytes:
    page = random.choice(PAGES)
    kinds = (
        "/{page}",
        "/panel/{page}/{panel}",
        "/export/{page}/{panel}.csv",
        "/api/v1/{page}/{panel}",
        "/{path}",
    )
    form = random.choice(kinds)
    panel = random.choice(page.panels).name if page.panels else "x"
    path = form.format(page=page.name, panel=panel, path=random.choice(_PATHS))
    query = "&".join(f"{random.choice(_QUERY)}={texts_in_urls(random)}" for _ in range(random.randrange(6)))
    method = random.choice(("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD"))
    body = json_text(
        random, [value(random, ("alerts", "state", "reason", "change", "base", "name", "page", "q", "sql"))]
    )
    return (
        f"{method} {path}?{query}\nX-CSRF-Token: @CSRF@\nContent-Type: application/json\n{_swapped(random)}\n".encode(
            "utf-8", "replace"
        )
        + body
    )


TARGETS = (
    Target("webhook", _prepare_webhook, notifications, grow_notification,
        (b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Webhook-AuthID: ", b"\r\n\r\n", b"Upgrade: x\r\nConnection: Upgrade\r\n"), input_bytes_max=_READ_BYTES),
    Target("returns", _prepare_returns, returns, None, (b"Host: localhost:8400\r\n", b"Upgrade: x\r\nConnection: Upgrade\r\n", b"\r\n\r\n", b"CONNECT ")),
    Target("board", _prepare_board, board_calls, grow_board_call,
        (*(f"&{name}=".encode() for name in _QUERY), b"Cookie: m365watch=", b"Authorization: Bearer ", b"Accept-Encoding: gzip\n", b"Last-Event-ID: ", b"HX-Request: true\n", b"HX-Current-URL: "),
        free_cpu_s=4.0, free_bytes=96 << 20, input_bytes_max=32 << 10),
)  # fmt: skip
