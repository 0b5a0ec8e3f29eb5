"""Numbers, spans and Microsoft's names in words that fit into a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORKLOADS = {
    "AzureActiveDirectory": "Entra ID",
    "MicrosoftTeams": "Teams",
    "SecurityComplianceCenter": "Security & Compliance",
    "ThreatIntelligence": "Defender for Office 365",
    "MCAS": "Defender for Cloud Apps",
    "AirInvestigation": "Automated investigation",
    "Aip": "Information Protection",
    "PublicEndpoint": "Public endpoint",
    "": "no workload",
}
_COLOURS = {
    "Exchange": "c1",
    "SharePoint": "c2",
    "OneDrive": "c3",
    "AzureActiveDirectory": "c4",
    "MicrosoftTeams": "c5",
    "SecurityComplianceCenter": "c6",
    "Copilot": "c7",
}
OTHERS_COLOUR = "c8"
_USER_TYPES = {
    0: "Regular",
    1: "Reserved",
    2: "Administrator",
    3: "Microsoft administrator",
    4: "System",
    5: "Application",
    6: "Service principal",
    7: "Custom policy",
    8: "System policy",
    9: "Partner technician",
    10: "Guest",
}
_RECORD_TYPES = {
    1: "Exchange administration",
    2: "Mailbox actions",
    3: "Mailbox actions on groups",
    4: "SharePoint",
    6: "SharePoint files",
    8: "Entra directory",
    9: "Entra account sign-ins",
    11: "DLP in SharePoint",
    13: "DLP in Exchange",
    14: "SharePoint sharing",
    15: "Entra sign-ins",
    18: "Compliance Center cmdlets",
    20: "Power BI",
    24: "eDiscovery",
    25: "Teams",
    28: "Mail threats",
    30: "Power Automate",
    36: "SharePoint lists",
    40: "Compliance alerts",
    41: "Clicked links",
    43: "Label applied",
    47: "File threats",
    50: "Mail accessed",
    64: "Automated investigation",
    98: "Defender alerts",
    261: "Copilot",
}
_APPLICATIONS = {
    "00000006-0000-0ff1-ce00-000000000000": "Office 365 portal",
    "00000002-0000-0ff1-ce00-000000000000": "Exchange Online",
    "00000003-0000-0ff1-ce00-000000000000": "SharePoint Online",
    "00000003-0000-0000-c000-000000000000": "Microsoft Graph",
    "1fec8e78-bce4-4aaf-ab1b-5451cc387264": "Teams",
    "d3590ed6-52b3-4102-aeff-aad2292ab01c": "Microsoft Office",
    "04b07795-8ddb-461a-bbee-02f9e1bf7b46": "Azure CLI",
    "1950a258-227b-4e31-a9cf-717495945fc2": "Azure PowerShell",
    "4765445b-32c6-49b0-83e6-1d93765276ca": "Office web apps",
    "c44b4083-3bb0-49c1-b47d-974e53cbdf3c": "Azure portal",
    "27922004-5251-4030-b22d-91ecd9a37ea4": "Outlook mobile",
    "ab9b8c07-8f02-4f72-87fa-80105867a763": "OneDrive",
}
_OPERATIONS = {
    "TIUrlClickData": "Link clicked",
    "TIMailData": "Mail judged",
    "AirInvestigationData": "Investigation by Defender",
    "AtpDetection": "File found bad",
}
"""Operations that are called as nobody calls what they tell."""
_SYSTEMS = {"windows10": "Windows 10", "windows11": "Windows 11", "ios": "iOS", "macos": "macOS"}
_DLP_ACTIONS = {
    "notifyuser": "user told",
    "generatealert": "alert raised",
    "generateincidentreport": "report sent",
    "blockaccess": "access blocked",
    "blockaccessexternal": "blocked outside",
}
_RIGHTS = {"limitededit": "Limited edit", "limitedview": "Limited view", "fullcontrol": "Full control"}
_PEOPLE = frozenset({"user", "actor", "mailbox", "target"})
_IN_EXCHANGE = re.compile(
    r"[\w.-]+/(?:Microsoft Exchange )?Hosted Organizations/[^/]+/(?P<owner>[^\\]+)(?:\\(?P<name>.+))?"
)
"""The whole path through the forest to a mailbox, or to a rule in one."""
_IN_SHAREPOINT = re.compile(
    r"https://[\w-]+\.sharepoint\.(?:com|us|cn|de|example)/(?P<site>(?:sites|teams|personal)/[^/]+)/?(?:.*?(?P<file>[^/]+)/?)?"
)
_HIDDEN = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def named_so(name: str, typed: str, *, whole: bool = False) -> list[str]:
    """The values of a dimension whose words have in them, or `whole` are, what somebody typed."""
    words: dict[str, str] = {
        "workload": _WORKLOADS,
        "app": _APPLICATIONS,
        "type": {str(number): one for number, one in _RECORD_TYPES.items()},
        "operation": _OPERATIONS,
        "usertype": {str(number): one for number, one in _USER_TYPES.items()},
    }.get(name, {})
    lower = typed.lower()
    return [
        value for value, one in words.items() if (lower == one.lower() if whole else lower in one.lower())
    ]


def workload_words(name: str) -> str:
    """A workload as people call it."""
    return _WORKLOADS.get(name, name)


def workload_colour(name: str) -> str:
    """The colour that the workload has on every page."""
    return _COLOURS.get(name, OTHERS_COLOUR)


def application_words(app_id: str) -> str:
    """An application as people call it; its id where it is none of Microsoft's well-known ones."""
    return _APPLICATIONS.get(app_id.lower(), app_id)


def short_id(app_id: str) -> str:
    """The beginning of a GUID, which tells one from another."""
    return app_id.partition("-")[0]


def operation_words(name: str) -> str:
    """An operation without what says nothing; in words, where its name is none of those that people use."""
    plain = name.rpartition(" \N{EN DASH} ")[2].removesuffix("management ").rstrip(". ")
    return _OPERATIONS.get(plain, plain)


def system_words(name: str) -> str:
    """An operating system as its maker writes it."""
    return _SYSTEMS.get(name.lower(), name)


def program_words(name: str) -> str:
    """A program that files are taken with; "Microsoft" is how those of that maker begin that synchronise."""
    return "OneDrive sync" if name == "Microsoft" else name


def right_words(name: str) -> str:
    """A right to a file or site, without the name of the space that it is of."""
    plain = name.removeprefix("System.")
    return _RIGHTS.get(plain.lower(), plain)


def dlp_words(actions: str) -> str:
    """What a rule of data loss prevention did, of names with a comma between two."""
    found = (one.strip() for one in actions.split(","))
    return ", ".join(_DLP_ACTIONS.get(one.lower(), one) for one in found if one)


def user_type_words(number: int | None) -> str:
    """A user type as people call it."""
    return "not said" if number is None else _USER_TYPES.get(number, f"Type {number}")


def record_type_words(number: int | None) -> str:
    """A record type as people call it."""
    return "not said" if number is None else _RECORD_TYPES.get(number, f"Type {number}")


def visible(text: str) -> str:
    """The text, with control and direction characters written out: nothing hides or turns round a part."""
    if text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def brief(text: str) -> str:
    """An address in SharePoint by its file and site, an object of Exchange by its own name and its owner's.

    These tell it from others; other texts stay as they are.
    """
    if (inside := _IN_EXCHANGE.fullmatch(text)) is not None:
        return f"{inside['name']} · {inside['owner']}" if inside["name"] else inside["owner"]
    found = _IN_SHAREPOINT.fullmatch(text) if text.startswith("https://") else None
    if found is None:
        return text
    return f"{found['file']} · {found['site']}" if found["file"] else found["site"]


def brief_entities(entities: Sequence[tuple[str, str]]) -> list[str]:
    """Kinds and values that share a line: people without a domain that several of them have."""
    people = [value for kind, value in entities if kind in _PEOPLE]
    domains = Counter(one.rpartition("@")[2] for one in people)
    return [
        value.rpartition("@")[0] or value
        if kind in _PEOPLE and domains[value.rpartition("@")[2]] > 1
        else brief(value)
        for kind, value in entities
    ]


def short(number: float) -> str:
    """A number for a tile: 950, 12.3 k, 4.56 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if number >= size:
            base = 1e3 if unit == "k" else size
            return f"{number / base:.3g} {unit}"
    return f"{number:,.0f}"


def counted(number: int, one: str, several: str) -> str:
    """A number with its noun: 1 person, 12 people."""
    return f"{number:,} {one if number == 1 else several}"


def span_words(seconds: float | None) -> str:
    """How long: 45 s, 12 min, 3 h, 2 d."""
    if seconds is None:
        return "never"
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def change_words(now: float, before: float) -> str:
    """How a figure stands to the one of the time before: 12 % more than before."""
    if not before:
        return "none before" if now else "and none before"
    change = (now - before) / before * 100
    if change >= 1_000:
        return f"{now / before:,.0f} times as many as before"
    if abs(change) < 0.5:
        return "as many as before"
    return f"{abs(change):,.0f} % {'more' if change > 0 else 'fewer'} than before"
