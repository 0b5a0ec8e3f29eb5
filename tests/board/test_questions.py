"""What the documentation says that panels answer, and the panels that came last for it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from asking import sources_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import exchange, sharepoint, sign_ins
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.sql import sharepoint_queries
from m365watch.board.widgets.widget_types import Chart, Grid, Ranking, Several, WorldMap
from m365watch.detection.fields.enrichment_context import Whereabouts
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "board.md").read_text(encoding="utf-8")
EVERYTHING = view_of("range=30d")


class Atlas:
    """Offices are in Germany; all else is in Brazil."""

    def locate(self, address: str) -> Whereabouts:
        if address.startswith("192.0.2."):
            return Whereabouts("DE", "64500", 53.08, 8.8, "Bremen")
        return Whereabouts("BR", "64501", -8.76, -63.9, "Porto Velho", "Example Hosting")


def test_every_question_has_a_panel() -> None:
    """Forty are asked of such a board, and each has a place that exists."""
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    there = {f"{page.name}/{panel.name}" for page in PAGES for panel in page.panels}

    named = [set(re.findall(r"`([^`]+)`", places)) for _, places in rows]

    assert [int(number) for number, _ in rows] == list(range(1, 41))
    assert all(named)
    assert set().union(*named) - there == set()


OPENED = {"RecordType": 2, "Operation": "MailboxLogin", "UserType": 0}
RUN = {"RecordType": 1, "Operation": "Set-Mailbox", "ResultStatus": "True"}
HANDLED = {"RecordType": 2, "Operation": "SendAs", "UserType": 0, "MailboxOwnerUPN": "ann@x.example"}
BY_OUTSIDERS = (
    {**RUN, "UserId": "desk@partner.example", "UserType": 2, "ExternalAccess": True},
    {**RUN, "UserId": "desk@partner.example", "UserType": 2, "ExternalAccess": "true"},
    {**HANDLED, "UserId": "eve@y.example", "LogonType": 2, "ExternalAccess": True},
)
BY_OTHERS = (
    {**RUN, "UserId": "NT AUTHORITY\\SYSTEM", "UserType": 3, "ExternalAccess": True},
    {**RUN, "UserId": "ann@x.example", "UserType": 2, "ExternalAccess": False},
    {**RUN, "UserId": "bob@x.example", "UserType": 2, "ObjectId": '"ExternalAccess":true'},
    {**HANDLED, "UserId": "bob@x.example", "LogonType": 2, "ExternalAccess": False},
    {**OPENED, "UserId": "ann@x.example", "LogonType": 0},
    {**OPENED, "UserId": "ann@x.example", "LogonType": 0},
    {**OPENED, "UserId": "bob@x.example", "LogonType": 2},
    {**OPENED, "UserId": "root@x.example", "LogonType": 1},
)
SIGN_INS = (
    (9, "ann@x.example", "192.0.2.1", "Windows10", "Edg/141.0.0.0"),
    (2, "ann@x.example", "192.0.2.1", "Windows10", "Edg/141.0.0.0"),
    (2, "ann@x.example", "203.0.113.9", "MacOs", "Chrome/141.0.0.0"),
    (2, "new@x.example", "203.0.113.9", "MacOs", "Chrome/141.0.0.0"),
)
"""How many hours ago, who, from where, with which system and browser."""
LATER = (
    (1.99, "ann@x.example", "203.0.113.77", "MacOs", "Chrome/141.0.0.0"),
    (1.99, "ann@x.example", "203.0.113.78", "Windows10", "Edg/141.0.0.0"),
)
"""They come before the others, as backfill brings them."""


def ago(hours: float) -> str:
    return f"{EVERYTHING.now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}"


def signed_in(hours: float, user: str, address: str, system: str, browser: str) -> dict[str, object]:
    return {
        "RecordType": 15,
        "Operation": "UserLoggedIn",
        "Workload": "AzureActiveDirectory",
        "CreationTime": ago(hours),
        "UserId": user,
        "ClientIP": address,
        "DeviceProperties": [{"Name": "OS", "Value": system}],
        "ExtendedProperties": [{"Name": "UserAgent", "Value": f"Mozilla/5.0 {browser}"}],
    }


@pytest.fixture(scope="module")
def visited(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """A lake of a few visits."""
    folder = tmp_path_factory.mktemp("visited")
    shutil.copy(collected, folder / "m365watch.json")
    visits = [{"Workload": "Exchange", "CreationTime": ago(3), **one} for one in (*BY_OUTSIDERS, *BY_OTHERS)]
    later, arrivals = ([signed_in(*one) for one in some] for some in (LATER, SIGN_INS))
    writer = AuditWriter(folder / "lake", app_id="visits")
    for number, some in enumerate((later, [*visits, *arrivals]), start=1):
        records = [{"Id": f"{number} {place}", **one} for place, one in enumerate(some)]
        bodies = [json.dumps(one, separators=(",", ":")).encode() for one in records]
        writer.append(make_batch(number, [make_part(bodies, outputs=["lake"])]))
    found = sources_of(folder / "m365watch.json")
    yield found
    assert found.facts is not None
    found.facts.close()


@pytest.mark.parametrize("is_counted", [False, True])
@pytest.mark.parametrize("sees_contents", [False, True])
def test_outsiders_are_told_by_operation_and_person(
    visited: Sources, *, is_counted: bool, sees_contents: bool
) -> None:
    """Without Microsoft; from records and from what was counted of them, and to whoever sees no contents."""
    lake = visited.settings.lake_directory
    assert lake is not None
    if is_counted:
        keep_rollups(lake)
    view = view_of("range=24h", Access("bob", Role.VIEWER, tenants=None, sees_contents=sees_contents))

    shape = asyncio.run(exchange.outsiders(view, visited))

    assert isinstance(shape, Several)
    operations, people = shape.parts
    assert isinstance(operations, Ranking)
    assert isinstance(people, Grid)
    assert [(one.label, one.count, one.note) for one in operations.rows] == [
        ("Set-Mailbox", 2, "1 person"),
        ("SendAs", 1, "1 person"),
    ]
    assert [(row[0].text, row[1].text) for row in people.rows] == [
        ("desk@partner.example", "2"),
        ("eve@y.example", "1"),
    ]


def test_sign_ins_to_mailboxes_are_told_by_who_came(visited: Sources) -> None:
    """Owners, administrators and delegates apart."""
    shape = asyncio.run(exchange.logins(view_of("range=24h"), visited))

    assert isinstance(shape, Chart)
    assert {one.name: sum(one.values) for one in shape.lines} == {
        "Owner": 2,
        "Administrator": 1,
        "Delegate": 1,
    }


def test_work_with_files_is_on_the_map(sources: Sources) -> None:
    """Every record whose address has a place is in a spot; without a table it is said what to do."""
    shape = asyncio.run(sharepoint.world(EVERYTHING, replace(sources, places=Atlas())))
    towns = asyncio.run(sharepoint.towns(EVERYTHING, replace(sources, places=Atlas())))
    rows = asyncio.run(sources.ask(EVERYTHING, sharepoint_queries.PLACES))

    assert isinstance(shape, WorldMap)
    assert isinstance(towns, Ranking)
    assert towns.total == sum(one.count for one in towns.rows) == sum(row[1] for row in rows)
    told = [int(one.says.split(": ")[1].split()[0].replace(",", "")) for one in shape.spots]
    assert sum(told) == sum(row[1] for row in rows) > 0
    assert {one.says.partition(":")[0] for one in shape.spots} == {"Bremen, Germany", "Porto Velho, Brazil"}
    assert asyncio.run(sharepoint.world(EVERYTHING, sources)).empty == sharepoint.NO_PLACES


def test_what_is_new_of_somebody_known_is_told(visited: Sources) -> None:
    """A device, a network, its country; not what was known, nor anything of whoever is new themselves.

    Beside the time of the first sign-in stand its address and its system.
    """
    view, located = view_of("range=6h"), replace(visited, places=Atlas())

    devices = asyncio.run(sign_ins.devices(view, visited))
    networks = asyncio.run(sign_ins.networks(view, located))
    unlocated = asyncio.run(sign_ins.networks(view, visited))
    from_the_beginning = asyncio.run(sign_ins.devices(view_of("range=7d"), visited))

    assert isinstance(devices, Grid)
    assert isinstance(networks, Grid)
    assert isinstance(unlocated, Grid)
    assert [[one.text for one in row[1:]] for row in devices.rows] == [
        ["ann@x.example", "macOS, Chrome", "203.0.113.9"]
    ]
    assert [[one.text for one in row[1:]] for row in networks.rows] == [
        ["ann@x.example", "203.0.113.0/24", "Brazil, new", "Example Hosting (AS64501), new", "3"]
    ]
    assert [row[3].text for row in unlocated.rows] == ["macOS"]
    assert from_the_beginning.empty is not None


def test_a_country_is_new_if_its_person_never_came_from_it() -> None:
    """It is told of each person by themselves, and of the operator too."""
    arrived = [("ann@x", "192.0.2.1", 10), ("ann@x", "203.0.113.1", 90), ("bob@x", "203.0.113.1", 5)]

    countries, operators = sign_ins.firsts_of(arrived, Atlas())

    assert countries == {("ann@x", "DE"): 10, ("ann@x", "BR"): 90, ("bob@x", "BR"): 5}
    assert operators["ann@x", "Example Hosting (AS64501)"] == 90
