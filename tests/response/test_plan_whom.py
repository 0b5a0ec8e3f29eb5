"""Whom a plan is about: accounts that are tied to what happened, services, strangers and roles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from promises import guarantee
from verdicts import packs

from alerts import ANN, APP, make_alert, make_match
from m365watch.detection.alerts.alert import Alert
from m365watch.response.plans.incident_actors import BegunBy, beginnings_in
from m365watch.response.plans.planner import BUILDERS, plan_response
from m365watch.response.steps.step import GraphCall, Remove
from plan_scene import BOB, EVE, FRED, joined, one_record, part, plan


def begins(*numbers: int) -> BegunBy:
    """The parts of these numbers are those with which the story begins."""
    return lambda _rule: frozenset(f"part {number}" for number in numbers)


def of_nobody(*contain: str, users: tuple[str, ...]) -> Alert:
    """An alert over records of no group."""
    return replace(make_alert(*contain), group=(), entities=tuple(("user", one) for one in users))


def test_an_intruder_s_two_accounts_are_asked_about_and_never_done_unasked() -> None:
    """One weakened it, the other attacked, both from one address: an intruder, or an office."""
    matches = joined(
        make_match({"UserId": BOB, "m365.ip": "203.0.113.9"}),
        make_match({"UserId": EVE, "m365.ip": "203.0.113.9"}, after_ms=1),
        make_match({"UserId": ANN, "m365.ip": "198.51.100.7"}, after_ms=2),
        make_match({"UserId": FRED, "m365.ip": "10.0.0.1"}, after_ms=3),
    )
    alert = of_nobody("disable_account", "block_address", users=(BOB, EVE, ANN, FRED))
    steps = plan_response(alert, matches, begun_by=begins(0)).steps
    disabled = [one for one in steps if one.word == "disable_account"]

    assert [one.title.partition(" (")[0] for one in disabled] == [
        f"Disable the account {BOB}",
        f"Disable the account {EVE}",
        f"See whether {ANN} has a part in it, before anything is done to it",
        f"See whether {FRED} has a part in it, before anything is done to it",
    ]
    assert [one.asks_always for one in disabled] == [True, True, False, False]
    assert [one.title for one in steps if "Block" in one.title] == ["Block sign-ins from 203.0.113.9/32"]


@pytest.mark.parametrize("private", ["10.0.0.1", "", "fe80::1"])
def test_an_address_that_is_nobody_s_ties_nobody(private: str) -> None:
    """Records of Microsoft's own machines have one of theirs."""
    matches = joined(
        make_match({"UserId": BOB, "m365.ip": private}),
        make_match({"UserId": EVE, "m365.ip": private}, after_ms=1),
    )
    plan = plan_response(of_nobody("disable_account", users=(BOB, EVE)), matches, begun_by=begins(0))

    assert all(one.title.startswith("See whether") for one in plan.steps)


def test_who_is_tied_is_told_by_the_rule_and_by_nothing_else() -> None:
    """Of a rule that is gone nobody is; of one without an order who did two different things."""
    matches = joined(
        make_match({"UserId": EVE}), make_match({"UserId": EVE}, after_ms=1), make_match({"UserId": BOB})
    )
    alert = of_nobody("disable_account", users=(EVE, BOB))

    unknown = plan_response(alert, matches).steps
    unordered = plan_response(alert, matches, begun_by=begins()).steps
    assert all(one.is_by_hand for one in unknown)
    assert [one.title for one in unordered if not one.is_by_hand] == [f"Disable the account {EVE}"]


def test_the_beginning_of_c04_is_how_the_logging_was_weakened() -> None:
    """And none of the attacks that follow, whatever their rules have for containment."""
    library = packs()
    [rule] = library.find("C04")
    begun = beginnings_in(library.by_id())(rule.id)

    assert begun is not None
    assert {str(library.by_id()[one].extension.detection) for one in begun} == {
        "D01",
        "D02",
        "D03",
        "D04",
        "D05",
    }
    assert beginnings_in(library.by_id())("no such rule") is None


def test_only_who_both_began_and_went_on_is_locked_out() -> None:
    """An alert of no group joins what anybody did that day: a person looks at the others first."""
    matches = joined(
        make_match({"UserId": BOB}),
        make_match({"UserId": EVE}, after_ms=1),
        make_match({"UserId": EVE}, after_ms=2),
        make_match({"UserId": ANN}, after_ms=3),
    )
    weakened = [part(0, "restore_audit", user=BOB), part(1, "restore_audit", user=EVE)]
    attacked = [part(2, "remove_transport_rule", user=EVE), part(3, "remove_site_admin", user=ANN)]
    alert = replace(
        make_alert("restore_audit", "disable_account"),
        group=(),
        entities=(("user", BOB), ("user", EVE), ("user", ANN)),
    )
    steps = plan_response(alert, matches, [*weakened, *attacked], begun_by=begins(0, 1)).steps

    assert [step.title for step in steps if step.word == "disable_account"] == [
        f"Disable the account {EVE}",
        f"See whether {BOB} has a part in it, before anything is done to it",
        f"See whether {ANN} has a part in it, before anything is done to it",
    ]
    assert [step.title for step in steps if not step.is_by_hand] == [f"Disable the account {EVE}"]


def test_what_records_said_that_are_forgotten_is_not_guessed() -> None:
    """Which of two persons was given which of two sites only the records knew."""
    alert = replace(
        make_alert("remove_site_admin"),
        count=2,
        entities=(("site", "https://a.example"), ("site", "https://b.example"), ("grantee", EVE)),
    )
    [step] = plan_response(alert).steps

    assert step.powershell == ()
    assert "does not name" in step.notes[0]


def test_an_application_loses_its_role_and_has_no_account() -> None:
    """It has neither sessions nor devices; who gave it the role has."""
    fields = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [role] = one_record("remove_role", fields, app=f"ServicePrincipal_{APP}", actor=EVE)
    [disabled] = one_record("disable_account", fields, app=f"ServicePrincipal_{APP}", actor=EVE)

    assert (
        role.title
        == f"Remove the role Global Administrator of the application whose service principal is {APP}"
    )
    assert role.calls[0] == GraphCall("GET", f"/servicePrincipals/{APP}?$select=id")
    assert disabled.title == f"Disable the account {EVE} (who did it)"


def test_a_service_is_no_account() -> None:
    """Nothing is done to a name that Graph does not know; the plan says so."""
    found = plan("revoke_sessions", user="NT AUTHORITY\\SYSTEM")

    assert found.steps == ()
    assert found.notes == ("neither the rule nor the alert names what could be contained",)


@guarantee(38)
@pytest.mark.parametrize("word", sorted(BUILDERS))
def test_no_step_says_no_more_than_its_word(word: str) -> None:
    """Of whatever an alert lacks, the step says what to look for."""
    for step in plan(word, fields={"Operation": "Something else"}).steps:
        assert step.title.lower() != word.replace("_", " ")
        assert any(len(note) > len("By hand.") for note in step.notes)


@pytest.mark.parametrize("user", ["S-1-5-21-1000-2000-3000-1001", "Ann"])
def test_who_is_named_by_no_account_is_looked_for(user: str) -> None:
    """It may be one of yours all the same."""
    [step] = plan("revoke_sessions", user=user).steps

    assert step.title == "Find the account, and end its sessions"
    assert (step.calls, step.powershell) == ((), ())
    assert step.notes[0].startswith("By hand: the alert names no account")


def test_a_rule_of_one_s_own_may_name_a_word_of_its_own() -> None:
    """It is shown, and not taken for done."""
    step = plan("Call the police", user=ANN).steps[0]

    assert step.title == "Call the police"
    assert step.is_by_hand


def test_a_private_address_is_not_blocked() -> None:
    """It is the organisation's own, or nobody's."""
    [step] = plan("block_address", address="10.0.0.1").steps

    assert step.powershell == ()
    assert step.title == "See who is behind 10.0.0.1"


@pytest.mark.parametrize("address", ["203.0.113.241", "2001:db8::1", "8.8.8.8"])
def test_a_stranger_s_address_is_blocked(address: str) -> None:
    """Also one of those of the simulated tenant, of which 'whoever is behind it is near' was said."""
    [step] = plan("block_address", address=address).steps

    assert step.title.startswith(f"Block sign-ins from {address}/")


def test_an_alert_whose_rule_names_nothing_has_the_usual_steps() -> None:
    """Risk that adds up over rules, and rules that know nothing of us."""
    found = plan(user=ANN, app=APP)

    words = [
        "disable_account",
        "disable_application",
        "reset_password",
        "revoke_sessions",
        "remove_oauth_grant",
    ]
    assert [step.word for step in found.steps] == words
    assert "usual" in found.notes[0]
    assert plan().notes == ("neither the rule nor the alert names what could be contained",)


def test_of_roles_the_one_that_was_given_goes() -> None:
    """The others are the account's own."""
    fields = {"ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [step] = plan("remove_role", fields=fields, user=ANN).steps

    assert step.title == f"Remove the role Global Administrator of {ANN}"
    assert isinstance(step.operations[0], Remove)
    assert step.operations[0].wanted == (("roleDefinition.displayName", "Global Administrator"),)


def test_everybody_whom_an_alert_names_is_in_its_plan() -> None:
    """And whoever it has no room for is told of: half of a containment looks like the whole."""
    names = [f"u{number}@contoso.example" for number in range(30)]
    alert = replace(
        make_alert("reset_password"),
        entities=tuple(("user", name) for name in names),
        unnamed=(("user", 7),),
    )
    found = plan_response(alert)

    assert [step.title for step in found.steps] == [f"Give {name} a new password" for name in names]
    assert found.notes == ("not in this plan: 7 more users are not named here; its records name them.",)


@pytest.mark.parametrize("operation", ["Add member to role.", "Add eligible member to role."])
def test_whoever_gave_a_role_keeps_theirs(operation: str) -> None:
    """An alert may be about whoever acted; the record's object got the role, and of that one it is taken."""
    given = {
        "Operation": operation,
        "UserId": ANN,
        "ObjectId": EVE,
        "ModifiedProperties.Role.DisplayName.new": "Reports Reader",
    }
    [title] = [step.title for step in one_record("remove_role", given, user=ANN)]

    assert EVE in title
    assert ANN not in title
