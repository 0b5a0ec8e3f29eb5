"""Where the lines of the Trail page lead."""

from __future__ import annotations

import asyncio
from dataclasses import replace as values_replaced
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from promises import guarantee

from asking import ask, board_of
from collected_week import CLOCK
from m365watch.board.access.audit_journal import TrailJournal
from m365watch.board.access.roles import Access, Role
from m365watch.board.pages.audit_trail import url_of
from m365watch.board.query.data_sources import Sources
from m365watch.lake.audit_trail_table import Deed
from triage_scene import AlwaysGate

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def deed(path: str, query: str = "", *, action: str = "view", status: int = 200) -> Deed:
    return Deed(1, NOW, "ann", "analyst", "192.0.2.1", "s", action, status, path, query, "")


@guarantee(43)
@pytest.mark.parametrize("url", ["/panel/trail/deeds", "/api/v1/trail/deeds", "/export/trail/deeds.csv"])
def test_what_others_asked_for_is_withheld_from_who_sees_no_contents(
    sources: Sources, tmp_path: Path, url: str
) -> None:
    """A filter and SQL may name a file; who looked at what, when and from where stays."""
    journal = TrailJournal(tmp_path, lake=lambda: None, collector_name="one")
    now = CLOCK.now()
    theirs, own = (
        deed("/search", "q=object%3A%22Lay-off+list.pdf%22"),
        deed("/sql", "sql=%27Own+words.pdf%27"),
    )
    journal.append([replace(theirs, time=now), replace(own, time=now, name="eve")])
    settings = values_replaced(sources.settings, state_directory=tmp_path)
    there = values_replaced(sources, settings=settings, facts=None)
    seeing = Access("eve", Role.ADMIN, tenants=None)
    told, withheld = (
        asyncio.run(ask(board_of(there, gate=AlwaysGate(one)), f"{url}?range=24h")).text
        for one in (seeing, values_replaced(seeing, sees_contents=False))
    )
    journal.close()

    assert [("Lay-off" in one, "Own words" in one) for one in (told, withheld)] == [
        (True, True),
        (False, True),
    ]
    assert "/search" in withheld
    assert "ann" in withheld


@pytest.mark.parametrize(
    ("line", "url"),
    [
        (deed("/overview", "range=7d"), "/overview?range=7d"),
        (deed("/overview"), "/overview"),
        (deed("/search/part", "q=user%3Aann+x&before=1764115200&shown=20"), "/search?q=user%3Aann+x"),
        (deed("/search/part", "before=1764115200"), "/search"),
        (deed("/panel/sign-ins/map", "range=7d"), "/sign-ins?range=7d#panel-map"),
        (deed("/panel/x"), ""),
        (deed("//evil.example/x"), ""),
        (deed("/overview", status=403), ""),
        (deed("/export/search/hits.csv", action="export"), ""),
        (deed("/api/v1/overview/figures", action="api"), ""),
    ],
)
def test_a_look_leads_to_the_whole_page(line: Deed, url: str) -> None:
    """Never to a part of one, which is no page by itself; what was no look at a page leads nowhere."""
    assert url_of(line) == url
