"""Requests to the application itself, without a server and without a network."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers, QueryParams
from starlette.types import Message

from collected_week import CLOCK
from m365watch.board.access.audit_recorder import Trail
from m365watch.board.access.link_sign_in import LinkEntrance
from m365watch.board.access.login_routes import Entrance
from m365watch.board.access.roles import LOCAL_USER, Access, Gate, Role
from m365watch.board.app.application import Board, Listening
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import View, read_view
from m365watch.board.widgets.template_renderer import Templates
from m365watch.config.loader import load_settings

PORT = 8365
HOST = f"127.0.0.1:{PORT}"
EVERYTHING = Access("tester", Role.ADMIN, tenants=None)


class OpenGate:
    """Lets everybody in, as an administrator of everything."""

    def access_of(self, connection: object) -> Access:
        return LOCAL_USER


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def sources_of(config: Path) -> Sources:
    """Where the pages of a configuration come from."""
    settings = load_settings(config, environment={}, for_reading=True)
    lake = settings.lake_directory
    return Sources(settings, None if lake is None else FactsReader(lake), CLOCK)


def board_of(
    sources: Sources,
    *,
    gate: Gate | None = None,
    entrance: Entrance | LinkEntrance | None = None,
    listening: Listening | None = None,
    trail: Trail | None = None,
) -> Board:
    gate = gate or (entrance.gate if entrance else OpenGate())
    return Board(
        sources,
        gate=gate,
        listening=listening or Listening("127.0.0.1", PORT),
        entrance=entrance,
        trail=trail,
        templates=_templates(),
    )


@cache
def _templates() -> Templates:
    """For all boards: to compile them takes longer than most tests."""
    return Templates()


def view_of(query: str = "", access: Access = EVERYTHING, *, now: datetime | None = None) -> View:
    return read_view(QueryParams(query), access, now=now or CLOCK.now())


async def ask(
    board: Board,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    leaves: bool = False,
    leaves_when: Callable[[], bool] = lambda: False,
    body: bytes = b"",
    client: str = "127.0.0.1",
) -> Answer:
    """What the board answers a page of its own; with `leaves`, a browser that goes away at once, or then."""
    parts = urlsplit(url)
    sent: list[Message] = []
    given = {"host": HOST, "sec-fetch-site": "same-origin"} | dict(headers or {})
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "scheme": "http",
        "server": ("127.0.0.1", PORT),
        "client": (client, 50_000),
        "root_path": "",
    }
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        while not leaves and not leaves_when():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await board.app(scope, receive, send)
    raw = [(name, value) for name, value in sent[0]["headers"]]
    body = b"".join(one.get("body", b"") for one in sent[1:])
    return Answer(sent[0]["status"], Headers(raw=raw), body)


async def ask_sql(board: Board, place: str, sql: str, *, of: str = "/sql", **more: Any) -> Answer:
    """What SQL is answered with that the page `of` sends to a path."""
    headers, body = await proof_of(board, of), urlencode({"sql": sql}).encode()
    return await ask(board, place, method="POST", headers=headers, body=body, **more)


async def ask_api_sql(board: Board, place: str, sql: str, *, of: str = "/sql", **more: Any) -> Answer:
    """The same of the API."""
    headers = await proof_of(board, of) | {"content-type": "application/json"}
    body = json.dumps({"sql": sql}).encode()
    return await ask(board, place, method="POST", headers=headers, body=body, **more)


async def proof_of(board: Board, page: str) -> dict[str, str]:
    """The header with which that page shows that it is one of the board."""
    found = re.search(r'name="csrf-token" content="([0-9a-f]+)"', (await ask(board, page)).text)
    assert found
    return {TOKEN_HEADER: found[1]}


def document_of(answer: Answer) -> Any:
    return json.loads(answer.body)
