"""The page of one alert: its story, its evidence, its steps, and the fields that light up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

import triage_scene
from asking import ask, board_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import alert, alerts
from m365watch.board.query.data_sources import Sources
from m365watch.board.widgets.entity_links import entity_ways
from m365watch.board.widgets.field_highlight import Light, lights_of, lines_of, lit_paths
from m365watch.board.widgets.template_renderer import Templates
from m365watch.board.widgets.widget_types import Case, Listing, Matrix, Queue, Records
from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert, rank_alerts
from m365watch.detection.rules.condition import Every, Like, Never
from m365watch.detection.rules.condition import Test as Asked
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Rule
from triage_scene import EVERY, VIEWER, AlwaysGate, queue_of

kept = triage_scene.kept


HOUR_MS = 3_600_000
DAY_S = 86_400
DAY_MS = 24 * HOUR_MS


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
    assert plan.rows[0].text.startswith("Connect PowerShell")
    assert any(kept.alert.tenant in command for command in plan.rows[0].commands)
    bare = [one for one in plan.rows if not one.commands]
    assert all(one.url.startswith("/alert?") or one.at == "by hand" for one in bare)


def of_rule(sources: Sources, title: str) -> KeptAlert:
    """An alert of that title."""
    every = asyncio.run(sources.list_alerts(view_of(EVERY))) or []
    return next(one for one in every if one.alert.title == title)


def test_a_row_of_evidence_says_who(sources: Sources) -> None:
    """Of a spray every row is another account's; open stands what did not fail, where there is any."""
    spray = of_rule(sources, "Password spray from one IP address").alert
    view = view_of(f"{EVERY}&alert={spray.id}")

    shape = asyncio.run(alert.evidence(view, sources))
    page = Templates().render_shape(shape, view=view, path="/alert", title="Evidence")

    assert isinstance(shape, Records)
    people = {one.who for one in shape.rows}
    assert len(people) > 10
    assert not any("0ff1-ce00" in one.says for one in shape.rows)
    assert all(f'<span class="record-who">{one}</span>' in page for one in people)
    took = of_rule(sources, "Successful sign-in after repeated failed passwords").alert
    rows = asyncio.run(alert.evidence(view_of(f"{EVERY}&alert={took.id}"), sources))
    assert isinstance(rows, Records)
    assert [one.is_open for one in rows.rows].count(True) == 1
    assert next(one for one in rows.rows if one.is_open).tone == ""


def test_an_alert_s_page_names_everybody_whom_it_is_about(sources: Sources) -> None:
    """Of thirty people whom a spray tried it showed three, as the queue does, and did not say so."""
    spray = of_rule(sources, "Password spray from one IP address").alert
    case = asyncio.run(alert.case(view_of(f"{EVERY}&alert={spray.id}"), sources))
    queue = asyncio.run(queue_of(sources))
    [row] = [one for one in queue.rows if one.id == spray.id]

    assert isinstance(case, Case)
    assert len(case.alert.entities) == len(spray.entities) > alerts.ENTITIES_MAX
    assert len(row.entities) == alerts.ENTITIES_MAX


def test_many_steps_of_a_kind_are_one_with_all_commands(sources: Sources) -> None:
    """Thirty accounts are no sixty steps; nothing that is to be done is left out."""
    spray = of_rule(sources, "Password spray from one IP address")
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

    found = asyncio.run(alert._find_evidence(view_of(), sources, late, back_s=0))

    assert set(found) == set(longest.evidence)


def test_what_a_silence_came_after_is_found(sources: Sources, kept: KeptAlert) -> None:
    """Whole periods before the alert, if its rule looks at such."""
    late_ms = kept.alert.first_at_ms + 40 * DAY_MS
    late = replace(kept.alert, first_at_ms=late_ms, last_at_ms=late_ms)

    found = [
        set(asyncio.run(alert._find_evidence(view_of(), sources, late, back_s=days * DAY_S)))
        for days in (0, 42)
    ]

    assert found == [set(), set(kept.alert.evidence)]


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


def test_an_identity_is_one_line() -> None:
    """A record of Entra has a dozen: each is called by its kind, and a person's leads to the person."""
    identities = [
        {"ID": "ann@x", "Type": 5},
        {"ID": "Payroll", "Type": 1},
        {"ID": "y", "Type": "z"},
        {"ID": "a"},
    ]
    raw = json.dumps({"Actor": identities, "Other": [{"ID": "b", "Type": 5}]})

    lines = lines_of(raw, frozenset({"actor"}), lambda name, value: f"{name}={value}")

    told = [(one.depth, one.name, one.value, one.url) for one in lines]
    assert told[1:6] == [
        (1, "UPN", "ann@x", "UserId=ann@x"),
        (1, "Name", "Payroll", "ID=Payroll"),
        (1, "Type z", "y", "ID=y"),
        (1, "4", "", ""),
        (2, "ID", "a", "ID=a"),
    ]
    assert [one.name for one in lines if one.is_lit] == ["Actor", "UPN", "Name", "Type z", "4", "ID"]
    assert [one[1:3] for one in told[6:]] == [("Other", ""), ("1", ""), ("ID", "b"), ("Type", "5")]


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
    [way] = entity_ways(view_of(), [("app", "00000002-0000-0ff1-ce00-000000000000")], {})

    assert way.text == "Exchange Online"
    assert way.url == "/investigate?app=00000002-0000-0ff1-ce00-000000000000"


def test_a_record_calls_an_application_of_ones_own_by_its_name() -> None:
    """Whether somebody used it, or it was what something was done to."""
    app = "5E9F7C0A-1111-4111-8111-000000000000"
    row = ("1", 0, "AzureActiveDirectory", "Update application.", "ann@x", "", "ok", app, "", app, "t", "{}")

    shown = alert.record_shown(view_of(), row, [], {app.lower(): "Mailer (5e9f7c0a)"})

    assert shown.says == "Mailer (5e9f7c0a)"
    assert ("Mailer (5e9f7c0a)", f"/investigate?app={app}") in [(way.text, way.url) for way in shown.ways]


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
