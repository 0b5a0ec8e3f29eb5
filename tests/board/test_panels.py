"""Every panel over a lake of a collector that has run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import duckdb
import msgspec
import pytest
from deltalake import DeltaTable
from patience import PATIENCE_S
from promises import guarantee

from asking import EVERYTHING, ask, ask_api_sql, ask_sql, board_of, document_of, sources_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.pages import alert, overview
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import activity_queries as activity
from m365watch.board.widgets.widget_types import Grid, Ranking, Tiles
from m365watch.common.errors import QueryStopped
from m365watch.lake.delta.missing_commits import Standing

PANELS = [(page.name, panel.name) for page in PAGES for panel in page.panels]
MAY_BE_EMPTY = {
    ("sign-ins", "sessions"),
    ("sign-ins", "first-seen"),
    ("sign-ins", "first-devices"),
    ("sign-ins", "countries"),
    ("sign-ins", "map"),
    ("sign-ins", "towns"),
    ("sign-ins", "journeys"),
    ("exchange", "outsiders"),
    ("sharepoint", "map"),
    ("sharepoint", "towns"),
    ("applications", "gates"),
    ("threats", "mail"),
    ("threats", "mail-by"),
    ("threats", "copilot-touched"),
    ("threats", "flows"),
    ("investigate", "figures"),
    ("investigate", "compare"),
    ("sql", "answer"),
    *(("alert", one.name) for one in alert.PAGE.panels),
    ("record", "record"),
    ("record", "alerts"),
    ("health", "needs"),
    ("health", "gaps"),
    ("health", "waiting"),
    ("health", "throttling"),
    ("health", "notifications"),
    ("health", "quarantine"),
    ("health", "audits"),
    ("collectors", "history"),
    ("trail", "deeds"),
}


@pytest.mark.parametrize(("page", "panel"), PANELS)
def test_a_panel_is_shown_and_is_json(board: Board, page: str, panel: str) -> None:
    """The fragment and the document come from one loader; where there are records, neither is empty."""
    if page == "sql":
        fragment = asyncio.run(ask_sql(board, "/panel/sql/answer", "SELECT 1"))
        document = document_of(asyncio.run(ask_api_sql(board, "/api/v1/sql/answer", "SELECT 1")))
    else:
        fragment = asyncio.run(ask(board, f"/panel/{page}/{panel}"))
        document = document_of(asyncio.run(ask(board, f"/api/v1/{page}/{panel}")))

    assert fragment.status == 200
    assert "trouble" not in fragment.text
    assert (page, panel) in MAY_BE_EMPTY or document["panel"]["empty"] is None
    if document["panel"]["empty"]:
        assert document["panel"]["empty"]["why"] in fragment.text.replace("&#39;", "'")


@guarantee(43)
@pytest.mark.parametrize(("page", "panel"), PANELS)
def test_who_may_see_another_tenant_sees_nothing(sources: Sources, page: str, panel: str) -> None:
    """No panel shows a record, a feed or an alert of a tenant that is not in somebody's scope."""
    stranger = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))
    found = next(one for place in PAGES if place.name == page for one in place.panels if one.name == panel)

    shape = asyncio.run(found.load(view_of("", stranger), sources))

    text = msgspec.json.encode(shape).decode()
    assert "@" not in text
    assert "Audit." not in text


def test_the_overview_counts_every_record(sources: Sources) -> None:
    """The number at the top is that of the lake."""
    assert sources.facts is not None
    lake = sources.settings.lake_directory
    assert lake is not None
    rows = DeltaTable(lake / "audit").to_pyarrow_dataset().count_rows()

    [(total,)] = asyncio.run(sources.ask(view_of("range=30d"), activity.TOTAL))

    assert total == rows > 0


@pytest.mark.parametrize(("given", "is_compared"), [("range=1h", False), ("range=24h", True)])
def test_the_last_hours_are_not_compared(sources: Sources, given: str, *, is_compared: bool) -> None:
    """Content comes an hour late or later: there would always be fewer records than before."""
    shape = asyncio.run(overview.figures(view_of(given), sources))

    assert isinstance(shape, Tiles)
    told = {one.label: one.note for one in shape.tiles}
    for label in ("Records", "Failed sign-ins"):
        assert (told[label] != "more is still to come") == is_compared


def test_what_microsoft_does_by_itself_hides_nothing(sources: Sources) -> None:
    """Its administrators and services are left out of what administrators did and of the latest records."""
    administration, latest = (
        asyncio.run(load(view_of("range=30d"), sources))
        for load in (overview.admin_activities, overview.recent)
    )
    theirs = asyncio.run(overview.admin_activities(view_of("range=30d&usertype=3&usertype=4"), sources))

    assert isinstance(administration, Grid)
    assert isinstance(latest, Grid)
    assert isinstance(theirs, Grid)
    counts = {row[0].text: row[1].sorts or 0 for row in administration.rows}
    every = asyncio.run(sources.ask(view_of("range=30d"), activity.ADMIN_ACTIVITIES_OF_ALL))
    hidden = {name.rstrip("."): count - counts.get(name.rstrip("."), 0) for name, count, *_ in every}
    assert {row[0].text: row[1].sorts for row in theirs.rows}.items() <= hidden.items()
    assert theirs.rows
    assert "Microsoft's own" in administration.cut
    assert not any("NT AUTHORITY" in row[3].text.upper() for row in latest.rows)


def test_a_panel_of_the_most_frequent_says_of_how_many(sources: Sources) -> None:
    """An operation that is not among them is not taken for one that nobody did."""

    class Frequent:
        standing = Standing.THERE

        async def ask(self, view: View, query: Query, **given: object) -> list[tuple[object, ...]]:
            return [(f"Set-{number:03}", 300 - number, 1, 250) for number in range(100)]

    there = replace(sources, facts=cast("FactsReader", Frequent()))
    some, of_all = (
        asyncio.run(overview.admin_activities(view_of(query), there)) for query in ("", "usertype=3")
    )

    assert isinstance(some, Grid)
    assert isinstance(of_all, Grid)
    assert some.cut.startswith("the 100 most frequent of 250 operations; ")
    assert of_all.cut == "the 100 most frequent of 250 operations"


def test_a_narrowed_view_counts_what_is_narrow(sources: Sources) -> None:
    """Filters of different columns hold together, whichever rollup serves them."""
    lake = sources.settings.lake_directory
    assert lake is not None
    files = DeltaTable(lake / "audit").file_uris()
    [(user, address)] = duckdb.execute(
        "SELECT user_id, client_ip FROM read_parquet($files) WHERE workload = 'Exchange' AND client_ip <> ''"
        " AND user_id LIKE '%@%' GROUP BY ALL ORDER BY count(*) DESC, 1, 2 LIMIT 1",
        {"files": files},
    ).fetchall()
    [(expected,)] = duckdb.execute(
        "SELECT count(*) FROM read_parquet($files) WHERE workload = 'Exchange' AND lower(user_id) = $user"
        " AND client_ip = $address",
        {"files": files, "user": user.lower(), "address": address},
    ).fetchall()
    view = view_of(f"range=30d&workload=Exchange&user={user}&ip={address}")

    [(total,)] = asyncio.run(sources.ask(view, activity.TOTAL))

    assert total == expected > 0


def test_whoever_leaves_is_not_worked_for(collected: Path) -> None:
    """A browser that went away gets no answer, and its query, which nobody asked before, is stopped."""
    sources = sources_of(collected)
    assert sources.facts is not None
    with closing(sources.facts):
        answer = asyncio.run(ask(board_of(sources), "/panel/overview/activity", leaves=True))

    assert answer.status in {200, 499}


def test_a_lake_that_is_not_there_is_told(tmp_path: Path, collected: Path) -> None:
    """Before the first run a page says what to do, and Overview, of nine panels, in one of them."""
    text = collected.read_text()
    (tmp_path / "m365watch.json").write_text(text)
    (tmp_path / "m365watch.json").chmod(0o600)
    board = board_of(sources_of(tmp_path / "m365watch.json"))

    shown = {
        panel.name: asyncio.run(ask(board, f"/panel/overview/{panel.name}")).text
        for panel in overview.PAGE.panels
    }
    search = asyncio.run(ask(board, "/panel/search/hits")).text

    assert "No record has arrived yet" in shown["activity"]
    assert [name for name, text in shown.items() if "This starts one: m365watch run" in text] == ["health"]
    assert not [name for name, text in shown.items() if "m365watch run starts one" in text]
    assert "m365watch run starts one" in search


def test_a_panel_is_exported_as_csv(board: Board) -> None:
    """What is shown can be taken along, and no value becomes a formula."""
    answer = asyncio.run(ask(board, "/export/overview/recent.csv"))

    assert answer.headers["content-disposition"] == 'attachment; filename="m365watch-overview-recent.csv"'
    assert answer.text.startswith("Time (UTC),Workload,Operation,Who,From,Result\n")
    assert len(answer.text.splitlines()) == 101


def test_the_scope_of_a_viewer_is_everything_here() -> None:
    """The gate of loopback gives all tenants; a narrower one gives fewer."""
    assert EVERYTHING.narrowed(()) is None


class Broken:
    """A lake of which nothing can be read."""

    is_there = True
    standing = Standing.THERE

    async def ask(self, *asked: object, **given: object) -> list[tuple[object, ...]]:
        raise QueryStopped("this took longer than 20 s", fix="choose a shorter time")


class Shuffled:
    """A lake that says who did most, and what they did, in an order of its own each time."""

    standing = Standing.THERE

    def __init__(self, rows: Sequence[tuple[object, ...]]) -> None:
        self.rows = list(rows)

    async def ask(self, view: View, query: Query, **given: object) -> list[tuple[object, ...]]:
        return [("bob", 5, 3), ("ann", 5, 3), ("cy", 5, 3)] if query is activity.TOP_PERSONS else self.rows


def test_who_did_as_much_stands_in_the_same_order_each_time(sources: Sources) -> None:
    """People and what they did come from two threads, in any order; nobody is to look for them anew."""
    rows = [
        (user, None, did, 2 + (did == "New"))
        for user in ("bob", "ann", "cy")
        for did in ("Set", "Get", "New")
    ]

    async def shown(of: Sequence[tuple[object, ...]]) -> list[tuple[str, str]]:
        shape = await overview.top_people(
            view_of(), replace(sources, facts=cast("FactsReader", Shuffled(of)))
        )
        assert isinstance(shape, Ranking)
        return [(one.label, one.note) for one in shape.rows]

    orders = [asyncio.run(shown(of)) for of in (rows, rows[::-1], rows[4:] + rows[:4])]

    assert orders == [[(one, "New 3, Get 2, Set 2") for one in ("ann", "bob", "cy")]] * 3


def test_a_panel_that_fails_says_so_by_itself(sources: Sources) -> None:
    """What went wrong and what to do stand in the panel, the document and the export; others go on."""
    broken = board_of(replace(sources, facts=cast("FactsReader", Broken())))

    fragment = asyncio.run(ask(broken, "/panel/overview/admin"))
    document = asyncio.run(ask(broken, "/api/v1/overview/admin"))
    export = asyncio.run(ask(broken, "/export/overview/admin.csv"))

    assert fragment.status == 200
    assert "this took longer than 20 s" in fragment.text
    assert "choose a shorter time" in fragment.text
    assert (document.status, export.status) == (503, 503)
    assert document_of(document)["fix"] == "choose a shorter time"
    assert document_of(document)["code"] == "query_stopped"
    assert asyncio.run(ask(broken, "/panel/overview/health")).status == 200


def test_a_stopped_query_leaves_the_reader_whole(sources: Sources) -> None:
    """Whoever stops waiting stops the query, and the next one is answered."""

    async def act() -> int:
        slow = Query("SELECT count(*) FROM facts, range(100000000) AS a, range(1000) AS b")
        waiting = asyncio.create_task(sources.ask(view_of("range=30d"), slow))
        await asyncio.sleep(0.3)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(PATIENCE_S):
            [(total,)] = await sources.ask(view_of("range=30d"), activity.TOTAL)
        return int(total)

    assert asyncio.run(act()) > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ann@contoso.example", True),
        ("contoso\\ann", True),
        ("nt authority\\system (microsoft.exchange.servicehost)", False),
        ("dlpagent", False),
        ("", False),
    ],
)
def test_people_are_known_by_their_names(name: str, expected: bool) -> None:
    """Those of a domain of Windows are people too."""
    sql = f"SELECT {activity.PEOPLE} FROM (SELECT $name AS user_id)"

    assert duckdb.execute(sql, {"name": name}).fetchall() == [(expected,)]
