"""Who and what Graph finds in a simulated tenant: its accounts, and what its attacks have left behind.

So that `m365watch respond --apply` has something to contain: the inbox rule, the grant, the role and the
link that the records tell of are there until somebody takes them away, and so are the secrets of the
organisation's own applications, of which its records tell by the object ids of their registrations.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from m365watch_simulator.graph.directory import GRANTS, ROLES, SimulatedDirectory, groups_of, owners_of
from m365watch_simulator.organization.shapes.directory import GLOBAL_ADMINISTRATOR

if TYPE_CHECKING:
    from m365watch_simulator.organization.estate import Application

Json = dict[str, Any]

_GLOBAL_ADMINISTRATOR = GLOBAL_ADMINISTRATOR[1]
_AT_GRAPH = {_GLOBAL_ADMINISTRATOR: "Global Administrator"}
"""Records call the role otherwise than Graph does."""
_DISPLAY_NAME = 1
"""The type of an identity that is what people call it."""
_SCOPE = re.compile(r"Scope:\s*([^,\]]*)")
_LOOKS_FOR = {
    "SubjectContainsWords": "subjectContains",
    "SubjectOrBodyContainsWords": "bodyOrSubjectContains",
}
_IS_DONE = {"DeleteMessage": "delete", "MarkAsRead": "markAsRead"}
_GRANT = re.compile(r"\[Id: ([^,\]]+),")


_SECRETS = (("owner", "Q~8", "2023-11-06"), ("renewed", "x2T", "2024-02-26"))
"""Name, first characters and first day of what an application proves itself with."""


def populate(
    directory: SimulatedDirectory,
    accounts: Iterable[str],
    records: Iterable[bytes],
    *,
    applications: Iterable[Application] = (),
    administrators: Iterable[str] = (),
) -> None:
    """Let the accounts be there, each with a mailbox, the organisation's applications, and what was made.

    `administrators` hold the role that gives all others.
    """
    for name in accounts:
        _account(directory, name)
    for name in administrators:
        _give_role(directory, name, _GLOBAL_ADMINISTRATOR, "")
    for application in applications:
        _register(directory, application)
    directory.lists.setdefault(GRANTS, [])
    directory.lists.setdefault(ROLES, [])
    for body in records:
        record = json.loads(body)
        leave = _TRACES.get(record["Operation"])
        if leave is not None:
            leave(directory, record)


def _account(directory: SimulatedDirectory, name: str) -> Json:
    if name.lower() not in directory.users:
        directory.add_user(name)
        directory.lists.setdefault(_rules_of(name), [])
        directory.lists.setdefault(groups_of(name), [])
    return directory.users[name.lower()]


def _register(directory: SimulatedDirectory, application: Application) -> None:
    """An application of the organisation's own, with the secret of its owner and one that came later."""
    directory.add_registration(application.app_id, application.object_id)
    directory.add_principal(application.app_id, application.principal_id)
    _let_list(directory, application.app_id)
    for name, hint, day in _SECRETS:
        secret = {
            "displayName": name,
            "hint": hint,
            "keyId": str(uuid5(UUID(application.app_id), name)),
            "startDateTime": f"{day}T09:00:00Z",
        }
        directory.add(f"/applications(appId='{application.app_id}')/passwordCredentials", secret)


def _let_list(directory: SimulatedDirectory, app_id: str) -> None:
    """What Graph lists of an application that is there, be it nothing."""
    own, principal = f"/applications(appId='{app_id}')", f"/servicePrincipals(appId='{app_id}')"
    for listed in (
        f"{own}/owners",
        f"{own}/passwordCredentials",
        f"{principal}/passwordCredentials",
        f"{principal}/appRoleAssignments",
    ):
        directory.lists.setdefault(listed, [])


def _rules_of(name: str) -> str:
    return f"/users/{name}/mailFolders/inbox/messageRules"


def _leave_account(directory: SimulatedDirectory, record: Json) -> None:
    _account(directory, record["ObjectId"])


def _leave_rule(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["Value"] for one in record["Parameters"]}
    conditions = {
        condition: [word for word in told[name].split(";") if word]
        for name, condition in _LOOKS_FOR.items()
        if told.get(name)
    }
    actions: Json = {"stopProcessingRules": told.get("StopProcessingRules") != "False"}
    if "ForwardTo" in told:
        actions["forwardTo"] = [{"emailAddress": {"address": told["ForwardTo"]}}]
    for name, action in _IS_DONE.items():
        if told.get(name) == "True":
            actions[action] = True
    user = _account(directory, record["UserId"])["userPrincipalName"]
    if "MoveToFolder" in told:
        actions["moveToFolder"] = directory.add_folder(user, told["MoveToFolder"])
    rule = {"displayName": told.get("Name", ""), "sequence": 1, "isEnabled": True, "actions": actions}
    directory.add(_rules_of(user), rule | ({"conditions": conditions} if conditions else {}))


def _leave_outlook_rule(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["Value"] for one in record["OperationProperties"]}
    user = _account(directory, record["MailboxOwnerUPN"])["userPrincipalName"]
    actions: Json = {}
    for one in json.loads(told["ServerRule"])["Actions"]:
        if "Recipients" in one:
            actions["forwardTo"] = [{"emailAddress": {"address": name}} for name in one["Recipients"]]
        if "Folder" in one:
            actions["moveToFolder"] = directory.add_folder(user, one["Folder"].rpartition("\\")[2])
    rule = {"displayName": told["RuleName"], "sequence": 1, "isEnabled": True, "actions": actions}
    directory.add(_rules_of(user), rule)


def _leave_grant(directory: SimulatedDirectory, record: Json) -> None:
    app_id = record["ObjectId"]
    if app_id in directory.principals:
        return
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    text = told.get("ConsentAction.Permissions", "")
    scope, known = _SCOPE.search(text), _GRANT.search(text)
    grant = {
        **({"id": known[1]} if known else {}),
        "clientId": directory.add_principal(app_id),
        "consentType": "Principal",
        "principalId": _account(directory, record["UserId"])["id"],
        "resourceId": "00000003-0000-0000-c000-000000000000",
        "scope": scope[1].strip() if scope else "",
    }
    directory.add(GRANTS, grant)
    named = (one["ID"] for one in record.get("Target", ()) if one.get("Type") == _DISPLAY_NAME)
    directory.principals[app_id]["displayName"] = next(named, "")
    _let_list(directory, app_id)


def _leave_role(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    _give_role(directory, record["ObjectId"], told["Role.TemplateId"], told["Role.DisplayName"])


def _give_role(directory: SimulatedDirectory, account: str, template: str, name: str) -> None:
    holder = _account(directory, account)["id"]
    role = {
        "principalId": holder,
        "directoryScopeId": "/",
        "roleDefinitionId": template,
        "roleDefinition": {"displayName": _AT_GRAPH.get(template, name)},
    }
    held = directory.lists.setdefault(ROLES, [])
    if not any((one["principalId"], one["roleDefinitionId"]) == (holder, template) for one in held):
        directory.add(ROLES, role)


def _take_role(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["OldValue"] for one in record["ModifiedProperties"]}
    holder, template = _account(directory, record["ObjectId"])["id"], told.get("Role.TemplateId")
    directory.lists[ROLES] = [
        one
        for one in directory.lists.get(ROLES, [])
        if (one["principalId"], one["roleDefinitionId"]) != (holder, template)
    ]


def _leave_membership(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    group = {"id": told["Group.ObjectID"], "displayName": told["Group.DisplayName"]}
    listed = groups_of(str(_account(directory, record["ObjectId"])["userPrincipalName"]))
    if group not in directory.lists[listed]:
        directory.lists[listed].append(group)


def _leave_group_owner(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    _own(directory, owners_of(told["Group.ObjectID"]), record["ObjectId"])


def _leave_owner(directory: SimulatedDirectory, record: Json) -> None:
    told = {one["Name"]: one["NewValue"] for one in record["ModifiedProperties"]}
    object_id = told.get("Application.ObjectID", "")
    for app_id, one in directory.registrations.items():
        if one["id"] == object_id:
            _own(directory, f"/applications(appId='{app_id}')/owners", record["ObjectId"])


def _own(directory: SimulatedDirectory, listed: str, account: str) -> None:
    owner = _account(directory, account)
    owners = directory.lists.setdefault(listed, [])
    if not any(one["id"] == owner["id"] for one in owners):
        owners.append({"id": owner["id"], "userPrincipalName": owner["userPrincipalName"]})


def _leave_link(directory: SimulatedDirectory, record: Json) -> None:
    permissions = directory.add_file(record["ObjectId"])
    kind = "edit" if "<Type>Edit</Type>" in record.get("EventData", "") else "view"
    directory.add(permissions, {"link": {"scope": "anonymous", "type": kind}})


_TRACES: dict[str, Callable[[SimulatedDirectory, Json], None]] = {
    "Add user.": _leave_account,
    "New-InboxRule": _leave_rule,
    "UpdateInboxRules": _leave_outlook_rule,
    "Consent to application.": _leave_grant,
    "Add member to role.": _leave_role,
    "Remove member from role.": _take_role,
    "Add member to group.": _leave_membership,
    "Add owner to application.": _leave_owner,
    "Add owner to group.": _leave_group_owner,
    "AnonymousLinkCreated": _leave_link,
}


def leaves_traces(record: bytes) -> bool:
    """Whether the record may be one of those that leave something behind, looked at without decoding it."""
    return _TRACE.search(record) is not None


_TRACE = re.compile(rb'"Operation":"(?:%s)"' % b"|".join(re.escape(one.encode()) for one in _TRACES))
