"""Who has seen and done what: on disk before it is answered, in the lake once."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from made_outputs import lake_in
from promises import guarantee
from starlette.requests import HTTPConnection

from asking import ask, board_of, view_of
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.audit_recorder import KeptTrail, NoTrail
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.pages import audit_trail as trail_page
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.widgets.widget_types import Grid, Several
from m365watch.common.timestamps import us_of
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME
from m365watch.lake.audit_trail_table import Deed, TrailWriter, deeds_of, waiting_lines
from m365watch.lake.schema import OUTBOX_FILE
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.storage.database import DatabaseError, connect
from m365watch_testing.clock import FakeClock
from signing import Browser, entrance_in, user_named

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Memory:
    """A trail that is looked at."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.is_full = False

    async def note(self, deed: Deed) -> bool:
        if not self.is_full:
            self.deeds.append(deed)
        return not self.is_full

    async def trouble(self) -> str:
        return ""

    def told(self) -> list[tuple[str, str, str]]:
        return [(one.name, one.action, one.path) for one in self.deeds]


def deed(number: int = 0, **more: object) -> Deed:
    given: dict[str, object] = {
        "number": number,
        "time": NOW,
        "name": "ann",
        "role": "analyst",
        "address": "192.0.2.1",
        "session": "s",
        "action": "view",
        "status": 200,
        "path": "/overview",
        "query": "",
        "says": "",
    }
    return Deed(**(given | more))  # type: ignore[arg-type]


def waiting(state: Path) -> list[Deed]:
    return [*deeds_of(waiting_lines(state / OUTBOX_FILE))]


@pytest.fixture
def watched(tmp_path: Path, sources: Sources) -> tuple[Board, Memory]:
    """A board that people sign in to, and its trail."""
    entrance, _ = entrance_in(tmp_path, user_named("ann"), user_named("vera", "viewer"))
    trail = Memory()
    return board_of(sources, entrance=entrance, trail=trail), trail


@guarantee(46)
def test_what_somebody_sees_and_does_is_noted(watched: tuple[Board, Memory], sources: Sources) -> None:
    """Signing in and out, looks, exports, documents and changes, each with who it was and from where."""
    board, trail = watched
    ann = Browser(board, client="192.0.2.7")
    alert = (asyncio.run(sources.list_alerts(view_of("range=30d"))) or [])[0].alert.id

    async def act() -> None:
        await ann.sign_in("ANN", "wrong wrong wrong")
        await ann.sign_in("ann")
        token = await ann.token()
        await ann.get("/panel/overview/recent")
        await ann.get("/record?record=1:x")
        await ann.get("/export/overview/recent.csv?range=7d")
        await ann.get("/api/v1/overview/recent")
        body = json.dumps({"ids": [alert], "state": "acknowledged"}).encode()
        await ann.post("/alerts/state", token, body=body)
        await ann.post("/sign-out", token)

    asyncio.run(act())
    # The lake is every test's.
    path = sources.settings.state_directory / FILE_NAME
    set_states(path, [alert], AlertState.OPEN, reason="", by="", at_ms=0)

    assert trail.told() == [
        ("ann", "refused", "/sign-in"),
        ("ann", "sign_in", "/sign-in"),
        ("ann", "view", "/overview"),
        ("ann", "view", "/record"),
        ("ann", "export", "/export/overview/recent.csv"),
        ("ann", "api", "/api/v1/overview/recent"),
        ("ann", "change", "/alerts/state"),
        ("ann", "sign_out", "/sign-out"),
    ]
    assert {one.address for one in trail.deeds} == {"192.0.2.7"}
    assert trail.deeds[3].query == "record=1:x"
    assert trail.deeds[6].says == f"acknowledged: {alert}"
    assert [one.role for one in trail.deeds] == ["", *["analyst"] * 7]
    assert len({one.session for one in trail.deeds[2:]}) == 1


@guarantee(46)
def test_a_preflight_is_tried_and_changes_nothing(tmp_path: Path, sources: Sources) -> None:
    """Whoever looks for changes on the trail finds changes; what was tried is a kind of its own."""
    entrance, _ = entrance_in(tmp_path, user_named("adam", "admin"))
    trail = Memory()
    adam = Browser(board_of(sources, entrance=entrance, trail=trail))

    async def act() -> None:
        await adam.sign_in("adam")
        await adam.post("/collectors/try", await adam.token(), body=b"{}")

    asyncio.run(act())
    [sign_in, *_, tried] = trail.deeds

    assert (sign_in.action, sign_in.role) == ("sign_in", "admin")
    assert (tried.action, tried.path) == ("try", "/collectors/try")
    assert "change" not in {one.action for one in trail.deeds}


@guarantee(46)
def test_what_is_refused_to_somebody_is_noted(watched: tuple[Board, Memory]) -> None:
    """A viewer who tries more than they may stands there, once a minute; strangers do not fill the trail."""
    board, trail = watched
    vera, stranger = Browser(board), Browser(board)

    async def act() -> None:
        for _ in range(5):
            await stranger.get("/overview")
            await stranger.sign_in("my secret password", "x")
        await vera.sign_in("vera")
        for _ in range(3):
            await vera.post("/alerts/state")

    asyncio.run(act())

    assert trail.told() == [
        ("", "refused", "/sign-in"),
        ("vera", "sign_in", "/sign-in"),
        ("vera", "refused", "/alerts/state"),
    ]
    assert "my secret" not in repr(trail.deeds)


def test_a_panel_belongs_to_the_look_at_its_page(sources: Sources) -> None:
    """Asked for by itself, or long after, it is a look of its own."""
    trail = Memory()
    board = board_of(sources, trail=trail)

    async def act() -> None:
        await ask(board, "/exchange?user=x&range=7d")
        await ask(board, "/panel/exchange/flow?range=7d&user=x")
        await ask(board, "/panel/exchange/forwarding?user=%78")  # as pages write the usual time: not at all
        await ask(board, "/panel/exchange/rules?range=24h")

    asyncio.run(act())

    assert [(one.name, one.path, one.query) for one in trail.deeds] == [
        ("local user", "/exchange", "user=x&range=7d"),
        ("local user", "/panel/exchange/rules", "range=24h"),
    ]


def test_what_somebody_types_is_no_deed_before_it_is_asked(sources: Sources) -> None:
    """Ten letters were ten lines, each durable before its choices came; a search is one, in all parts."""
    trail = Memory()
    board = board_of(sources, trail=trail)
    typed = "user:aarav"

    async def act() -> None:
        await ask(board, "/search/saved")
        for end in range(1, len(typed) + 1):
            await ask(board, f"/search/complete?q={typed[:end]}&at={end}")
        await ask(board, "/values?dimension=user&typed=aa")
        await ask(board, f"/search?q={typed}")
        await ask(board, f"/panel/search/hits?q={typed}")
        await ask(board, f"/search/part?q={typed}&before=1764201600&shown=12")
        await ask(board, f"/search/part?q={typed}&before=1764115200&shown=20")
        await ask(board, "/search/part?q=user:other&before=1764115200&shown=20")
        await ask(board, "/search/saved", method="POST")

    asyncio.run(act())

    assert [(one.action, one.path, one.query) for one in trail.deeds] == [
        ("view", "/search", f"q={typed}"),
        ("view", "/search/part", "q=user:other&before=1764115200&shown=20"),
        ("refused", "/search/saved", ""),
    ]


@guarantee(43, 46)
@pytest.mark.slow
def test_a_line_is_durable_and_comes_to_the_lake_once(tmp_path: Path) -> None:
    """Whatever is brought again, also after a crash between the lake and the file, is there once."""
    state, lake = tmp_path / "state", tmp_path / "lake"
    journal = TrailJournal(state, lake=lambda: lake, collector_name="one")
    journal.append([deed(), deed(time=NOW + timedelta(days=1), name="vera")])
    journal.close()
    path = state / OUTBOX_FILE
    kept = path.read_bytes()
    assert [one.name for one in waiting(state)] == ["ann", "vera"]
    assert path.stat().st_mode & 0o777 == 0o600
    journal = TrailJournal(state, lake=lambda: lake, collector_name="one")
    assert journal.ship()
    assert waiting(state) == []
    journal.close()

    path.write_bytes(kept)  # as a crash before the lines are taken out leaves it, or a copy that is put back
    again = TrailJournal(state, lake=lambda: lake, collector_name="one")
    assert again.ship()
    again.append([deed(name="zoe")])
    assert again.ship()
    again.close()

    found = LakeReader(lake).query("SELECT number, name FROM board_trail ORDER BY number")
    tomorrow = us_of(NOW + timedelta(days=1))
    assert found.rows == [(us_of(NOW), "ann"), (tomorrow, "vera"), (tomorrow + 1, "zoe")]
    assert LakeReader(lake).query("SELECT * FROM board_trail", tenants=["t"]).rows == []


@guarantee(46)
def test_two_boards_bring_each_line_once(tmp_path: Path) -> None:
    """Also where one has brought the first of the lines that the other is about to commit."""
    state, lake = tmp_path / "state", tmp_path / "lake"
    overtaken: list[int] = []

    class Overtaken(TrailWriter):
        def append(self, deeds: Sequence[Deed]) -> None:
            if len(deeds) > 1 and not overtaken:
                overtaken.append(deeds[0].number)
                TrailWriter(lake, app_id=self._app_id).append(deeds[:1])
            super().append(deeds)

    one, two = (
        TrailJournal(
            state,
            lake=lambda: lake,
            collector_name="one",
            open_table=lambda folder, app_id: Overtaken(folder, app_id=app_id),
        )
        for _ in range(2)
    )
    for journal, name in ((one, "zoe"), (two, "ann")):
        journal.append([deed(name=name)])
        assert journal.ship()
    one.append([deed(name="vera"), deed(name="eve")])
    assert not one.ship()
    assert one.ship()
    assert two.ship()

    found = LakeReader(lake).query("SELECT name FROM board_trail ORDER BY number").rows
    assert (found, waiting(state)) == ([(name,) for name in ("zoe", "ann", "vera", "eve")], [])
    assert overtaken
    one.close()
    two.close()


def test_what_waits_for_a_lake_is_bounded(tmp_path: Path) -> None:
    """Without a lake the older half goes."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one", bytes_max=20_000)
    long = deed(query="x" * 500, says="y" * 500)
    for _ in range(9):
        journal.append([long] * 9)
        assert sum(len(msgspec.json.encode(one)) for one in waiting(tmp_path)) < 20_000 + 12_000
    journal.append([deed(name="last")])

    assert not journal.ship()
    assert 9 < len(waiting(tmp_path)) < 9 * 9
    assert waiting(tmp_path)[-1].name == "last"
    journal.close()


@guarantee(46)
def test_a_disk_that_takes_nothing_stops_what_has_to_be_noted(tmp_path: Path, sources: Sources) -> None:
    """Nobody changes or takes along what cannot be written down; looks go on, and Health says so."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one")
    trail = KeptTrail(journal, clock=FakeClock())
    kept = journal._noting
    journal._noting = connect(tmp_path / OUTBOX_FILE, mode="ro")
    entrance, _ = entrance_in(tmp_path, user_named("ann"))
    board = board_of(replace(sources, trail_trouble=lambda: trail.complaint), entrance=entrance, trail=trail)
    ann = Browser(board)

    async def act() -> list[int]:
        await ann.sign_in("ann")
        token = await ann.token()
        answers = [
            await ann.get("/overview"),
            await ann.get("/export/overview/recent.csv"),
            await ann.post("/alerts/state", token, body=b'{"ids": [], "state": "open"}'),
            await ann.get("/panel/health/needs"),
        ]
        assert "make room" in answers[1].text.lower()
        assert "cannot be written down" in answers[3].text
        journal._noting.close()
        journal._noting = kept
        answers += [await ann.get("/export/overview/recent.csv"), await ann.post("/sign-out", token)]
        return [one.status for one in answers]

    assert asyncio.run(act()) == [200, 503, 503, 200, 200, 204]
    assert [one.action for one in waiting(tmp_path)] == ["export", "sign_out"]
    trail.close()


@guarantee(46)
def test_where_nothing_can_be_written_down_the_trail_does_not_say_nobody(sources: Sources) -> None:
    """Nobody knows who did what meanwhile, and what to do about it is said."""
    full = replace(sources, trail_trouble=lambda: "the disk is full: make room")
    view = view_of("range=1h&user=nobody")
    said = [asyncio.run(trail_page.deeds(view, one)) for one in (sources, full)]

    empties = [one.parts[0].empty for one in said if isinstance(one, Several)]
    assert [one.then for one in empties if one is not None][1] == "the disk is full: make room"
    assert empties[0] != empties[1]


def test_a_line_that_a_full_disk_does_not_take_takes_no_other_along(tmp_path: Path) -> None:
    """Nothing of it is left, and the next one finds its place."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one")
    journal.append([deed(name="ann")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(DatabaseError):
            journal.append([deed(name="lost", says="x" * size)])
        with pytest.raises(DatabaseError):
            journal.try_write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, kept)

    journal.append([deed(name="vera")])
    journal.try_write()
    assert [one.name for one in waiting(tmp_path)] == ["ann", "vera"]
    journal.close()


def test_an_export_that_is_not_noted_is_not_answered(sources: Sources) -> None:
    """Also where the disk fills between the look at it and the line."""

    class Full(Memory):
        async def note(self, deed: Deed) -> bool:
            return False

    answer = asyncio.run(ask(board_of(sources, trail=Full()), "/export/overview/recent.csv"))
    nothing = asyncio.run(
        ask(board_of(sources, trail=NoTrail("no space left")), "/export/overview/recent.csv")
    )

    assert (answer.status, nothing.status) == (503, 503)
    assert "@" not in answer.text + nothing.text
    assert "no space left" in nothing.text


def test_administrators_read_the_trail(tmp_path: Path, sources: Sources) -> None:
    """The newest first, a page at a time, by person and kind, whether they are in the lake or still wait."""
    state, lake = tmp_path / "state", tmp_path / "lake"
    journal = TrailJournal(state, lake=lambda: lake, collector_name="one")
    journal.append(
        [deed(time=NOW - timedelta(minutes=number), path=f"/look-{number}") for number in range(150, 0, -1)]
    )
    assert journal.ship()
    kept = waiting(state)
    journal.append(
        [deed(name="Vera", action="export", path="/export/x.csv", query="range=7d", address="::1")]
    )
    journal.close()
    assert kept == []
    settings = replace(sources.settings, state_directory=state, outputs=(lake_in(lake),))
    theirs = replace(sources, settings=settings, facts=FactsReader(lake))

    def lines(query: str) -> tuple[list[list[str]], Grid]:
        shape = asyncio.run(trail_page.deeds(view_of(query, now=NOW + timedelta(minutes=1)), theirs))
        assert isinstance(shape, Several)
        [grid] = shape.parts
        assert isinstance(grid, Grid)
        return [[cell.text for cell in row] for row in grid.rows], grid

    first, grid = lines("range=24h")
    second, last = lines("range=24h&sheet=1")
    assert [row[6] for row in first[:2]] == ["/export/x.csv", "/look-1"]
    assert len(first) == 100
    assert len({row[6] for row in first + second}) == 151
    assert (grid.later, last.earlier) == ("", "")
    assert grid.earlier.endswith("sheet=1")
    assert [row[1] for row in lines("range=24h&user=VERA")[0]] == ["Vera"]
    assert [row[7] for row in lines("range=24h&by=exports")[0]] == ["range 7d"]
    assert lines("range=24h&by=changes")[1].empty
    assert [row[6] for row in lines("range=24h&ip=192.0.2.1&sheet=99")[0]] == []
    theirs = replace(theirs, trail_trouble=lambda: "the disk is full")
    assert lines("range=24h")[1].cut.endswith("cannot be written down now: the disk is full.")


@guarantee(43)
def test_nobody_else_reads_the_trail(sources: Sources) -> None:
    """Neither analysts nor administrators of some tenants have the page, its panel or its export."""
    tenant = frozenset({"00000000-0000-4000-8000-000000000000"})
    for access in (Access("ann", Role.ANALYST, None), Access("eve", Role.ADMIN, tenant)):
        board = board_of(sources, gate=AlwaysThem(access))
        for url in ("/trail", "/panel/trail/deeds", "/export/trail/deeds.csv", "/api/v1/trail/deeds"):
            assert asyncio.run(ask(board, url)).status in {403, 404}, url
        assert "/trail" not in asyncio.run(ask(board, "/overview")).text


class AlwaysThem:
    """A gate that knows one person."""

    def __init__(self, access: Access) -> None:
        self.access = access

    def access_of(self, connection: HTTPConnection) -> Access:
        return self.access


@pytest.mark.slow
def test_lines_go_to_the_lake_that_there_is_by_now(tmp_path: Path) -> None:
    """What was noted before goes to the lake before it; none is left out where the new one counts further."""
    state, old, new = tmp_path / "state", tmp_path / "old", tmp_path / "new"
    before = TrailJournal(tmp_path / "state of before", lake=lambda: new, collector_name="one")
    before.append([deed(name=f"zoe {number}", time=NOW - timedelta(days=1)) for number in range(5)])
    assert before.ship()
    before.close()
    lake = old
    journal = TrailJournal(state, lake=lambda: lake, collector_name="one")
    journal.append([deed(name="ann")])
    assert journal.ship()
    journal.append([deed(name="vera")])

    lake = new
    assert journal.ship()
    journal.append([deed(name="last")])
    assert journal.ship()

    assert LakeReader(old).query("SELECT name FROM board_trail ORDER BY name").rows == [("ann",), ("vera",)]
    found = LakeReader(new).query("SELECT name FROM board_trail WHERE name NOT LIKE 'zoe%'").rows
    assert found == [("last",)]
    journal.close()


@guarantee(46)
def test_lines_that_a_lost_lake_did_not_get_go_to_the_new_one(tmp_path: Path) -> None:
    """Once each, under numbers that the new lake does not take for those of its own."""
    state, old, new = tmp_path / "state", tmp_path / "old", tmp_path / "new"
    before = TrailJournal(tmp_path / "state of before", lake=lambda: new, collector_name="one")
    before.append([deed(name=f"zoe {number}", time=NOW - timedelta(days=1)) for number in range(5)])
    assert before.ship()
    before.close()
    old.write_text("no folder")
    lake = old
    journal = TrailJournal(state, lake=lambda: lake, collector_name="one")
    journal.append([deed(name="ann"), deed(name="vera")])
    assert not journal.ship()

    lake = new
    assert journal.ship()
    assert journal.ship()

    found = LakeReader(new).query("SELECT name FROM board_trail WHERE name NOT LIKE 'zoe%' ORDER BY number")
    assert found.rows == [("ann",), ("vera",)]
    journal.close()


@guarantee(46)
def test_lines_of_a_start_without_its_lake_come_to_it_later(tmp_path: Path) -> None:
    """A lake that was away when the board began has had their numbers, and gets them all the same."""
    lake, away = tmp_path / "lake", tmp_path / "away"
    for number, name in enumerate(("ann", "vera")):
        journal = TrailJournal(tmp_path / "state", lake=lambda: lake, collector_name="one")
        journal.append([deed(name=name, time=NOW + timedelta(seconds=number))])
        if name == "ann":
            assert journal.ship()
            journal.close()
            lake.rename(away)
            lake.write_text("not mounted")

    lake.unlink()
    away.rename(lake)
    assert journal.ship()
    journal.close()

    assert LakeReader(lake).query("SELECT name FROM board_trail ORDER BY number").rows == [
        ("ann",),
        ("vera",),
    ]
