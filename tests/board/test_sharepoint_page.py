"""Files shared and taken."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from asking import ask, view_of
from m365watch.board.app.application import Board
from m365watch.board.pages.sharepoint import activity, figures, shared_by, sharing, sites
from m365watch.board.query.caches import NameMemory
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.display_names import spell_sites
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.query_planner import Query
from m365watch.board.query.sql import sharepoint_queries as sharepoint
from m365watch.board.query.sql.aggregates import COUNT, added
from m365watch.board.widgets.change_flags import alerts_by_record, list_changes
from m365watch.board.widgets.labels import short
from m365watch.board.widgets.widget_types import Chart, Grid, Several, Tiles
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part, make_record


def shared(target: str, kind: str, operation: str = "SharingSet") -> tuple[str, str]:
    """With whom a record says that something was shared, and how much it stands out."""
    raw = f'{{"TargetUserOrGroupName":"{target}","TargetUserOrGroupType":"{kind}"}}'
    row: tuple[Any, ...] = (0, operation, "ann@x", "", "ok", "https://x/sites/a", raw)
    cell = shared_by(view_of(), (*row, "1"), among_all=False).cells[3]
    return cell.text, cell.tone


def test_who_is_outside_stands_out() -> None:
    """Guests by their kind and by their name, and links for anybody by both of their records."""
    assert shared("bob@x", "Member") == ("bob@x", "")
    assert shared("eve@y", "Guest") == ("eve@y", "medium")
    assert shared("eve_y#EXT#@x", "Member")[1] == "medium"
    assert shared("SharingLinks.1.AnonymousEdit.2", "SharePointGroup") == ("anybody", "high")
    assert shared("", "", "AnonymousLinkUsed") == ("anybody", "high")


def record_of(number: int, operation: str, target: str, file: str = "a.docx") -> bytes:
    """A record of sharing."""
    told = {"Operation": operation, "RecordType": 14, "Workload": "SharePoint", "SourceFileName": file}
    whom = {"TargetUserOrGroupName": target, "TargetUserOrGroupType": "SharePointGroup"}
    return json.dumps(json.loads(make_record(number)) | told | whom).encode()


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_link_is_counted_once_and_no_name_of_a_file_is_one(
    sources: Sources, tmp_path: Path, is_kept: bool
) -> None:
    """Beside a link that is made a SharingSet says the same, and a file may be called Anonymous."""
    records = [
        record_of(1, "AnonymousLinkCreated", ""),
        record_of(2, "SharingSet", "SharingLinks.1.AnonymousEdit.2"),
        record_of(3, "AnonymousLinkUsed", ""),
        record_of(4, "AnonymousLinkRemoved", ""),
        record_of(5, "SharingSet", "Staff", "Anonymous feedback.docx"),
    ]
    lake = tmp_path / "lake"
    AuditWriter(lake, app_id="x").append(make_batch(1, [make_part(records, outputs=["lake"])]))
    if is_kept:
        keep_rollups(lake)
    there = replace(sources, facts=FactsReader(lake))
    view = view_of("from=2026-11-10T00:00&to=2026-11-24T00:00")

    [guests, links, is_open, shared, *_] = added(
        asyncio.run(there.ask(view, sharepoint.COUNTS.query)), len(sharepoint.COUNTS.conditions)
    )
    assert there.facts is not None
    there.facts.close()

    assert (guests, links, is_open, shared) == (0, 2, 4, 5)


def test_a_chart_counts_all_however_many_operations_there_are(sources: Sources, tmp_path: Path) -> None:
    """A hundred at each of a hundred hours are as many rows as were read of any query."""
    begin = datetime(2026, 11, 10, tzinfo=UTC)
    told = {"RecordType": 6, "Workload": "SharePoint", "UserId": "ann@x"}
    records = [
        json.dumps(
            {"Id": str(UUID(int=hour * 1_000 + one)), "Operation": f"Op{one}", **told}
            | {"CreationTime": f"{begin + timedelta(hours=hour):%Y-%m-%dT%H:%M:%S}"}
        ).encode()
        for hour in range(108)
        for one in range(100)
    ]
    lake = tmp_path / "lake"
    AuditWriter(lake, app_id="x").append(make_batch(1, [make_part(records, outputs=["lake"])]))
    there = replace(sources, facts=FactsReader(lake))
    view = view_of("from=2026-11-10T00:00&to=2026-11-14T12:00")

    shape = asyncio.run(activity(view, there))
    assert there.facts is not None
    there.facts.close()

    assert isinstance(shape, Chart)
    assert sum(sum(line.values) for line in shape.lines) == len(records)


BY_WORKLOAD = f"SELECT workload, {COUNT} FROM facts WHERE {sharepoint.IN_SITES} GROUP BY ALL"


@pytest.mark.parametrize("narrowed", ["", "&workload=SharePoint", "&operation=FileAccessed"])
def test_the_first_tiles_count_every_record(sources: Sources, narrowed: str) -> None:
    """As the chart below them does: not only what was done with files, but fields and DLP, too."""
    view = view_of(f"range=30d{narrowed}")
    shape = asyncio.run(figures(view, sources))
    rows = asyncio.run(sources.ask(view, Query(BY_WORKLOAD, frozenset({"workload", "operation"}))))
    counts = {"SharePoint": 0, "OneDrive": 0, **dict(rows)}

    assert isinstance(shape, Tiles)
    assert {one.label: one.value for one in shape.tiles[:2]} == {
        name: short(number) for name, number in counts.items()
    }
    assert [sum(one.spark) for one in shape.tiles[:2]] == [counts["SharePoint"], counts["OneDrive"]]


def test_what_stays_inside_is_shown_when_asked_for(sources: Sources) -> None:
    """Sharing outside is a part of all sharing."""
    outside = asyncio.run(sharing(view_of("range=30d"), sources))
    everything = asyncio.run(sharing(view_of("range=30d&by=everybody"), sources))

    assert isinstance(outside, Several)
    assert isinstance(everything, Several)
    assert 0 < len(rows_of(outside)) < len(rows_of(everything))
    assert all(row[4].tone for row in rows_of(outside))


def test_what_is_open_to_anybody_or_in_an_alert_stands_first(sources: Sources) -> None:
    """Whatever was shared with guests since; what took a link away is no danger."""
    view = view_of("range=30d")
    alerts = asyncio.run(alerts_by_record(view, sources))
    rows = rows_of(asyncio.run(sharing(view, sources)))
    found = [(bool(row[3].text), row[0].sorts) for row in rows]
    severities = [row[3].sorts or -1 for row in rows]

    assert severities == sorted(severities, reverse=True)
    assert found == sorted(found, key=lambda one: not one[0])
    ids = {parse_qs(urlsplit(row[0].url).query)["record"][0].partition(":")[2]: row[3].url for row in rows}
    assert {one for one, url in ids.items() if url} == ids.keys() & alerts.keys()
    assert ids.keys() & alerts.keys()


@pytest.mark.parametrize(
    ("operation", "marks"),
    [
        ("AnonymousLinkCreated", ["open to anybody"]),
        ("AnonymousLinkRemoved", []),
        ("SharingSet", ["outside"]),
    ],
)
def test_a_link_that_is_taken_away_does_not_stand_out(operation: str, marks: list[str]) -> None:
    """Among all sharing guests stand out as well."""
    raw = '{"TargetUserOrGroupName":"eve@y","TargetUserOrGroupType":"Guest"}'
    row: tuple[Any, ...] = (0, operation, "ann@x", "", "ok", "https://x/sites/a", raw, "1")

    assert [one.words for one in shared_by(view_of(), row, among_all=True).marks] == marks


def test_older_links_are_not_asked_for_where_they_fill_the_table(sources: Sources) -> None:
    """Of many, those that are the worst are asked for alone; of few, once."""
    asked: list[object] = []

    class Counting:
        """Sources that count so many of each."""

        def __init__(self, *counts: int) -> None:
            self.counts = counts

        async def ask(self, view: object, query: Query, **given: object) -> list[tuple[int, ...]]:
            asked.append(query)
            return [(0, *self.counts)] if query.is_rough else []

        async def list_alerts(self, view: object) -> list[object]:
            return []

    for anonymous, outside in ((3, 9), (250, 400), (0, 400)):
        counting = cast("Sources", Counting(0, 0, anonymous, 0, outside, 0, 0))
        asyncio.run(list_changes(view_of(), counting, sharepoint.SHARING_OUTSIDE))

    newest, worst = sharepoint.SHARING_OUTSIDE.newest, sharepoint.SHARING_OUTSIDE.marked
    assert [one for one in asked if one != asked[0]] == [newest, worst, newest]


def test_sites_are_written_as_records_write_them(sources: Sources) -> None:
    """Rollups have them in lower case; whoever has no site among the newest records keeps that."""
    lake = sources.settings.lake_directory
    assert lake is not None
    told = LakeReader(lake).query("SELECT DISTINCT field(raw, '$.SiteUrl') FROM audit", rows_max=10_000)
    written = {str(row[0]).rstrip("/").split("/", 3)[-1] for row in told.rows if row[0]}

    shape = asyncio.run(sites(view_of("range=30d"), sources))

    assert isinstance(shape, Several)
    shown = {row[0].text for row in cast("Grid", shape.parts[0]).rows}
    assert shown <= written
    assert shown != {one.lower() for one in shown}


def test_a_site_is_not_written_as_another_that_begins_so() -> None:
    """Only what its address is the beginning of, up to a slash, tells how it is written."""
    view = view_of("range=30d")

    class Newest:
        """Sources whose newest records are about these."""

        site_names = NameMemory()

        async def ask(self, view: object, query: Query) -> list[tuple[str]]:
            return [("https://x/sites/HRplus/a.txt",), ("https://x/sites/Hr/B.txt",), ("https://x/sites/It",)]

    wanted = ["https://x/sites/hr", "https://x/sites/it", "https://x/sites/h"]
    spelled = asyncio.run(spell_sites(view, cast("Sources", Newest()), wanted))

    assert spelled == {"https://x/sites/hr": "https://x/sites/Hr", "https://x/sites/it": "https://x/sites/It"}


def rows_of(shape: Any) -> Any:
    [grid] = shape.parts
    return getattr(grid, "rows", ())


def test_where_nothing_is_outside_all_sharing_is_a_click_away(board: Board) -> None:
    """The choice stays where the first way to show it has nothing to show."""
    page = asyncio.run(ask(board, "/panel/sharepoint/sharing?user=nobody@nowhere.example")).text

    assert "by=everybody" in page
    assert 'class="empty"' in page
