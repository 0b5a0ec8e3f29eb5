"""Requests and records as nobody writes them: an answer that says so, and never a defect."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from starlette.requests import HTTPConnection

from configured import Configured
from m365watch.board.access.sessions import SessionGate, Sessions, SessionTimes
from m365watch.board.app.application import Board
from m365watch.detection.alerts.alert_text import details_of, failure_of
from m365watch.records.headers import object_of
from m365watch_testing.clock import FakeClock

NESTED = b'{"a":' * 5_000 + b"1" + b"}" * 5_000


def test_bytes_that_are_no_text_in_a_url_sign_nobody_in() -> None:
    """Found by the fuzzer: a query with such a byte was a defect, before anybody had signed in."""
    sessions = Sessions(SessionTimes(60, 60), stamp_of=lambda _: None)
    gate = SessionGate(sessions, cookie="m365watch", clock=FakeClock())
    scope: dict[str, Any] = {"type": "http", "path": "/overview", "query_string": b"\x80", "headers": []}

    assert gate.access_of(HTTPConnection(scope)) is None


@guarantee(26)
@pytest.mark.parametrize("path", ["/alerts/state", "/collectors/review", "/search/saved"])
@pytest.mark.parametrize("body", [NESTED, b'"\x80'])
def test_a_body_that_cannot_be_read_is_refused(tmp_path: Path, path: str, body: bytes) -> None:
    """Found by the fuzzer: nesting thousands deep was a defect."""
    answer = Configured(tmp_path).send(path, body)

    assert answer.status == 400, answer.text


@guarantee(26)
@pytest.mark.parametrize("where", ["raw", "value"])
def test_a_record_that_is_nested_too_deeply_says_nothing_of_itself(where: str) -> None:
    """Found by the fuzzer: whoever wrote such a text into a record kept its alert from being shown."""
    deep = "[" * 5_000 + "]" * 5_000
    raw = deep if where == "raw" else json.dumps({"Parameters": [{"Name": "ForwardTo", "Value": deep}]})

    assert object_of(raw).keys() <= {"Parameters"}
    assert len(details_of(raw)) < 500
    assert failure_of(raw) == ""


def test_bytes_that_are_no_text_in_a_url_are_no_defect(board: Board) -> None:
    """Found by the fuzzer: a path that ends in a slash is led on, with such a byte in its query."""
    scope: dict[str, Any] = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "",
        "path": "/x/", "raw_path": b"/x/",
        "query_string": b"a=\xed", "headers": [(b"host", b"127.0.0.1:8365")],
        "server": ("127.0.0.1", 8365), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(part: Any) -> None:
        sent.append(part)

    asyncio.run(board.app(scope, receive, send))

    assert sent[0]["status"] < 500
