"""Values of records inside PowerShell and URLs: whoever wrote the record must not write the command.

A value that cannot be shown as it is, or was cut, is refused rather than mended: a mended name is
another thing's name, and the command would act on that.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from m365watch.common import base64url
from m365watch.common.urls import split_url
from m365watch.detection.alerts.alert import CUT, MARKS, TEXT_MAX


def of_directory(*properties: str) -> str:
    """What shows these of each object, by the names that Graph has for them, and its id."""
    columns = (f"@{{n='{one}';e={{$_.AdditionalProperties['{one}']}}}}" for one in properties)
    return f"Format-List Id,{','.join(columns)}"


WHO = of_directory("@odata.type", "displayName", "userPrincipalName")
"""What shows people, groups and applications."""
ROLE = "@{n='Role';e={$_.RoleDefinition.DisplayName}}"
"""A column with what a role is called, where its definition is expanded."""


_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
"""All of these end a string in single quotes. Source: about_Quoting_Rules and PowerShell's tokenizer."""
_ACCOUNT = re.compile(
    r"(?=.{3,113}\Z)[\w!#$&'+=^`{|}~.\-]+@[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?", re.ASCII
)
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class UnsafeValue(ValueError):
    """The value cannot stand in a command; the text ends a sentence that starts with what it is."""


def powershell(*parts: str) -> str:
    """What the parts make together as a string of PowerShell in single quotes, in which nothing is expanded.

    Raises: UnsafeValue: one of them is empty, was cut, or has a character that is not shown.
    """
    return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", "".join(map(whole, parts))) + "'"


def looked_up(name: str, command: str) -> str:
    """A line of PowerShell that keeps what the command finds; nothing where it fails.

    An assignment whose command fails leaves the variable as it was, with what another step had in it.
    """
    return f"${name} = $null; ${name} = {command}"


def segment(value: str) -> str:
    """The value as one segment of a URL's path. Raises: UnsafeValue, also for what climbs up a path."""
    if set(whole(value)) <= {"."}:
        raise UnsafeValue("is no name, but a way up a path")
    return quote(value, safe="")


def odata(value: str) -> str:
    """The value as a string of OData in single quotes, encoded for a URL. Raises: UnsafeValue."""
    return quote("'" + whole(value).replace("'", "''") + "'", safe="'")


def share_id(url: str) -> str:
    """How Graph names what is at an address of SharePoint: /shares/{this}. Raises: UnsafeValue.

    Source: Microsoft Graph, "Access shared items", "Encoding sharing URLs".
    """
    parts = split_url(whole(url))
    if parts.scheme != "https" or not parts.hostname:
        raise UnsafeValue("is no address that begins with https://")
    return "u!" + base64url.encoded(url.encode())


def whole(value: str) -> str:
    """The value as it is. Raises: UnsafeValue: it is empty, was cut, or has a character that is not shown."""
    if not value:
        raise UnsafeValue("is not known")
    if not value.isprintable() or MARKS & set(value):
        raise UnsafeValue("has a character that is not shown")
    if len(value) >= TEXT_MAX or value.endswith(CUT):
        raise UnsafeValue("is too long to be known whole")
    return value


def is_whole(value: str) -> bool:
    """Whether it is known as it is, and can stand in a command."""
    try:
        whole(value)
    except UnsafeValue:
        return False
    return True


def is_account(value: str) -> bool:
    """Whether that names an account as Graph knows it: an object id, or a user principal name."""
    return bool(_GUID.fullmatch(value) or _ACCOUNT.fullmatch(value))


def guid_in(value: str) -> str:
    """The only GUID in the value, in lower case; empty where there is none, or more than one."""
    found = {one.lower() for one in _GUID.findall(value)}
    return found.pop() if len(found) == 1 else ""
