"""Who and what Graph finds in a simulated tenant: its accounts, and what its attacks have left behind.

So that `m365watch respond --apply` has something to contain: the inbox rule, the grant, the role and the
link that the records tell of are there until somebody takes them away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from m365watch.simulator.directory import GRANTS, SimulatedDirectory

Json = dict[str, Any]

_ROLES = "/roleManagement/directory/roleAssignments"
_SCOPE = re.compile(r"Scope:\s*([^,\]]*)")


def populate(directory: SimulatedDirectory, accounts: Iterable[str], records: Iterable[bytes]) -> None:
    """Let the accounts be there, each with a mailbox, and what the records say was made."""
    for name in accounts:
        _account(directory, name)
    directory.lists.setdefault(GRANTS, [])
    directory.lists.setdefault(_ROLES, [])
    for body in records:
        record = json.loads(body)
        leave = _TRACES.get(record["Operation"])
        if leave is not None:
            leave(directory, record)


def _account(directory: SimulatedDirectory, name: str) -> Json:
    if name.lower() not in directory.users:
        directory.add_user(name)
        directory.lists.setdefault(_rules_of(name), [])
        directory.lists.setdefault(f"/users/{name}/memberOf/microsoft.graph.group", [])
    return directory.users[name.lower()]


def _rules_of(name: str) -> str:
    return f"/users/{name}/mailFolders/inbox/messageRules"


def _leave_account(directory: SimulatedDirectory, record: Json) -> None:
    _account(directory, record["ObjectId"])


def _leave_rule(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["Value"] for one in record["Parameters"]}
    words = [word for word in told.get("SubjectOrBodyContainsWords", "").split(";") if word]
    actions: Json = {"stopProcessingRules": True}
    if "ForwardTo" in told:
        actions["forwardTo"] = [{"emailAddress": {"address": told["ForwardTo"]}}]
    if told.get("DeleteMessage") == "True":
        actions["delete"] = True
    rule = {"displayName": told.get("Name", ""), "sequence": 1, "isEnabled": True, "actions": actions}
    conditions = {"conditions": {"bodyOrSubjectContains": words}} if words else {}
    user = _account(directory, record["UserId"])
    directory.add(_rules_of(user["userPrincipalName"]), rule | conditions)


def _leave_grant(directory: SimulatedDirectory, record: Json) -> None:
    app_id = record["ObjectId"]
    if app_id in directory.principals:
        return
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    scope = _SCOPE.search(told.get("ConsentAction.Permissions", ""))
    grant = {
        "clientId": directory.add_principal(app_id),
        "consentType": "Principal",
        "principalId": _account(directory, record["UserId"])["id"],
        "resourceId": "00000003-0000-0000-c000-000000000000",
        "scope": scope[1].strip() if scope else "",
    }
    directory.add(GRANTS, grant)
    directory.lists[f"/servicePrincipals(appId='{app_id}')/appRoleAssignments"] = []


def _leave_role(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    role = {
        "principalId": _account(directory, record["ObjectId"])["id"],
        "directoryScopeId": "/",
        "roleDefinitionId": told["Role.TemplateId"],
        "roleDefinition": {"displayName": told["Role.DisplayName"]},
    }
    directory.add(_ROLES, role)


def _leave_link(directory: SimulatedDirectory, record: Json) -> None:
    permissions = directory.add_file(record["ObjectId"])
    kind = "edit" if "<Type>Edit</Type>" in record.get("EventData", "") else "view"
    directory.add(permissions, {"link": {"scope": "anonymous", "type": kind}})


_TRACES: dict[str, Callable[[SimulatedDirectory, Json], None]] = {
    "Add user.": _leave_account,
    "New-InboxRule": _leave_rule,
    "Consent to application.": _leave_grant,
    "Add member to role.": _leave_role,
    "AnonymousLinkCreated": _leave_link,
}
