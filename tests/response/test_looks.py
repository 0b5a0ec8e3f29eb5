"""What a command lists before something is done: by what it is told from its neighbours, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts import ANN, APP
from detected import plan_from, steps
from m365watch.response.steps.step import Step
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


def test_a_second_factor_is_shown_by_its_kind_and_number() -> None:
    """The command that removes one is another for each kind, and only its number tells whose it is."""
    [step] = one_record("restore_mfa", {}, user=ANN)

    line = line_of(step, "Get-MgUserAuthenticationMethod ")
    assert {"Id", "@odata.type", "displayName", "phoneNumber", "createdDateTime"} <= shown(line)


def test_every_part_of_a_licence_is_shown() -> None:
    """A list within a list ends after four, of some sixty."""
    record = {"Operation": "Change user license.", "ObjectId": ANN}
    [step] = one_record("restore_policy", record)

    assert shown(line_of(step, "ServicePlans")) == {"ServicePlanName", "ProvisioningStatus"}
    assert not any(",ServicePlans" in line for line in step.powershell)


@pytest.mark.parametrize(
    "given",
    [
        {"Operation": "Set-Mailbox", "Parameters.GrantSendOnBehalfTo": "cyd"},
        {"Operation": "MailItemsAccessed"},
        {"Operation": "Add-MailboxPermission", "Parameters.User": "cyd, dan"},
    ],
    ids=["given", "looked at", "several"],
)
def test_all_who_send_on_behalf_are_shown(given: dict[str, str]) -> None:
    """The fifth, who was let in last, was three dots."""
    found = one_record("remove_mailbox_permission", given, mailbox="bea@contoso.example", user=ANN)

    looks = [
        line for one in found for line in one.powershell if "GrantSendOnBehalfTo" in line and "Get-" in line
    ]
    assert looks == ["Get-Mailbox -Identity 'bea@contoso.example' | ForEach-Object GrantSendOnBehalfTo"]


def test_which_application_has_a_consent_is_shown_by_name() -> None:
    """A person knows what they use by what it is called."""
    [step] = one_record("remove_oauth_grant", {"Operation": "MailItemsAccessed"}, user=ANN)

    assert {"Id", "Application", "Scope"} <= shown(line_of(step, "Get-MgUserOauth2PermissionGrant"))


def test_whose_consent_it_is_is_shown_where_a_person_picks() -> None:
    """Two people gave the same; the record is of one of them."""
    [step] = one_record(
        "remove_oauth_grant", {"Operation": "Add delegated permission grant."}, app=APP, user=ANN
    )[:1]

    assert {"Id", "PrincipalId"} <= shown(line_of(step, "Get-MgServicePrincipalOauth2PermissionGrant"))


def test_of_who_was_invited_it_is_shown_whether_they_are_enabled() -> None:
    """It was asked for, and is in no column that is shown by itself."""
    outside = {"m365.outside_actor": ANN}
    step = one_record("revoke_sessions", outside, user=ANN)[0]

    assert {"Id", "Mail", "AccountEnabled"} <= shown(line_of(step, "Get-MgUser "))


def test_mail_is_purged_until_none_is_left() -> None:
    """One purge takes ten of each mailbox."""
    [step] = one_record("remove_mail", {"Subject": "Invoice"}, sender="mallory@fabrikam.example")

    assert step.powershell[0].startswith("New-ComplianceSearch ")
    assert any("takes ten of each mailbox at most" in note for note in step.notes)


def test_a_password_that_another_directory_has_is_given_there() -> None:
    """Graph refuses to set it, or it is set and nobody can sign in with it at home."""
    [step] = one_record("reset_password", {}, user=ANN)

    assert any("synchronised from Active Directory" in note for note in step.notes)


def test_a_member_is_removed_by_the_command_that_takes_one() -> None:
    """Remove-MgGroupMemberByRef lost the member from its parameters in 2.17 of the module."""
    [step] = one_record("remove_group_member", GROUP, user=ANN)

    assert step.powershell[-1] == (
        f"Remove-MgGroupMemberDirectoryObjectByRef -GroupId '{GUID}' -DirectoryObjectId $user.Id"
    )
