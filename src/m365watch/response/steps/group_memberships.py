"""Steps on who belongs to what: members and owners of groups, owners of applications."""

from __future__ import annotations

from m365watch.response.execution.admin_lockout import LOOK_FOR_GROUP, NOT_BY_GROUP
from m365watch.response.execution.graph_permissions import READS_PEOPLE
from m365watch.response.plans.alert_evidence import Account, Clues
from m365watch.response.plans.app_ids import App
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import WHO, guid_in, looked_up, powershell
from m365watch.response.steps.step import GraphCall, Remove, Step

_OWNER = "add owner to group."
_OWNER_OF_PRINCIPAL = "add owner to service principal."
_REACH = frozenset({"add application.", "update application."})
_BY_A_RULE = "Nobody can be taken out of a group whose members a rule chooses: change what the rule asks for."
_MAY_HOLD_ROLES = "Of a group that may hold roles only RoleManagement.ReadWrite.Directory takes anybody out."
"""Source: Microsoft Graph, "Remove member", "Permissions"."""
_OF_EXCHANGE = (
    "Graph changes no distribution list and no mail-enabled security group (Exchange PowerShell:"
    " Remove-DistributionGroupMember; an owner: Set-DistributionGroup -ManagedBy @{Remove = ...}), and none"
    " that is synchronised from Active Directory (there)."
)
"""Source: Microsoft Graph, "Overview of Microsoft 365 groups" and "List group owners"."""
_LAST_OWNER = (
    "Graph lets no last owner go that is a person: if this one took the others away, make one of yours the"
    " owner first (New-MgGroupOwnerByRef)."
)
"""Source: Microsoft Graph, "Remove group owner"."""
_NOT_ELIGIBLE = "What Privileged Identity Management made eligible is not among these: see it there as well."
_GROUP_ID = "ModifiedProperties.Group.ObjectID.new"


def remove_group_member(clues: Clues) -> list[Step]:
    """Who joined a group leaves it again, and who became its owner is that no more."""
    names = clues.values("ModifiedProperties.Group.DisplayName.new")
    ids = tuple(filter(None, map(guid_in, clues.values(_GROUP_ID))))
    accounts = [one for one in clues.accounts if not one.acted]
    if _OWNER in _operations(clues):
        return [_group_owner(one, names, group) for one in accounts for group in ids or ("",)]
    return [_group_member(one, names, ids) for one in accounts]


def _named(names: tuple[str, ...]) -> str:
    return " or ".join(f'"{name}"' for name in names)


def _group_member(one: Account, names: tuple[str, ...], ids: tuple[str, ...]) -> Step:
    wanted = tuple(("id", group) for group in ids) or tuple(("displayName", name) for name in names)
    return Step(
        "remove_group_member",
        f"Take {one.told} out of the group {_named(names)}" if names else f"Take {one.told} out of a group",
        operations=(
            Remove(
                # Cast to groups, Graph answers out of an index that is late by minutes.
                f"{path_of(one)}/memberOf?$select=id,displayName",
                GraphCall("DELETE", "/groups/{found.id}/members/{subject.id}/$ref"),
                label=("displayName", "id"),
                wanted=wanted,
                kind="#microsoft.graph.group",
                # Two groups may be called the same.
                is_one=not ids,
                subject=f"{path_of(one)}?$select=id",
                leaves_group=True,
            ),
        ),
        powershell=(
            LOOK_FOR_GROUP,
            looked_up("user", f"Get-MgUser -UserId {powershell(one.name)}"),
            f"Get-MgUserMemberOfAsGroup -UserId {powershell(one.name)} -All",
            (
                f"Remove-MgGroupMemberDirectoryObjectByRef -GroupId {_id_or_place(ids)}"
                " -DirectoryObjectId $user.Id"
            ),
        ),
        permissions=("Directory.Read.All", "GroupMember.ReadWrite.All"),
        wished=("RoleManagement.ReadWrite.Directory",),
        notes=(NOT_BY_GROUP, _BY_A_RULE, _MAY_HOLD_ROLES, _OF_EXCHANGE, _NOT_ELIGIBLE),
    )


def _group_owner(one: Account, names: tuple[str, ...], group: str) -> Step:
    operation = Remove(
        f"/groups/{group}/owners?$select=id,displayName,userPrincipalName",
        GraphCall("DELETE", f"/groups/{group}/owners/{{found.id}}/$ref"),
        label=("displayName", "userPrincipalName"),
        wanted=(("userPrincipalName", one.name), ("id", one.name)),
    )
    place = _id_or_place((group,))
    return Step(
        "remove_group_member",
        f"Let {one.told} own the group {_named(names)} no more"
        if names
        else f"Let {one.told} own the group {group} no more",
        operations=(operation,) if group else (),
        powershell=(
            looked_up("user", f"Get-MgUser -UserId {powershell(one.name)}"),
            f"Get-MgUserOwnedObjectAsGroup -UserId {powershell(one.name)} -All",
            f"Remove-MgGroupOwnerDirectoryObjectByRef -GroupId {place} -DirectoryObjectId $user.Id",
        ),
        permissions=("Group.ReadWrite.All", READS_PEOPLE) if group else (),
        notes=(
            *(() if group else ("By hand: the record has no more of the group than its name.",)),
            _LAST_OWNER,
            _OF_EXCHANGE,
            _NOT_ELIGIBLE,
        ),
    )


def _id_or_place(ids: tuple[str, ...]) -> str:
    return powershell(ids[0]) if len(ids) == 1 and ids[0] else "ID"


def remove_owner(clues: Clues) -> list[Step]:
    """An application loses an owner, and one that was opened to other tenants is closed to them."""
    operations = _operations(clues)
    if operations and operations <= _REACH:
        return [_close(app) for app in clues.applications]
    of_principal = _OWNER_OF_PRINCIPAL in operations
    return [_application_owner(app, _owners(clues), of_principal=of_principal) for app in clues.applications]


def _operations(clues: Clues) -> set[str]:
    return {one.lower() for one in clues.values("Operation")}


def _owners(clues: Clues) -> tuple[str, ...]:
    return clues.values("ModifiedProperties.User.UPN.new") or clues.entity("owner")


def _close(app: App) -> Step:
    return Step(
        "remove_owner",
        f"Close the application {app.told} to other tenants",
        powershell=(
            app.get_registration,
            "$registration | Format-List Id,DisplayName,SignInAudience",
            (
                "# if nobody of another tenant rightly uses it: Update-MgApplication"
                " -ApplicationId $registration.Id -SignInAudience AzureADMyOrg"
            ),
        ),
        notes=("By hand: see first that nobody of another tenant rightly uses it.",),
    )


def _application_owner(app: App, owners: tuple[str, ...], *, of_principal: bool) -> Step:
    path, subject, identified = (
        (app.principal, app.principal_subject, app.identified)
        if of_principal
        else (app.registration, app.registration_subject, app.identified_registration)
    )
    told = f"{'service principal of the ' if of_principal else ''}application {app.told}"
    noun, variable = ("ServicePrincipal", "$app") if of_principal else ("Application", "$registration")
    return Step(
        "remove_owner",
        f"Remove the owner {' or '.join(owners)} of the {told}"
        if owners
        else f"Remove owners of the {told} that are not its owners",
        operations=(
            Remove(
                f"{path}/owners?$select=id,displayName,userPrincipalName",
                GraphCall("DELETE", f"{path}/owners/{{found.id}}/$ref"),
                subject=subject,
                identified=identified,
                microsoft_too=True,
                label=("displayName", "userPrincipalName"),
                wanted=tuple(("userPrincipalName", name) for name in owners),
            ),
        ),
        powershell=(
            app.get_principal if of_principal else app.get_registration,
            f"Get-Mg{noun}Owner -{noun}Id {variable}.Id -All | {WHO}",
            (f"Remove-Mg{noun}OwnerDirectoryObjectByRef -{noun}Id {variable}.Id -DirectoryObjectId OWNER"),
        ),
        permissions=("Application.ReadWrite.All", READS_PEOPLE),
    )
