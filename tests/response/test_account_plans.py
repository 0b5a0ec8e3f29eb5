"""Plans about accounts that carry the directory, of records as they come over the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alerts import make_alert
from detected import plan_from, steps, titles
from m365watch.config.models.clouds import CLOUDS
from m365watch.response.plans.planner import plan_response
from m365watch.response.plans.powershell import connections
from plan_scene import one_record, plan

ADMIN = "admin@contoso.example"
BRIDGE = "Sync_Backup@contoso.onmicrosoft.com"
GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
OF_NOBODY = "7a1d7f60-0000-4000-8000-0000000000a1"
OTHER = "7a1d7f60-0000-4000-8000-0000000000a2"
LOCKING = ("disable_account", "revoke_sessions")


def given(user: str) -> dict[str, Any]:
    """A record of a role that was given."""
    return {
        "shape": "directory",
        "after": "3m",
        "Operation": "Add member to role.",
        "ObjectId": user,
        "UserId": ADMIN,
        "ModifiedProperties": {
            "Role.DisplayName": ["Company Administrator", ""],
            "Role.TemplateId": [GLOBAL, ""],
        },
    }


def test_a_role_is_taken_from_whoever_calls_the_account_a_bridge(tmp_path: Path) -> None:
    """Names are the intruder's to choose, and no bridge needs the role that gives all others."""
    plan = plan_from(tmp_path, "i16_privileged_role", given(BRIDGE))

    assert titles(plan, "remove_role") == [f"Remove the role Company Administrator of {BRIDGE}"]
    [step] = steps(plan, "remove_role")
    assert not step.is_by_hand
    assert [title for title in titles(plan, "disable_account") if BRIDGE in title] == [
        f"Disable the account {BRIDGE}, unless it carries your directory"
    ]


@pytest.mark.parametrize("word", LOCKING)
def test_what_the_same_alert_shows_being_made_is_no_bridge(tmp_path: Path, word: str) -> None:
    """It is three minutes old, and has carried nothing."""
    made = {"shape": "directory", "Operation": "Add user.", "ObjectId": BRIDGE, "UserId": ADMIN}
    plan = plan_from(tmp_path, "i16_new_account_gets_role", made, given(BRIDGE))

    assert [one.asks_always for one in steps(plan, word) if BRIDGE in one.title] == [False]


@pytest.mark.parametrize(
    ("rule", "done"),
    [
        (
            "d01_audit_log_off",
            {
                "Operation": "Set-AdminAuditLogConfig",
                "Parameters": {"UnifiedAuditLogIngestionEnabled": "False"},
            },
        ),
        (
            "b04_mailbox_forwarding",
            {"Parameters": {"Identity": "bea", "ForwardingSmtpAddress": "smtp:eve@evil.example"}},
        ),
    ],
)
def test_whoever_is_called_a_bridge_is_locked_out_if_a_person_says_so(
    tmp_path: Path, rule: str, done: dict[str, Any]
) -> None:
    """Made in the morning, it turns the audit log off at noon: no bridge ever runs a cmdlet of Exchange's."""
    plan = plan_from(tmp_path, rule, {"shape": "cmdlet", "UserId": BRIDGE, **done})

    told = [step for step in plan.steps if step.word in LOCKING]
    assert [step.title for step in told] == [
        f"Disable the account {BRIDGE}, unless it carries your directory",
        f"End all sessions of {BRIDGE}, unless it carries your directory",
    ]
    assert all(step.operations and step.asks_always for step in told)
    changing = [line for step in told for line in step.powershell if not line.startswith("Get-")]
    assert [line for line in changing if not line.startswith("# unless d29b2b05-")] == []
    assert len(changing) == 2


def test_a_bridge_leaves_the_group_that_it_was_let_into(tmp_path: Path) -> None:
    """What a record gave is taken back, whoever got it."""
    record = {
        "shape": "directory",
        "Operation": "Add member to group.",
        "ObjectId": BRIDGE,
        "UserId": ADMIN,
        "ModifiedProperties": {"Group.DisplayName": ["Admins", ""]},
    }
    plan = plan_from(tmp_path, "devo_group_membership_modified", record)

    assert titles(plan, "remove_group_member") == [f'Take {BRIDGE} out of the group "Admins"']


@pytest.mark.parametrize("word", [*LOCKING, "reset_password"])
@pytest.mark.parametrize(("user", "said"), [(OF_NOBODY.upper(), True), (ADMIN, False)])
def test_an_id_in_the_place_of_a_name_may_be_an_application_s(word: str, user: str, said: bool) -> None:
    """Graph knows no account by it then, and no step said how the application is shut out."""
    [step] = one_record(word, {}, user=user)

    look = (
        "# if no account has that id: Get-MgServicePrincipal -All -Filter \"id eq '7a1d7f60-0000-4000-8000-"
    )
    assert any(line.startswith(look) for line in step.powershell) == said
    assert any("it is an application's" in note for note in step.notes) == said


def test_the_command_that_disables_such_an_application_has_its_permission() -> None:
    """A note alone named it, and the line that connects asked for a permission to read."""
    made = plan("disable_account", user=OF_NOBODY)
    [step] = made.steps

    assert step.powershell[-1].startswith("# if nobody rightly works with that: Update-MgServicePrincipal ")
    [connects] = connections(made, cloud=CLOUDS["worldwide"])
    assert "Application.ReadWrite.All" in connects


@pytest.mark.parametrize("own", [OF_NOBODY, OTHER])
def test_such_an_application_may_be_the_one_that_collects(own: str) -> None:
    """The step advised to disable it, without a word of what that ends."""
    alert = make_alert("disable_account", "block_address", user=OF_NOBODY.upper(), address="203.0.114.9")
    made = plan_response(alert, own_apps=[own])
    [disable] = steps(made, "disable_account")

    assert disable.is_by_hand == (own == OF_NOBODY)
    assert (disable == made.steps[-1]) == (own == OF_NOBODY)
    assert "the records are collected or the responses carried out" in disable.notes[0]
    assert (own in disable.notes[0]) == (own == OTHER)
