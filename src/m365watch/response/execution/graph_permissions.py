"""Which permissions of Graph the application that responds needs, or had better have, by the word of a step.

Source: Microsoft Graph v1.0, "Permissions" of each call; docs/respond.md says which call that is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from m365watch.config.models.clouds import CLOUDS

NEEDED: Mapping[str, frozenset[str]] = {
    "revoke_sessions": frozenset({"User.RevokeSessions.All"}),
    "disable_account": frozenset(
        {"RoleManagement.Read.Directory", "User.EnableDisableAccount.All", "User.Read.All"}
    ),
    "remove_inbox_rule": frozenset({"MailboxSettings.ReadWrite"}),
    "remove_oauth_grant": frozenset(
        {
            "AppRoleAssignment.ReadWrite.All",
            "Application.Read.All",
            "DelegatedPermissionGrant.ReadWrite.All",
        }
    ),
    "disable_application": frozenset({"Application.ReadWrite.All"}),
    "remove_credential": frozenset({"Application.ReadWrite.All"}),
    "remove_owner": frozenset({"Application.ReadWrite.All", "User.Read.All"}),
    "remove_user_consent": frozenset(
        {"Application.Read.All", "DelegatedPermissionGrant.ReadWrite.All", "User.Read.All"}
    ),
    "remove_role": frozenset({"RoleManagement.ReadWrite.Directory", "User.Read.All"}),
    "remove_group_member": frozenset({"Directory.Read.All", "GroupMember.ReadWrite.All"}),
    "block_external_user": frozenset(
        {"RoleManagement.Read.Directory", "User.EnableDisableAccount.All", "User.Read.All"}
    ),
    "disable_anonymous_link": frozenset({"Files.ReadWrite.All"}),
    "remove_sharing": frozenset({"Files.ReadWrite.All"}),
}
"""Of words that are not here every step is by hand."""
WISHED: Mapping[str, Mapping[str, str]] = {
    "remove_inbox_rule": {
        "Mail.ReadBasic.All": "rules that move or copy mail are left to a person",
        "User.Read.All": "a mailbox by its address and by its id are two to --undo",
    },
    "remove_group_member": {
        "RoleManagement.ReadWrite.Directory": "nobody is taken out of a group that may hold roles"
    },
}
"""What a word is carried out without, and what comes of it then."""
UNSERVED: Mapping[str, frozenset[str]] = {CLOUDS["china"].graph_url: frozenset({"remove_inbox_rule"})}
"""By the host of a cloud's Graph, the words that it does not serve: every step is by hand there.

Source: Microsoft Graph v1.0, the clouds that the pages on messageRule name, as docs/respond.md has them.
"""
READS_PEOPLE = "User.Read.All"
"""Without it Graph has people in a list by their ids alone, and all else blank.

Source: Microsoft Graph, "Limited information returned for inaccessible member objects".
"""
_WIDER: Mapping[str, frozenset[str]] = {
    "Application.Read.All": frozenset({"Application.ReadWrite.All"}),
    "Directory.Read.All": frozenset({"Directory.ReadWrite.All"}),
    "GroupMember.ReadWrite.All": frozenset({"Group.ReadWrite.All"}),
    "Mail.ReadBasic.All": frozenset({"Mail.Read", "Mail.ReadWrite"}),
    "RoleManagement.Read.Directory": frozenset({"RoleManagement.ReadWrite.Directory"}),
    "User.Read.All": frozenset({"User.ReadWrite.All"}),
}
"""By a permission, those that let do more, and that as well."""


OVER_ADMINISTRATORS = frozenset(
    {"7be44c8a-adaf-4e2a-84d6-ab2649e08a13", "62e90394-69f5-4237-9190-012177145e10"}
)
"""Template ids of the roles of the directory of which an application needs one to disable any administrator.

Source: Microsoft Graph v1.0, "Update user" and "Who can perform sensitive actions".
"""
OVER_THEM = "Privileged Authentication Administrator"
"""What the lesser of them is called."""
STOPS_ACCOUNTS = frozenset({"block_external_user", "disable_account"})
"""The words of steps that disable accounts."""
_FORBIDDEN = (
    (
        "PATCH /users/[^/]+",
        (
            f"if it is an administrator's, give the application the role {OVER_THEM} in the directory; if it"
            " is not, the permissions that docs/respond.md names"
        ),
    ),
    (
        "DELETE /groups/[^/]+/members/.*",
        (
            "give the application RoleManagement.ReadWrite.Directory, which a group takes that may hold"
            " roles, and what docs/respond.md names besides"
        ),
    ),
)
"""Calls that Graph may refuse for more than a permission, and what to do then."""


_KEPT_ELSEWHERE = (
    "do it where the group is kept: a distribution list or a mail-enabled security group in Exchange, one"
    " that is synchronised in Active Directory"
)
_OTHERWISE = (
    ("DELETE /groups/[^/]+/members/.*", f"{_KEPT_ELSEWHERE}; and one that a rule fills by its rule"),
    (
        "DELETE /groups/[^/]+/owners/.*",
        f"if it is the last owner, make another one first; else {_KEPT_ELSEWHERE}",
    ),
    ("DELETE .*", "it was listed: do the step again in some minutes, or by its PowerShell"),
)
"""Calls that Graph may refuse whatever is permitted (400), and what to do then."""


def stops_administrators(given: Iterable[Mapping[str, object]]) -> bool:
    """Whether one of these assignments of roles lets an application disable any administrator.

    Over one administrative unit alone the role is over nobody else, and over no administrator for certain.
    """
    return any(
        one.get("roleDefinitionId") in OVER_ADMINISTRATORS and one.get("directoryScopeId") == "/"
        for one in given
    )


def cure_of_refusal(method: str, path: str) -> str:
    """What to do where Graph says 403 to that call."""
    general = "give the application of detections.response the permissions that docs/respond.md names"
    return _cure(_FORBIDDEN, f"{method} {path}") or general


def cure_otherwise(method: str, path: str) -> str:
    """What to do where Graph says 400 to that call, or 404."""
    general = "see what the plan names: it may be gone, or be called otherwise"
    return _cure(_OTHERWISE, f"{method} {path}") or general


def _cure(cures: Iterable[tuple[str, str]], called: str) -> str:
    return next((fix for call, fix in cures if re.fullmatch(call, called)), "")


def carries_out(roles: Collection[str], *, graph_url: str) -> tuple[list[str], dict[str, list[str]]]:
    """The words that an application with these permissions can carry out there; of each other, what it lacks.

    None of what that Graph does not serve.
    """
    unserved = UNSERVED.get(graph_url, frozenset())
    able: list[str] = []
    lacking: dict[str, list[str]] = {}
    for word, needed in NEEDED.items():
        if word in unserved:
            continue
        missing = sorted(one for one in needed if not _is_among(one, roles))
        if missing:
            lacking[word] = missing
        else:
            able.append(word)
    return able, lacking


def wishes(able: Collection[str], roles: Collection[str]) -> dict[str, str]:
    """What it had better have for the words that it can carry out, and what comes of it without."""
    wished = {name: without for word in able for name, without in WISHED.get(word, {}).items()}
    return {name: without for name, without in wished.items() if not _is_among(name, roles)}


def _is_among(name: str, roles: Collection[str]) -> bool:
    return not _WIDER.get(name, frozenset()).union({name}).isdisjoint(roles)
