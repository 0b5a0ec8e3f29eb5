"""The client of Graph waits where Graph is busy, and asks nothing without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from multidict import CIMultiDict

from halting_scene import Halting, desk_of, disable, outcomes
from m365watch.common.errors import CollectorError, Unavailable
from m365watch.http.client import Answer, Session
from m365watch.response.execution.graph_client import GraphClient
from m365watch.response.journal import Journal
from m365watch.response.steps.step import GraphCall
from m365watch_testing.clock import FakeClock


class Tokens:
    """Tokens for whoever asks, or none."""

    def __init__(self, error: CollectorError | None = None) -> None:
        self._error = error

    async def current(self) -> str:
        if self._error is not None:
            raise self._error
        return "token"

    async def renewed(self, refused: str) -> str:
        return await self.current()


class Server:
    """Answers with these, one after the other."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)

    async def send(self, *_: object, **__: object) -> Answer:
        return self._answers.pop(0)


def client(
    server: Server, tokens: Tokens, clock: FakeClock, *, on_wait: Callable[[float], None] = lambda _: None
) -> GraphClient:
    """Graph behind that server."""
    session = cast(Session, server)
    return GraphClient(
        session, "https://graph.example", tokens=tokens, clock=clock, tenant="contoso", on_wait=on_wait
    )


def answered(make: Callable[[], Awaitable[object]]) -> object:
    """What comes of it, or the error."""

    async def main() -> object:
        try:
            return await make()
        except CollectorError as error:
            return error

    return asyncio.run(main())


def test_graph_is_asked_again_when_it_has_time(tmp_path: Path) -> None:
    """All further deeds failed at once, one after the other."""
    busy = Answer(429, CIMultiDict({"Retry-After": "7"}), b"")
    clock = FakeClock(jumps=True)
    graph = client(Server(busy, Answer(204, CIMultiDict[str](), b"")), Tokens(), clock)

    assert answered(lambda: graph.ask(GraphCall("POST", "/x"))) == {}
    assert clock.slept_s == [7]


def test_without_a_token_nothing_was_asked(tmp_path: Path) -> None:
    """So that nothing may have been done."""
    plan, journal = disable(), Journal(tmp_path)
    graph = client(Server(), Tokens(Unavailable("no way to Entra")), FakeClock())
    found = answered(lambda: graph.ask(GraphCall("POST", "/x")))

    assert isinstance(found, CollectorError)
    assert "there is no token" in found.what
    asyncio.run(desk_of(plan, Halting(found), journal).carry_out(plan.steps[0]))
    assert outcomes(tmp_path) == ["begun", "failed"]
