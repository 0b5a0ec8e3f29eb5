"""Whose an application or an account is: what is Microsoft's own, or this product's own, is never shut out.

Whoever disables Outlook's application stops everybody's work, and an intruder who adds a secret to the
application that collects would have its alert end the collecting. What the record's id does not tell, the
tenant does: a service principal names the organisation that owns the application.

Source: Microsoft, "Verify first-party Microsoft applications in sign-in reports".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache

from m365watch.detection.rules.rule_library import PACKS_DIRECTORY, read_list

MICROSOFT_TENANTS = frozenset(
    {"f8cdef31-a31e-4b4a-93e4-5f571e91255a", "72f988bf-86f1-41af-91ab-2d7cd011db47"}
)
"""Who owns Microsoft's own applications."""
_OF_MICROSOFT = re.compile(r"000000[0-9a-f]{2}-0000-(?:0000-c000|0ff1-ce00)-000000000000")
"""Exchange, SharePoint, Graph ..."""
_TOOLS = frozenset(
    {
        "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        "12128f48-ec9e-42f0-b203-ea49fb6af367",
        "14d82eec-204b-4c2f-b7e8-296a70dab67e",
        "1950a258-227b-4e31-a9cf-717495945fc2",
        "1b730954-1685-4b74-9bfd-dac224a7b894",
        "872cd9fa-d31f-45e0-9eab-6e460a02d1f1",
        "a0c73c16-a7e3-4564-9a95-2bdf47383716",
        "aebc6443-996d-45c2-90f0-388ff96faa56",
        "c44b4083-3bb0-49c1-b47d-974e53cbdf3c",
        "de8bc8b5-d9f9-48b1-a8ad-b748da725064",
    }
)
"""Microsoft's for developers and administrators: intruders use them, and so do all others."""
_SERVICES = frozenset({"fim_password_service@support.onmicrosoft.com"})
"""What acts for people who help themselves; it has no account in the tenant."""
_SYNCHRONISES = re.compile(
    r"(?:sync_[^@]*|adtoaadsyncserviceaccount)@[^@]+\.onmicrosoft\.[a-z]+", re.IGNORECASE
)


def is_of_microsoft(app_id: str) -> bool:
    """Whether that is known as the id of one of Microsoft's own applications."""
    found = app_id.lower()
    return bool(_OF_MICROSOFT.fullmatch(found)) or found in _TOOLS or found in _listed()


@cache
def _listed() -> frozenset[str]:
    return frozenset(one.lower() for one in read_list(PACKS_DIRECTORY / "core/lists/first_party_apps.txt"))


def is_service(account: str) -> bool:
    """Whether that is a service which no directory knows as an account: app@sharepoint has no domain."""
    _, at, domain = account.partition("@")
    return account.lower() in _SERVICES or (bool(at) and "." not in domain)


def synchronises(account: str) -> bool:
    """Whether that is how the account is called which carries the directory of the house to Entra."""
    return bool(_SYNCHRONISES.fullmatch(account))


def why_spared(
    application: Mapping[str, object], own: Collection[str], *, microsoft_too: bool = False
) -> str:
    """Why nothing may be done to an application that is in the tenant; empty where it may.

    `microsoft_too`: it takes from it what only the tenant can have added, a secret or an owner.
    """
    app_id = str(application.get("appId") or "").lower()
    if app_id in own:
        return "it is the application of this collector or of its responses"
    if microsoft_too:
        return ""
    owner = str(application.get("appOwnerOrganizationId") or "").lower()
    if owner in MICROSOFT_TENANTS or is_of_microsoft(app_id):
        return "it is Microsoft's own, and everybody's work goes through it"
    return ""


def called(application: Mapping[str, object]) -> str:
    """An application as the tenant knows it: by its name and, where that was proved, who made it."""
    name, publisher = application.get("displayName"), application.get("verifiedPublisher")
    by = publisher.get("displayName") if isinstance(publisher, Mapping) else None
    told = f'"{name}"' if name else ""
    return f"{told} by {by}" if told and by else told
