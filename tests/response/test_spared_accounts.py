"""Plans about accounts that must not stop: an emergency account is for a person to lock out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from detected import plan_from
from m365watch.response.plans.emergency_accounts import ask_for_spared
from m365watch.response.steps.step import LEAVES, Plan
from plan_scene import one_record

BREAKGLASS = "breakglass@contoso.example"
EVE = "eve@contoso.example"
GLOBAL = "62e90394-69f5-4237-9190-012177145e10"


def given_role(by: str, to: str) -> dict[str, Any]:
    """A record of a role that was given."""
    return {
        "shape": "directory",
        "Operation": "Add member to role.",
        "ObjectId": to,
        "UserId": by,
        "ModifiedProperties": {
            "Role.DisplayName": ["Company Administrator", ""],
            "Role.TemplateId": [GLOBAL, ""],
        },
    }


def unasked(plan: Plan, account: str) -> list[str]:
    """The titles of the steps on the account that --yes does."""
    return [
        one.title for one in plan.steps if account in one.title and one.operations and not one.asks_always
    ]


@guarantee(39)
@pytest.mark.parametrize("spared", [BREAKGLASS, BREAKGLASS.upper()])
def test_an_emergency_account_is_locked_out_by_nobody_but_a_person(tmp_path: Path, spared: str) -> None:
    """With two administrators --yes disabled it, and only the other was left."""
    record = given_role(BREAKGLASS, EVE)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()

    assert unasked(plan_from(before, "i16_privileged_role", record), BREAKGLASS)
    plan = plan_from(after, "i16_privileged_role", record, spared=[spared])
    assert unasked(plan, BREAKGLASS) == []
    told = [one.notes[0] for one in plan.steps if BREAKGLASS in one.title and one.asks_always]
    assert told
    assert all("detections.spared_accounts" in one for one in told)


def test_whoever_is_not_on_the_list_is_locked_out_as_before(tmp_path: Path) -> None:
    """Nor is an account whose name only begins so."""
    longer = f"{BREAKGLASS}.other"
    plan = plan_from(tmp_path, "i16_privileged_role", given_role(longer, EVE), spared=[BREAKGLASS])

    assert unasked(plan, longer)
    assert unasked(plan, EVE)


@guarantee(39)
def test_a_role_that_a_spared_account_was_given_is_taken_by_a_yes(tmp_path: Path) -> None:
    """Without it the way in for an emergency is none."""
    plan = plan_from(tmp_path, "i16_privileged_role", given_role(EVE, BREAKGLASS), spared=[BREAKGLASS])

    assert [one.asks_always for one in plan.steps if one.word == "remove_role"] == [True]


@guarantee(39)
@pytest.mark.parametrize("spared", [[], [BREAKGLASS]])
def test_a_spared_account_may_have_its_role_by_a_group(spared: list[str]) -> None:
    """Nobody looked who is in the group that lost the role, and --yes took it."""
    group = "7a1d7f60-0000-4000-8000-0000000000a1"
    given = {"m365.target_group": group, "ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [step] = (ask_for_spared(one, spared) for one in one_record("remove_role", given))

    assert step.asks_always == bool(spared)
    assert ("spared_accounts may be in the group" in step.notes[0]) == bool(spared)


def test_a_group_whose_role_is_asked_for_anyway_says_who_may_be_in_it() -> None:
    """No rule asked for it, and the question named that alone."""
    group = "7a1d7f60-0000-4000-8000-0000000000a1"
    given = {"m365.target_group": group, "ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [step] = one_record("remove_role", given)
    asked = replace(step, notes=(f"No rule asks for it: {LEAVES}", *step.notes), asks_always=True)

    assert [one.split()[0] for one in ask_for_spared(asked, [BREAKGLASS]).reasons] == ["One", "No"]
