"""What open pages are told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

import m365watch.board
import m365watch.board.query.caches
from asking import OpenGate, ask, view_of
from configured import Configured
from m365watch.board.access.redaction import SeenAlert
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board, Listening
from m365watch.board.app.live_updates import (
    AGAIN_S,
    EACH_MAX,
    LOOK_EVERY_S,
    OPEN_MAX,
    TOLD_AT_LEAST_EVERY,
    Listeners,
    tell_news,
    tell_once,
    until,
)
from m365watch.board.factory import SERVER, told_as_ours
from m365watch.board.query.caches import STATUS_KEPT_S, StatusMemory
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import View
from m365watch.common.clock import SystemClock
from m365watch.common.errors import OutputUnusable
from m365watch.common.progress import RunProgress
from m365watch.config.models.settings import Settings
from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.rules.extension import Severity
from m365watch.health.collector_status import read_status
from m365watch.health.config_status import MEMORY, ConfigurationNote
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch_testing.clock import FakeClock


class Hurried(SystemClock):
    """Waits for nothing, and has gone on for as long as it would have been."""

    def __init__(self) -> None:
        self.waited_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.waited_s)

    async def sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        await asyncio.sleep(0)


async def first(sources: Sources, count: int, access: Access | None = None) -> list[str]:
    view = view_of("range=30d", *([access] if access else []))
    told = []
    async with aclosing(tell_news(view, sources)) as news:
        async for one in news:
            told.append(one.decode())
            if len(told) == count:
                break
    return told


def parsed(told: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told.removeprefix("data: "))
    return found


def test_a_page_is_told_at_once_how_it_stands(sources: Sources) -> None:
    """The first news come without waiting; what does not change is not told again, and the line is kept.

    That the last run is longer and longer ago is no news.
    """
    clock = Hurried()

    news, kept = asyncio.run(first(replace(sources, clock=clock), 2))

    assert parsed(news)["records"] > 0
    assert parsed(news)["feeds"] > 0
    assert parsed(news)["stopped"].startswith("no collector runs, last seen ")
    assert kept == ": still here\nretry: 3000\n\n"
    assert clock.waited_s == LOOK_EVERY_S * TOLD_AT_LEAST_EVERY


def test_a_page_is_told_that_the_lake_is_gone(sources: Sources, tmp_path: Path) -> None:
    """Its folder is not there, and the ledger says that records were delivered."""
    gone = replace(sources, facts=FactsReader(tmp_path / "lake"))

    [there], [away] = asyncio.run(first(sources, 1)), asyncio.run(first(gone, 1))

    assert not parsed(there)["gone"]
    assert parsed(away)["gone"]


def test_a_page_is_told_that_the_configuration_stands_otherwise(tmp_path: Path) -> None:
    """Written, taken up, refused: each is news, without any record; not for a tenant's own people."""
    it = Configured(tmp_path)
    settings, scoped = it.sources.settings, Access("bob", Role.VIEWER, frozenset({"x"}))
    marks = []

    def look(access: Access | None = None) -> str:
        [news] = asyncio.run(first(it.sources, 1, access))
        return str(parsed(news)["configuration"])

    ledger = SqliteLedger(settings.state_directory, outputs=frozenset({"lake"}), now=SystemClock().now())
    with closing(ledger):
        for note in (ConfigurationNote(1.0), ConfigurationNote(2.0), ConfigurationNote(2.0, refused_s=3.0)):
            ledger.remember(MEMORY, note.body())
            marks.append(look())
        os.utime(it.file, (4, 4))
        marks.append(look())
        assert look(scoped) == ""
        assert look() == marks[-1]
    marks.append(look())

    assert len(set(marks)) == 5


def test_nobody_is_told_news_when_the_board_ends() -> None:
    """A page that listens keeps no board from its end, nor is its connection cut off: the news are over."""
    closed = []

    async def waiting() -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def listen() -> list[bytes]:
        ending = asyncio.Event()
        told = []
        async for one in until(ending, waiting()):
            told.append(one)
            asyncio.get_running_loop().call_soon(ending.set)
        return told

    assert asyncio.run(asyncio.wait_for(listen(), PATIENCE_S)) == [b"first"]
    assert closed == [True]


def test_the_servers_errors_are_one_line_of_ours() -> None:
    """A defect is named by its place; what belongs to every end, or what anybody can cause, is not told."""
    server = logging.getLogger(SERVER)
    with capture_logs() as told, told_as_ours():
        for error in (asyncio.CancelledError(), ValueError("a record's words")):
            server.error("Exception in ASGI application", exc_info=error)
        server.error(OSError(98, "address already in use"))
        server.error("Cancel 1 running task(s), timeout graceful shutdown exceeded")
        server.warning("Invalid HTTP request received.")

    lines = [one["event"] for one in told if one["log_level"] != "debug"]
    assert len(lines) == 1
    assert lines[0].startswith("board: unexpected ValueError in ")
    assert "a record's words" not in lines[0]


def test_pages_that_are_open_together_have_one_look(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is read once for all of them, and each is told what it may know."""
    reads = []

    def read(settings: Settings, *, now: datetime) -> RunProgress:
        reads.append(settings)
        return read_status(settings, now=now)

    monkeypatch.setattr(m365watch.board.query.caches, "read_status", read)
    clock = FakeClock()
    own = replace(sources, clock=clock, _status=StatusMemory())
    nobody = Access("bob", Role.VIEWER, frozenset({"00000000-0000-4000-8000-000000000000"}))

    async def look() -> list[list[str]]:
        return await asyncio.gather(*(first(own, 1, access) for access in (None, None, nobody)))

    told = [parsed(news)["feeds"] for [news] in asyncio.run(look())]
    assert (told[0] > 0, told[1] > 0, told[2], len(reads)) == (True, True, 0, 1)

    asyncio.run(clock.advance(STATUS_KEPT_S))
    asyncio.run(look())
    assert len(reads) == 2


@guarantee(43)
def test_news_stay_within_a_scope(sources: Sources) -> None:
    """Who may see another tenant hears of no record and of no alert of this one."""
    stranger = Access("bob", Role.VIEWER, frozenset({"00000000-0000-4000-8000-000000000000"}))

    [news] = asyncio.run(first(sources, 1, stranger))

    assert parsed(news) == {
        "records": 0,
        "alerts": 0,
        "new": None,
        "feeds": 0,
        "troubled": 0,
        "stopped": "",
        "unread": "",
        "configuration": "",
        "gone": False,
        "again_s": 0,
    }


def waiting(name: str, severity: Severity, *, at_ms: int, formerly: tuple[AlertId, ...] = ()) -> SeenAlert:
    alert = Alert(
        id=AlertId(name),
        rule_id="r",
        title=f"the {name} one",
        severity=severity,
        tenant="t",
        group=(),
        entities=(),
        first_at_ms=at_ms,
        last_at_ms=at_ms,
        count=1,
        evidence=(),
        explanation="",
        formerly=formerly,
    )
    return SeenAlert(KeptAlert(alert, shown=True))


def test_the_alert_that_is_told_is_the_gravest_that_is_new(sources: Sources) -> None:
    """Records come late: another that waits may be of later ones.

    None is new that goes on under another id, or that nobody could read for a while.
    """
    old = waiting("old", Severity.CRITICAL, at_ms=9)
    moved = waiting("moved", Severity.CRITICAL, at_ms=9, formerly=(AlertId("old"),))
    low, high = waiting("low", Severity.MEDIUM, at_ms=8), waiting("high", Severity.HIGH, at_ms=7)
    looks: list[list[SeenAlert] | None] = [[old], [old, low, high], [moved, low, high], None, [moved, low]]

    class Followed(Sources):
        async def list_alerts(self, view: View, **asked: Any) -> list[SeenAlert] | None:
            found = looks.pop(0)
            if found is None:
                raise OutputUnusable("cannot be read", fix="wait", where="here")
            return found

    told = asyncio.run(first(Followed(sources.settings, sources.facts, Hurried()), len(looks)))

    assert [parsed(one)["new"] for one in told] == [
        None,
        {"id": "high", "title": "the high one"},
        *([None] * 3),
    ]


def test_one_session_takes_no_others_room() -> None:
    """A few for each, and a bound for everybody; what is closed leaves its place."""
    ann, other = (Access("ann", Role.VIEWER, None, session=one) for one in "ab")
    listeners = Listeners()
    with ExitStack() as open_ones:
        for _ in range(EACH_MAX):
            assert listeners.have_room(ann)
            open_ones.enter_context(listeners.one_more(ann))
        assert (listeners.have_room(ann), listeners.have_room(other)) == (False, True)
    assert listeners.have_room(ann)
    with ExitStack() as open_ones:
        for number in range(OPEN_MAX):
            open_ones.enter_context(listeners.one_more(replace(ann, session=f"{number}")))
        assert not listeners.have_room(other)


def test_whom_there_is_no_room_for_asks_again_later(sources: Sources) -> None:
    """They are told how it stands, at once, and the browser asks by itself: nobody is sent away."""
    view = view_of("range=30d")

    async def every() -> list[str]:
        return [one.decode() async for one in tell_once(view, sources)]

    [told] = asyncio.run(every())
    wait, _, news = told.partition("\n")

    assert wait == f"retry: {AGAIN_S * 1000}"
    assert parsed(news)["again_s"] == AGAIN_S
    assert parsed(news)["records"] > 0


def ended(sources: Sources) -> Board:
    """A board that tells no news any more, so that its answers end."""
    ending = asyncio.Event()
    ending.set()
    return Board(sources, gate=OpenGate(), listening=Listening("127.0.0.1", 8365), ending=ending)


def test_no_proxy_keeps_back_what_comes_bit_by_bit(sources: Sources) -> None:
    """Nginx gathers 4 KiB of any answer that does not forbid it: short news never came."""
    places = ("/live", "/export/search/hits.csv?q=operation:none", "/api/v1/records?q=operation:none")

    answers = [asyncio.run(ask(ended(sources), one)) for one in places]
    builders = [
        one.name
        for one in Path(m365watch.board.__file__).parent.rglob("*.py")
        if "StreamingResponse" in one.read_text()
    ]

    assert [(one.status, one.headers.get("x-accel-buffering")) for one in answers] == [(200, "no")] * 3
    assert len(builders) == 1
