"""Plans for records as they come over the wire: on the right thing, and on no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from verdicts import KnownNetworks

from detected import plan_from, steps, titles
from m365watch.detection.fields.enrichment_context import Knowledge
from records_scene import ADMIN, APP, BEA, EVE, FRED, GLOBAL, OTHER, SITE, removals, role

CEO_ID = "1b6f0c11-2222-4aaa-8bbb-0123456789ab"
GROUP_ID = "5d3f1c6e-0000-4c4f-9a4e-0000000000f1"
RULE = {"Name": "Clean", "DeleteMessage": "True"}
OUTLOOK = "d3590ed6-52b3-4102-aeff-aad2292ab01c"


def joins(
    user: str, group: str, *, actor: str = ADMIN, operation: str = "Add member to group."
) -> dict[str, Any]:
    """A record of somebody who gets into a group."""
    named = {"Group.ObjectID": [GROUP_ID, ""], "Group.DisplayName": [group, ""]}
    return {
        "shape": "directory",
        "Operation": operation,
        "ObjectId": user,
        "UserId": actor,
        "ModifiedProperties": named,
    }


def owner(user: str, app: str, *, actor: str = ADMIN, of: str = "Application") -> dict[str, Any]:
    """A record of an application that gets an owner."""
    noun = "application" if of == "Application" else "service principal"
    named = {f"{of}.DisplayName": ["Shift Planner", ""], f"{of}.AppId": [app, ""]}
    return {
        "shape": "app_directory",
        "Operation": f"Add owner to {noun}.",
        "ObjectId": user,
        "UserId": actor,
        "ModifiedProperties": named,
    }


def test_an_id_inside_a_name_names_nobody(tmp_path: Path) -> None:
    """Who makes accounts chooses their names, and may put the chief's object id into one."""
    name = f"x{CEO_ID}@contoso.example"
    plan = plan_from(tmp_path, "i16_privileged_role", role(name))

    of_name = [step for step in plan.steps if name in step.title]
    paths = [call.path for step in of_name for call in step.calls if call.path.startswith("/users/")]
    assert paths
    assert [one for one in paths if f"/users/x{CEO_ID}%40contoso.example" not in one] == []


def test_an_id_inside_a_mailbox_s_name_is_no_other_mailbox(tmp_path: Path) -> None:
    """The rules of whoever's id stands in the name are left alone."""
    name = f"x{CEO_ID}@contoso.example"
    rule = {
        "shape": "cmdlet",
        "Operation": "New-InboxRule",
        "UserId": name,
        "Parameters": RULE | {"Mailbox": name},
    }
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", rule)

    [step] = steps(plan, "remove_inbox_rule")
    assert step.calls
    assert all(re.match(rf"/users/x{CEO_ID}%40contoso\.example[/?]", call.path) for call in step.calls)


@pytest.mark.parametrize("template", [GLOBAL, f'"{GLOBAL}"'])
def test_a_role_is_found_by_its_template_whatever_records_call_it(tmp_path: Path, template: str) -> None:
    """Records say Company Administrator, and Graph Global Administrator."""
    plan = plan_from(tmp_path, "i16_privileged_role", role(BEA, template=template))

    assert titles(plan, "remove_role") == [f"Remove the role Company Administrator of {BEA}"]
    assert [one.wanted for one in removals(plan, "remove_role")] == [(("roleDefinitionId", GLOBAL),)]


def test_a_role_that_may_be_taken_is_no_role_that_is_held(tmp_path: Path) -> None:
    """It is not among the assignments, and what is there is rightly there."""
    plan = plan_from(tmp_path, "i16_privileged_role", role(BEA, "Add eligible member to role."))

    [step] = steps(plan, "remove_role")
    assert step.title == f"Let {BEA} be eligible no more for the role Company Administrator"
    assert step.is_by_hand
    assert "adminRemove" in step.powershell[-1]


def test_nobody_loses_what_another_record_gave_where_the_actor_is_a_grantee_as_well(tmp_path: Path) -> None:
    """Who made himself administrator of one site gave another to somebody else."""
    plan = plan_from(
        tmp_path,
        "s06_site_admin_added",
        {"shape": "file", "Operation": "SiteCollectionAdminAdded", "UserId": ADMIN, "ObjectId": f"{SITE}/a",
         "TargetUserOrGroupName": ADMIN},
        {"shape": "file", "Operation": "SiteCollectionAdminAdded", "UserId": ADMIN, "ObjectId": f"{SITE}/b",
         "TargetUserOrGroupName": EVE},
    )  # fmt: skip

    assert titles(plan, "remove_site_admin") == [
        f"Make {ADMIN} administrator of {SITE}/a no more",
        f"Make {EVE} administrator of {SITE}/b no more",
    ]


def test_who_lets_others_into_groups_leaves_only_the_own_one(tmp_path: Path) -> None:
    """Eve joins one group herself, and lets Fred into another."""
    plan = plan_from(
        tmp_path,
        "devo_group_membership_modified",
        joins(EVE, "Admins", actor=EVE),
        joins(FRED, "Lunch", actor=EVE),
    )

    assert titles(plan, "remove_group_member") == [
        f'Take {EVE} out of the group "Admins"',
        f'Take {FRED} out of the group "Lunch"',
    ]
    assert {one.wanted for one in removals(plan, "remove_group_member")} == {(("id", GROUP_ID),)}


def test_an_owner_of_a_group_loses_the_ownership(tmp_path: Path) -> None:
    """As a member, which the intruder need not be, nobody is put out."""
    plan = plan_from(
        tmp_path,
        "devo_group_membership_modified",
        joins(EVE, "Admins", operation="Add owner to group."),
    )

    assert titles(plan, "remove_group_member") == [f'Let {EVE} own the group "Admins" no more']
    assert [one.removal.path for one in removals(plan, "remove_group_member")] == [
        f"/groups/{GROUP_ID}/owners/{{found.id}}/$ref"
    ]


def test_each_application_loses_the_owner_that_it_got(tmp_path: Path) -> None:
    """Eve made herself an owner of one, and Fred of the other, of which she may rightly be one."""
    plan = plan_from(
        tmp_path,
        "o05_application_owner_or_reach",
        owner(EVE, APP, actor=EVE),
        owner(FRED, OTHER, actor=EVE, of="ServicePrincipal"),
    )

    assert titles(plan, "remove_owner") == [
        f"Remove the owner {EVE} of the application {APP}",
        f"Remove the owner {FRED} of the service principal of the application {OTHER}",
    ]
    assert [one.listed.partition("?")[0] for one in removals(plan, "remove_owner")] == [
        f"/applications(appId='{APP}')/owners",
        f"/servicePrincipals(appId='{OTHER}')/owners",
    ]


def test_an_owner_that_only_the_properties_name_is_known(tmp_path: Path) -> None:
    """ObjectId is the application then."""
    told = owner(APP, APP)
    told["ModifiedProperties"]["User.UPN"] = [EVE, ""]
    plan = plan_from(tmp_path, "o05_application_owner_or_reach", told)

    assert titles(plan, "remove_owner") == [f"Remove the owner {EVE} of the application {APP}"]


def test_an_application_that_was_opened_is_closed_and_keeps_its_owners(tmp_path: Path) -> None:
    """No record gave it one."""
    plan = plan_from(
        tmp_path,
        "o05_application_owner_or_reach",
        {
            "shape": "app_directory",
            "Operation": "Update application.",
            "ObjectId": APP,
            "ModifiedProperties": {"AvailableToOtherTenants": ["[true]", "[false]"]},
        },
    )

    assert titles(plan, "remove_owner") == [f"Close the application {APP} to other tenants"]
    assert removals(plan, "remove_owner") == []


@guarantee(39)
@pytest.mark.parametrize(
    "app", [OUTLOOK, "04b07795-8ddb-461a-bbee-02f9e1bf7b46", "00000005-0000-0FF1-CE00-000000000000"]
)
def test_what_is_microsoft_s_own_is_left_alone(tmp_path: Path, app: str) -> None:
    """An intruder reads mail with Outlook like everybody else, or with a tool, or as a service."""
    plan = plan_from(
        tmp_path,
        "b12_mail_read_in_masses",
        {
            "shape": "mail_read",
            "ClientAppId": app,
            "OperationProperties": {"MailAccessType": "Bind", "IsThrottled": "True"},
        },
    )

    told = steps(plan, "remove_oauth_grant")
    assert [(step.title, step.operations) for step in told] == [
        (f"Leave the application {app.lower()} alone: it is Microsoft's own", ())
    ]


@guarantee(39)
def test_one_s_own_application_is_by_hand_and_last(tmp_path: Path) -> None:
    """An intruder who gives the collector a secret must not have it disabled by its own alert."""
    record = {
        "shape": "app_directory",
        "Operation": "Update application \u2013 Certificates and secrets management ",
        "ObjectId": f"Application_{OTHER}",
        "ModifiedProperties": {"KeyDescription": ['["[KeyIdentifier=a,KeyType=Password]"]', "[]"],
                               "AppId": [APP, ""]},
    }  # fmt: skip
    plan = plan_from(tmp_path, "o04_credential_added", record, own_apps=[APP])

    of_app = [step for step in plan.steps if APP in " ".join(step.powershell)]
    assert of_app
    assert all(step.is_by_hand for step in of_app)
    assert list(plan.steps[-len(of_app) :]) == of_app


def test_whoever_is_called_by_the_collector_s_id_is_locked_out_all_the_same(tmp_path: Path) -> None:
    """The id is no secret: an account of that name, and its inbox rule, are not the application."""
    intruder = f"svc-{APP}@contoso.example"
    record = {
        "shape": "cmdlet",
        "Operation": "New-InboxRule",
        "UserId": intruder,
        "Parameters": {"Name": f"(appId='{APP}')", "ForwardTo": "thief@mail.example.net"},
    }
    plan = plan_from(tmp_path, "b01_inbox_rule_forwards_outside", record, own_apps=[APP])

    assert [step.word for step in plan.steps][:1] == ["disable_account"]
    assert [step.is_by_hand for step in plan.steps[:2]] == [False, False]
    assert not any("the records are collected" in note for step in plan.steps for note in step.notes)


def test_the_person_whose_second_factor_went_is_looked_after(tmp_path: Path) -> None:
    """And no policy is put back, and no role taken, of which no record speaks."""
    strange = {"ClientIP": "203.0.113.66", "ActorIpAddress": "203.0.113.66"}
    devices = {"DeviceProperties": {"IsCompliantAndManaged": "False"}}
    plan = plan_from(
        tmp_path,
        "c03_protection_lowered_from_new_address",
        {"repeat": 12, "every": "1d", "record": {"shape": "signin", "UserId": ADMIN, **devices}},
        {"shape": "signin", "after": "1h", "UserId": ADMIN, **strange, **devices},
        {"shape": "directory", "Operation": "Disable Strong Authentication.", "after": "20m"},
    )

    assert titles(plan, "restore_mfa")[0].startswith(f"Look at the second factors of {BEA};")
    assert titles(plan, "restore_policy") == []
    [roles] = steps(plan, "remove_role")
    assert (roles.title, roles.operations) == (f"See which roles {ADMIN} has", ())


def test_of_a_session_that_went_on_among_servers_only_the_servers_are_blocked(tmp_path: Path) -> None:
    """It began where the owner sits."""
    known = Knowledge(enrichment=KnownNetworks({"hosting": ["203.0.113.0/24"]}))
    plan = plan_from(
        tmp_path,
        "i09_session_moves_to_servers",
        {"shape": "signin"},
        {"shape": "signin", "after": "10m", "ClientIP": "203.0.113.66", "ActorIpAddress": "203.0.113.66"},
        knowledge=known,
    )

    assert titles(plan, "block_address") == [
        "Block sign-ins from 203.0.113.66/32, if it is not ada@contoso.example's"
    ]


def test_which_of_two_addresses_is_the_owner_s_nobody_guesses(tmp_path: Path) -> None:
    """A session in two browsers: one of them sits in the office."""
    plan = plan_from(
        tmp_path,
        "i09_session_in_two_places",
        {"shape": "signin"},
        {
            "shape": "signin",
            "after": "10m",
            "ClientIP": "203.0.113.66",
            "ActorIpAddress": "203.0.113.66",
            "ExtendedProperties": {"UserAgent": "python-requests/2.32"},
        },
    )

    [step] = steps(plan, "block_address")
    assert step.title.startswith("Ask which of these addresses are not those of ada@contoso.example: ")
    assert step.powershell == ()


ONE_DRIVE = "https://contoso-my.sharepoint.example/personal/ada_contoso_example"


def test_the_device_from_which_malware_came_is_looked_for_where_a_service_found_it(tmp_path: Path) -> None:
    """The record names no person, but whose OneDrive it is; hers went on synchronising it."""
    found = {
        "shape": "file",
        "Operation": "FileMalwareDetected",
        "UserId": "app@sharepoint",
        "SiteUrl": ONE_DRIVE,
        "ObjectId": f"{ONE_DRIVE}/Documents/a.exe",
    }
    [step] = steps(plan_from(tmp_path, "s05_malware_in_file", found), "scan_device")

    assert (
        step.title == f"Find from whose device the file came to {ONE_DRIVE}, and have it searched for malware"
    )
    assert step.powershell == (f"Get-SPOSite -Identity '{ONE_DRIVE}' | Format-List Owner",)
    assert step.is_by_hand


def test_the_device_is_looked_for_where_the_record_names_no_site_either(tmp_path: Path) -> None:
    """Defender's has only the service that changed the file last."""
    found = {
        "shape": "service",
        "RecordType": 47,
        "Operation": "AtpDetection",
        "Workload": "ThreatIntelligence",
        "UserId": "ThreatIntel",
        "UserType": 4,
        "LastModifiedBy": "app@sharepoint",
        "FileData": {"FileName": "a.exe"},
    }

    assert titles(plan_from(tmp_path, "s05_malware_found_by_defender", found), "scan_device") == [
        "Find whose device it is, and have it searched for malware"
    ]
