"""Plans for attempts alone: it stops, somebody looks who got in, and nobody is locked out for being tried."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from expand import written
from promises import guarantee

from alerts import ANN, make_alert
from detected import detect, plan_from, plan_of, rules_of
from m365watch.cli.respond.plan_view import plan_lines, yours
from m365watch.config.models.clouds import CLOUDS
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.store.detection_store import DetectionState
from m365watch.response.plans.planner import plan_response
from m365watch.response.plans.powershell import connections
from m365watch.response.plans.step_approval import NOT_PAST_PASSWORD, SEE
from m365watch.response.steps.step import Plan

SPRAYED = 30
ATTACKER = "203.0.113.66"
LOCKING = {"disable_account", "reset_password", "revoke_sessions"}


def wrong_password(user: str, **fields: object) -> dict[str, Any]:
    """A record of it."""
    return {"shape": "failed", "UserId": user, "ClientIP": ATTACKER, "after": "5s", **fields}


def sprayed(tmp_path: Path) -> Plan:
    """The plan for thirty accounts that were tried."""
    tries = [wrong_password(f"user{number}@contoso.example") for number in range(SPRAYED)]
    return plan_from(tmp_path, "i02_password_spray", *tries)


@guarantee(38)
def test_a_spray_is_stopped_and_looked_at_before_anybody_is_locked_out(tmp_path: Path) -> None:
    """Thirty people lost their sessions unasked, and the block of the address was step 61."""
    plan = sprayed(tmp_path)

    words = [step.word for step in plan.steps]
    assert words[:2] == ["block_address", "see_who_signed_in"]
    locking = [step for step in plan.steps if step.word in LOCKING]
    assert len(locking) == 2 * SPRAYED
    assert [step.title for step in locking if step.operations and not step.asks_always] == []
    assert {step.notes[0].partition(":")[0] for step in locking} == {"Only for whose password was right"}


def test_the_head_of_such_a_plan_says_what_comes_first(tmp_path: Path) -> None:
    """It does not say that accounts come first, where they come last."""
    assert (
        "this alert tells of nobody who got in: block first"
        in list(plan_lines(sprayed(tmp_path), cloud=CLOUDS["worldwide"]))[2]
    )


def test_whose_password_was_right_is_asked_by_address_and_since_the_first_attempt(tmp_path: Path) -> None:
    """Whoever is stopped at the second factor or by a policy has the password, and was told as only tried."""
    plan = sprayed(tmp_path)
    [step] = [one for one in plan.steps if one.word == "see_who_signed_in"]

    assert plan.since is not None
    since = f"{plan.since:%Y-%m-%dT%H:%M:%SZ}"
    assert step.title == f"See who came past the password from {ATTACKER} since {since}"
    assert step.powershell[0] == (
        f"'{ATTACKER}' | ForEach-Object {{ Get-MgAuditLogSignIn -All -Filter \"ipAddress eq '$_' and"
        f' createdDateTime ge {since}" }} | Where-Object {{ $_.Status.ErrorCode -notin'
        " 50126,50056,50064,50053,50034,51004 } | Format-Table CreatedDateTime,UserPrincipalName,"
        "@{n='ErrorCode'; e={$_.Status.ErrorCode}},IPAddress,AppDisplayName"
    )


def test_sign_ins_without_a_browser_are_looked_at_as_well(tmp_path: Path) -> None:
    """Sprays use them, and they are in another log: an empty table of the one read as "nobody got in"."""
    made = sprayed(tmp_path)
    [step] = [one for one in made.steps if one.word == SEE]
    interactive, other = step.powershell

    asked = "signInEventTypes/any(t: t eq 'nonInteractiveUser')"
    assert other == interactive.replace("Get-MgAudit", "Get-MgBetaAudit").replace(
        'Z" }', f'Z and {asked}" }}'
    )
    assert any("Microsoft.Graph.Beta.Reports" in note and "Entra ID P1" in note for note in step.notes)
    [graph] = [one for one in connections(made, cloud=CLOUDS["worldwide"]) if "MgGraph" in one]
    assert "'AuditLog.Read.All'" in graph


def test_what_is_left_out_of_that_look_is_what_the_rules_take_for_a_wrong_password() -> None:
    """One code too many, and a password that is known is told as guessed at."""
    lists = files("m365watch.detection") / "packs" / "core" / "lists"
    named = {
        int(line)
        for kind in ("wrong_password", "locked_account", "unknown_account")
        for line in (lists / f"{kind}_errors.txt").read_text(encoding="utf-8").splitlines()
        if line.isdecimal()
    }

    assert sorted(NOT_PAST_PASSWORD) == sorted(named)


def test_every_address_that_tried_is_looked_at() -> None:
    """The eleventh and all after it were left out of the command, and the title did not count them."""
    alert = make_alert("see_who_signed_in", user=ANN, address="")
    addresses = [f"203.0.113.{number}" for number in range(1, 31)]
    alert = replace(alert, entities=(("user", ANN), *(("address", one) for one in addresses)))
    [step] = plan_response(alert).steps

    assert step.title.startswith("See who came past the password from 203.0.113.1 and 29 more addresses ")
    assert [one for one in addresses if f"'{one}'" not in step.powershell[0]] == []


def test_what_is_yours_of_such_a_plan_says_for_whom(tmp_path: Path) -> None:
    """It read as thirty new passwords for people who were only tried."""
    made = sprayed(tmp_path)
    [told] = [one for one in plan_lines(made, cloud=CLOUDS["worldwide"]) if " yours, by hand: " in one]

    assert told.endswith("; 3 to 32 only for whoever step 2 shows")
    assert yours(made, [1, 2]) == "2 steps are yours, by hand: 1, 2"


def test_who_got_in_by_an_alert_of_the_same_records_is_told(tmp_path: Path) -> None:
    """Of whom another alert knows that he signed in from there, the plan said that nothing is known."""
    kim = "kim@contoso.example"
    tries = [wrong_password(f"user{number}@contoso.example") for number in range(SPRAYED)]
    guessed = [*([wrong_password(kim)] * 5), {"shape": "signin", "UserId": kim, "ClientIP": ATTACKER}]
    guessed[-1] |= {"ActorIpAddress": ATTACKER, "DeviceProperties": {"IsCompliantAndManaged": "False"}}
    rules = rules_of("i02_password_spray", "i03_failures_then_success", "i01_brute_force")
    kept = detect(tmp_path, written([*tries, *guessed]), rules)
    by_number = {one.alert.detection: one for one in kept}
    plan = plan_of(tmp_path, by_number["I02"], rules)

    [told] = [note for note in plan.notes if "of the same records" in note]
    came_in = by_number["I03"].alert
    assert told.startswith(f"an alert of the same records, {came_in.id[:8]} (high): {kim} signed in")
    assert "nothing more is known" not in "".join(plan_lines(plan, cloud=CLOUDS["worldwide"]))
    closed = replace(by_number["I03"], state=AlertState.CLOSED)
    with closing(DetectionState(tmp_path / FILE_NAME, survives_power_cuts=False)) as state:
        state.alerts.put(closed)
    [told] = [note for note in plan_of(tmp_path, by_number["I02"], rules).notes if "same records" in note]
    assert f"{came_in.id[:8]} (high, closed): " in told


@pytest.mark.parametrize("address", ["10.0.0.7", "'; Remove-MgUser", ""])
def test_an_address_that_is_none_is_asked_for_by_no_command(address: str) -> None:
    """What it is stands in a filter: nothing but an address of the Internet does."""
    alert = make_alert("see_who_signed_in", user=ANN, address=address)
    [step] = plan_response(alert).steps

    assert step.powershell == ()
    assert step.title.startswith("See whose password, of the accounts that were tried, was right since ")


@guarantee(38)
@pytest.mark.parametrize(
    ("rule", "tries"),
    [
        ("i01_brute_force", [wrong_password(ANN)] * 11),
        ("i06_legacy_attempts", [wrong_password(ANN, ExtendedProperties={"UserAgent": "BAV2ROPC"})]),
    ],
)
def test_whose_password_was_guessed_at_is_not_locked_out_unasked(
    tmp_path: Path, rule: str, tries: list[dict[str, Any]]
) -> None:
    """All that is known is that somebody tried."""
    plan = plan_from(tmp_path, rule, *tries)

    assert [step.word for step in plan.steps][:2] == ["block_address", "see_who_signed_in"]
    assert [step.title for step in plan.steps if step.operations and not step.asks_always] == []


def test_a_prompt_that_was_denied_tells_that_the_password_is_known(tmp_path: Path) -> None:
    """Only who has it gets that far: that account's sessions end, as before."""
    plan = plan_from(tmp_path, "i04_mfa_bombing", *[wrong_password(ANN, ErrorNumber="500121")] * 10)

    assert [step.word for step in plan.steps][:2] == ["reset_password", "revoke_sessions"]
    assert [step.asks_always for step in plan.steps if step.word == "revoke_sessions"] == [False]
