"""Whether somebody is left who can administer the tenant, asked before an account loses that power.

Nobody lets anyone in again where the last Global Administrator was locked out, and an intruder who is one may
have seen to it that all others are gone. Who is one through a group counts as one whom nobody knows.

Source: Microsoft Graph, "List members of a directory role"; the template id is the same in every tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from m365watch.common.errors import CollectorError, NeedsOperator, PermissionMissing
from m365watch.response.execution.graph_permissions import READS_PEOPLE
from m365watch.response.execution.step_actions import LISTED_MAX, Document, Graph, is_person
from m365watch.response.steps.command_escaping import WHO, UnsafeValue, segment
from m365watch.response.steps.step import ADMINISTRATORS, GLOBAL_ADMINISTRATOR

PERMISSION = "RoleManagement.Read.Directory"
"""What an application needs to read who they are."""
NOT_THE_LAST = (
    "See first that another Global Administrator is left: --apply does it to the last enabled one only with"
    " --even-last-administrator."
)
THEMSELVES = (
    "Ask first whether they did it themselves, by telephone: an administrator at work makes the same record."
)
LOOK_FOR_ANOTHER = (
    f"Get-MgDirectoryRole -Filter \"roleTemplateId eq '{GLOBAL_ADMINISTRATOR}'\" | ForEach-Object {{"
    " Get-MgDirectoryRoleMemberAsUser -DirectoryRoleId $_.Id -All -Property UserPrincipalName,AccountEnabled"
    " | Format-Table UserPrincipalName,AccountEnabled }"
)
"""PowerShell that lists them."""
LOOK_FOR_GROUP = (
    f"Get-MgDirectoryRole -Filter \"roleTemplateId eq '{GLOBAL_ADMINISTRATOR}'\" | ForEach-Object {{"
    f" Get-MgDirectoryRoleMember -DirectoryRoleId $_.Id -All | {WHO} }}"
)
"""The same, groups among them."""
NOT_BY_GROUP = (
    "Is the group among those that the first command lists, it holds the role Global Administrator: see then"
    " that somebody else has it. --apply does it to the last enabled one only with --even-last-administrator."
)
_NOBODY_LEFT = NeedsOperator(
    "no other Global Administrator is enabled whom neither this plan nor a response of the last hour locks"
    " out: nobody could let anyone in again",
    fix="make another one first; or give --even-last-administrator, if there is another way in",
)
_NAMELESS = PermissionMissing(
    "whether it is the last Global Administrator may not be read: Graph tells the ids of the others alone",
    fix=f"give the application {READS_PEOPLE}, or be sure of it and give --even-last-administrator",
)
_GROUP, _USER = "#microsoft.graph.group", "#microsoft.graph.user"


async def why_not_lock_out(
    graph: Graph, account: str, *, among: Collection[str] = ()
) -> NeedsOperator | None:
    """Why the account of that object id must not lose its power; None where it may.

    Those `among` whom it is, in lower case, are to lose theirs as well: the plan's own accounts.
    """
    members = await _administrators(graph)
    if isinstance(members, NeedsOperator):
        return members
    others = _others(members, account)
    if any(_lets_in(one, among) for one in others):
        return None
    if any(map(_is_nameless, others)):
        return _NAMELESS
    is_one = len(others) < len(members)
    if not is_one and not any(one.get("@odata.type") == _GROUP for one in members):
        return None
    return _NOBODY_LEFT


async def why_not_leave(
    graph: Graph, account: str, group: str, *, among: Collection[str] = ()
) -> NeedsOperator | None:
    """The same, of an account that leaves a group: where that holds the role, it is every member's."""
    members = await _administrators(graph)
    if isinstance(members, NeedsOperator):
        return members
    if all(one.get("id") != group for one in members):
        return None
    others = _others(members, account)
    if any(_lets_in(one, among) for one in others):
        return None
    try:
        path = f"/groups/{segment(group)}/members?$select=id,userPrincipalName,accountEnabled"
        stay = _others(await graph.list(path, most=LISTED_MAX), account)
    except (CollectorError, UnsafeValue):
        stay = []
    if any(_lets_in(one, among) for one in stay):
        return None
    return _NAMELESS if any(map(_is_nameless, (*others, *stay))) else _NOBODY_LEFT


async def _administrators(graph: Graph) -> Sequence[Document] | NeedsOperator:
    """Who holds the role; why not, where that cannot be read."""
    try:
        return await graph.list(ADMINISTRATORS, most=LISTED_MAX)
    except CollectorError as error:
        return NeedsOperator(
            f"whether it is the last Global Administrator cannot be read: {error.what}",
            fix=f"give the application {PERMISSION}, or be sure of it and give --even-last-administrator",
        )


def _others(members: Sequence[Document], account: str) -> list[Document]:
    return [one for one in members if account not in (one.get("id"), one.get("userPrincipalName"))]


def _is_nameless(member: Document) -> bool:
    return is_person(member) and not member.get("userPrincipalName")


def _lets_in(member: Mapping[str, object], among: Collection[str]) -> bool:
    """Whether that is a person of the house who can still sign in; no application lets anyone in."""
    name = str(member.get("userPrincipalName") or "").lower()
    is_person = bool(name) and "#ext#" not in name and member.get("@odata.type", _USER) == _USER
    is_of_plan = name in among or str(member.get("id") or "").lower() in among
    return is_person and not is_of_plan and member.get("accountEnabled") is True
