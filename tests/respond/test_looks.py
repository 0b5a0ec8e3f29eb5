"""What a command lists before something is done: by what it is told from its neighbours, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts import ANN, APP
from detected import plan_from, steps
from m365watch.respond.steps import Step
from plan_scene import EVE, one_record
from records_scene import BEA, role

BRIDGE = "Sync_DC1_0123456789ab@contoso.onmicrosoft.com"
GUID = "3c9f0e5a-0000-4b1d-8e2f-0000000000dd"
GROUP = {"ModifiedProperties.Group.ObjectID.new": GUID, "ModifiedProperties.Group.DisplayName.new": "Admins"}


def line_of(step: Step, command: str) -> str:
    """The only line of its PowerShell that has this."""
    [line] = [one for one in step.powershell if command in one]
    return line


def shown(line: str) -> set[str]:
    """The columns that a line shows."""
    told = re.search(r"Format-(?:List|Table) (.*?)(?: }|$)", line)
    assert told is not None, line
    return set(re.findall(r"@\{n='([^']+)'", told[1])) | set(
        re.sub(r"@\{[^}]*\}\}", "", told[1]).strip(",").split(",")
    )


@pytest.mark.parametrize("word", ["disable_account", "block_external_user"])
def test_of_other_administrators_it_is_shown_whether_they_are_enabled(word: str) -> None:
    """It was asked for and not shown: a table of Graph's has its own four columns."""
    guest = "eve_fabrikam.example#EXT#@contoso.example"
    step = one_record(word, {}, user=ANN, guest=guest)[0]

    assert shown(line_of(step, "Get-MgDirectoryRoleMemberAsUser")) == {"UserPrincipalName", "AccountEnabled"}


def test_a_device_is_shown_by_its_name_and_day() -> None:
    """A list of ids told nobody which one the intruder's is, nor when it came."""
    [step] = one_record("remove_device", {}, user=ANN)

    line = line_of(step, "Get-MgUserRegisteredDevice")
    assert {"Id", "displayName", "registrationDateTime", "accountEnabled"} <= shown(line)
    assert "-All" in line


@pytest.mark.parametrize(
    ("operation", "command"),
    [
        ("Add owner to application.", "Get-MgApplicationOwner"),
        ("Add owner to service principal.", "Get-MgServicePrincipalOwner"),
    ],
)
def test_owners_are_shown_by_their_names(operation: str, command: str) -> None:
    """And not by an id alone, of which one has to be chosen."""
    [step] = one_record("remove_owner", {"Operation": operation}, app=APP, owner=EVE)

    line = line_of(step, command)
    assert {"Id", "displayName", "userPrincipalName"} <= shown(line)
    assert "-All" in line


def test_groups_among_administrators_are_told_from_people() -> None:
    """The step is not to be done where the group is one of them."""
    [step] = one_record("remove_group_member", GROUP, user=ANN)

    look = line_of(step, "Get-MgDirectoryRoleMember ")
    assert {"Id", "@odata.type", "displayName"} <= shown(look)
    assert "-All" in look
    assert "-All" in line_of(step, "Get-MgUserMemberOfAsGroup")


def test_who_is_in_a_group_is_shown_by_name() -> None:
    """Everybody in it has the role."""
    given = {"m365.target_group": GUID, "ModifiedProperties.Role.DisplayName.new": "Global Administrator"}
    [step] = one_record("remove_role", given)

    assert {"Id", "displayName", "userPrincipalName"} <= shown(line_of(step, "Get-MgGroupMember"))


def test_which_role_an_assignment_is_of_is_shown_by_name(tmp_path: Path) -> None:
    """The id of one of them has to be filled in, and all that was shown of each were ids."""
    [step] = steps(plan_from(tmp_path, "i16_privileged_role", role(BEA)), "remove_role")

    line = line_of(step, "Get-MgRoleManagementDirectoryRoleAssignment")
    assert "-ExpandProperty RoleDefinition" in line
    assert {"Id", "Role", "DirectoryScopeId"} <= shown(line)


def test_of_who_is_eligible_role_and_scope_are_shown(tmp_path: Path) -> None:
    """Both have to be filled in."""
    eligible = role(BEA, operation="Add eligible member to role.")
    [step] = steps(plan_from(tmp_path, "i16_privileged_role", eligible), "remove_role")

    line = line_of(step, "Get-MgRoleManagementDirectoryRoleEligibilitySchedule")
    assert {"Role", "RoleDefinitionId", "DirectoryScopeId"} <= shown(line)


def test_the_bridge_s_role_is_shown_by_the_id_that_it_is_compared_with(tmp_path: Path) -> None:
    """The next line begins with: unless that id is among these."""
    plan = plan_from(tmp_path, "i16_privileged_role", role(BEA) | {"UserId": BRIDGE})
    [step] = [one for one in steps(plan, "disable_account") if BRIDGE in one.title]

    assert shown(line_of(step, "Get-MgUserMemberOfAsDirectoryRole")) == {"DisplayName", "RoleTemplateId"}


def test_of_a_guest_it_is_shown_when_the_account_was_made() -> None:
    """What was selected is in no column that is shown by itself."""
    record = {"Operation": "Invite external user.", "ObjectId": "mallory@fabrikam.example"}
    [step] = one_record("restore_policy", record)

    assert shown(line_of(step, "Get-MgUser ")) == {"UserType", "CreatedDateTime", "ExternalUserState"}


def test_an_application_is_closed_to_others_after_a_look() -> None:
    """Whoever of another tenant rightly uses it is shut out by it."""
    [step] = one_record("remove_owner", {"Operation": "Update application."}, app=APP)

    assert step.is_by_hand
    assert line_of(step, "Update-MgApplication").startswith("# if nobody of another tenant rightly uses it: ")
