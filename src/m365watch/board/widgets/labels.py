"""Numbers, spans and Microsoft's names in words that fit into a cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from m365watch.board.query.dimension_filters import NUMBERS, plain_name

_TOLD = (
    "AD Andorra;AE United Arab Emirates;AF Afghanistan;AG Antigua and Barbuda;AI Anguilla;AL Albania;"
    "AM Armenia;AO Angola;AQ Antarctica;AR Argentina;AS American Samoa;AT Austria;AU Australia;AW Aruba;"
    "AX Åland Islands;AZ Azerbaijan;BA Bosnia and Herzegovina;BB Barbados;BD Bangladesh;BE Belgium;"
    "BF Burkina Faso;BG Bulgaria;BH Bahrain;BI Burundi;BJ Benin;BL Saint Barthélemy;BM Bermuda;BN Brunei;"
    "BO Bolivia;BQ Caribbean Netherlands;BR Brazil;BS Bahamas;BT Bhutan;BV Bouvet Island;BW Botswana;"
    "BY Belarus;BZ Belize;CA Canada;CC Cocos Islands;CD DR Congo;CF Central African Republic;CG Congo;"
    "CH Switzerland;CI Côte d'Ivoire;CK Cook Islands;CL Chile;CM Cameroon;CN China;CO Colombia;"
    "CR Costa Rica;CU Cuba;CV Cape Verde;CW Curaçao;CX Christmas Island;CY Cyprus;CZ Czechia;DE Germany;"
    "DJ Djibouti;DK Denmark;DM Dominica;DO Dominican Republic;DZ Algeria;EC Ecuador;EE Estonia;EG Egypt;"
    "EH Western Sahara;ER Eritrea;ES Spain;ET Ethiopia;FI Finland;FJ Fiji;FK Falkland Islands;"
    "FM Micronesia;FO Faroe Islands;FR France;GA Gabon;GB United Kingdom;GD Grenada;GE Georgia;"
    "GF French Guiana;GG Guernsey;GH Ghana;GI Gibraltar;GL Greenland;GM Gambia;GN Guinea;GP Guadeloupe;"
    "GQ Equatorial Guinea;GR Greece;GS South Georgia;GT Guatemala;GU Guam;GW Guinea-Bissau;GY Guyana;"
    "HK Hong Kong;HM Heard and McDonald Islands;HN Honduras;HR Croatia;HT Haiti;HU Hungary;ID Indonesia;"
    "IE Ireland;IL Israel;IM Isle of Man;IN India;IO British Indian Ocean Territory;IQ Iraq;IR Iran;"
    "IS Iceland;IT Italy;JE Jersey;JM Jamaica;JO Jordan;JP Japan;KE Kenya;KG Kyrgyzstan;KH Cambodia;"
    "KI Kiribati;KM Comoros;KN Saint Kitts and Nevis;KP North Korea;KR South Korea;KW Kuwait;"
    "KY Cayman Islands;KZ Kazakhstan;LA Laos;LB Lebanon;LC Saint Lucia;LI Liechtenstein;LK Sri Lanka;"
    "LR Liberia;LS Lesotho;LT Lithuania;LU Luxembourg;LV Latvia;LY Libya;MA Morocco;MC Monaco;MD Moldova;"
    "ME Montenegro;MF Saint Martin;MG Madagascar;MH Marshall Islands;MK North Macedonia;ML Mali;"
    "MM Myanmar;MN Mongolia;MO Macao;MP Northern Mariana Islands;MQ Martinique;MR Mauritania;"
    "MS Montserrat;MT Malta;MU Mauritius;MV Maldives;MW Malawi;MX Mexico;MY Malaysia;MZ Mozambique;"
    "NA Namibia;NC New Caledonia;NE Niger;NF Norfolk Island;NG Nigeria;NI Nicaragua;NL Netherlands;"
    "NO Norway;NP Nepal;NR Nauru;NU Niue;NZ New Zealand;OM Oman;PA Panama;PE Peru;PF French Polynesia;"
    "PG Papua New Guinea;PH Philippines;PK Pakistan;PL Poland;PM Saint Pierre and Miquelon;PN Pitcairn;"
    "PR Puerto Rico;PS Palestine;PT Portugal;PW Palau;PY Paraguay;QA Qatar;RE Réunion;RO Romania;"
    "RS Serbia;RU Russia;RW Rwanda;SA Saudi Arabia;SB Solomon Islands;SC Seychelles;SD Sudan;SE Sweden;"
    "SG Singapore;SH Saint Helena;SI Slovenia;SJ Svalbard and Jan Mayen;SK Slovakia;SL Sierra Leone;"
    "SM San Marino;SN Senegal;SO Somalia;SR Suriname;SS South Sudan;ST São Tomé and Príncipe;"
    "SV El Salvador;SX Sint Maarten;SY Syria;SZ Eswatini;TC Turks and Caicos Islands;TD Chad;"
    "TF French Southern Territories;TG Togo;TH Thailand;TJ Tajikistan;TK Tokelau;TL Timor-Leste;"
    "TM Turkmenistan;TN Tunisia;TO Tonga;TR Türkiye;TT Trinidad and Tobago;TV Tuvalu;TW Taiwan;"
    "TZ Tanzania;UA Ukraine;UG Uganda;UM US Minor Outlying Islands;US United States;UY Uruguay;"
    "UZ Uzbekistan;VA Vatican City;VC Saint Vincent and the Grenadines;VE Venezuela;"
    "VG British Virgin Islands;VI US Virgin Islands;VN Vietnam;VU Vanuatu;WF Wallis and Futuna;WS Samoa;"
    "XK Kosovo;YE Yemen;YT Mayotte;ZA South Africa;ZM Zambia;ZW Zimbabwe"
)
_NAMES = {one[:2]: one[3:] for one in _TOLD.split(";")}


def country_words(code: str) -> str:
    """The country's name; the code itself where it is no country's."""
    return _NAMES.get(code, code)


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


DIMENSION_WORDS = {
    "tenant": "Tenant",
    "workload": "Workload",
    "type": "Record type",
    "operation": "Operation",
    "user": "User",
    "usertype": "User type",
    "result": "Result",
    "ip": "Address",
    "app": "Application",
}


def dimension_words(name: str) -> str:
    """What narrows a view, as people read it: User, or User is not."""
    plain = plain_name(name)
    return DIMENSION_WORDS[plain] + ("" if name == plain else " is not")


def value_words(name: str, value: str) -> str:
    """A value that narrows a view, as people read it."""
    name = plain_name(name)
    if name == "workload":
        return workload_words(value)
    if name == "app":
        return application_words(value)
    if name in NUMBERS:
        return (record_type_words if name == "type" else user_type_words)(int(value))
    return value
