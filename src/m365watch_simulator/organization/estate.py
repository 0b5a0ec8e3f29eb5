"""What the organisation owns: its sites and their files, its teams, applications and servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m365watch_simulator.organization.guids import random_guid
from m365watch_simulator.organization.people import invent_service_accounts

if TYPE_CHECKING:
    import random

    from m365watch_simulator.organization.people import Actor, Person

_DOMAINS = (
    "kestrelmere.example",
    "ostwind-werke.example",
    "alderbrook.example",
    "halvorsen.example",
)
_SITES = (
    "Harbour Crane",
    "Quarterly Close",
    "Field Service",
    "Tender 2040",
    "Works Council",
    "Kiosk",
)
_FOLDERS = ("", "/Drafts", "/Offers", "/Minutes", "/Übergabe", "/Archive 2024")
_SUBJECTS = (
    "Budget",
    "Delivery plan",
    "Price list",
    "Minutes",
    "Contract",
    "Angebot Größe",
    "Survey",
)
_DETAILS = ("final", "v2", "signed", "north", "spring", "review", "kranführer", "annex B")
_EXTENSIONS = ("docx", "xlsx", "pptx", "pdf", "pdf", "docx", "xlsx", "one", "png", "zip")
_APPLICATIONS = ("Shift Planner", "Travel Desk", "Parts Catalogue", "Signature Cloud", "Time Clock")
_SITE_FILES = 120
_HOME_FILES = 25


@dataclass(frozen=True, slots=True)
class File:
    """A file of a site."""

    name: str
    extension: str
    folder: str
    """Relative to the site, without slashes at its ends."""
    url: str
    unique_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Site:
    """A SharePoint site, or somebody's OneDrive."""

    workload: str
    """"SharePoint" or "OneDrive"."""
    title: str
    url: str
    site_id: str
    web_id: str
    list_id: str
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Application:
    """An application that is registered with Entra."""

    name: str
    app_id: str
    object_id: str
    principal_id: str


EXCHANGE_ONLINE = Application("Office 365 Exchange Online", "00000002-0000-0ff1-ce00-000000000000", "", "")
SHAREPOINT_ONLINE = Application(
    "Office 365 SharePoint Online", "00000003-0000-0ff1-ce00-000000000000", "", ""
)
GRAPH = Application("Microsoft Graph", "00000003-0000-0000-c000-000000000000", "", "")
PORTAL = Application("Microsoft Office 365 Portal", "00000006-0000-0ff1-ce00-000000000000", "", "")
TEAMS = Application("Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264", "", "")
OFFICE = Application("Microsoft Office", "d3590ed6-52b3-4102-aeff-aad2292ab01c", "", "")

FIRST_PARTY = (EXCHANGE_ONLINE, SHAREPOINT_ONLINE, GRAPH, PORTAL, TEAMS, OFFICE)
"""Microsoft's own applications; the ids are the same in every tenant.

Source: Microsoft's list of first-party application ids.
"""


@dataclass(frozen=True, slots=True)
class Team:
    """A Teams team, which is also a group of the directory."""

    name: str
    group_id: str
    thread_id: str


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything that the records speak of, but for the people."""

    tenant_id: str
    domain: str
    people: tuple[Person, ...]
    sites: tuple[Site, ...]
    drives: tuple[Site, ...]
    """OneDrives, in the order of `people`."""
    applications: tuple[Application, ...]
    teams: tuple[Team, ...]
    servers: tuple[str, ...]
    """Exchange servers with their versions, for example "AM0EX04MB1234 (15.20.9000.012)"."""
    policies: tuple[tuple[str, str], ...]
    """Name and id of each DLP policy."""
    machines: tuple[Actor, ...]
    """The service accounts."""

    @property
    def short_name(self) -> str:
        """The domain without its ending."""
        return self.domain.partition(".")[0]


def invent_domain(dice: random.Random) -> str:
    """A domain under .example, which RFC 2606 reserves."""
    return dice.choice(_DOMAINS)


def invent_estate(dice: random.Random, *, tenant_id: str, domain: str, people: tuple[Person, ...]) -> Estate:
    """The belongings of an organisation with these people."""
    short_name = domain.partition(".")[0]
    host = f"https://{short_name}.sharepoint.example"
    return Estate(
        tenant_id=tenant_id,
        domain=domain,
        people=people,
        sites=tuple(_invent_site(dice, host, title) for title in _SITES),
        drives=tuple(_invent_drive(dice, short_name, person) for person in people),
        applications=tuple(invent_application(dice, name) for name in _APPLICATIONS),
        teams=tuple(_invent_team(dice, title) for title in _SITES),
        servers=tuple(_invent_server(dice) for _ in range(12)),
        machines=invent_service_accounts(dice, domain=domain),
        policies=tuple((name, random_guid(dice)) for name in ("Bank accounts", "Staff records")),
    )


def invent_application(dice: random.Random, name: str) -> Application:
    """An application nobody has seen before."""
    return Application(name, random_guid(dice), random_guid(dice), random_guid(dice))


def _invent_team(dice: random.Random, name: str) -> Team:
    return Team(name, random_guid(dice), f"19:{dice.getrandbits(128):032x}@thread.tacv2")


def _invent_server(dice: random.Random) -> str:
    name = f"AM{dice.randrange(9)}EX0{dice.randrange(9)}MB{dice.randrange(1000, 9999)}"
    return f"{name} (15.20.9000.0{dice.randrange(10, 40)})"


def _invent_site(dice: random.Random, host: str, title: str) -> Site:
    url = f"{host}/sites/{title.replace(' ', '')}"
    return _site(dice, "SharePoint", title, url, library="Shared Documents", count=_SITE_FILES)


def _invent_drive(dice: random.Random, short_name: str, person: Person) -> Site:
    account = person.upn.replace("@", "_").replace(".", "_")
    url = f"https://{short_name}-my.sharepoint.example/personal/{account}"
    return _site(dice, "OneDrive", person.name, url, library="Documents", count=_HOME_FILES)


def _site(dice: random.Random, workload: str, title: str, url: str, *, library: str, count: int) -> Site:
    return Site(
        workload=workload,
        title=title,
        url=url,
        site_id=random_guid(dice),
        web_id=random_guid(dice),
        list_id=random_guid(dice),
        files=tuple(_invent_file(dice, url, library, number) for number in range(count)),
    )


def _invent_file(dice: random.Random, site_url: str, library: str, number: int) -> File:
    extension = dice.choice(_EXTENSIONS)
    name = f"{dice.choice(_SUBJECTS)} {dice.choice(_DETAILS)} {number}.{extension}"
    folder = f"{library}{dice.choice(_FOLDERS)}"
    return File(
        name=name,
        extension=extension,
        folder=folder,
        url=f"{site_url}/{folder}/{name}",
        unique_id=random_guid(dice),
        size_bytes=int(dice.lognormvariate(11.5, 1.4)),
    )
