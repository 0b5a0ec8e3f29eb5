"""Whatever Graph answers: a document, or an error of ours."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from multidict import CIMultiDict

from m365watch.common.errors import BadAnswer, NeedsOperator
from m365watch.http.client import Answer, Session
from m365watch.response.execution.graph_client import GraphClient
from m365watch_testing.clock import FakeClock

NESTED = b'{"a":' * 5_000 + b"1" + b"}" * 5_000


class Tokens:
    async def current(self) -> str:
        return "token"

    async def renewed(self, refused: str) -> str:
        return "token"


class Server:
    def __init__(self, status: int, body: bytes) -> None:
        self.answer = Answer(status, CIMultiDict[str](), body)

    async def send(self, *_: object, **__: object) -> Answer:
        return self.answer


def ask(status: int, body: bytes) -> object:
    session = cast(Session, Server(status, body))
    graph = GraphClient(
        session, "https://graph.example", tokens=Tokens(), clock=FakeClock(), tenant="contoso"
    )
    return asyncio.run(graph.list("/users", most=10))


@pytest.mark.parametrize("body", [b'{"\x80', b"[]", b"<html>", NESTED])
def test_an_answer_that_is_no_list_is_told(body: bytes) -> None:
    """Found by the fuzzer: bytes that are no UTF-8, and nesting, ended the plan in a traceback."""
    with pytest.raises(BadAnswer):
        ask(200, body)


@pytest.mark.parametrize("body", [b'{"\x80', NESTED, b""])
def test_a_refusal_in_other_words_is_told(body: bytes) -> None:
    """The same where the answer is an error."""
    with pytest.raises(NeedsOperator, match="Graph answered HTTP 400"):
        ask(400, body)
