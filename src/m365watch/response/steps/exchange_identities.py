"""Names that Exchange may take for something else: whoever makes a rule chooses what it is called.

`-Identity` takes a name, a GUID, a distinguished name or, of inbox rules, a number; which of these comes
first is documented nowhere. So a rule called by another's GUID is looked for by its name, and no command that
changes anything has that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from m365watch.response.steps.command_escaping import is_whole, powershell

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
