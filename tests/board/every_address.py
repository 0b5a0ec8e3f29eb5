"""Every address of the board, with what it has to be told to show something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import urlencode

from asking import EVERYTHING, view_of
from m365watch.board.pages.page_registry import PAGES
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.sql import entity_queries as trails


def told_of(sources: Sources, *, has_alerts: bool = True) -> dict[str, dict[str, str]]:
    """What a page is told in its URL: an alert with records, a record, somebody to investigate."""
    view = view_of("range=30d", EVERYTHING)
    alerts = asyncio.run(sources.list_alerts(view)) if has_alerts else None
    rows = asyncio.run(sources.ask(view, trails.trail([])))
    about_file = next((row for row in rows if "/" in str(row[7])), rows[0])
    told = {"record": {"record": f"{about_file[1]}:{about_file[0]}"}, "investigate": {"user": about_file[4]}}
    if alerts:
        with_records = max(alerts, key=lambda one: len(one.alert.evidence))
        told["alert"] = {"alert": with_records.alert.id}
        told["investigate"] = {"user": with_records.alert.entity("user") or about_file[4]}
    return told


def every_panel(sources: Sources, *, has_alerts: bool = True) -> Iterator[tuple[str, str, str]]:
    """Page, panel, and the query of its URL, for all that are registered and have no body."""
    told = told_of(sources, has_alerts=has_alerts)
    for page in PAGES:
        query = urlencode({"range": "30d"} | told.get(page.name, {}))
        for panel in page.panels:
            if panel.posted:
                continue
            yield page.name, panel.name, query


def every_answer(sources: Sources, *, has_alerts: bool = True) -> Iterator[str]:
    """The path of everything that can be read: pages, panels, documents and exports."""
    told = told_of(sources, has_alerts=has_alerts)
    for page in PAGES:
        yield f"/{page.name}?{urlencode({'range': '30d'} | told.get(page.name, {}))}"
    for name, panel, query in every_panel(sources, has_alerts=has_alerts):
        yield f"/panel/{name}/{panel}?{query}"
        yield f"/api/v1/{name}/{panel}?{query}"
        yield f"/export/{name}/{panel}.csv?{query}"
