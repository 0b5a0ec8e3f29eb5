"""The queue of alerts, one alert, and what an analyst does with them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from promises import guarantee

import triage_scene
from asking import Answer, ask, board_of, view_of
from collected_week import CLOCK
from m365watch.board.access.redaction import SeenAlert
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.pages import alert, alerts, overview
from m365watch.board.query.alert_selection import list_meant
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql.entity_queries import BY_ID
from m365watch.board.widgets.widget_types import Chart, Grid, Listing, Several, Tile, Tiles
from m365watch.common.errors import QueryStopped
from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import set_states
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.extension import Severity
from m365watch.response.journal import Journal, Line
from triage_scene import EVERY, VIEWER, AlwaysGate, queue_of

kept = triage_scene.kept


STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))


def test_the_worst_waits_first(sources: Sources) -> None:
    """Then what is less bad; signals only where they are asked for."""
    shown = [one.severity for one in asyncio.run(queue_of(sources)).rows]
    every = [one.severity for one in asyncio.run(queue_of(sources, f"{EVERY}&severity=informational")).rows]

    ranks = [Severity(one).rank for one in shown]
    assert ranks == sorted(ranks, reverse=True)
    assert min(ranks) >= Severity.MEDIUM.rank
    assert set(shown) < set(every)


def test_what_is_acknowledged_waits_no_more(board: Board, sources: Sources, kept: KeptAlert) -> None:
    """It leaves the queue, its figure and the overview's; all open ones of lesser rank move up."""

    def told() -> tuple[int, int, int, bool]:
        rows = asyncio.run(queue_of(sources, f"{EVERY}&severity=critical")).rows
        figures, over = (
            {
                tile.label: int(tile.value.replace(",", ""))
                for tile in tiles_of(page, sources)
                if tile.value.isdigit()
            }
            for page in (alerts, overview)
        )
        is_there = kept.alert.id in {one.id for one in rows}
        return len(rows), figures["Critical"], over["Open alerts"], is_there

    before = told()
    assert put(board, ids=[kept.alert.id], state="acknowledged").status == 200
    after = told()

    assert before[0] == before[1]
    assert after == (before[0] - 1, before[1] - 1, before[2] - 1, False)
    [looked_into] = asyncio.run(queue_of(sources, f"{EVERY}&state=acknowledged")).rows
    assert looked_into.id == kept.alert.id


def tiles_of(page: ModuleType, sources: Sources) -> Sequence[Tile]:
    shape = asyncio.run(page.figures(view_of(EVERY), sources))
    assert isinstance(shape, Tiles)
    return shape.tiles


def test_a_figure_leads_to_as_many_alerts(sources: Sources) -> None:
    """Each tile, and each rule of the overview where it has several; its title leads to the first of them."""
    for tile in tiles_of(alerts, sources):
        assert counted_at(sources, tile.url) == int(tile.value.replace(",", "")), tile.label
    panel = asyncio.run(overview.alerts(view_of(EVERY), sources))
    assert isinstance(panel, Several)
    grid = panel.parts[1]
    assert isinstance(grid, Grid)
    assert {row[1].text == "1" for row in grid.rows} == {True, False}
    for row in grid.rows:
        assert urlsplit(row[2].url).path == "/alert"
        if row[1].text == "1":
            assert row[1].url == ""
        else:
            assert counted_at(sources, row[1].url) == int(row[1].text)
            [first, *_] = asyncio.run(queue_of(sources, urlsplit(row[1].url).query)).rows
            assert parse_qs(urlsplit(row[2].url).query)["alert"] == [first.id]


def counted_at(sources: Sources, url: str) -> int:
    """The alerts of a queue, over all of its pages."""
    count = 0
    while url:
        assert urlsplit(url).path == "/alerts"
        shown = asyncio.run(queue_of(sources, urlsplit(url).query))
        count += len(shown.rows)
        url = shown.after
    return count


class Busy(Sources):
    """Has as many alerts as come together in a bad week: each of its own is there often."""

    async def list_alerts(self, view: View, **asked: Any) -> list[SeenAlert] | None:
        found = await super().list_alerts(view, **asked) or []
        many = [
            SeenAlert(replace(one, alert=replace(one.alert, id=AlertId(f"{n:032x}"))))
            for n, one in enumerate(found * 9)
        ]
        return many[:250]


def test_a_long_queue_has_pages(sources: Sources) -> None:
    """Every alert is on one of them; one after the last is the last, and a choice begins anew."""
    busy = Busy(sources.settings, sources.facts, sources.clock)
    every = f"{EVERY}&severity=informational"
    pages = [asyncio.run(queue_of(busy, f"{every}&sheet={n}")) for n in ("", "1", "2", "99", "-1")]

    assert [(len(one.rows), one.cut) for one in pages[:3]] == [
        (100, "1 to 100 of 250"),
        (100, "101 to 200 of 250"),
        (50, "201 to 250 of 250"),
    ]
    assert len({row.id for one in pages[:3] for row in one.rows}) == 250
    assert [row.id for row in pages[3].rows] == [row.id for row in pages[2].rows]
    assert [row.id for row in pages[4].rows] == [row.id for row in pages[0].rows]
    assert [(bool(one.before), bool(one.after)) for one in pages[:3]] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    assert not any("sheet" in way.url for choice in pages[2].choices for way in choice.ways)


def test_the_queue_is_narrowed_by_its_url(sources: Sources) -> None:
    """To a rule, a technique, a state, a person: what is left is about it."""
    first = next(one for one in asyncio.run(queue_of(sources)).rows if one.techniques)
    technique = first.techniques[0].text
    user = next(one.text for one in first.entities if one.kind == "user")

    by_technique = asyncio.run(queue_of(sources, f"{EVERY}&technique={technique}")).rows
    by_user = asyncio.run(queue_of(sources, f"{EVERY}&user={user}")).rows
    closed = asyncio.run(queue_of(sources, f"{EVERY}&state=closed"))

    assert all(technique in [way.text for way in one.techniques] for one in by_technique)
    assert first.id in {one.id for one in by_technique} & {one.id for one in by_user}
    assert all(user in [way.text for way in one.entities] for one in by_user)
    assert closed.rows == []
    assert closed.none


def rested_on(sources: Sources, query: str, ids: set[str]) -> set[str]:
    """Which of the records are in a view, by the view's own facts."""
    rows = asyncio.run(sources.ask(view_of(query), BY_ID, ids=sorted(ids)))
    return {row[0] for row in rows}


@pytest.mark.parametrize(
    "narrow",
    ["workload=Exchange", "operation=*inboxrule*", "result=failed", "usertype=0", "not-workload=Exchange"],
)
def test_alerts_are_narrowed_by_the_records_that_they_rest_on(sources: Sources, narrow: str) -> None:
    """What an alert does not name itself, one of its records has to be; tiles, queue and overview agree."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    view = view_of(f"{EVERY}&{narrow}")

    meant = asyncio.run(list_meant(view, sources))

    assert meant is not None
    assert not meant.doubt
    shown = {one.alert.id for one in meant.alerts}
    assert 0 < len(shown) < len(every)
    for one in every[:: max(1, len(every) // 12)]:
        found = rested_on(sources, f"{EVERY}&{narrow}", set(one.alert.evidence))
        assert (one.alert.id in shown) == bool(found), one.alert.title
    over = asyncio.run(overview.figures(view, sources))
    assert isinstance(over, Tiles)
    tile = next(one for one in over.tiles if one.label == "Open alerts")
    assert int(tile.value) == counted_at(sources, tile.url)


def test_the_chart_has_the_alerts_of_the_figure(sources: Sources) -> None:
    """Also those that began before the time, or go on after it."""
    every = [one.alert for one in asyncio.run(sources.list_alerts(view_of(EVERY))) or []]
    grave = [one for one in every if one.severity.rank >= Severity.MEDIUM.rank]
    long = max(grave, key=lambda one: one.last_at_ms - one.first_at_ms)
    last_s = long.last_at_ms // 1000
    view = view_of(f"from={last_s - 7_200}&to={last_s - 60}")
    shape, over = (asyncio.run(one(view, sources)) for one in (overview.alerts, overview.figures))

    assert isinstance(shape, Several)
    assert isinstance(over, Tiles)
    chart = shape.parts[0]
    assert isinstance(chart, Chart)
    told = {line.name: sum(line.values) for line in chart.lines}
    figure = next(int(one.value) for one in over.tiles if one.label == "Open alerts")
    assert sum(told.get(one, 0) for one in ("Critical", "High", "Medium")) == figure > 0
    assert last_s >= view.range.end_s


def test_no_alert_of_a_rule_that_is_none_is_no_good_news(sources: Sources) -> None:
    """Where filters leave nothing, the page says that they do, and not that all is well."""
    empty = asyncio.run(queue_of(sources, f"{EVERY}&rule=zz")).none

    assert empty is not None
    assert "good news" not in empty.then
    assert "narrowed" in empty.why


def test_a_lake_that_does_not_answer_is_not_asked_at_every_look(sources: Sources, kept: KeptAlert) -> None:
    """Its alerts stay, with a word; a minute later it is asked again."""
    asked = []

    class Slow(Sources):
        async def ask(self, view: View, query: Query, **given: object) -> list[Row]:
            asked.append(query)
            raise QueryStopped("the query took longer than 10 s", fix="choose a shorter time")

    slow = Slow(sources.settings, sources.facts, sources.clock)
    now = CLOCK.now()
    for after_s in (0, 5, 70):
        view = view_of(f"{EVERY}&workload=Exchange", now=now + timedelta(seconds=after_s))
        meant = asyncio.run(list_meant(view, slow))
        assert meant is not None
        assert len(meant.alerts) == meant.unsure > 0

    assert len(asked) == 2


def test_an_alert_whose_records_are_gone_stays_with_a_word(sources: Sources, kept: KeptAlert) -> None:
    """Nobody can say of which workload they were; to leave it out could hide an attack."""
    gone = replace(kept, alert=replace(kept.alert, evidence=("nowhere",)))

    class Forgotten(Sources):
        async def list_alerts(self, view: View, **asked: Any) -> list[SeenAlert] | None:
            return [SeenAlert(gone)]

    meant = asyncio.run(
        list_meant(
            view_of(f"{EVERY}&workload=Yammer"), Forgotten(sources.settings, sources.facts, sources.clock)
        )
    )

    assert meant is not None
    assert [one.alert.id for one in meant.alerts] == [gone.alert.id]
    assert meant.doubt.startswith("1 alert may be of other records")


def put(board: Board, *, ids: list[str], state: str, reason: str = "", more: str = "") -> Answer:
    """What the page's script sends."""
    page = asyncio.run(ask(board, "/alerts")).text
    found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', page)
    assert found
    body = json.dumps({"ids": ids, "state": state, "reason": reason}) + more
    return asyncio.run(
        ask(board, "/alerts/state", method="POST", headers={TOKEN_HEADER: found[1]}, body=body.encode())
    )


@guarantee(43)
def test_whoever_changes_a_state_is_written_down(board: Board, sources: Sources, kept: KeptAlert) -> None:
    """Acknowledged, then closed with a reason: the alert has the last, its history both, with who did it."""
    path = sources.settings.state_directory / FILE_NAME

    taken = put(board, ids=[kept.alert.id], state="acknowledged")
    closed = put(board, ids=[kept.alert.id], state="closed", reason="a drill")

    assert (taken.status, closed.status) == (200, 200)
    assert json.loads(closed.body) == {"says": "1 alert is closed"}
    now = asyncio.run(sources.find_alert(view_of(), kept.alert.id))
    assert now is not None
    assert (now.state, now.reason, now.changed_by) == (AlertState.CLOSED, "a drill", "local user")
    history = asyncio.run(alert.history(view_of(f"alert={kept.alert.id}"), sources))
    assert isinstance(history, Listing)
    assert {"Closed by local user", "Acknowledged by local user"} <= {one.text for one in history.rows}
    assert path.exists()


@guarantee(45)
def test_a_reason_is_not_overwritten_by_a_second_close(
    board: Board, sources: Sources, kept: KeptAlert
) -> None:
    """A tab that has not seen it closed is told who closed it; the same request once more changes nothing."""
    assert put(board, ids=[kept.alert.id], state="closed", reason="a drill").status == 200
    again = put(board, ids=[kept.alert.id], state="closed", reason="a drill")
    stale = put(board, ids=[kept.alert.id], state="closed", reason="done")

    assert (again.status, stale.status) == (200, 409)
    assert json.loads(stale.body)["says"].endswith("local user has closed it (a drill); open it again first")
    now = asyncio.run(sources.find_alert(view_of(), kept.alert.id))
    assert now is not None
    assert now.reason == "a drill"


def test_what_was_done_over_graph_stands_in_the_history(
    sources: Sources, kept: KeptAlert, tmp_path: Path
) -> None:
    """Of each deed its last outcome, with who did it to whom: of sessions the step's title alone knows."""
    (tmp_path / FILE_NAME).write_bytes((sources.settings.state_directory / FILE_NAME).read_bytes())
    bare = replace(sources, settings=replace(sources.settings, state_directory=tmp_path))
    title = "End all sessions of bob@contoso.example"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    deed = Line("d1", at, "ann", kept.alert.id, "t", "begun", "revoke_sessions", title)
    other = Line("d2", at, "ann", "another", "t", "done", "remove_role", "Remove the role Reader of bob")
    for line in (deed, other, msgspec.structs.replace(deed, outcome="done")):
        Journal(tmp_path).write(line)

    history = asyncio.run(alert.history(view_of(f"alert={kept.alert.id}"), bare))

    assert isinstance(history, Listing)
    said = [one.text for one in history.rows if "sessions" in one.text or "role" in one.text]
    assert said == ["End all sessions of bob@contoso.example (done), by ann"]


def test_the_history_says_that_what_was_done_cannot_be_read(
    sources: Sources, kept: KeptAlert, tmp_path: Path
) -> None:
    """The journal is its owner's alone, who need not be the board's user: the rest is shown."""
    (tmp_path / FILE_NAME).write_bytes((sources.settings.state_directory / FILE_NAME).read_bytes())
    Journal(tmp_path).path.mkdir()
    bare = replace(sources, settings=replace(sources.settings, state_directory=tmp_path))

    history = asyncio.run(alert.history(view_of(f"alert={kept.alert.id}"), bare))

    assert isinstance(history, Listing)
    said = [one.text for one in history.rows]
    assert any(one.startswith("What was done for alerts cannot be read: ") for one in said)
    assert "First of its records" in said


def test_what_somebody_else_changes_is_seen_at_once(sources: Sources, kept: KeptAlert) -> None:
    """Lists are remembered while a page loads, and never longer than they are true."""
    path = sources.settings.state_directory / FILE_NAME
    view = view_of(EVERY)
    once = asyncio.run(sources.list_alerts(view))
    again = asyncio.run(sources.list_alerts(view))
    for number in range(20):
        state = AlertState.ACKNOWLEDGED if number % 2 else AlertState.OPEN
        set_states(path, [kept.alert.id], state, reason=str(number), by="ann", at_ms=number)
        now = asyncio.run(sources.list_alerts(view)) or []
        found = next(one for one in now if one.alert.id == kept.alert.id)
        assert (found.state, found.reason) == (state, str(number))

    assert once == again != []


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"ids": ["AN ALERT"], "state": "closed", "reason": "  "}, 400),
    ({"ids": [], "state": "open"}, 400),
    ({"ids": ["ffffffffffff"], "state": "open"}, 404),
    ({"ids": ["AN ALERT"], "state": "gone"}, 400),
    ({"ids": ["AN ALERT"], "state": "open", "more": "{"}, 400),
    ({"ids": ["AN ALERT"] * 501, "state": "open"}, 400),
    ({"ids": ["AN ALERT"], "state": "open", "reason": "x" * 70_000}, 400),
    ({"ids": ["AN ALERT"], "state": "closed", "reason": "x" * 301}, 400),
]


@guarantee(45)
@pytest.mark.parametrize(("asked", "status"), REFUSED)
def test_what_cannot_be_meant_changes_nothing(
    board: Board, sources: Sources, kept: KeptAlert, asked: dict[str, Any], status: int
) -> None:
    """No reason, no alert, no such state, too much: each is refused with a sentence."""
    ids = [kept.alert.id if one == "AN ALERT" else one for one in asked["ids"]]
    answer = put(board, **(asked | {"ids": ids}))

    assert answer.status == status
    assert json.loads(answer.body)["says"]
    now = asyncio.run(sources.find_alert(view_of(), kept.alert.id))
    assert now is not None
    assert now.state is AlertState.OPEN


@guarantee(43)
@pytest.mark.parametrize(("access", "status"), [(STRANGER, 404), (VIEWER, 403)])
def test_nobody_changes_what_is_not_theirs(
    sources: Sources, kept: KeptAlert, access: Access, status: int
) -> None:
    """Another tenant's alerts are not there, and a viewer only looks."""
    answer = put(board_of(sources, gate=AlwaysGate(access)), ids=[kept.alert.id], state="acknowledged")

    now = asyncio.run(sources.find_alert(view_of(), kept.alert.id))
    assert answer.status == status
    assert now is not None
    assert now.state is AlertState.OPEN


@pytest.mark.parametrize("panel", [one.name for one in alert.PAGE.panels])
def test_another_tenants_alert_is_not_there(sources: Sources, kept: KeptAlert, panel: str) -> None:
    """Whoever knows its id sees nothing of it in any panel."""
    load = next(one.load for one in alert.PAGE.panels if one.name == panel)

    shape = asyncio.run(load(view_of(f"alert={kept.alert.id}", STRANGER), sources))

    assert shape.empty is not None
