"""Permissions and roles in the order in which somebody has to hear of them: what is left out is harmless.

Applications ask for the harmless ones first, and whoever takes a tenant over takes roles in any order.
"""

from __future__ import annotations

from collections.abc import Iterable

GRANTED = frozenset(
    {
        "m365.scopes",
        "ModifiedProperties.AppRole.Value.new",
        "ModifiedProperties.Role.DisplayName.new",
    }
)
"""Fields whose values are permissions or roles."""
_OVER_ALL = (
    "global administrator",
    "company administrator",
    "privileged ",
    "rolemanagement.readwrite",
    "approleassignment.readwrite",
    "application.readwrite",
    "directory.readwrite",
    "directory.accessasuser",
    "full_access_as_app",
    "exchange.manageasapp",
    "user.readwrite.all",
    "group.readwrite.all",
)
"""In lower case, how those begin with which one can give oneself all others or be anybody; gravest first."""
_OVER_CONTENTS = (
    "mail.",
    "mailboxsettings.",
    "files.",
    "sites.",
    "contacts.",
    "notes.",
    "chat.",
    "channelmessage.",
    "ews.",
    "imap.",
    "pop.",
    "smtp.",
    "full_access_as_user",
)
"""And those with which mail, files and chats are read or written."""
_HARMLESS = ("openid", "profile", "email", "offline_access", "user.read")
"""What nearly every application asks for: who somebody is."""


def gravest_first(granted: Iterable[str]) -> list[str]:
    """What is granted, the gravest first; what is as grave as another stays in its order."""
    return sorted(granted, key=_rank)


def _rank(granted: str) -> int:
    # A line of several has its gravest first.
    one = granted.partition(",")[0].lower()
    for place, begins in enumerate(_OVER_ALL):
        if one.startswith(begins):
            return place
    if one.startswith(_OVER_CONTENTS):
        return len(_OVER_ALL)
    return len(_OVER_ALL) + (2 if one in _HARMLESS else 1)
