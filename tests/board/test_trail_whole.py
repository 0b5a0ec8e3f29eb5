"""The trail keeps all of what somebody asked for and changed, however long that is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlencode

import httptools
import pytest
from promises import guarantee
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asking import ask, ask_api_sql, ask_sql, board_of
from m365watch.board.access.audit_journal import LINE_MAX, TrailJournal
from m365watch.board.access.audit_recorder import PATH_MAX, QUERY_MAX, SAYS_MAX, URL_MAX, Noted, NoTrail, tell
from m365watch.board.access.roles import Access, Role
from m365watch.board.access.roles import Scope as ScopeOfToken
from m365watch.board.api.api_routes import operations, takes_along
from m365watch.board.app.alert_actions import AT_ONCE_MAX
from m365watch.board.app.security_middleware import ACCESS
from m365watch.board.pages import audit_trail as trail_page
from m365watch.board.pages.audit_trail import ASKED_SHOWN_MAX
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.pages.sql import SQL_MAX
from m365watch.board.query.data_sources import Sources
from m365watch.lake.audit_trail_table import waiting_lines
from m365watch.lake.schema import OUTBOX_FILE
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch_testing.clock import FakeClock
from signing import Browser, entrance_in, user_named
from test_trail import Memory, deed

EXPORTS = [
    one.path.format(page="overview", panel="recent")
    for one in operations()
    if one.scope in {ScopeOfToken.EXPORT, ScopeOfToken.SQL}
]
"""What a token needs a scope of its own for, as many records go along with it."""


@guarantee(46)
@pytest.mark.parametrize("path", EXPORTS)
def test_what_the_api_lets_take_along_stands_among_the_exports(sources: Sources, path: str) -> None:
    """And is refused where it cannot be noted, as on the pages: it is no look."""
    noted = Memory()
    boards = [board_of(sources, trail=one) for one in (noted, NoTrail("the disk is full"))]
    answers = [
        asyncio.run(
            ask_api_sql(one, path, "SELECT 1", of="/overview")
            if "sql" in path
            else ask(one, f"{path}?range=7d")
        )
        for one in boards
    ]

    assert [one.status for one in answers] == [200, 503]
    assert noted.told()[-1] == ("local user", "export", path)


@guarantee(46)
@pytest.mark.slow
def test_the_end_of_a_long_question_is_told(sources: Sources) -> None:
    """SQL has up to 8,000 characters and may say at its end what it asks for; no other text hides it."""
    trail = Memory()
    board = board_of(sources, trail=trail)
    ann, vera = (f"SELECT 1 --{'x' * 7_000} {who}" for who in ("ann", "vera"))
    hidden = "x=" + "ä" * 30_000 + "&sql=SELECT+2"

    async def act() -> None:
        await ask_sql(board, "/panel/sql/answer", ann)
        await ask_sql(board, "/panel/sql/answer", vera)
        await ask(board, f"/sql?{hidden}")

    asyncio.run(act())

    *asked, last = [(one.action, one.query) for one in trail.deeds if one.query]
    assert asked == [("view", urlencode({"sql": one})) for one in (ann, vera)]
    assert last[1].endswith("&sql=SELECT+2")


@guarantee(46)
@pytest.mark.parametrize("page", [one.name for one in PAGES])
def test_a_look_at_each_page_is_noted(tmp_path: Path, sources: Sources, page: str) -> None:
    """Under its own address, also where that begins as the one for signing in does."""
    entrance, _ = entrance_in(tmp_path, user_named("adam", "admin"))
    trail = Memory()
    adam = Browser(board_of(sources, entrance=entrance, trail=trail))

    async def act() -> None:
        await adam.sign_in("adam")
        await adam.get(f"/{page}")

    asyncio.run(act())

    assert trail.told() == [("adam", "sign_in", "/sign-in"), ("adam", "view", f"/{page}")]


@guarantee(46)
def test_a_look_from_elsewhere_is_a_look_of_its_own(tmp_path: Path, sources: Sources) -> None:
    """Whoever has somebody's session sees what they see, at the same time."""
    entrance, _ = entrance_in(tmp_path, user_named("ann"))
    trail = Memory()
    board = board_of(sources, entrance=entrance, trail=trail)
    ann, thief = Browser(board, client="192.0.2.7"), Browser(board, client="198.51.100.9")

    async def act() -> None:
        await ann.sign_in("ann")
        thief.cookies = ann.cookies
        await ann.get("/exchange")
        for one in (ann, thief, thief):
            await one.get("/panel/exchange/rules")

    asyncio.run(act())

    looks = [(one.path, one.address) for one in trail.deeds if one.action == "view"]
    assert looks == [("/exchange", "192.0.2.7"), ("/panel/exchange/rules", "198.51.100.9")]


class Asked:
    """A panel that somebody asks for by itself, at times that a test says, and its trail."""

    def __init__(self, status: int) -> None:
        """Each one is answered with `status`."""
        self.trail, self.clock, self._status = Memory(), FakeClock(), status
        self._noted = Noted(self._answer, trail=self.trail, clock=self.clock, takes_along=takes_along)

    async def ask(self) -> None:
        access = Access("ann", Role.VIEWER, tenants=None)
        scope = {"type": "http", "method": "GET", "path": "/panel/exchange/rules", "query_string": b""}
        await self._noted(scope | {ACCESS: access, "client": ("192.0.2.7", 1)}, self._receive, self._send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=self._status)(scope, receive, send)

    async def _receive(self) -> Message:
        return {"type": "http.request"}

    async def _send(self, message: Message) -> None:
        """Nobody reads it."""


@pytest.mark.parametrize(("status", "lines"), [(403, 4), (200, 1)])
def test_a_refused_panel_is_told_once_a_minute(status: int, lines: int) -> None:
    """As any other refusal: like a look, it was told once in 15 minutes."""
    asked = Asked(status)

    async def act() -> None:
        for _ in range(7):
            await asked.ask()
            await asked.clock.advance(30)

    asyncio.run(act())

    assert len(asked.trail.deeds) == lines


def test_a_look_that_could_not_be_written_down_is_told_at_the_next_time() -> None:
    """Of the looks of 15 minutes the first one's line stood for all, also where the disk had not taken it."""
    asked = Asked(200)

    async def act() -> None:
        asked.trail.is_full = True
        await asked.ask()
        asked.trail.is_full = False
        await asked.ask()
        await asked.ask()

    asyncio.run(act())

    assert asked.trail.told() == [("ann", "view", "/panel/exchange/rules")]


@guarantee(46)
def test_every_alert_that_was_changed_is_named() -> None:
    """Also of as many as one request changes: 500."""
    alerts = [f"{number:032x}" for number in range(AT_ONCE_MAX)]
    trail = Memory()

    async def change(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ACCESS] = Access("ann", Role.ANALYST, None)
        tell(scope, f"closed: {' '.join(alerts)}")
        await Response()(scope, receive, send)

    async def send(sent: Message) -> None:
        pass

    async def receive() -> Message:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "POST", "path": "/alerts/state", "query_string": b"", "headers": []}
    noted = Noted(change, trail=trail, clock=FakeClock(), takes_along=takes_along)
    asyncio.run(noted(scope, receive, send))

    assert trail.deeds[0].says.split() == ["closed:", *alerts]


def test_room_for_a_line_is_room_for_the_longest(tmp_path: Path) -> None:
    """A change is let through where there is room, and then its line has to fit."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one")
    journal.append([deed(path="\0" * PATH_MAX, query="x" * QUERY_MAX, says="\U0001f512" * SAYS_MAX)])

    [[_, line]] = waiting_lines(tmp_path / OUTBOX_FILE)
    assert len(line) <= LINE_MAX
    journal.close()


def test_no_question_is_longer_than_the_trail_has_room_for() -> None:
    """The server takes none."""
    longest = b"/sql?sql=".ljust(URL_MAX, b"x")

    assert httptools.parse_url(longest).query == longest.partition(b"?")[2]
    with pytest.raises(httptools.HttpParserInvalidURLError):
        httptools.parse_url(longest + b"x")


def test_what_waits_goes_to_the_lake_before_anything_is_given_up(tmp_path: Path) -> None:
    """Nobody pushes their lines out of the file by many long ones."""
    journal = TrailJournal(
        tmp_path / "state", lake=lambda: tmp_path / "lake", collector_name="one", bytes_max=10_000
    )
    for name in ("ann", *["eve"] * 9, "vera"):
        journal.append([deed(name=name, query="x" * 6_000)])
    assert journal.ship()
    journal.close()

    found = LakeReader(tmp_path / "lake").query("SELECT name FROM board_trail ORDER BY number").rows
    assert found == [(name,) for name in ("ann", *["eve"] * 9, "vera")]


def test_a_page_of_the_trail_is_no_longer_than_people_read() -> None:
    """However much somebody asks for in vain, it can be opened; SQL that was answered is whole."""
    sql = "x" * SQL_MAX
    whole, cut = (trail_page._row(deed(path="/sql", query=f"sql={one}")) for one in (sql, sql * 20))

    assert (whole[7].text, whole[6].url) == (f"sql {sql}", f"/sql?sql={sql}")
    assert (len(cut[7].text), cut[7].text[-1], cut[6].url) == (ASKED_SHOWN_MAX + 1, "…", "")
