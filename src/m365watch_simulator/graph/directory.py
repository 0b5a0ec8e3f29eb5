"""What Graph knows of a tenant's accounts, mailboxes, applications, roles and files, and lets be changed.

Source: Microsoft Graph v1.0: user, mailFolder, messageRule, oAuth2PermissionGrant, appRoleAssignment,
unifiedRoleAssignment, servicePrincipal, application, permission; "Limited information returned for
inaccessible member objects".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from m365watch.common import base64url
from m365watch_simulator.feed.refusals import graph_refusal

Json = dict[str, Any]

ROLES = "/roleManagement/directory/roleAssignments"
"""The list of who has which role."""
OVER_ADMINISTRATORS = (
    "7be44c8a-adaf-4e2a-84d6-ab2649e08a13",  # Privileged Authentication Administrator
    "62e90394-69f5-4237-9190-012177145e10",  # Global Administrator
)
"""The roles of which one is needed to disable an administrator."""
_GROUP, _USER = "#microsoft.graph.group", "#microsoft.graph.user"
READS_PEOPLE = frozenset({"Directory.Read.All", "User.Read.All"})
"""The roles of which one is needed to be told who an account in a list is."""
INSTANCES = "/roleManagement/directory/roleAssignmentScheduleInstances"
"""The same as they hold by now, with when each ends."""
GRANTS = "/oauth2PermissionGrants"
"""The list of all delegated permissions; that of one application is a part of it."""

PERMISSIONS = (
    ("POST", r"/users/[^/]+/revokeSignInSessions", {"User.RevokeSessions.All"}),
    ("PATCH", r"/users/[^/]+", {"User.EnableDisableAccount.All"}),
    ("GET", r"/users/[^/]+", {"User.Read.All", "Directory.Read.All"}),
    (".*", r"/users/[^/]+/mailFolders/inbox/messageRules(/.*)?", {"MailboxSettings.ReadWrite"}),
    ("GET", r"/users/[^/]+/mailFolders/[^/]+", {"Mail.ReadBasic.All"}),
    ("GET", r"/users/[^/]+/memberOf.*", {"Directory.Read.All"}),
    ("GET", r"/groups/[^/]+/members", {"Directory.Read.All", "GroupMember.ReadWrite.All"}),
    (".*", r"/groups/[^/]+/owners(/.*)?", {"Group.ReadWrite.All"}),
    ("DELETE", r"/groups/.*", {"GroupMember.ReadWrite.All"}),
    ("GET", r"/servicePrincipals\(.*", {"Application.Read.All", "Application.ReadWrite.All"}),
    (".*", r"/servicePrincipals\([^)]*\)/appRoleAssignments(/.*)?", {"AppRoleAssignment.ReadWrite.All"}),
    ("PATCH|POST", r"/servicePrincipals\(.*", {"Application.ReadWrite.All"}),
    ("GET", r"/applications/[^/]+", {"Application.Read.All", "Application.ReadWrite.All"}),
    ("GET", r"/servicePrincipals/.*", {"Application.Read.All", "Application.ReadWrite.All"}),
    (".*", r"/servicePrincipals/[^/]+/appRoleAssignments(/.*)?", {"AppRoleAssignment.ReadWrite.All"}),
    (".*", r"/(applications|servicePrincipals)/[^/]+.*", {"Application.ReadWrite.All"}),
    (".*", r"/applications\(.*", {"Application.ReadWrite.All"}),
    (".*", r"/oauth2PermissionGrants(/.*)?", {"DelegatedPermissionGrant.ReadWrite.All"}),
    (
        "GET",
        r"/roleManagement/directory/roleAssignment(s|ScheduleInstances)",
        {"RoleManagement.Read.Directory", "RoleManagement.ReadWrite.Directory"},
    ),
    (".*", r"/roleManagement/directory/roleAssignments(/.*)?", {"RoleManagement.ReadWrite.Directory"}),
    (
        "GET",
        r"/directoryRoles\([^)]*\)/members",
        {"RoleManagement.Read.Directory", "RoleManagement.ReadWrite.Directory", "Directory.Read.All"},
    ),
    (".*", r"/(shares|drives)/.*", {"Files.ReadWrite.All"}),
)
"""Method, path below /v1.0, and the roles of which one is needed."""


class SimulatedDirectory:
    """What is not in it answers 404, as in Graph."""

    def __init__(self) -> None:
        """Nobody is there yet."""
        self._made = 0
        self.acts_as = ""
        """The object id of the application that asks; empty for one that may do all to everybody."""
        self.acts_with: tuple[str, ...] = ()
        """The template ids of the roles of the directory that it has."""
        self.settle: Callable[[SimulatedDirectory], None] | None = None
        """Fills it before its first answer."""
        self.users: dict[str, Json] = {}
        self.lists: dict[str, list[Json]] = {}
        """By the path of the list below /v1.0, with names in it for ids."""
        self.principals: dict[str, Json] = {}
        self.registrations: dict[str, Json] = {}
        """By the application's id, as `principals`; both have object ids of their own, too."""
        self.shared: dict[str, Json] = {}

    def add_user(self, name: str) -> str:
        """An account that is enabled, with one session; its object id."""
        made = {"id": self._id(), "userPrincipalName": name, "accountEnabled": True, "sessions": 1}
        self.users[name.lower()] = made
        return str(made["id"])

    def add_principal(self, app_id: str, object_id: str = "") -> str:
        """An application that the tenant has let in; its object id."""
        self.principals[app_id] = {"id": object_id or self._id(), "appId": app_id, "accountEnabled": True}
        return str(self.principals[app_id]["id"])

    def add_registration(self, app_id: str, object_id: str = "") -> str:
        """An application of the tenant's own; its object id."""
        self.registrations[app_id] = {"id": object_id or self._id(), "appId": app_id}
        return str(self.registrations[app_id]["id"])

    def add_file(self, url: str) -> str:
        """A file by its address, in which its name stands as people write it; where its permissions are."""
        name = url.rpartition("/")[2]
        self.shared[url] = {"id": self._id(), "name": name, "parentReference": {"driveId": "b!1"}}
        return f"/drives/b!1/items/{self.shared[url]['id']}/permissions"

    def add_folder(self, user: str, name: str) -> str:
        """A folder of a mailbox, of each name one; its id, by which the mailbox's rules have it."""
        folders = self.lists.get(folders_of(user), [])
        known = (str(one["id"]) for one in folders if one["displayName"] == name)
        return next(known, "") or self.add(folders_of(user), {"displayName": name})

    def add(self, listed: str, thing: Mapping[str, Any]) -> str:
        """A thing in a list; its id."""
        made = {"id": self._id(), **thing}
        self.lists.setdefault(listed, []).append(made)
        return str(made["id"])

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Json) -> Json | None:
        """What Graph answers, after the change; `path` is below /v1.0 and decoded. None: 204.

        Raises: Refusal: 404 or 400.
        """
        settle, self.settle = self.settle, None
        if settle is not None:
            settle(self)
        path = self._by_app_id(self._by_user_name(path))
        registration = re.fullmatch(r"/applications\(appId='([^']+)'\)", path)
        user = re.fullmatch(r"/users/([^/]+)(?:/revokeSignInSessions)?", path)
        principal = re.fullmatch(r"/servicePrincipals\(appId='([^']+)'\)", path)
        share = re.fullmatch(r"/shares/([^/]+)/driveItem", path)
        folder = re.fullmatch(r"(/users/[^/]+/mailFolders)/([^/]+)", path)
        role = re.fullmatch(r"/directoryRoles\(roleTemplateId='([^']+)'\)/members", path)
        if user:
            return self._user(method, path, self._user_of(user[1]), body)
        if principal:
            return self._revise(method, _known(self.principals, principal[1]), body)
        if registration and method == "GET":
            return dict(_known(self.registrations, registration[1]))
        if share:
            return dict(_known(self.shared, _address_in(share[1])))
        if folder and method == "GET":
            return dict(_known({one["id"]: one for one in self.lists.get(folder[1], ())}, folder[2]))
        if role and method == "GET":
            return {"value": self._holders(role[1])}
        return self._list(method, path, query, body)

    def roles_besides(self, method: str, path: str) -> frozenset[str]:
        """The roles of which a call needs one more, for what it is done to; none for most."""
        member = re.fullmatch(r"/groups/([^/]+)/members/.*", path)
        if method == "DELETE" and member:
            every = (one for user in self.users.values() for one in self._groups_of(user))
            if any(one["id"] == member[1] and one.get("isAssignableToRole") for one in every):
                return frozenset({"RoleManagement.ReadWrite.Directory"})
        return frozenset()

    def _by_app_id(self, path: str) -> str:
        """The path with an application's id for an object's, as in Graph each of them will do.

        Raises: Refusal: 404, also for the id of one kind of object in the place of another's.
        """
        for root, things in (
            ("/applications/", self.registrations),
            ("/servicePrincipals/", self.principals),
        ):
            if path.startswith(root):
                object_id, slash, rest = path.removeprefix(root).partition("/")
                found = [app_id for app_id, one in things.items() if one["id"] == object_id]
                if not found:
                    raise _not_found()
                return f"{root[:-1]}(appId='{found[0]}'){slash}{rest}"
        return path

    def _by_user_name(self, path: str) -> str:
        """The path of what an account has with its own name: its object id and any spelling will do."""
        named = re.fullmatch(r"/users/([^/]+)(/.+)", path)
        found = [one for one in self.users.values() if named and self._is_of(one, named[1])]
        return f"/users/{found[0]['userPrincipalName']}{named[2]}" if named and found else path

    @staticmethod
    def _is_of(user: Json, name: str) -> bool:
        return name.lower() in (user["id"], str(user["userPrincipalName"]).lower())

    def _user(self, method: str, path: str, user: Json, body: Json) -> Json | None:
        if path.endswith("/revokeSignInSessions"):
            user["sessions"] = 0
            return {"value": True}
        is_stronger = not self.acts_as or not frozenset(OVER_ADMINISTRATORS).isdisjoint(self.acts_with)
        administers = any(one.get("principalId") == user["id"] for one in self.lists.get(ROLES, ()))
        if method == "PATCH" and administers and not is_stronger:
            text = "Insufficient privileges to complete the operation."
            raise graph_refusal(403, "Authorization_RequestDenied", text)
        return self._revise(method, user, body)

    def _revise(self, method: str, thing: Json, body: Json) -> Json | None:
        if method == "PATCH":
            thing.update(body)
            return None
        return dict(thing)

    def _holders(self, role: str) -> list[Json]:
        """Who has the role of that template: accounts, applications, and groups."""
        held = {
            one["principalId"] for one in self.lists.get(ROLES, ()) if one.get("roleDefinitionId") == role
        }
        every = (*self._people(), *self.principals.values())
        groups = {one["id"]: one for user in self.users.values() for one in self._groups_of(user)}
        kind = {"@odata.type": _GROUP}
        return [dict(one) for one in (*every, *(kind | one for one in groups.values())) if one["id"] in held]

    def _members(self, group: str) -> list[Json]:
        return [user for user in self._people() if group in {one["id"] for one in self._groups_of(user)}]

    def _people(self) -> list[Json]:
        """All accounts, as lists have them that have other kinds of objects as well."""
        return [{"@odata.type": _USER} | user for user in self.users.values()]

    def _groups_of(self, user: Json) -> list[Json]:
        """Without what else an account may be a member of: roles and administrative units."""
        listed = self.lists.get(groups_of(str(user["userPrincipalName"])), [])
        return [one for one in listed if one.get("@odata.type", _GROUP) == _GROUP]

    def _list(self, method: str, path: str, query: Mapping[str, str], body: Json) -> Json | None:
        if method == "GET" and path in self.lists:
            own = {"principalId": self.acts_as, "directoryScopeId": "/"}
            held = [own | {"roleDefinitionId": role} for role in self.acts_with]
            kinds = {"memberOf": _GROUP, "owners": _USER}
            kind = {"@odata.type": kinds[last]} if (last := path.rpartition("/")[2]) in kinds else {}
            every = [*(kind | one for one in self.lists[path]), *(held if path == ROLES else ())]
            return {"value": [one for one in every if _passes(one, query.get("$filter", ""))]}
        if method == "GET" and path == INSTANCES:
            instances = [one | {"roleAssignmentOriginId": one["id"]} for one in self.lists.get(ROLES, [])]
            return {"value": [one for one in instances if _passes(one, query.get("$filter", ""))]}
        of_application = re.fullmatch(rf"/servicePrincipals\(appId='([^']+)'\){GRANTS}", path)
        if method == "GET" and of_application:
            own = _known(self.principals, of_application[1])["id"]
            return {"value": [one for one in self.lists.get(GRANTS, []) if one.get("clientId") == own]}
        if method == "POST" and path.endswith("/removePassword"):
            path = path.removesuffix("/removePassword") + "/passwordCredentials"
            self._remove(path, "keyId", str(body.get("keyId")))
            return None
        if method == "POST" and path in self.lists:
            self.add(path, body)
            return dict(self.lists[path][-1])
        if re.fullmatch(r"/users/[^/]+/memberOf/.+", path):
            raise graph_refusal(400, "Request_UnsupportedQuery", "A cast takes ConsistencyLevel and $count.")
        members = re.fullmatch(r"/groups/([^/]+)/members", path)
        if method == "GET" and members:
            return {"value": self._members(members[1])}
        member = re.fullmatch(r"/groups/([^/]+)/members/([^/]+)/\$ref", path)
        if method == "DELETE" and member:
            self._leave(member[1], self._user_of(member[2]))
            return None
        if method == "DELETE":
            listed, _, thing_id = path.removesuffix("/$ref").rpartition("/")
            self._keep_an_owner(listed, thing_id)
            self._remove(listed, "id", thing_id)
            return None
        raise _not_found()

    def _leave(self, group: str, user: Json) -> None:
        """What an account is a member of and is no group, is not found below /groups.

        Nor are groups changed here that Exchange keeps, or a directory of the house.
        """
        found = [one for one in self._groups_of(user) if one["id"] == group]
        if not found:
            raise _not_found()
        if found[0].get("onPremisesSyncEnabled"):
            text = (
                "Unable to update the specified properties for on-premises mastered Directory Sync objects."
            )
            raise graph_refusal(400, "Request_BadRequest", text)
        if found[0].get("mailEnabled") and "Unified" not in found[0].get("groupTypes", ()):
            text = "Cannot Update a mail-enabled security groups and or distribution list."
            raise graph_refusal(400, "Request_BadRequest", text)
        self._remove(groups_of(str(user["userPrincipalName"])), "id", group)

    def _keep_an_owner(self, listed: str, thing_id: str) -> None:
        """The last owner of a group that is a person stays one."""
        owners = self.lists.get(listed, ()) if re.fullmatch(owners_of("[^/]+"), listed) else ()
        if [one["id"] for one in owners if one.get("@odata.type", _USER) == _USER] == [thing_id]:
            text = "The group must have at least one owner, hence this owner cannot be removed."
            raise graph_refusal(400, "Request_BadRequest", text)

    def _remove(self, listed: str, key: str, value: str) -> None:
        things = self.lists.get(listed, [])
        left = [one for one in things if one.get(key) != value]
        if len(left) == len(things):
            raise _not_found()
        self.lists[listed] = left

    def _user_of(self, name: str) -> Json:
        by_id = (one for one in self.users.values() if one["id"] == name)
        return next(by_id, None) or _known(self.users, name.lower())

    def _id(self) -> str:
        self._made += 1
        return str(UUID(int=self._made, version=4))


def groups_of(name: str) -> str:
    """The path of the list of an account's groups."""
    return f"/users/{name}/memberOf"


def folders_of(name: str) -> str:
    """The path of the list of a mailbox's folders."""
    return f"/users/{name}/mailFolders"


def owners_of(group: str) -> str:
    """The path of the list of a group's owners."""
    return f"/groups/{group}/owners"


def without_people(answer: Json | None) -> Json | None:
    """The answer for who may not read accounts: of those in a list the kind and the id are told."""
    listed = answer.get("value") if answer else None
    if not isinstance(listed, list):
        return answer
    told = ("@odata.type", "id")
    blank = [
        {name: value if name in told else None for name, value in one.items()}
        if one.get("@odata.type") == _USER
        else one
        for one in listed
    ]
    return {**(answer or {}), "value": blank}


def roles_for(method: str, path: str) -> frozenset[str]:
    """The roles of which a call needs one; none for a call that Graph does not have here."""
    for methods, pattern, roles in PERMISSIONS:
        if re.fullmatch(methods, method) and re.fullmatch(pattern, path):
            return frozenset(roles)
    return frozenset()


def decoded(path: str) -> str:
    """The path as Graph reads it; an encoded slash stays one name."""
    return "/".join(unquote(one).replace("/", "%2F") for one in path.split("/"))


def _passes(thing: Json, condition: str) -> bool:
    if not condition:
        return True
    asked = re.fullmatch(r"(\w+) eq '([^']*)'", condition)
    if asked is None:
        raise graph_refusal(400, "BadRequest", "Invalid filter clause.")
    return bool(thing.get(asked[1]) == asked[2])


def _known(things: Mapping[str, Json], name: str) -> Json:
    if name not in things:
        raise _not_found()
    return things[name]


def _not_found() -> Exception:
    text = "Resource does not exist or one of its queried references is not present."
    return graph_refusal(404, "Request_ResourceNotFound", text)


def _address_in(share: str) -> str:
    """The address that a share's name has in it, as people write it; in the name it is encoded."""
    try:
        text = base64url.decoded(share.removeprefix("u!")).decode()
    except ValueError:
        return ""
    return unquote(text)
