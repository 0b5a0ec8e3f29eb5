"""A lake that was moved: pages whose time reaches before it say where the records of before are."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from asking import ask, board_of, sources_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages import overview, search
from m365watch.board.pages.alert import evidence
from m365watch.board.pages.page_registry import PAGES, page_named
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.widgets.widget_types import Hits, Tiles
from m365watch.common.clock import SystemClock
from m365watch.health.config_status import MEMORY, ConfigurationNote, EarlierLake
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.writer.table_writer import OpenTable
from m365watch.ledger.sqlite_ledger import LEDGER_FILE

MONTH = view_of("range=30d")
MOVED_S = MONTH.now.timestamp() - 600


@pytest.fixture
def moved(collected: Path, tmp_path: Path) -> Sources:
    """The week's collector, which writes to another lake since ten minutes ago; the old one is there."""
    folder = tmp_path / "place"
    shutil.copytree(collected.parent, folder)
    file = folder / collected.name
    outputs = {"other": {"type": "lake", "config": {"directory": "new"}}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"outputs": outputs}))
    OpenTable(folder / "new", AUDIT_TABLE).commit([], numbers={})
    note_move(file, until_s=MOVED_S)
    return sources_of(file)


def note_move(file: Path, *, until_s: float) -> None:
    """The ledger remembers until when the lake before was written to."""
    lake = EarlierLake(str(file.parent / "lake"), until_s)
    state = sources_of(file).settings.state_directory
    with closing(sqlite3.connect(state / LEDGER_FILE)) as ledger, ledger:
        note = ConfigurationNote(until_s, earlier=[lake])
        ledger.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (MEMORY, note.body()))


def said(sources: Sources, view: View = MONTH) -> list[str]:
    """What the overview and the search say of it."""
    figures = asyncio.run(overview.figures(view, sources))
    hits = asyncio.run(search.hits(view, sources))
    assert isinstance(hits, Hits)
    assert isinstance(figures, Tiles)
    # Where nothing was found at all, what to do about that is where it stands.
    assert hits.empty is None or not hits.note or hits.empty.then == hits.note
    return [figures.note, hits.note]


def test_pages_say_where_the_records_before_are(moved: Sources) -> None:
    """Since when the lake is this one, and the folder of the one before for who may know it."""
    old = moved.settings.path.parent / "lake"
    for words in said(moved):
        assert words.startswith("This lake is written to since ")
        assert words.endswith(f"; what was fetched before is in {old}.")
    scoped = Access("bob", Role.ANALYST, None)
    for words in said(moved, view_of("range=30d", scoped)):
        assert words.endswith("; what was fetched before is in another lake.")

    [alert, *_] = asyncio.run(moved.list_alerts(MONTH)) or []
    shown = asyncio.run(evidence(view_of(f"range=30d&alert={alert.alert.id}"), moved))
    assert shown.empty is not None
    assert str(old) in shown.empty.then


ABOUT = {"investigate": "&user=ann@contoso.example"}
ELSEWHERE = {"alerts", "alert", "record", "sql", "health", "collectors", "instance"}
"""Pages of other things than the records and deeds of a time."""
OF_THE_LAKE = [one.name for one in PAGES if one.name not in ELSEWHERE]


@pytest.mark.parametrize("name", OF_THE_LAKE)
def test_every_page_of_the_lake_says_what_is_elsewhere(moved: Sources, name: str) -> None:
    """A page that shows little, or that nobody did anything, must not read as if nothing had been."""
    board = board_of(moved)
    page = page_named(name)
    assert page is not None
    urls = [f"/panel/{name}/{panel.name}?range=30d{ABOUT.get(name, '')}" for panel in page.panels]
    texts = [asyncio.run(ask(board, url)).text for url in urls]

    assert any("what was fetched before is in" in one for one in texts)
    assert not [url for url, text in zip(urls, texts, strict=True) if "No record has arrived" in text]


def test_nothing_is_said_where_nothing_is_elsewhere(moved: Sources) -> None:
    """A time since then; the lake of before with its records in the new place; one that is no more."""
    after = MONTH.now + timedelta(hours=1)
    view = view_of(f"from={after:%Y-%m-%dT%H:%M}&to={after + timedelta(hours=2):%Y-%m-%dT%H:%M}")
    assert said(moved, view)[1] == ""

    folder = moved.settings.path.parent
    shutil.rmtree(folder / "new")
    shutil.copytree(folder / "lake", folder / "new")
    now_s = SystemClock().now().timestamp()  # a lake's tables say by the machine's clock when they were made
    note_move(moved.settings.path, until_s=now_s + 7_200)
    assert said(sources_of(moved.settings.path)) == ["", ""]
    shutil.rmtree(folder / "lake")
    assert said(sources_of(moved.settings.path)) == ["", ""]
