"""The queue of alerts, one alert, and what an analyst does with them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from asking import Answer, ask, board_of, view_of
from m365watch.board.access import Access, Role
from m365watch.board.alerts_meant import list_meant
from m365watch.board.lake_reader import Row
from m365watch.board.lit import Light, lights_of, lines_of, lit_paths
from m365watch.board.pages import alert, alerts, overview
from m365watch.board.pivots import entity_ways
from m365watch.board.planning import Query
from m365watch.board.queries.trails import BY_ID
from m365watch.board.rendering import Templates
from m365watch.board.security import TOKEN_HEADER
from m365watch.board.serving import Board
from m365watch.board.shapes import Case, Chart, Grid, Listing, Matrix, Queue, Records, Several, Tile, Tiles
from m365watch.board.sources import Sources
from m365watch.board.view import View
from m365watch.detect.alert import AlertId
from m365watch.detect.condition import Every, Like, Never
from m365watch.detect.condition import Test as Asked
from m365watch.detect.desk import set_states
from m365watch.detect.extension import Severity
from m365watch.detect.kept import AlertState, KeptAlert
from m365watch.detect.output import FILE_NAME
from m365watch.detect.ranking import rank_alerts
from m365watch.detect.rule import Rule
from m365watch.errors import QueryStopped
from m365watch.respond.journal import Journal, Line

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))
VIEWER = Access("vera", Role.VIEWER, tenants=None)
EVERY = "range=30d"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def kept(sources: Sources) -> Iterator[KeptAlert]:
    """The worst alert, which is open, whatever another test has made of it, and open again afterwards."""
    path = sources.settings.state_directory / FILE_NAME
    found = asyncio.run(sources.list_alerts(view_of(EVERY)))
    assert found
    [worst] = set_states(path, [found[0].alert.id], AlertState.OPEN, reason="", by="", at_ms=0)
    yield worst
    set_states(path, [worst.alert.id], AlertState.OPEN, reason="", by="", at_ms=0)


async def queue_of(sources: Sources, query: str = EVERY, access: Access | None = None) -> Queue:
    shape = await alerts.queue(view_of(query, *([access] if access else [])), sources)
    assert isinstance(shape, Queue)
    return shape


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
    """Each tile, and each rule of the overview; a rule's only alert is led to itself."""
    for tile in tiles_of(alerts, sources):
        assert counted_at(sources, tile.url) == int(tile.value.replace(",", "")), tile.label
    panel = asyncio.run(overview.alerts(view_of(EVERY), sources))
    assert isinstance(panel, Several)
    grid = panel.parts[1]
    assert isinstance(grid, Grid)
    assert {row[1].text == "1" for row in grid.rows} == {True, False}
    for row in grid.rows:
        if row[1].text == "1":
            assert urlsplit(row[2].url).path == "/alert"
        else:
            assert counted_at(sources, row[2].url) == int(row[1].text)


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

    async def list_alerts(self, view: View, **asked: Any) -> list[KeptAlert] | None:
        found = await super().list_alerts(view, **asked) or []
        many = [
            replace(one, alert=replace(one.alert, id=AlertId(f"{n:032x}"))) for n, one in enumerate(found * 9)
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
    now = datetime.now(UTC)
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
        async def list_alerts(self, view: View, **asked: Any) -> list[KeptAlert] | None:
            return [gone]

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
    """Of each deed its last outcome, with who did it."""
    (tmp_path / FILE_NAME).write_bytes((sources.settings.state_directory / FILE_NAME).read_bytes())
    bare = replace(sources, settings=replace(sources.settings, state_directory=tmp_path))
    deed = Line("d1", datetime(2026, 1, 1, tzinfo=UTC), "ann", kept.alert.id, "t", "begun", "disable_account")
    other = Line("d2", datetime(2026, 1, 1, tzinfo=UTC), "ann", "another", "t", "done", "remove_role")
    for line in (deed, other, msgspec.structs.replace(deed, outcome="done", label="bob@contoso.example")):
        Journal(tmp_path).write(line)

    history = asyncio.run(alert.history(view_of(f"alert={kept.alert.id}"), bare))

    assert isinstance(history, Listing)
    said = [one.text for one in history.rows if "account" in one.text or "role" in one.text]
    assert said == ["Disable account: bob@contoso.example (done), by ann"]


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


class AlwaysGate:
    """Everybody is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: object) -> Access:
        return self._access


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


def test_an_alert_tells_its_story(sources: Sources, kept: KeptAlert) -> None:
    """What happened, the records with the fields that the rule looked at, and what would end it."""
    view = view_of(f"alert={kept.alert.id[:8]}")

    case = asyncio.run(alert.case(view, sources))
    evidence = asyncio.run(alert.evidence(view, sources))
    plan = asyncio.run(alert.containment(view, sources))

    assert isinstance(case, Case)
    assert case.explanation == kept.alert.explanation
    assert isinstance(evidence, Records)
    assert {one.id for one in evidence.rows} == set(kept.alert.evidence)
    assert all(any(line.is_lit for line in one.lines) for one in evidence.rows)
    assert not all(line.is_lit for line in evidence.rows[0].lines)
    assert isinstance(plan, Listing)
    assert [f"m365watch respond {kept.alert.id[:8]} --apply"] in [one.commands for one in plan.rows]
    bare = [one for one in plan.rows if not one.commands]
    assert all(one.url.startswith("/alert?") or one.at == "by hand" for one in bare)


def of_rule(sources: Sources, title: str) -> KeptAlert:
    """An alert of that title."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    return next(one for one in every if one.alert.title == title)


def test_a_row_of_evidence_says_who(sources: Sources) -> None:
    """Of a spray every row is another account's; open stands what did not fail, where there is any."""
    spray = of_rule(sources, "Password spray from one address").alert
    view = view_of(f"{EVERY}&alert={spray.id}")

    shape = asyncio.run(alert.evidence(view, sources))
    page = Templates().render_shape(shape, view=view, path="/alert", title="Evidence")

    assert isinstance(shape, Records)
    people = {one.who for one in shape.rows}
    assert len(people) > 10
    assert not any("0ff1-ce00" in one.says for one in shape.rows)
    assert all(f'<span class="record-who">{one}</span>' in page for one in people)
    took = of_rule(sources, "Wrong passwords, then a sign-in").alert
    rows = asyncio.run(alert.evidence(view_of(f"{EVERY}&alert={took.id}"), sources))
    assert isinstance(rows, Records)
    assert [one.is_open for one in rows.rows].count(True) == 1
    assert next(one for one in rows.rows if one.is_open).tone == ""


def test_many_steps_of_a_kind_are_one_with_all_commands(sources: Sources) -> None:
    """Thirty accounts are no sixty steps; nothing that is to be done is left out."""
    spray = of_rule(sources, "Password spray from one address")
    view = view_of(f"{EVERY}&alert={spray.alert.id}")

    shape = asyncio.run(alert.containment(view, sources))
    plan = asyncio.run(sources.plan_for(view, spray))

    assert isinstance(shape, Listing)
    assert len(shape.rows) < 10 < len(plan.steps)
    commands = [command for row in shape.rows for command in row.commands]
    told = "\n".join(f"{row.text} {row.note}" for row in shape.rows)
    for step in plan.steps:
        assert set(step.powershell) <= set(commands)
    assert all(user in told for user in spray.alert.named("user"))


def test_a_command_to_carry_out_can_be_pasted(sources: Sources, kept: KeptAlert) -> None:
    """It names the configuration that the board was started with, quoted; who only looks has none."""
    file = Path("/etc/m365watch/my tenant.yaml")
    named = replace(sources, files=(("--config", file),))

    def commands(access: Access) -> list[str]:
        plan = asyncio.run(alert.containment(view_of(f"alert={kept.alert.id}", access), named))
        assert isinstance(plan, Listing)
        return [one for row in plan.rows for one in row.commands if one.startswith("m365watch respond")]

    carry = f"m365watch respond {kept.alert.id[:8]} --apply --config"
    analyst = Access("anna", Role.ANALYST, tenants=None)
    assert commands(Access("adam", Role.ADMIN, tenants=None)) == [f"{carry} '{file}'"]
    assert commands(analyst) == [f"{carry} 'my tenant.yaml'"]
    assert commands(VIEWER) == []


def test_what_is_all_by_hand_has_no_command(sources: Sources) -> None:
    """A plan in which Graph can do nothing is carried out by nothing."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    by_hand = next(one.alert for one in every if one.alert.detection == "S05")

    plan = asyncio.run(alert.containment(view_of(f"alert={by_hand.id}"), sources))

    assert isinstance(plan, Listing)
    steps = [row for row in plan.rows if row.at]
    assert {row.at for row in steps} == {"by hand"}
    assert "Carry it out" not in [row.text for row in plan.rows]


def test_who_only_looks_is_told_of_no_key_that_changes(sources: Sources) -> None:
    """No boxes to select by, no keys in the footer or the help; an analyst has them."""
    for access, has in ((VIEWER, False), (Access("anna", Role.ANALYST, tenants=None), True)):
        board = board_of(sources, gate=AlwaysGate(access))
        queue = asyncio.run(ask(board, f"/panel/alerts/queue?{EVERY}")).text
        page = asyncio.run(ask(board, "/alert")).text

        assert ("data-select" in queue, "data-all" in queue) == (has, has)
        assert ("a acknowledges" in page, "acknowledge, close with a reason" in page) == (has, has)


def test_an_address_that_names_no_alert_shows_none(sources: Sources) -> None:
    """Not the worst, as if it had been asked for."""
    shape = asyncio.run(alert.case(view_of(EVERY), sources))

    assert isinstance(shape, Listing)
    assert shape.empty is not None
    assert shape.empty.why == "This address names no alert."


def test_records_that_are_older_than_their_alert_are_found(sources: Sources) -> None:
    """Joined alerts rest on records from before all that the rule saw; here a long alert is told so."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    longest = max(every, key=lambda one: min(one.alert.last_at_ms - one.alert.first_at_ms, 7 * DAY_MS)).alert
    assert longest.last_at_ms - longest.first_at_ms > 2 * HOUR_MS
    late = replace(longest, first_at_ms=longest.last_at_ms)

    found = asyncio.run(alert._find_evidence(view_of(), sources, late))

    assert set(found) == set(longest.evidence)


def test_what_an_alert_lacks_is_told_apart(sources: Sources) -> None:
    """What the lake does not hold is another thing than what the alert only counts."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    full = max(every, key=lambda one: one.alert.count).alert
    assert full.count > len(full.evidence)

    shown = asyncio.run(alert.evidence(view_of(f"alert={full.id}"), sources))

    assert isinstance(shown, Records)
    assert (
        shown.cut == f"and {full.count - len(full.evidence):,} more, of which the alert keeps the count alone"
    )


def test_an_alert_names_those_of_the_same_records(sources: Sources) -> None:
    """As the command does; itself is not among them."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    one = next(one.alert for one in every if one.alert.detection.startswith("C"))

    others = asyncio.run(alert.related(view_of(f"alert={one.id}"), sources))

    assert isinstance(others, Listing)
    assert others.rows
    assert all(f"alert={one.id}" not in row.url for row in others.rows)


RAW = json.dumps(
    {
        "Operation": "New-InboxRule",
        "UserId": "ann@contoso.example",
        "Parameters": [{"Name": "ForwardTo", "Value": "bob@evil.example"}, {"Name": "Name", "Value": "."}],
        "ModifiedProperties": [{"Name": "Role", "NewValue": "Admin", "OldValue": ""}],
        "Deep": {"Er": {"Value": None}},
    }
)


def rule_of(*tests: Asked) -> Rule:
    condition = Every((*tests, Never(Asked("UserId", Like(("nobody",))))))
    return Rule("r", "A rule", Severity.HIGH, "r.yml", condition=condition)


def test_fields_light_up_for_what_the_record_fulfils() -> None:
    """Of named values the one that is asked for; not what must not be, and not another rule's."""
    ours = rule_of(
        Asked("Operation", Like(("New-InboxRule",))),
        Asked("Parameters.ForwardTo", Like(("bob@evil.example",))),
    )
    lights = lights_of(ours, {})
    other = lights_of(rule_of(Asked("Deep.Er", Like(("x",)))), {})

    lines = lines_of(RAW, lit_paths(RAW, [*lights, *other]), lambda name, value: "")

    assert [one.name for one in lines if one.is_lit] == ["Operation", "ForwardTo"]
    assert [(one.name, one.value) for one in lines][2:4] == [
        ("Parameters", ""),
        ("ForwardTo", "bob@evil.example"),
    ]
    assert ("Value", "null") in [(one.name, one.value) for one in lines]


def test_a_derived_field_lights_what_it_comes_from() -> None:
    """Of a rule's parameters the one with the outside address, and no other."""
    lights = lights_of(rule_of(Asked("m365.external_recipients", Like(("bob@evil.example",)))), {})

    lines = lines_of(RAW, lit_paths(RAW, lights), lambda name, value: "")

    assert [one.name for one in lines if one.is_lit] == ["ForwardTo"]


@pytest.mark.parametrize(
    "raw", ["", "[]", "null", '{"a"', "[" * 5_000, json.dumps({"a": {str(n): n for n in range(2_000)}})]
)
def test_no_record_is_too_odd_to_show(raw: str) -> None:
    """What is no record has no fields; what has too many is cut."""
    assert len(lines_of(raw, frozenset(), lambda name, value: value)) <= 401
    assert lit_paths(raw, [Light(lambda _: True, frozenset({"a"}))]) in (frozenset(), frozenset({"a"}))


def test_where_no_detections_ran_the_pages_say_so(sources: Sources, tmp_path: Path) -> None:
    """Every panel tells why it is empty."""
    settings = replace(sources.settings, state_directory=tmp_path)
    bare = replace(sources, settings=settings)

    for page in (alerts.PAGE, alert.PAGE):
        for panel in page.panels:
            shape = asyncio.run(panel.load(view_of(EVERY), bare))
            told = shape.none if isinstance(shape, Queue) and not shape.empty else shape.empty
            assert told or panel.name == "coverage", panel.name


def test_a_technique_has_the_colour_of_its_worst_alert(sources: Sources) -> None:
    """However many there are of a lesser one; one without alerts has none."""
    alerts_found = [one.alert for one in asyncio.run(sources.list_alerts(view_of(EVERY))) or []]
    shape = asyncio.run(alerts.coverage(view_of(EVERY), sources))

    assert isinstance(shape, Matrix)
    for met in (one for _, column in shape.columns for one in column):
        ranks = [one.severity.rank for one in alerts_found if met.id in one.techniques]
        assert met.worst == (str(list(Severity)[max(ranks)]) if ranks else "")


def test_an_application_is_called_alike_everywhere() -> None:
    """By its name where it has one, on alerts and records as in an investigation; the link has its id."""
    [way] = entity_ways(view_of(), [("app", "00000002-0000-0ff1-ce00-000000000000")])

    assert way.text == "Exchange Online"
    assert way.url == "/investigate?app=00000002-0000-0ff1-ce00-000000000000"


def test_the_steps_of_an_attack_come_before_what_stands_alone(sources: Sources) -> None:
    """Of alerts as severe as one another, those first that share a record with a worse one."""
    found = [one.alert for one in asyncio.run(sources.list_alerts(view_of(EVERY))) or []]
    known = rank_alerts(found)
    shape = asyncio.run(queue_of(sources))
    ranks = [known[AlertId(one.id)] for one in shape.rows]
    worst = max(found, key=lambda one: one.severity.rank)
    steps = [one for one in found if {*one.evidence} & {*worst.evidence}]

    assert ranks == sorted(ranks, reverse=True)
    assert len({rank for *_, rank in ranks}) > 1
    assert {known[one.id][-1] for one in steps} == {worst.severity.rank}
