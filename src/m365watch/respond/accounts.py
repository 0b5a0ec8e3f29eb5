"""Steps on accounts: sessions, sign-in, password, second factor, roles, groups, devices, addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from m365watch.respond.administrators import LOOK_FOR_ANOTHER, NOT_THE_LAST, PERMISSION
from m365watch.respond.app_names import App
from m365watch.respond.clues import Account, Clues
from m365watch.respond.quoting import guid_in, odata, powershell, segment
from m365watch.respond.steps import Act, GraphCall, Remove, Revise, Step

_DOCUMENTATION = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"))
)
"""Where strangers of a simulated tenant come from: public to it. Source: RFC 5737 and RFC 3849."""


def revoke_sessions(clues: Clues) -> list[Step]:
    """Every refresh token and session cookie ends.

    Source: Microsoft Graph, user: revokeSignInSessions.
    """
    return [
        Step(
            "revoke_sessions",
            f"End all sessions of {one.told}",
            operations=(Act(GraphCall("POST", f"{path_of(one)}/revokeSignInSessions")),),
            powershell=(f"Revoke-MgUserSignInSession -UserId {powershell(one.name)}",),
            permissions=("User.RevokeSessions.All",),
            notes=(
                (
                    "Access tokens that are out live on, for up to an hour, where nothing evaluates access"
                    " continuously; a guest's sessions end in the home tenant only."
                ),
            ),
        )
        for one in clues.accounts
    ]


def disable_account(clues: Clues) -> list[Step]:
    """Nobody signs in with it any more."""
    return [
        Step(
            "disable_account",
            f"Disable the account {one.told}",
            operations=(Revise(path_of(one), {"accountEnabled": False}, locks_out=True),),
            powershell=(
                LOOK_FOR_ANOTHER,
                f"Update-MgUser -UserId {powershell(one.name)} -AccountEnabled:$false",
            ),
            permissions=(PERMISSION, "User.EnableDisableAccount.All", "User.Read.All"),
            notes=(
                (
                    "An account that is synchronised from Active Directory has to be disabled there as well;"
                    " one with an administrator's role needs a role of the application, too."
                ),
                NOT_THE_LAST,
            ),
        )
        for one in clues.accounts
    ]


def reset_password(clues: Clues) -> list[Step]:
    """By hand: whoever hands out the new password has to know whom they give it to."""
    return [
        Step(
            "reset_password",
            f"Give {one.told} a new password",
            powershell=(
                "$password = Read-Host 'New password' -MaskInput",
                (
                    f"Update-MgUser -UserId {powershell(one.name)} -PasswordProfile"
                    " @{Password = $password; ForceChangePasswordNextSignIn = $true}"
                ),
            ),
            notes=("By hand: hand it over by telephone or in person; mail may be read by the intruder.",),
        )
        for one in clues.accounts
    ]


def restore_mfa(clues: Clues) -> list[Step]:
    """Look at the second factors, and take away what is not the owner's."""
    return [
        Step(
            "restore_mfa",
            f"Look at the second factors of {one.told}; remove those that are not the owner's",
            powershell=(
                f"Get-MgUserAuthenticationMethod -UserId {powershell(one.name)}",
                (
                    "# then, by its kind: Remove-MgUserAuthenticationPhoneMethod"
                    f" -UserId {powershell(one.name)} -PhoneAuthenticationMethodId ID"
                ),
            ),
            notes=(
                (
                    "By hand: only the owner knows which are theirs. Then have them register anew, and see"
                    " that a policy asks for the second factor again."
                ),
            ),
        )
        for one in clues.accounts
    ]


def remove_role(clues: Clues) -> list[Step]:
    """Directory roles, of an application as well, and for Exchange its own."""
    exchange = [_exchange_role(one, clues) for one in clues.entity("grantee")]
    if exchange:
        return exchange
    names = clues.values("ModifiedProperties.Role.DisplayName.new")
    accounts = [_role_of_account(one, names) for one in clues.accounts if not one.acted]
    return accounts or [_role_of_application(app, names) for app in clues.applications]


def _role_of_account(one: Account, names: tuple[str, ...]) -> Step:
    return _directory_role(
        one.told,
        names,
        subject=f"{path_of(one)}?$select=id",
        get=f"$holder = Get-MgUser -UserId {powershell(one.name)}",
        permissions=("RoleManagement.ReadWrite.Directory", "User.Read.All"),
        notes=("A role that Privileged Identity Management made eligible is not among these.", NOT_THE_LAST),
    )


def _role_of_application(app: App, names: tuple[str, ...]) -> Step:
    step = _directory_role(
        f"the application {app.told}",
        names,
        subject=f"{app.principal}?$select=id",
        get=f"{app.get_principal}; $holder = $app",
        permissions=("Application.Read.All", "RoleManagement.ReadWrite.Directory"),
        notes=("A role that Privileged Identity Management made eligible is not among these.",),
    )
    # A registration's object id has to be looked up twice, which no single call can say.
    why = ("By hand: Graph knows it here by another id, which the first command finds.",)
    return replace(step, operations=(), permissions=(), notes=why) if app.principal_subject else step


def _directory_role(
    told: str,
    names: tuple[str, ...],
    *,
    subject: str,
    get: str,
    permissions: tuple[str, ...],
    notes: tuple[str, ...],
) -> Step:
    return Step(
        "remove_role",
        f"Remove the role {' or '.join(names)} of {told}" if names else f"Remove roles of {told}",
        operations=(
            Remove(
                "/roleManagement/directory/roleAssignments"
                "?$filter=principalId%20eq%20'{subject.id}'&$expand=roleDefinition",
                GraphCall("DELETE", "/roleManagement/directory/roleAssignments/{found.id}"),
                label=("roleDefinition.displayName", "directoryScopeId"),
                wanted=tuple(("roleDefinition.displayName", name) for name in names),
                subject=subject,
                restored_at="/roleManagement/directory/roleAssignments",
                restored=("principalId", "roleDefinitionId", "directoryScopeId"),
                locks_out=True,
            ),
        ),
        powershell=(
            LOOK_FOR_ANOTHER,
            get,
            "Get-MgRoleManagementDirectoryRoleAssignment -Filter \"principalId eq '$($holder.Id)'\"",
            "Remove-MgRoleManagementDirectoryRoleAssignment -UnifiedRoleAssignmentId ID",
        ),
        permissions=permissions,
        notes=notes,
    )


def _exchange_role(grantee: str, clues: Clues) -> Step:
    group = next(iter(clues.values("Parameters.Identity")), "") if clues.values("Parameters.Member") else ""
    if group:
        return Step(
            "remove_role",
            f'Take {grantee} out of the role group "{group}"',
            powershell=(
                f"Get-RoleGroupMember -Identity {powershell(group)}",
                (
                    f"Remove-RoleGroupMember -Identity {powershell(group)}"
                    f" -Member {powershell(grantee)} -Confirm:$false"
                ),
            ),
            notes=("Exchange PowerShell only: Graph cannot do it.",),
        )
    role = next(iter(clues.values("Parameters.Role")), "")
    said = f"-Role {powershell(role)} -RoleAssignee" if role else "-RoleAssignee"
    command = f"Get-ManagementRoleAssignment {said} {powershell(grantee)}"
    return Step(
        "remove_role",
        f'Take the Exchange role "{role}" away from {grantee}'
        if role
        else f"Take the Exchange role away from {grantee}",
        powershell=(command, f"{command} | Remove-ManagementRoleAssignment"),
        notes=("Exchange PowerShell only: Graph cannot do it.",),
    )


def remove_group_member(clues: Clues) -> list[Step]:
    """The person leaves the group again; where the alert names no group, a person picks it."""
    groups = clues.values("ModifiedProperties.Group.DisplayName.new")
    return [_group_member(one, groups) for one in clues.accounts if not one.acted]


def _group_member(one: Account, groups: tuple[str, ...]) -> Step:
    named = " or ".join(f'"{name}"' for name in groups)
    return Step(
        "remove_group_member",
        f"Take {one.told} out of the group {named}" if groups else f"Take {one.told} out of a group",
        operations=(
            Remove(
                f"{path_of(one)}/memberOf/microsoft.graph.group?$select=id,displayName",
                GraphCall("DELETE", "/groups/{found.id}/members/{subject.id}/$ref"),
                label=("displayName",),
                wanted=tuple(("displayName", name) for name in groups),
                subject=f"{path_of(one)}?$select=id",
            ),
        ),
        powershell=(
            f"$user = Get-MgUser -UserId {powershell(one.name)}",
            f"Get-MgUserMemberOfAsGroup -UserId {powershell(one.name)}",
            "Remove-MgGroupMemberByRef -GroupId ID -DirectoryObjectId $user.Id",
        ),
        permissions=("Directory.Read.All", "GroupMember.ReadWrite.All"),
    )


def remove_device(clues: Clues) -> list[Step]:
    """Devices are disabled, not deleted: that can be taken back."""
    return [
        Step(
            "remove_device",
            f"Look at the devices of {one.told}; disable the intruder's",
            powershell=(
                f"Get-MgUserRegisteredDevice -UserId {powershell(one.name)}",
                "Update-MgDevice -DeviceId ID -AccountEnabled:$false",
            ),
            notes=(
                (
                    "By hand: the alert does not say which device it is. Registered since"
                    f" {clues.first_at} is the likeliest; a mailbox's own list: Get-MobileDevice."
                ),
            ),
        )
        for one in clues.accounts
        if not one.acted
    ]


def block_address(clues: Clues) -> list[Step]:
    """A named location, for a policy of conditional access that blocks it."""
    steps = []
    for address in clues.entity("address"):
        cidr = cidr_of(address)
        if not cidr:
            why = "By hand: it is no address of the public Internet; whoever is behind it is near."
            steps.append(Step("block_address", f"See who is behind {address}", notes=(why,)))
            continue
        kind = "iPv6CidrRange" if ":" in cidr else "iPv4CidrRange"
        steps.append(
            Step(
                "block_address",
                f"Block sign-ins from {cidr}",
                powershell=(
                    (
                        "New-MgIdentityConditionalAccessNamedLocation -BodyParameter"
                        " @{'@odata.type' = '#microsoft.graph.ipNamedLocation'; displayName ="
                        f" {powershell(f'Blocked {cidr}')}; isTrusted = $false; ipRanges ="
                        f" @(@{{'@odata.type' = '#microsoft.graph.{kind}';"
                        f" cidrAddress = {powershell(cidr)}}})}}"
                    ),
                ),
                notes=(
                    (
                        "By hand: then name the location in a policy of conditional access that blocks it."
                        " See first that nobody of yours is behind that address, and that an emergency"
                        " account is exempt."
                    ),
                ),
            )
        )
    return steps


def remove_owner(clues: Clues) -> list[Step]:
    """An application loses an owner; a person picks which."""
    return [
        Step(
            "remove_owner",
            f"Remove the owner {' or '.join(_owners(clues))} of the application {app.told}"
            if _owners(clues)
            else f"Remove owners of the application {app.told} that are not its owners",
            operations=(
                Remove(
                    f"{app.registration}/owners?$select=id,displayName,userPrincipalName",
                    GraphCall("DELETE", f"{app.registration}/owners/{{found.id}}/$ref"),
                    subject=app.registration_subject,
                    label=("displayName", "userPrincipalName"),
                    wanted=tuple(("userPrincipalName", name) for name in _owners(clues)),
                ),
            ),
            powershell=(
                app.get_registration,
                "Get-MgApplicationOwner -ApplicationId $registration.Id",
                (
                    "Remove-MgApplicationOwnerDirectoryObjectByRef -ApplicationId $registration.Id"
                    " -DirectoryObjectId OWNER"
                ),
            ),
            permissions=("Application.ReadWrite.All",),
        )
        for app in clues.applications
    ]


def _owners(clues: Clues) -> tuple[str, ...]:
    return clues.values("ModifiedProperties.User.UPN.new") or clues.entity("owner")


def path_of(one: Account) -> str:
    """Where Graph has the account."""
    if one.name.startswith("$"):
        return f"/users({odata(one.name)})"  # Graph reads /users/$x as a word of OData
    return f"/users/{guid_in(one.name) or segment(one.name)}"


def cidr_of(address: str) -> str:
    """The address as a network of its own; empty where it is none of the public Internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    is_public = found.is_global or any(found in network for network in _DOCUMENTATION)
    return f"{found}/{found.max_prefixlen}" if is_public else ""
