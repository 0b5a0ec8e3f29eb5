"""Plans for records as they come over the wire: whom they lock out unasked, and whom not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from expand import written

from alerts import ANN
from detected import detect, plan_from, plan_of, rules_of, steps, titles
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.rules.rule_library import load_library
from m365watch.response.execution.response_executor import Came
from m365watch.response.steps.step import Plan
from records_scene import ADMIN, BEA, SITE, role
from responding_scene import ASSIGNMENTS, GLOBAL, Scene, in_scene, make_administrators
from test_from_records import GROUP_ID

ADA = "ada@contoso.example"
SIGMA = """\
title: The scanner signs in
id: 5f0d8a52-0000-4c4f-9a4e-0000000000f2
status: test
logsource: {product: m365}
detection:
  found: {Operation: UserLoggedIn}
  condition: found
level: high
"""
"""A rule as others write them, which knows nothing of containment."""


def asked(plan: Plan) -> list[bool]:
    """Of the steps that Graph carries out, whether each waits for a person's yes."""
    return [step.asks_always for step in plan.steps if step.operations]


def test_nobody_is_locked_out_unasked_for_risk_that_adds_up(tmp_path: Path) -> None:
    """Being attacked is a sign as well; the plan says that no rule asks for these steps."""
    signs = ("b03_inbox_rule_with_odd_name_or_lure", "b08_mailbox_delegation", "s06_site_admin_added")
    rules = rules_of(*signs)
    hides: dict[str, Any] = {"shape": "cmdlet", "UserId": ADA, "Operation": "New-InboxRule"}
    hides |= {"ObjectId": r"ada\\..", "Parameters": {"Name": "..", "MoveToFolder": "RSS Feeds"}}
    reads: dict[str, Any] = {"shape": "cmdlet", "UserId": ADA, "Operation": "Add-MailboxPermission"}
    reads["Parameters"] = {"Identity": "bea", "User": ADA, "AccessRights": "FullAccess"}
    owns = {"shape": "file", "UserId": ADA, "Operation": "SiteCollectionAdminAdded", "ObjectId": f"{SITE}/a"}
    records = written([hides, reads, owns | {"TargetUserOrGroupName": ADA}])
    kept = detect(tmp_path, records, rules, risk_points=10)
    [risk] = [one for one in kept if one.alert.detection == "RISK" and one.alert.group == ("user", ADA)]
    plan = plan_of(tmp_path, risk, rules)

    assert titles(plan, "disable_account") == [f"Disable the account {ADA}"]
    assert asked(plan) == [True, True]
    assert "the rule names nothing that would contain it: these are the usual steps" in plan.notes


def test_nobody_is_locked_out_unasked_for_a_rule_that_asks_for_nothing(tmp_path: Path) -> None:
    """Rules of Sigma's own know nothing of containment: this one finds a scanner at work."""
    (tmp_path / "own.yml").write_text(SIGMA, encoding="utf-8")
    rules = load_library([tmp_path / "own.yml"]).rules
    [kept] = detect(tmp_path, written([{"shape": "signin", "UserId": ADA}]), rules)

    assert asked(plan_of(tmp_path, kept, rules)) == [True, True]


def given_to_group(
    called: str = "Helpers", operation: str = "Add member to role.", stands: str = f"Group_{GROUP_ID}"
) -> dict[str, Any]:
    """A record of a role that a group was given, as they come: its name stands among the targets."""
    identities = [{"ID": one, "Type": 2} for one in (f"Group_{GROUP_ID}", GROUP_ID, "Group")]
    return role(stands, operation) | {"Target": [*identities, {"ID": called, "Type": 1}]}


CHIEF = "ceo@contoso.example"
OTHER_GROUP = "Group_11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize("called", ["Helpers", OTHER_GROUP, CHIEF, GROUP_ID])
@pytest.mark.parametrize("as_object", ["id", "bare id", "name"])
def test_a_role_that_a_group_was_given_is_taken_from_the_group(
    tmp_path: Path, called: str, as_object: str
) -> None:
    """Whatever it is called, no account is meant; who gets into it would be administrator for ever."""
    stands = {"id": f"Group_{GROUP_ID}", "bare id": GROUP_ID, "name": called}[as_object]
    plan = plan_from(tmp_path, "i16_privileged_role", given_to_group(called, stands=stands))

    [step] = steps(plan, "remove_role")
    shown = GROUP_ID if called == GROUP_ID else f'"{called}" ({GROUP_ID})'
    assert step.title == f"Remove the role Company Administrator of the group {shown}"
    assert f"principalId%20eq%20'{GROUP_ID}'" in step.calls[0].path
    assert f"$holder = $null; $holder = Get-MgGroup -GroupId '{GROUP_ID}'" in step.powershell
    assert titles(plan, "disable_account") == [f"Disable the account {ADMIN} (who did it)"]
    assert titles(plan, "revoke_sessions") == [f"End all sessions of {ADMIN} (who did it)"]
    of_users = [call.path for one in plan.steps for call in one.calls if call.path.startswith("/users/")]
    assert [one for one in of_users if not one.startswith("/users/admin%40contoso.example")] == []


def test_an_account_that_a_group_is_called_like_is_one_where_it_got_the_role_too(tmp_path: Path) -> None:
    """Who makes the group does not choose what is done about the account."""
    of_group = given_to_group(CHIEF, stands=CHIEF)
    plan = plan_from(tmp_path, "i16_privileged_role", role(CHIEF), of_group | {"after": "3m"})

    assert f"Disable the account {CHIEF}" in titles(plan, "disable_account")
    assert sorted(titles(plan, "remove_role")) == [
        f"Remove the role Company Administrator of {CHIEF}",
        f'Remove the role Company Administrator of the group "{CHIEF}" ({GROUP_ID})',
    ]


def test_a_role_that_a_group_may_take_is_named_with_the_group(tmp_path: Path) -> None:
    """Whoever is in it takes it at will."""
    plan = plan_from(
        tmp_path, "i16_privileged_role", given_to_group(operation="Add eligible member to role.")
    )

    assert titles(plan, "remove_role") == [
        f'Let the group "Helpers" ({GROUP_ID}) be eligible no more for the role Company Administrator'
    ]


def test_where_an_application_gives_it_to_a_group_no_account_is_looked_for(tmp_path: Path) -> None:
    """Neither of them is one."""
    actor = {"UserId": "ServicePrincipal_88bca18c-0000-4b33-b9ec-000000000001"}
    plan = plan_from(tmp_path, "i16_privileged_role", given_to_group() | actor)

    assert [step.word for step in plan.steps] == ["disable_application", "remove_role"]


def test_the_group_has_the_role_no_more_and_its_administrator_still_has(tmp_path: Path) -> None:
    """Carried out by its id, and taken back."""
    planned = plan_from(tmp_path, "i16_privileged_role", given_to_group())

    async def test(scene: Scene) -> None:
        make_administrators(scene, ANN)
        of_group = {"id": "g", "principalId": GROUP_ID, "roleDefinitionId": GLOBAL}
        scene.directory.lists[ASSIGNMENTS].append(of_group)
        plan = replace(planned, tenant=scene.tenant, steps=tuple(steps(planned, "remove_role")))

        assert [told.came for told in await scene.apply(plan)] == [Came.DONE]
        held = [one["principalId"] for one in scene.directory.lists[ASSIGNMENTS]]
        assert held == [scene.directory.users[ANN]["id"]]
        assert [told.came for told in await scene.undo(plan)] == [Came.DONE]
        held = [one["principalId"] for one in scene.directory.lists[ASSIGNMENTS]]
        assert held == [scene.directory.users[ANN]["id"], GROUP_ID]

    in_scene(tmp_path, test)


PARTNER = "tech@msp.example"
ELSEWHERE = {"UserId": PARTNER, "ActorContextId": "99999999-aaaa-4bbb-8ccc-dddddddddddd"}
WEAKENED = {
    "shape": "cmdlet",
    "Operation": "Set-AdminAuditLogConfig",
    "Parameters": {"UnifiedAuditLogIngestionEnabled": "False"},
}

HIDES = {
    "shape": "cmdlet",
    "Operation": "New-InboxRule",
    "Parameters": {"Mailbox": BEA, "Name": "x", "DeleteMessage": "True"},
}
FOR_ALL = {
    "shape": "app_directory",
    "Operation": "Consent to application.",
    "ModifiedProperties": {"ConsentContext.IsAdminConsent": ["True", ""]}
    | {"ConsentAction.Permissions": ["[] => [[Id: a, ConsentType: AllPrincipals, Scope: Mail.Read]]; ", ""]},
}


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        ("i16_privileged_role", role(BEA) | ELSEWHERE),
        ("b02_inbox_rule_hides_mail", HIDES | {"UserId": PARTNER, "ExternalAccess": True}),
        ("o02_tenant_wide_consent", FOR_ALL | ELSEWHERE),
        ("d01_audit_log_off", WEAKENED | {"UserId": PARTNER, "ExternalAccess": True}),
        ("d01_audit_log_off", WEAKENED | {"UserId": PARTNER, "ExternalAccess": "True"}),
    ],
)
def test_an_administrator_of_another_organisation_has_no_account_to_disable(
    tmp_path: Path, rule: str, record: dict[str, Any]
) -> None:
    """Graph answers 404, and the partner's way in is what has to end; it is said once."""
    plan = plan_from(tmp_path, rule, record)

    told = [step for step in plan.steps if PARTNER in step.title]
    assert [step.title.replace(" (who did it)", "") for step in told] == [
        f"End the way in of {PARTNER}: it is an account of another organisation"
    ]
    assert told[0].is_by_hand
    assert "Partner relationships" in told[0].notes[0]
    assert f" | Where-Object Mail -eq '{PARTNER}' | " in told[0].powershell[1]
    assert [call.path for step in plan.steps for call in step.calls if "msp.example" in call.path] == []


def test_a_partner_who_gave_himself_a_role_is_named_with_it(tmp_path: Path) -> None:
    """The record names who got it, though not by which object the directory knows him."""
    plan = plan_from(tmp_path, "i16_privileged_role", role(PARTNER) | ELSEWHERE)

    [step] = steps(plan, "remove_role")
    assert step.title == (
        f"Take the role Company Administrator from {PARTNER}: it is an account of another organisation"
    )
    assert step.is_by_hand
    assert f"-Filter \"roleDefinitionId eq '{GLOBAL}'\"" in step.powershell[0]


@pytest.mark.parametrize(
    "record",
    [
        WEAKENED,
        WEAKENED | {"ExternalAccess": True, "UserId": ADMIN},
        WEAKENED | {"UserId": "tech_msp.example#EXT#@contoso.example"} | {"ExternalAccess": True},
    ],
)
def test_an_account_of_this_organisation_is_disabled(tmp_path: Path, record: dict[str, Any]) -> None:
    """An accepted domain is one's own whatever ran the cmdlet, and a guest has an account here."""
    known = Knowledge(accepted_domains=frozenset({"contoso.example"}))
    plan = plan_from(tmp_path, "d01_audit_log_off", record, knowledge=known)

    assert titles(plan, "disable_account") == [f"Disable the account {record.get('UserId', ADMIN)}"]
