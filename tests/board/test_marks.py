"""Why a change stands out, and that those which do come first."""

from __future__ import annotations

import asyncio
import json
from types import ModuleType
from typing import Any

import duckdb
import pytest

from asking import view_of
from m365watch.board.access.redaction import _INSTEAD
from m365watch.board.pages import applications, exchange
from m365watch.board.pages.page_types import Loader
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.sql import application_queries as applications_queries
from m365watch.board.query.sql import exchange_queries
from m365watch.board.query.sql.aggregates import Changes
from m365watch.board.widgets.change_flags import (
    AWAY,
    Told,
    marks_of_mail,
    marks_of_right,
    marks_of_role,
    marks_of_scopes,
    ranked,
)
from m365watch.board.widgets.widget_types import Cell, Grid, Tiles
from m365watch.lake.rollups.flag_conditions import MARKED

ANN = "ann@contoso.example"


def cmdlet(**given: str) -> dict[str, Any]:
    parameters = [{"Name": name, "Value": value} for name, value in given.items()]
    return {"OrganizationName": "contoso.example", "Parameters": parameters}


def outlook(name: str, action: str, **further: Any) -> dict[str, Any]:
    """A rule that Outlook made: what it does stands in a text inside the record."""
    rule = {"Name": name, "Actions": [{"ActionType": action, **further}]}
    properties = {"RuleName": name, "RuleActions": action, "ServerRule": json.dumps(rule)}
    return {"OperationProperties": [{"Name": one, "Value": value} for one, value in properties.items()]}


def told_in_actions(recipient: str) -> dict[str, Any]:
    """A rule that Outlook made, of which the actions alone say whom it sends mail on to."""
    actions = json.dumps([{"ActionType": "Forward", "Recipients": [recipient], "ForwardFlags": "None"}])
    return {"OperationProperties": [{"Name": "RuleActions", "Value": actions}]}


EVERYDAY = [
    ("New-InboxRule", cmdlet(Name="Builds", MoveToFolder="Builds", DeleteMessage="False", ForwardTo="")),
    ("UpdateInboxRules", outlook("Minutes", "MoveAction", Folder="\\Inbox\\Minutes")),
]
BAD = [
    ("New-InboxRule", cmdlet(Name="ab", ForwardTo="eve@evil.example"), ["forwards outside: evil.example"]),
    ("New-InboxRule", cmdlet(Name="ab", RedirectTo="bob@mail.contoso.example"), ["forwards"]),
    ("New-InboxRule", cmdlet(Name="..", MoveToFolder="RSS Feeds"), ["hides in RSS Feeds", "odd name"]),
    ("Set-InboxRule", cmdlet(Name="ab", DeleteMessage="True"), ["deletes"]),
    ("New-InboxRule", cmdlet(Name="ab", MarkAsRead="True"), ["marks as read"]),
    ("UpdateInboxRules", outlook("ab", "MoveAction", Folder="\\RSS Feeds"), ["hides in RSS Feeds"]),
    (
        "UpdateInboxRules",
        outlook(".", "ForwardToRecipientsAction", Recipients=["eve@evil.example"]),
        ["forwards outside: evil.example", "odd name"],
    ),
    ("UpdateInboxRules", told_in_actions("eve@evil.example"), ["forwards outside: evil.example"]),
    ("UpdateInboxRules", told_in_actions("bob"), ["forwards"]),
    (
        "Set-Mailbox",
        cmdlet(ForwardingSmtpAddress="smtp:eve@evil.example"),
        ["forwards outside: evil.example"],
    ),
    ("New-TransportRule", cmdlet(Name="ab", SetSCL="-1"), ["lets past the filter"]),
]


@pytest.mark.parametrize(("operation", "record", "words"), BAD)
def test_what_is_done_to_mail_is_said_and_found(
    operation: str, record: dict[str, Any], words: list[str]
) -> None:
    """Whoever made the rule with which program; the query finds it however many others there are."""
    assert [one.words for one in marks_of_mail(record, ANN)] == words
    assert is_marked(operation, record)


@pytest.mark.parametrize(("operation", "record"), EVERYDAY)
def test_everyday_rules_do_not_stand_out(operation: str, record: dict[str, Any]) -> None:
    """A folder of one's own is no news."""
    assert marks_of_mail(record, ANN) == []
    assert not is_marked(operation, record)


@pytest.mark.parametrize("target", ["smtp:eve@evil.example", "bob@contoso.example", "Eve E", ""])
@pytest.mark.parametrize("name", AWAY)
def test_where_mail_is_led_to_stands_out_to_every_role(name: str, target: str) -> None:
    """To one without contents as to others: what is outside by its domain, what was taken away not at all."""
    record = cmdlet(Identity="bob@contoso.example", **{name: target})
    sql = f"SELECT {_INSTEAD['raw']} FROM (SELECT $raw AS raw)"
    [(left,)] = duckdb.execute(sql, {"raw": json.dumps(record)}).fetchall()

    assert marks_of_mail(json.loads(left), ANN) == marks_of_mail(record, ANN)


def is_marked(operation: str, record: dict[str, Any]) -> bool:
    raw = json.dumps(record, separators=(",", ":"))
    sql = f"SELECT {MARKED} FROM (SELECT $operation AS operation, $raw AS raw)"
    [(found,)] = duckdb.execute(sql, {"operation": operation, "raw": raw}).fetchall()
    return bool(found)


def test_wide_scopes_and_roles_stand_out() -> None:
    """Those that let an application at mail and files, or somebody at everything; not a profile."""
    assert [one.words for one in marks_of_scopes("User.Read Mail.Read Files.Read.All", is_for_all=False)] == [
        "may use Files.Read.All and 1 more as wide"
    ]
    assert marks_of_scopes("User.Read openid profile", is_for_all=False) == []
    assert marks_of_role("Add member to role.", "Company Administrator")
    assert not marks_of_role("Remove member from role.", "Company Administrator")
    assert not marks_of_role("Add member to role.", "Reports Reader")


@pytest.mark.parametrize(
    ("right", "who", "words"),
    [
        ("FullAccess", "eve@x", ["opens all of it"]),
        ("SendAs", "eve@x", ["sends in its name"]),
        ("Application Impersonation", "eve@x", ["acts as any mailbox"]),
        ("Editor", "eve@x", ["changes all in it"]),
        ("Owner", "anonymous", ["anybody owns the folder"]),
        ("Reviewer", "eve@x", []),
    ],
)
def test_a_right_says_what_it_lets_somebody_do(right: str, who: str, words: list[str]) -> None:
    """Whoever reads the table at three in the morning does not look the right up."""
    assert [one.words for one in marks_of_right(right, who)] == words


def test_what_stands_out_comes_before_what_is_newer() -> None:
    """The worst first, then the latest."""
    records = (BAD[0][1], BAD[4][1], EVERYDAY[0][1])
    told = [Told((at, "id"), [Cell(str(at))], marks_of_mail(one, ANN)) for at, one in enumerate(records)]

    rows = ranked(view_of(), told, {})

    assert [row[0].text for row in rows] == ["0", "1", "2"]
    assert [row[1].tone for row in rows] == ["high", "low", ""]


def test_tables_begin_with_what_stands_out(sources: Sources) -> None:
    """In the lake of a collector that has run, with where the alert is; tiles lead to their tables."""
    view = view_of("range=30d")
    rules = asyncio.run(exchange.rules(view, sources))
    consents = asyncio.run(applications.consents(view, sources))
    tiles = asyncio.run(exchange.figures(view, sources))

    assert isinstance(rules, Grid)
    assert isinstance(consents, Grid)
    for grid in (rules, consents):
        ranks = [row[3].sorts if row[3].sorts is not None else -1 for row in grid.rows]
        assert ranks == sorted(ranks, reverse=True)
    assert rules.rows[0][3].tone in {"high", "critical"}
    assert isinstance(tiles, Tiles)
    assert [one.url.partition("#")[2] for one in tiles.tiles][:2] == ["panel-rules", "panel-forwarding"]


@pytest.mark.parametrize("changes", [applications_queries.CONSENTS, exchange_queries.RULES])
def test_what_an_alert_rests_on_is_found_by_its_id(sources: Sources, changes: Changes) -> None:
    """However many newer ones there are: nothing else is read, and as the table tells it."""
    view = view_of("range=30d")
    every = asyncio.run(sources.ask(view, changes.newest))
    oldest = every[-1]

    found = asyncio.run(sources.ask(view, changes.named, ids=[oldest[-1], "no such record"]))

    assert len(every) > 1
    assert found == [oldest]


@pytest.mark.parametrize(
    ("page", "loaders"),
    [
        (applications, {0: applications.consents, 3: applications.roles, 4: applications.gates}),
        (exchange, {0: exchange.rules, 1: exchange.forwarding, 2: exchange.flow, 3: exchange.rights}),
    ],
)
def test_a_tile_counts_as_standing_out_what_its_table_marks(
    sources: Sources, page: ModuleType, loaders: dict[int, Loader]
) -> None:
    """What an alert rests on stands out too, and no change counts in two tiles."""
    view = view_of("range=30d")
    tiles = asyncio.run(page.figures(view, sources))

    assert isinstance(tiles, Tiles)
    for place, load in loaders.items():
        grid = asyncio.run(load(view, sources))
        assert isinstance(grid, Grid)
        marked = sum(1 for row in grid.rows if row[3].text)
        note = tiles.tiles[place].note
        assert ("stand" in note) == bool(marked), (place, note, marked)
        if marked:
            assert note.split()[0] == str(marked)


@pytest.mark.parametrize(
    ("operation", "tiles"),
    [
        ("Update application \u2013 Certificates and secrets management ", [1]),
        ("Add service principal credentials.", [1]),
        ("Add owner to application.", [1]),
        ("Add application.", [2]),
    ],
)
def test_a_credential_is_counted_in_its_own_tile_alone(operation: str, tiles: list[int]) -> None:
    """Six of them were six of applications as well."""
    conditions = ", ".join(applications_queries.FIGURES)
    row = duckdb.execute(f"SELECT {conditions} FROM (SELECT $1 AS operation)", [operation]).fetchone()

    assert row is not None
    assert [place for place, holds in enumerate(row) if holds] == tiles
