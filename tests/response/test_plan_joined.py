"""Plans of alerts that join others, their bounds, and what the page says of their steps."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from alerts import ANN, APP, make_alert, make_match
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.correlation.risk_score import RISK_RULE_ID
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.execution.graph_permissions import NEEDED, WISHED
from m365watch.response.plans.alert_records import Told, recall
from m365watch.response.plans.planner import BUILDERS, plan_response
from m365watch.response.plans.step_order import WORD_STEPS_MAX
from m365watch.response.steps.step import PartOfIt
from plan_scene import FIELDS, FULL, joined, part, plan

FILE = "https://contoso.example/sites/a/Budget signed 21.xlsx"


def test_a_file_is_no_policy_where_an_alert_joins_both() -> None:
    """An object's name means another thing in each of the joined records: it names nothing then."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    alert = make_alert("restore_policy", user=ANN)

    [unnamed] = plan_response(alert, matches).steps
    [of_one_kind] = plan_response(alert, [make_match({"ObjectId": "Safe links"})]).steps

    assert unnamed.title == "Put the policy back that was changed"
    assert of_one_kind.title == 'Put the policy "Safe links" back'


def test_an_alert_that_joins_others_does_what_each_of_them_knows() -> None:
    """The policy is that of the alert on policies; what the others would do beside it is named."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    parts = [
        part(0, "restore_policy", policy="Safe links", user=ANN),
        part(1, "disable_anonymous_link", "restore_policy", fields={"ObjectId": FILE}),
    ]
    found = plan_response(make_alert("restore_policy", "revoke_sessions", user=ANN), matches, [parts[0]])

    assert [step.title for step in found.steps] == [
        f"End all sessions of {ANN}",
        'Put the policy "Safe links" back',
    ]
    assert found.parts == ()
    assert plan_response(make_alert("restore_policy"), matches, parts).parts == (
        PartOfIt(parts[1].alert.id, "Something happened", ("disable_anonymous_link",)),
    )


def test_nothing_is_put_back_that_none_of_the_joined_alerts_has_touched() -> None:
    """As long as each of them is known; a word of one's own stays."""
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    alert = make_alert("restore_policy", "Call the police", user=ANN)
    parts = [part(0, "revoke_sessions", user=ANN), part(1, "disable_anonymous_link")]

    assert [one.word for one in plan_response(alert, matches, parts).steps] == ["Call the police"]
    assert [one.word for one in plan_response(alert, matches, parts[:1]).steps] == list(alert.contain)


def test_joined_accounts_are_those_of_the_alert_itself() -> None:
    """Whom a joined alert names beside may have had nothing to do with it."""
    matches = joined(make_match({"UserId": ANN}), make_match({"UserId": "bob@contoso.example"}))
    parts = [part(0, "disable_account", user=ANN), part(1, "disable_account", user="eve@contoso.example")]

    assert [
        one.title for one in plan_response(make_alert("disable_account", user=ANN), matches, parts).steps
    ] == [f"Disable the account {ANN}"]


def test_what_two_joined_alerts_found_has_one_step() -> None:
    """Two rules of detection found the same inbox rule: it is removed once."""
    parts = [
        part(0, "remove_inbox_rule", fields={"Parameters.Name": "."}, user=ANN),
        part(1, "remove_inbox_rule", fields={"Parameters.Name": "."}, user=ANN),
        part(2, "remove_inbox_rule", fields={"Parameters.Name": ".."}, user=ANN),
        part(3, "remove_inbox_rule", fields={"Parameters.Name": "x"}, user="bob@contoso.example"),
    ]
    found = plan_response(make_alert("remove_inbox_rule", user=ANN), joined(*parts[0].matches), parts)

    assert [step.title for step in found.steps] == [
        f'Remove the inbox rule "." of {ANN}',
        f'Remove the inbox rule ".." of {ANN}',
        'Remove the inbox rule "x" of bob@contoso.example',
    ]


def test_a_mailbox_that_is_named_twice_has_one_step() -> None:
    """By its alias and by its address."""
    parts = [
        part(0, "remove_inbox_rule", mailbox="ann", user=ANN),
        part(0, "remove_inbox_rule", mailbox=ANN, user="eve@contoso.example"),
    ]

    [step] = plan_response(make_alert("remove_inbox_rule"), joined(make_match({"x": "y"})), parts).steps

    assert step.title == f"Remove bad inbox rules of {ANN}"


def test_whose_second_factor_was_changed_is_no_policy() -> None:
    """Rules on protection name a person or a policy as what was changed."""
    assert plan("restore_policy", target=ANN).steps == ()
    assert plan("restore_policy", target="Safe links").steps != ()


def test_an_alert_s_parts_are_read_with_it(tmp_path: Path) -> None:
    """Those of the rules that its matches come from, about the same records; no other alert."""
    alert = make_alert("restore_policy", user=ANN)
    matches = joined(make_match({"UserId": ANN}), make_match({"ObjectId": FILE}))
    own = replace(part(0).alert, group=("ann", "1"))
    strange = replace(part(1).alert, evidence=("another record",))
    with closing(DetectionState(tmp_path / FILE_NAME)) as state, state.transaction():
        state.matches.add(matches)
        for one in (alert, own, strange):
            state.alerts.put(KeptAlert(one, shown=True))
    recalled = recall(tmp_path, KeptAlert(alert, shown=True))

    assert [one.identity for one in recalled.matches] == [one.identity for one in matches]
    assert [one.alert.id for one in recalled.parts] == [own.id]


def test_the_plan_is_bounded_and_says_so() -> None:
    """An alert over a thousand rules has a plan that can be read, and the account is in it."""
    fields = [make_match({"ObjectId": f"rule {n}"}, after_ms=n) for n in range(1000)]
    found = plan_response(make_alert("remove_transport_rule", "revoke_sessions", user=ANN), fields)

    assert [step.word for step in found.steps] == [
        "revoke_sessions",
        *["remove_transport_rule"] * WORD_STEPS_MAX,
    ]
    assert "950 more steps (remove transport rule) have no room here" in found.notes[0]


def test_the_page_lists_the_permissions_of_every_step() -> None:
    """Whoever consents reads them there."""
    page = (Path(__file__).parents[2] / "docs" / "respond.md").read_text(encoding="utf-8")
    section = page.partition("## What each step needs")[2].partition("\n### ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    of_word = {
        word: row[2].strip().partition("; better with ")
        for row in rows
        for word in re.findall("`(.+?)`", row[1])
    }
    told = {word: set(needed.split(", ")) for word, (needed, _, _) in of_word.items()}
    wished = {word: set(better.split(", ")) for word, (_, _, better) in of_word.items() if better}
    no_exchange = {kind: value for kind, value in FULL.items() if kind != "grantee"}
    no_exchange["guest"] = "bob_fabrikam.example#EXT#@contoso.example"
    needed = {word: plan(word, fields=FIELDS, **no_exchange).permissions for word in BUILDERS}

    assert told == {word: set(names) for word, names in needed.items() if names} == NEEDED
    assert wished == {word: set(names) for word, names in WISHED.items()}


def test_the_page_says_of_every_call_whether_it_is_documented() -> None:
    """A call that is new, or goes elsewhere, has to be looked up and written down."""
    page = (Path(__file__).parents[2] / "docs" / "respond.md").read_text(encoding="utf-8")
    told = page.partition("### What was compared")[2]
    no_exchange = {kind: value for kind, value in FULL.items() if kind != "grantee"}
    steps = [step for word in BUILDERS for step in plan(word, fields=FIELDS, **no_exchange).steps]
    calls = {call.path.partition("?")[0] for step in steps for one in step.operations for call in one.calls}

    rooms = {re.sub(r"\{.*?\}|\(.*?\)", "", path).strip("/").split("/")[-1] for path in calls}
    named = {room for room in rooms if re.fullmatch(r"[A-Za-z$.]+", room)} - {"users"}
    assert {"revokeSignInSessions", "messageRules", "$ref", "driveItem", "removePassword"} <= named
    assert [room for room in sorted(named) if room not in told] == []


def test_risk_of_one_application_says_nothing_of_another() -> None:
    """An alert that it adds up tells of all that an administrator did with applications that week."""
    other = "b71a20c9-0000-4c4f-bc3b-0000000000bb"
    summed = replace(make_alert("disable_application", app=APP), rule_id=RISK_RULE_ID, group=("app", APP))
    told = Told(
        replace(part(0, "disable_application").alert, entities=(("app", other), ("app", APP))),
        [make_match({"m365.app": other}), make_match({"m365.app": APP}, after_ms=1)],
    )
    found = plan_response(summed, joined(make_match({"entity": APP})), [told])

    assert [step.title for step in found.steps] == [f"Disable the application {APP}"]


def test_a_plan_says_of_how_many_records_it_is_made(tmp_path: Path) -> None:
    """What the others did, nobody undoes: a thousand are looked through, and matches are forgotten."""
    alert = replace(make_alert("remove_transport_rule"), count=3)
    with closing(DetectionState(tmp_path / FILE_NAME)) as state, state.transaction():
        state.matches.add([make_match({"ObjectId": "."})])
        state.alerts.put(KeptAlert(alert, shown=True))
    recalled = recall(tmp_path, KeptAlert(alert, shown=True))

    assert recalled.remarks == ("made of 1 of 3 records: what the others did is not in this plan",)
