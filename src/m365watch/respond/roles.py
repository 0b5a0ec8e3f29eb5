"""Steps on roles: those of the directory, of accounts and of applications, and those of Exchange."""

from __future__ import annotations

from dataclasses import replace

from m365watch.respond.accounts import path_of
from m365watch.respond.administrators import LOOK_FOR_ANOTHER, NOT_THE_LAST
from m365watch.respond.app_names import App
from m365watch.respond.clues import Account, Clues, first_of
from m365watch.respond.quoting import guid_in, powershell
from m365watch.respond.steps import GraphCall, Remove, Step
from m365watch.values import dataclass

_EXCHANGE_ONLY = "Exchange PowerShell only: Graph cannot do it."
_SEVERAL_SCOPES = (
    "Where it has the role more than once (for all of the tenant, for one unit), a person picks: it may have"
    " had one of them by right."
)
_ELIGIBLE = "add eligible member to role."
_AT_GRAPH = {"company administrator": "Global Administrator"}
"""Records have a name for it that Graph has given up."""


@dataclass(frozen=True, slots=True)
class _Role:
    """A role of the directory, as a record names it."""

    name: str
    definition: str
    """The id of its definition, which is its template's; empty where the record does not tell it."""

    @property
    def wanted(self) -> tuple[str, str]:
        """The property of an assignment by which it is told from others, and its value."""
        if self.definition:
            return "roleDefinitionId", self.definition
        return "roleDefinition.displayName", _AT_GRAPH.get(self.name.lower(), self.name)

    @property
    def told(self) -> str:
        """As a step's title names it."""
        return self.name or f"with the id {self.definition}"


def remove_role(clues: Clues) -> list[Step]:
    """Roles of the directory, of an application as well, and for Exchange its own."""
    exchange = [_exchange_role(one, clues) for one in clues.entity("grantee")]
    if exchange:
        return exchange
    roles = _roles_in(clues)
    is_eligible = _ELIGIBLE in {one.lower() for one in clues.values("Operation")}
    accounts = [one for one in clues.accounts if not one.acted]
    if not roles or is_eligible:
        look = _look_at_eligible if is_eligible else _look_at_roles
        return [look(one, roles) for one in accounts]
    return [_role_of_account(one, roles) for one in accounts] or [
        _role_of_application(app, roles) for app in clues.applications
    ]


def _roles_in(clues: Clues) -> tuple[_Role, ...]:
    names = clues.values("ModifiedProperties.Role.DisplayName.new")
    ids = [guid_in(one) for one in clues.values("ModifiedProperties.Role.TemplateId.new")]
    if len(names) == len(ids):
        return tuple(_Role(name, found) for name, found in zip(names, ids, strict=True))
    known = [one for one in ids if one]
    return tuple(_Role("", one) for one in known) if known else tuple(_Role(one, "") for one in names)


def _named(roles: tuple[_Role, ...]) -> str:
    return " or ".join(one.told.strip('"') for one in roles)


def _look_at_roles(one: Account, _: tuple[_Role, ...]) -> Step:
    return Step(
        "remove_role",
        f"See which roles {one.told} has",
        powershell=(
            f"$holder = Get-MgUser -UserId {powershell(one.name)}",
            "Get-MgRoleManagementDirectoryRoleAssignment -Filter \"principalId eq '$($holder.Id)'\"",
        ),
        notes=("By hand: no record gave it one, so that whatever it has is rightly its own until you know.",),
    )


def _look_at_eligible(one: Account, roles: tuple[_Role, ...]) -> Step:
    named = _named(roles)
    return Step(
        "remove_role",
        f"Let {one.told} be eligible no more for the role {named}"
        if named
        else f"See which roles {one.told} is eligible for",
        powershell=(
            f"$holder = Get-MgUser -UserId {powershell(one.name)}",
            (
                "Get-MgRoleManagementDirectoryRoleEligibilitySchedule"
                " -Filter \"principalId eq '$($holder.Id)'\""
            ),
            (
                "New-MgRoleManagementDirectoryRoleEligibilityScheduleRequest -BodyParameter @{action ="
                " 'adminRemove'; principalId = $holder.Id; roleDefinitionId = 'ROLE'; directoryScopeId ="
                " 'SCOPE'; justification = 'Containment'}"
            ),
        ),
        notes=(
            (
                "By hand: it may take the role at will, and has it only once it did; see as well whether it"
                " has (Get-MgRoleManagementDirectoryRoleAssignment)."
            ),
        ),
    )


def _role_of_account(one: Account, roles: tuple[_Role, ...]) -> Step:
    return _directory_role(
        one.told,
        roles,
        subject=f"{path_of(one)}?$select=id",
        get=f"$holder = Get-MgUser -UserId {powershell(one.name)}",
        permissions=("RoleManagement.ReadWrite.Directory", "User.Read.All"),
        notes=("A role that Privileged Identity Management made eligible is not among these.", NOT_THE_LAST),
    )


def _role_of_application(app: App, roles: tuple[_Role, ...]) -> Step:
    step = _directory_role(
        f"the application {app.told}",
        roles,
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
    roles: tuple[_Role, ...],
    *,
    subject: str,
    get: str,
    permissions: tuple[str, ...],
    notes: tuple[str, ...],
) -> Step:
    return Step(
        "remove_role",
        f"Remove the role {_named(roles)} of {told}",
        operations=(
            Remove(
                "/roleManagement/directory/roleAssignments"
                "?$filter=principalId%20eq%20'{subject.id}'&$expand=roleDefinition",
                GraphCall("DELETE", "/roleManagement/directory/roleAssignments/{found.id}"),
                label=("roleDefinition.displayName", "directoryScopeId"),
                wanted=tuple(one.wanted for one in roles),
                is_one=True,  # no record tells in which unit of the directory it was given
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
        notes=(*notes, _SEVERAL_SCOPES),
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
            notes=(_EXCHANGE_ONLY,),
        )
    role = next(iter(clues.values("Parameters.Role")), "")
    said = f"-Role {powershell(role)} " if role else ""
    # Without Direct it lists what its role groups have, which is no right of its own.
    direct = (
        f"Get-ManagementRoleAssignment {said}-RoleAssignee {powershell(grantee)} -AssignmentMethod Direct"
    )
    columns = "Name,Role,RoleAssigneeName,RoleAssignmentDelegationType,WhenCreated"
    return Step(
        "remove_role",
        f'Take the Exchange role "{role}" away from {grantee}'
        if role
        else f"See which Exchange roles {grantee} was given",
        powershell=(f"{direct} | Format-Table {columns}", *((_remove_assignment(clues),) if role else ())),
        notes=(_EXCHANGE_ONLY, "It may have the same role by right in another assignment, which stays."),
    )


def _remove_assignment(clues: Clues) -> str:
    """Only the one that the record made; its object is that one's name in most records, and not in all."""
    remove = "Remove-ManagementRoleAssignment -Identity"
    if named := first_of(clues.values("Parameters.Name")):
        return f"{remove} {powershell(named)} -Confirm:$false"
    if made := first_of(clues.values("ObjectId")):
        return f"# if that is the one made then: {remove} {powershell(made)} -Confirm:$false"
    return f"# the one made then, by its name: {remove} NAME -Confirm:$false"
