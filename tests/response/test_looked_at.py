"""What a plan of records comes to in a tenant as it is: what was given goes, and what others have stays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from detected import plan_from, steps
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.response.execution.step_actions import look
from m365watch.response.steps.step import Plan
from tenant_scene import Reticent, Tenant, looked_at, sends, told

EVE = "eve@rival.example"
BUYER = "buyer@customer.example"


PLAN = {"id": "f1", "name": "plan.docx", "parentReference": {"driveId": "d1"}}


def shared(folder: Path, whom: str) -> Plan:
    """A file is shared with somebody outside through a link."""
    to_buyer = {"shape": "sharing", "Operation": "AddedToSecureLink", "TargetUserOrGroupType": "Guest"}
    return plan_from(
        folder,
        "s02_shared_with_new_domain",
        {"repeat": 10, "every": "1d", "record": to_buyer | {"TargetUserOrGroupName": BUYER}},
        to_buyer | {"after": "1h", "TargetUserOrGroupName": whom},
    )


def link(number: str, *people: str) -> dict[str, Any]:
    """A link that these people can open."""
    of_people = [{"user": {"email": one}} if one else {"siteUser": {"id": "7"}} for one in people]
    return {
        "id": number,
        "link": {"scope": "users", "type": "edit"},
        "grantedToIdentitiesV2": of_people,
    }


@pytest.mark.parametrize("whom", [EVE, "EVE@rival.example", "eve_rival.example#ext#@contoso.example"])
def test_what_was_shared_by_a_link_is_shared_no_more(tmp_path: Path, whom: str) -> None:
    """By what Graph lists for a link of certain people; another's link and right stay."""
    right = {"id": "p3", "grantedToV2": {"user": {"email": BUYER}}}
    found = looked_at(
        shared(tmp_path, whom), "remove_sharing", Tenant(PLAN, link("p1", EVE), link("p2", BUYER), right)
    )

    assert told(found.deeds) == [("p1", True)]


@pytest.mark.parametrize("other", [BUYER, ""])
def test_of_a_link_for_several_people_a_person_decides(tmp_path: Path, other: str) -> None:
    """The others lose it with the outsider, also who is known by no address."""
    found = looked_at(shared(tmp_path, EVE), "remove_sharing", Tenant(PLAN, link("p1", EVE, other)))

    assert told(found.deeds) == [("p1", False)]
    assert EVE in found.deeds[0].label
    assert other in found.deeds[0].label


def test_a_right_without_a_link_is_taken_as_before(tmp_path: Path) -> None:
    """Graph has its holder in another place."""
    right = {"id": "p1", "roles": ["read"], "grantedToV2": {"user": {"email": "Eve@Rival.example"}}}
    found = looked_at(shared(tmp_path, EVE), "remove_sharing", Tenant(PLAN, right))

    assert told(found.deeds) == [("p1", True)]


def test_sharing_through_a_link_ends_by_powershell_too(tmp_path: Path) -> None:
    """Who has no application for Graph sees the links first."""
    [step] = steps(shared(tmp_path, EVE), "remove_sharing")

    assert step.powershell[1] == "Get-PnPFileSharingLink -Identity '/personal/ada/Documents/plan.docx'"
    assert step.powershell[-1].startswith("Remove-PnPFileSharingLink ")


GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
USERS = "fe930be7-5e62-47db-91af-98c3a49a38b1"


def given(folder: Path, template: str) -> Plan:
    """Somebody gets a role."""
    told_role = {"Role.DisplayName": ["A role", ""], "Role.TemplateId": [template, ""]}
    record = {"shape": "directory", "Operation": "Add member to role.", "ModifiedProperties": told_role}
    return plan_from(folder, "i16_privileged_role", record)


def assignment(number: str, role: str, scope: str = "/") -> dict[str, Any]:
    """A role of the directory that somebody has, in all of it or in one unit."""
    return {"id": number, "principalId": "b1", "roleDefinitionId": role, "directoryScopeId": scope}


def test_a_role_that_somebody_has_in_several_scopes_is_picked_by_a_person(tmp_path: Path) -> None:
    """In one unit it may rightly be theirs; the record does not say for which one it is."""
    tenant = Tenant(
        {"id": "b1"},
        assignment("r1", USERS),
        assignment("r2", USERS, "/administrativeUnits/u1"),
        assignment("r3", GLOBAL),
    )
    found = looked_at(given(tmp_path, USERS), "remove_role", tenant)

    assert told(found.deeds) == [("r1", False), ("r2", False)]
    assert "directoryScopeId /administrativeUnits/u1" in found.deeds[1].label


def test_a_role_that_somebody_has_once_goes_without_a_question(tmp_path: Path) -> None:
    """Whatever its scope is; other roles stay."""
    tenant = Tenant({"id": "b1"}, assignment("r1", USERS), assignment("r3", GLOBAL))
    found = looked_at(given(tmp_path, USERS), "remove_role", tenant)

    assert told(found.deeds) == [("r1", True)]


THIEF = "thief@mail.example.net"


def hides(folder: Path, **does: str) -> Plan:
    """Somebody makes an inbox rule that the packs find by to whom it sends, or by what it does."""
    rule = "b01_inbox_rule_forwards_outside" if "ForwardTo" in does else "b02_inbox_rule_hides_mail"
    words = {} if "ForwardTo" in does else {"SubjectOrBodyContainsWords": "invoice"}
    record = {
        "shape": "cmdlet",
        "Operation": "New-InboxRule",
        "UserId": "ada@contoso.example",
        "UserType": 0,
        "ObjectId": "ada\\Bills",
        "Parameters": {"Name": "Bills", **words, **does},
    }
    return plan_from(
        folder, rule, record, knowledge=Knowledge(accepted_domains=frozenset({"contoso.example"}))
    )


@guarantee(39)
@pytest.mark.parametrize(
    ("does", "actions", "is_meant"),
    [
        ({"ForwardTo": THIEF}, sends(THIEF.upper()), True),
        ({"ForwardTo": THIEF}, sends("bea@contoso.example", THIEF, action="redirectTo"), True),
        ({"ForwardTo": THIEF}, sends("accounts@contoso.example"), False),
        ({"ForwardTo": THIEF, "DeleteMessage": "True"}, {"delete": True}, False),
        ({"DeleteMessage": "True"}, {"delete": True}, True),
        ({"DeleteMessage": "True"}, {"permanentDelete": True}, True),
        ({"DeleteMessage": "True"}, {"moveToFolder": "AAMk1", "delete": False}, False),
        ({"MoveToFolder": "ada:\\RSS Feeds"}, {"moveToFolder": "AAMk1"}, True),
        ({"MoveToFolder": "RSS Feeds"}, {"moveToFolder": "AAMk1"}, True),
        ({"MoveToFolder": "rss feeds"}, {"moveToFolder": "AAMk1"}, True),
        ({"CopyToFolder": "ada:\\rss FEEDS"}, {"copyToFolder": "AAMk1"}, True),
        ({"MoveToFolder": "RSS Subscriptions"}, {"moveToFolder": "AAMk1"}, False),
        ({"CopyToFolder": "ada:\\x\\RSS Feeds"}, {"copyToFolder": "AAMk1"}, True),
        ({"CopyToFolder": "RSS Feeds"}, {"moveToFolder": "AAMk1"}, False),
        ({"MoveToFolder": "RSS Feeds", "MarkAsRead": "True"}, {"moveToFolder": "AAMk1"}, False),
        ({"MarkAsRead": "True", "StopProcessingRules": "True"}, {"markAsRead": True}, False),
        (
            {"MarkAsRead": "True", "StopProcessingRules": "True"},
            {"markAsRead": True, "stopProcessingRules": True},
            True,
        ),
        ({"ForwardTo": THIEF, "DeleteMessage": "True"}, sends(THIEF), False),
        ({"ForwardTo": THIEF, "DeleteMessage": "True"}, sends(THIEF) | {"delete": True}, True),
        ({"ForwardTo": f"{THIEF};bea@mail.example.net"}, sends(THIEF), False),
        ({"MoveToFolder": "ada:\\RSS Feeds"}, {"assignCategories": ["Bills"]}, False),
    ],
)
def test_a_rule_that_has_got_the_name_since_is_not_removed_unasked(
    tmp_path: Path, does: dict[str, str], actions: dict[str, Any], is_meant: bool
) -> None:
    """The intruder's is called otherwise by now, and the owner's does something else."""
    words = {"bodyOrSubjectContains": ["invoice"]}
    rule = {"id": "r1", "displayName": "Bills", "conditions": words, "actions": actions}
    tenant = Tenant({"id": "AAMk1", "displayName": "RSS Feeds"}, rule)
    found = looked_at(hides(tmp_path, **does), "remove_inbox_rule", tenant)

    assert told(found.deeds) == [("r1", is_meant)]
    assert all(one in found.deeds[0].label for one in ("Bills", *_addresses(actions)))


def _addresses(actions: dict[str, Any]) -> list[str]:
    lists = [one for one in actions.values() if isinstance(one, list)]
    return [each["emailAddress"]["address"] for one in lists for each in one if isinstance(each, dict)]


def test_a_folder_that_nobody_may_read_is_compared_by_a_person(tmp_path: Path) -> None:
    """Its id says nothing, and the plan says which permission tells it."""
    plan = hides(tmp_path, MoveToFolder="RSS Feeds")
    rule = {"id": "r1", "displayName": "Bills", "actions": {"moveToFolder": "AAMk1"}}
    [step] = steps(plan, "remove_inbox_rule")

    deeds = looked_at(plan, "remove_inbox_rule", Reticent({}, rule)).deeds
    assert told(deeds) == [("r1", False)]
    assert "AAMk1 (a folder whose name may not be read)" in deeds[0].label
    assert any("Mail.ReadBasic.All" in note for note in step.notes)
    assert "/users/ada%40contoso.example/mailFolders/{found.actions.moveToFolder}" in [
        call.path for call in step.calls
    ]


@pytest.mark.parametrize(
    ("saved", "actions", "is_meant"),
    [
        ('[{"ActionType":"Delete"}]', {"delete": True}, True),
        ('[{"ActionType":"Delete"}]', {"markAsRead": True}, False),
        ('[{"ActionType":"Move","Folder":"RSS Feeds"}]', {"moveToFolder": "AAMk1"}, True),
        ('[{"ActionType":"Move","Folder":"RSS Subscriptions"}]', {"moveToFolder": "AAMk1"}, False),
        ('["SoftDelete", "MarkMessageAsRead"]', {"delete": True}, False),
        ('["SoftDelete", "MARK_AS_READ"]', {"delete": True, "markAsRead": True}, True),
    ],
)
def test_what_outlook_saved_is_compared_as_well(
    tmp_path: Path, saved: str, actions: dict[str, Any], is_meant: bool
) -> None:
    """By the words that it has for what a rule does."""
    properties = {"RuleOperation": "AddMailboxRule", "RuleId": "7", "RuleName": "Bills", "RuleActions": saved}
    record = {
        "shape": "outlook_rule",
        "UserId": "ada@contoso.example",
        "MailboxOwnerUPN": "ada@contoso.example",
        "OperationProperties": properties,
    }
    plan = plan_from(tmp_path, "b02_inbox_rule_hides_mail", record)
    rule = {"id": "r1", "displayName": "Bills", "actions": actions}
    tenant = Tenant({"id": "AAMk1", "displayName": "RSS Feeds"}, rule)

    assert told(looked_at(plan, "remove_inbox_rule", tenant).deeds) == [("r1", is_meant)]


def test_what_was_changed_since_is_compared_as_it_is_by_now(tmp_path: Path) -> None:
    """Also where it got another name, and whatever a rule of that name does in another mailbox."""

    def rule(operation: str, at: int, mailbox: str = "ada@contoso.example", **told: str) -> dict[str, Any]:
        changed = {"shape": "cmdlet", "after": f"{at}m", "Operation": f"{operation}-InboxRule"}
        return changed | {"UserId": "admin@contoso.example", "Parameters": {"Mailbox": mailbox} | told}

    plan = plan_from(
        tmp_path,
        "b02_inbox_rule_hides_mail",
        rule("New", 0, Name="Bills", DeleteMessage="True"),
        rule("Set", 2, Identity="Bills", Name="Papers", DeleteMessage="False", MoveToFolder="RSS Feeds"),
        rule("New", 3, mailbox="bea@contoso.example", Name="Papers", DeleteMessage="True"),
    )
    found = {"id": "r1", "displayName": "Papers", "actions": {"moveToFolder": "AAMk1"}}
    tenant = Tenant({"id": "AAMk1", "displayName": "RSS Feeds"}, found)
    [operation] = [
        one
        for step in steps(plan, "remove_inbox_rule")
        if "ada@contoso.example" in step.title and not step.asks_always
        for one in step.operations
    ]

    assert told(asyncio.run(look(tenant, operation)).deeds) == [("r1", True)]


def opened(folder: Path, operation: str = "AnonymousLinkCreated", **more: Any) -> Plan:
    """A file is opened to anyone with the link."""
    record = {"shape": "sharing", "Operation": operation} | more
    return plan_from(folder, "s01_anonymous_link", record)


def of_scope(number: str, scope: str, kind: str = "view") -> dict[str, Any]:
    """A link that Graph lists for the file."""
    return {"id": number, "link": {"scope": scope, "type": kind, "webUrl": f"https://x.example/{number}"}}


EDIT = "<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>"
TWIN = {"TargetUserOrGroupName": "SharingLinks.1a52bbc5-1502-4cd9-b6fa-1bf.AnonymousEdit.36cf4e3f"}


@guarantee(39)
@pytest.mark.parametrize(
    ("record", "links", "deeds"),
    [
        ({"EventData": EDIT}, [of_scope("p1", "anonymous", "edit")], [("p1", True)]),
        ({"EventData": EDIT}, [of_scope("p1", "anonymous")], [("p1", False)]),
        ({"EventData": None}, [of_scope("p1", "anonymous", "edit")], [("p1", True)]),
        (
            {"EventData": EDIT},
            [of_scope("p1", "anonymous"), of_scope("p2", "anonymous", "edit")],
            [("p1", False), ("p2", True)],
        ),
        (
            {"EventData": EDIT},
            [of_scope("p1", "anonymous", "edit"), of_scope("p2", "anonymous", "edit")],
            [("p1", False), ("p2", False)],
        ),
        (
            {"EventData": None},
            [of_scope("p1", "anonymous"), of_scope("p2", "anonymous", "edit")],
            [("p1", False), ("p2", False)],
        ),
        (
            {"EventData": EDIT},
            [of_scope("p1", "organization", "edit"), of_scope("p2", "users", "edit")],
            [],
        ),
        (
            {"Operation": "SharingSet", "TargetUserOrGroupType": "SharePointGroup", "EventData": None} | TWIN,
            [of_scope("p1", "anonymous")],
            [("p1", False)],
        ),
    ],
    ids=[
        *("the one", "of another kind", "of no kind", "the owner's as well", "two of its kind"),
        *("two, and no kind told", "of other scopes", "its twin"),
    ],
)
def test_only_the_link_of_the_record_is_removed_unasked(
    tmp_path: Path, record: dict[str, Any], links: list[dict[str, Any]], deeds: list[tuple[str, bool]]
) -> None:
    """The owner may have had one for all to read; what is for the organisation or for people stays."""
    found = looked_at(opened(tmp_path, **record), "disable_anonymous_link", Tenant(PLAN, *links))

    assert told(found.deeds) == deeds
    assert not found.is_missing


def test_who_has_yet_to_come_is_shared_with_no_more(tmp_path: Path) -> None:
    """Until the invitation is taken Graph has no account for it."""
    invited = {"id": "p1", "invitation": {"email": EVE, "signInRequired": True}}
    other = {"id": "p2", "invitation": {"email": BUYER}}
    found = looked_at(shared(tmp_path, EVE), "remove_sharing", Tenant(PLAN, invited, other))

    assert told(found.deeds) == [("p1", True)]


def shared_as(folder: Path, kind: str) -> Plan:
    """Something of that kind is shared with somebody outside."""
    guest = {"shape": "sharing", "Operation": "SharingInvitationCreated", "TargetUserOrGroupType": "Guest"}
    new = guest | {"after": "1h", "TargetUserOrGroupName": EVE, "ItemType": kind}
    known = guest | {"TargetUserOrGroupName": BUYER}
    return plan_from(
        folder, "s02_shared_with_new_domain", {"repeat": 10, "every": "1d", "record": known}, new
    )


def test_a_site_that_was_shared_is_no_file(tmp_path: Path) -> None:
    """Graph would look for a file at its address, and find none."""
    [step] = steps(shared_as(tmp_path, "Web"), "remove_sharing")

    site = "https://contoso-my.sharepoint.example/personal/ada"
    assert step.title == f"Let {EVE} no more into {site}"
    assert step.is_by_hand
    assert step.powershell[1] == f"Get-PnPUser | Where-Object Email -eq '{EVE}'"


def test_the_links_of_a_folder_have_commands_of_their_own(tmp_path: Path) -> None:
    """Those of files take no folder."""
    [step] = steps(shared_as(tmp_path, "Folder"), "remove_sharing")

    assert not step.is_by_hand
    assert [line.partition(" ")[0] for line in step.powershell if line[0] != "#"] == [
        "Connect-PnPOnline",
        "Get-PnPFolderSharingLink",
        "Remove-PnPFolderSharingLink",
    ]
