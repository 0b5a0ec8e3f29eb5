"""Which permissions of Graph the application that responds needs, by the word of a step.

Source: Microsoft Graph v1.0, "Permissions" of each call; docs/respond.md says which call that is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

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
    "remove_owner": frozenset({"Application.ReadWrite.All"}),
    "remove_user_consent": frozenset(
        {"Application.Read.All", "DelegatedPermissionGrant.ReadWrite.All", "User.Read.All"}
    ),
    "remove_role": frozenset({"RoleManagement.ReadWrite.Directory", "User.Read.All"}),
    "remove_group_member": frozenset({"Directory.Read.All", "GroupMember.ReadWrite.All"}),
    "disable_anonymous_link": frozenset({"Files.ReadWrite.All"}),
    "remove_sharing": frozenset({"Files.ReadWrite.All"}),
}
"""Of words that are not here every step is by hand."""
_WIDER = {
    "Application.Read.All": "Application.ReadWrite.All",
    "Directory.Read.All": "Directory.ReadWrite.All",
    "GroupMember.ReadWrite.All": "Group.ReadWrite.All",
    "RoleManagement.Read.Directory": "RoleManagement.ReadWrite.Directory",
    "User.Read.All": "User.ReadWrite.All",
}
"""By a permission, the one that lets write what it lets read, and so does as well."""


def carries_out(roles: Collection[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The words that an application with these permissions can carry out; of each other, what it lacks."""
    able: list[str] = []
    lacking: dict[str, list[str]] = {}
    for word, needed in NEEDED.items():
        missing = sorted(one for one in needed if not {one, _WIDER.get(one, one)}.intersection(roles))
        if missing:
            lacking[word] = missing
        else:
            able.append(word)
    return able, lacking
