"""Steps on roles: those of the directory, of accounts and of applications, and those of Exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace

from m365watch.response.execution.admin_lockout import LOOK_FOR_ANOTHER, NOT_THE_LAST
from m365watch.response.execution.graph_permissions import READS_PEOPLE
from m365watch.response.plans.alert_evidence import GROUP_FIELD, Account, Clues, first_of
from m365watch.response.plans.app_ids import App
from m365watch.response.steps.accounts import path_of
from m365watch.response.steps.command_escaping import ROLE, WHO, guid_in, is_account, looked_up, powershell
from m365watch.response.steps.exchange_identities import may_be_an_id
from m365watch.response.steps.step import GraphCall, Remove, Step

_EXCHANGE_ONLY = "Exchange PowerShell only: Graph cannot do it."
_SEVERAL_SCOPES = (
    "Where it has the role more than once (for all of the tenant, for one unit), a person picks: it may have"
    " had one of them by right."
)
_NOT_ELIGIBLE = "A role that Privileged Identity Management made eligible is not among these."
_ELIGIBLE = "add eligible member to role."
_GIVES = frozenset({_ELIGIBLE, "add member to role."})
_OF_HOLDER = "-All -Filter \"principalId eq '$($holder.Id)'\" -ExpandProperty RoleDefinition"
_ASSIGNMENTS = (
    f"Get-MgRoleManagementDirectoryRoleAssignment {_OF_HOLDER} | Format-List Id,{ROLE},DirectoryScopeId"
)
_GET_GROUP = "Get-MgGroup -GroupId"
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


@dataclass(frozen=True, slots=True)
class _Holder:
    """Who was given a role of the directory."""

    told: str
    """As a step's title names it."""
    get: str
    """PowerShell that gives it as $holder."""
    subject: str
    """The path at which Graph has it; empty where its object id is known."""
    id: str = ""
    permissions: tuple[str, ...] = ()
    """What that takes besides."""
    notes: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    """PowerShell that shows who has the role by it."""


def remove_role(clues: Clues) -> list[Step]:
    """Roles of the directory, of an application as well, and for Exchange its own."""
    exchange = [_exchange_role(one, clues) for one in clues.entity("grantee")]
    if exchange:
        return exchange
    roles = _roles_in(clues)
    is_eligible = clues.operation == _ELIGIBLE
    clues = _about_receivers(clues)
    holders = [*map(_account, clues.accounts), *_groups(clues)]
    outside = [_of_outsider(one, roles) for one in clues.accounts_outside if not one.acted]
    if not roles or is_eligible:
        look = _look_at_eligible if is_eligible else _look_at_roles
        return [*outside, *(look(one, roles) for one in holders if one is not None)]
    return [*outside, *(_directory_role(one, roles) for one in holders if one is not None)] or [
        _role_of_application(app, roles) for app in clues.applications
    ]


def _about_receivers(clues: Clues) -> Clues:
    """Who got a role is the record's object: an alert may be about whoever gave it."""
    told = tuple(one for one in clues.values("ObjectId") if is_account(one))
    if clues.operation not in _GIVES or not told or not clues.entity("user"):
        return clues
    return replace(clues, entities={**clues.entities, "user": told, "actor": ()})


def _account(one: Account) -> _Holder | None:
    """None for who only did it."""
    if one.acted:
        return None
    return _Holder(
        one.told,
        get=looked_up("holder", f"Get-MgUser -UserId {powershell(one.name)}"),
        subject=f"{path_of(one)}?$select=id",
    )


def _groups(clues: Clues) -> list[_Holder]:
    """Everybody in a group has its roles, and whoever may let others in gives them."""
    return [
        _Holder(
            f'the group "{named}" ({group})' if named else f"the group {group}",
            get=looked_up("holder", f"{_GET_GROUP} {powershell(group)}"),
            subject="",
            id=group,
            notes=("Everybody in the group has it; see who is in it, and who came in of late.",),
            members=(f"Get-MgGroupMember -GroupId $holder.Id -All | {WHO}",),
        )
        for group in map(guid_in, clues.values(GROUP_FIELD))
        if group
        for named in (_name_of(group, clues),)
    ]


def is_of_group(step: Step) -> bool:
    """Whether it takes a role from everybody in a group."""
    return step.word == "remove_role" and any(_GET_GROUP in line for line in step.powershell)


def _name_of(group: str, clues: Clues) -> str:
    """What a group is called; empty where its records name it by its id alone."""
    called = first_of(clues.values("m365.target_name"))
    return "" if called.lower() in (group.lower(), f"group_{group.lower()}") else called


def _roles_in(clues: Clues) -> tuple[_Role, ...]:
    names = clues.values("ModifiedProperties.Role.DisplayName.new")
    ids = [guid_in(one) for one in clues.values("ModifiedProperties.Role.TemplateId.new")]
    if len(names) == len(ids):
        return tuple(_Role(name, found) for name, found in zip(names, ids, strict=True))
    known = [one for one in ids if one]
    return tuple(_Role("", one) for one in known) if known else tuple(_Role(one, "") for one in names)


def _named(roles: tuple[_Role, ...]) -> str:
    return " or ".join(one.told.strip('"') for one in roles)


def _of_outsider(one: Account, roles: tuple[_Role, ...]) -> Step:
    """By which object the directory has somebody of another organisation, no record tells."""
    named = f"the role {_named(roles)}" if roles else "its roles"
    wanted = [f"roleDefinitionId eq '{role.definition}'" for role in roles if role.definition]
    only = f' -Filter "{" or ".join(wanted)}"' if len(wanted) == len(roles) > 0 else ""
    assignments = "Get-MgRoleManagementDirectoryRoleAssignment"
    return Step(
        "remove_role",
        f"Take {named} from {one.told}: it is an account of another organisation",
        powershell=(
            (
                f"{assignments} -All{only} -ExpandProperty Principal | Format-List"
                " Id,RoleDefinitionId,@{n='Holder';e={$_.Principal.AdditionalProperties.Values -join ' '}}"
            ),
            (
                f"# the one that is {powershell(one.name)}: Remove-MgRoleManagementDirectoryRoleAssignment"
                " -UnifiedRoleAssignmentId ID"
            ),
        ),
        notes=(
            (
                "By hand: Graph knows no account here by that name. If none of the holders is that one, it"
                " has the role by the partner's delegation, and that is what has to end."
            ),
        ),
    )


def _look_at_roles(one: _Holder, _: tuple[_Role, ...]) -> Step:
    return Step(
        "remove_role",
        f"See which roles {one.told} has",
        powershell=(
            one.get,
            *one.members,
            _ASSIGNMENTS,
        ),
        notes=("By hand: no record gave it one, so that whatever it has is rightly its own until you know.",),
    )


def _look_at_eligible(one: _Holder, roles: tuple[_Role, ...]) -> Step:
    named = _named(roles)
    return Step(
        "remove_role",
        f"Let {one.told} be eligible no more for the role {named}"
        if named
        else f"See which roles {one.told} is eligible for",
        powershell=(
            one.get,
            *one.members,
            (
                f"Get-MgRoleManagementDirectoryRoleEligibilitySchedule {_OF_HOLDER}"
                f" | Format-List {ROLE},RoleDefinitionId,DirectoryScopeId"
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


def _role_of_application(app: App, roles: tuple[_Role, ...]) -> Step:
    holder = _Holder(
        f"the application {app.told}",
        get=f"{app.get_principal}; $holder = $app",
        subject=f"{app.principal}?$select=id",
        permissions=("Application.Read.All",),
    )
    step = _directory_role(holder, roles)
    # A registration's object id has to be looked up twice, which no single call can say.
    why = ("By hand: Graph knows it here by another id, which the first command finds.",)
    return replace(step, operations=(), permissions=(), notes=why) if app.principal_subject else step


def _directory_role(one: _Holder, roles: tuple[_Role, ...]) -> Step:
    held = f"$filter=principalId%20eq%20'{one.id or '{subject.id}'}'"
    return Step(
        "remove_role",
        f"Remove the role {_named(roles)} of {one.told}",
        operations=(
            Remove(
                f"/roleManagement/directory/roleAssignments?{held}&$expand=roleDefinition",
                GraphCall("DELETE", "/roleManagement/directory/roleAssignments/{found.id}"),
                label=("roleDefinition.displayName", "directoryScopeId"),
                wanted=tuple(role.wanted for role in roles),
                is_one=True,  # no record tells in which unit of the directory it was given
                subject=one.subject,
                restored_at="/roleManagement/directory/roleAssignments",
                restored=("principalId", "roleDefinitionId", "directoryScopeId", "appScopeId"),
                instances=f"/roleManagement/directory/roleAssignmentScheduleInstances?{held}",
                locks_out=True,
            ),
        ),
        powershell=(
            LOOK_FOR_ANOTHER,
            one.get,
            *one.members,
            _ASSIGNMENTS,
            "Remove-MgRoleManagementDirectoryRoleAssignment -UnifiedRoleAssignmentId ID",
        ),
        # Whether another administrator is left, their names tell.
        permissions=tuple(sorted(("RoleManagement.ReadWrite.Directory", READS_PEOPLE, *one.permissions))),
        notes=(*one.notes, _NOT_ELIGIBLE, NOT_THE_LAST, _SEVERAL_SCOPES),
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
    columns = "Name,Guid,Role,RoleAssigneeName,RoleAssignmentDelegationType,WhenCreated"
    return Step(
        "remove_role",
        f'Take the Exchange role "{role}" away from {grantee}'
        if role
        else f"See which Exchange roles {grantee} was given",
        powershell=(f"{direct} | Format-List {columns}", *((_remove_assignment(clues),) if role else ())),
        notes=(_EXCHANGE_ONLY, "It may have the same role by right in another assignment, which stays."),
    )


def _remove_assignment(clues: Clues) -> str:
    """Only the one that the record made; its object is that one's name in most records, and not in all."""
    remove = "Remove-ManagementRoleAssignment -Identity"
    named = first_of(clues.values("Parameters.Name"))
    if may_be_an_id(named):
        return f"# the one called so, by the Guid that Format-List shows: {remove} GUID -Confirm:$false"
    if named:
        return f"{remove} {powershell(named)} -Confirm:$false"
    if made := first_of(clues.values("ObjectId")):
        return f"# if that is the one made then: {remove} {powershell(made)} -Confirm:$false"
    return f"# the one made then, by its name: {remove} NAME -Confirm:$false"
