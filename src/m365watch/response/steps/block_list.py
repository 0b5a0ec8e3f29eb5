"""Steps on what a list of indicators named in a mail, a file or a link: nobody gets it, or goes there, again.

Source: Microsoft, New-TenantAllowBlockListItems and Set-HostedConnectionFilterPolicy; "Allow or block IPv6
addresses using the Tenant Allow/Block List".
"""

from __future__ import annotations

import ipaddress
import re

from m365watch.response.plans.alert_evidence import Clues
from m365watch.response.steps.command_escaping import powershell
from m365watch.response.steps.step import Step

_HASH = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://")
_HOST = re.compile(r"(?:[^@\s]+@)?[a-z0-9-]+(?:\.[a-z0-9-]+)+")
"""Of a domain, or of somebody there."""
_PLACE = (
    "Exchange PowerShell only: Graph cannot do it. See first that nobody of yours needs it; without"
    " -NoExpiration it ends after 30 days."
)
_NO_LIST = "By hand: what goes by such a name nothing can block; look for it in Defender (Explorer)."


def block_indicator(clues: Clues) -> list[Step]:
    """What of the record is on the list is blocked for everybody: a link, a file's hash, a sender."""
    if clues.has("m365.indicator_link"):
        return [_block(one, "Url", _SCHEME.sub("", one)) for one in _listed(clues, "m365.indicator_link")]
    is_mail = clues.operation == "timaildata"
    return [_block_by_its_form(one, is_mail=is_mail) for one in _listed(clues, "m365.indicator")]


def _listed(clues: Clues, name: str) -> tuple[str, ...]:
    """Each once; of several in one text, where every part is of a form that a list has."""
    return tuple(dict.fromkeys(part for line in clues.values(name) for part in _parts(line)))


def _parts(line: str) -> list[str]:
    parts = line.split(", ")
    return parts if all(map(_has_form, parts)) else [line]


def _has_form(one: str) -> bool:
    is_link = bool(_SCHEME.match(one)) and not any(char.isspace() for char in one)
    return is_link or bool(_HASH.fullmatch(one)) or _is_address(one) or bool(_HOST.fullmatch(one))


def _block_by_its_form(one: str, *, is_mail: bool) -> Step:
    """A file may be called as a host is: only a mail has a sender."""
    if _HASH.fullmatch(one):
        return _block(one, "FileHash", one)
    if is_mail and _is_address(one):
        if ":" in one:  # the policy's list takes IPv4 alone, and this one IPv6
            return _block(one, "IP", one)
        change = f"-Identity Default -IPBlockList @{{Add = {powershell(one)}}}"
        return Step(
            "block_indicator",
            f"Take no mail from {one}",
            powershell=(f"Set-HostedConnectionFilterPolicy {change}",),
            notes=("Exchange PowerShell only: Graph cannot do it. See first whose mail comes from there.",),
        )
    if is_mail and _HOST.fullmatch(one):
        return _block(one, "Sender", one)
    return Step("block_indicator", f"Find where else {one} is", notes=(_NO_LIST,))


def _block(shown: str, kind: str, value: str) -> Step:
    if any(one.isspace() for one in value):  # no link has a blank: several, which cannot be told apart
        return Step("block_indicator", f"Find where else {shown} is", notes=(_NO_LIST,))
    return Step(
        "block_indicator",
        f"Block {shown} for everybody",
        powershell=(f"New-TenantAllowBlockListItems -ListType {kind} -Block -Entries {powershell(value)}",),
        notes=(_PLACE,),
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
