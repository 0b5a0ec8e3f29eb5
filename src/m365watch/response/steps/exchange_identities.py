"""Names that Exchange may take for something else: whoever makes a rule chooses what it is called.

`-Identity` takes a name, a GUID, a distinguished name or, of inbox rules, a number; which of these comes
first is documented nowhere. So a rule called by another's GUID is looked for by its name, and no command that
changes anything has that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import is_account, is_whole, powershell

EXCHANGE_ONLY = "Exchange PowerShell only: Graph cannot do it."
REFUSED = (
    "By hand: its record says that it was refused, so what is there is not the record's, and may be yours."
)
_STATED = ("Parameters.Mailbox", "MailboxOwnerUPN")
_BY_IDENTITY = ("-mailbox", "-mailboxpermission", "-recipientpermission", "-mailboxauditbypassassociation")
"""Cmdlets whose identity is the mailbox."""


def named_mailboxes(clues: Clues) -> tuple[str, ...]:
    """Those that the record names; none where it names none that is known whole."""
    if clues.has(*_STATED):
        return clues.values(*_STATED)
    if clues.operation.endswith(_BY_IDENTITY):
        identities = clues.values("Parameters.Identity")
        by_address = tuple(one for one in identities if is_account(one))
        return by_address or clues.entity("mailbox") or clues.values("ObjectId") or identities
    return clues.entity("mailbox")


def own_mailboxes(clues: Clues) -> tuple[str, ...]:
    """The same of what people do in their own mailboxes: theirs, where the record names no other."""
    own = {user.partition("@")[0].lower(): user for user in clues.entity("user") if is_account(user)}
    if clues.has(*_STATED) or clues.has_entity("mailbox"):
        found = named_mailboxes(clues)
        return (
            found if clues.has(*_STATED) else tuple(dict.fromkeys(own.get(one.lower(), one) for one in found))
        )
    return tuple(own.values())


_NO_NAME = re.compile(
    r"\s*[+-]?\d+\s*"  # a number
    r"|\s*[{(]?[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}[)}]?\s*"  # a GUID, however it is written
    r"|\s*\{0x.*"
    r"|.*[*\\].*"  # a pattern, or a path
    r"|\s*(?:cn|ou|dc)\s*=.*",  # a distinguished name
    re.IGNORECASE | re.DOTALL,
)
_COLUMNS: Mapping[str, str] = {"TransportRule": "Name,Guid,State,Priority,WhenChanged"}
_OF_OTHERS = "Name,Guid,Enabled,WhenChanged"
NOT_SHOWN = (
    "Its name has a character that is not shown, or is too long to be known whole: `m365watch alerts show"
    " --raw` has it. GUID stands for that of the one that you pick."
)
BY_GUID = "Exchange may take its name for another's id: GUID stands for that of the one that you mean."


def may_be_an_id(name: str) -> bool:
    """Whether a command with that name may act on another thing."""
    return bool(_NO_NAME.fullmatch(name))


def list_every(kind: str) -> str:
    """What shows all of that kind, for who picks one."""
    return f"Get-{kind} | Format-Table {_COLUMNS.get(kind, _OF_OTHERS)}"


def get(kind: str, name: str) -> str:
    """What shows all of that kind that answer to the name; all there are where that cannot be told."""
    if not is_whole(name):
        return list_every(kind)
    quoted = powershell(name)
    if may_be_an_id(name):
        return f"Get-{kind} | Where-Object {{ $_.Name -eq {quoted} -or $_.Guid -eq {quoted} }} | Format-List"
    return f"Get-{kind} -Identity {quoted} | Format-List"


def identity(name: str) -> str:
    """The name as -Identity takes it, else a place for the GUID of the one that is meant."""
    return "GUID" if may_be_an_id(name) or not is_whole(name) else powershell(name)


def remarks(name: str) -> tuple[str, ...]:
    """What whoever reads such a command has to know."""
    if not is_whole(name):
        return (NOT_SHOWN,)
    return (BY_GUID,) if may_be_an_id(name) else ()
