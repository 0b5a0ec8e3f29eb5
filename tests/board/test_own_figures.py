"""What the board tells of itself at `/metrics`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api_calls import Door
from asking import ask, board_of, sources_of, view_of
from m365watch.board.access.roles import Scope
from m365watch.board.app.application import Board
from m365watch.board.app.request_metrics import Queries, kind_of
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.sql.activity_queries import TOTAL
from m365watch.common.errors import LakeUnusable, QueryStopped
from signing import Browser, entrance_in, user_named

Samples = dict[tuple[str, ...], float]


def figures(board: Board) -> Samples:
    """What a scrape has of the board itself, by name and labels."""
    text = asyncio.run(ask(board, "/metrics")).text
    return {
        (sample.name.removeprefix("m365watch_board_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("m365watch_board_")
    }


def test_what_is_asked_of_the_board_is_counted(sources: Sources) -> None:
    """By kind and what became of it, with how long it took; made-up addresses are no kinds of their own."""
    board = board_of(replace(sources, requests=type(sources.requests)()))

    async def act() -> None:
        for url in ("/overview", "/a-page", "/another", "/panel/overview/figures", "/healthz", "/search?q=x"):
            await ask(board, url)
        await ask(board, "/panel/overview/recent?range=7d", leaves=True)
        await ask(board, "/alerts/state", method="POST")

    asyncio.run(act())
    found = figures(board)

    assert found["requests_total", "page", "2xx"] == 2
    assert found["requests_total", "page", "4xx"] == 2
    assert found["requests_total", "panel", "2xx"] == 1
    assert found["requests_total", "panel", "left"] == 1
    assert found["requests_total", "change", "4xx"] == 1
    assert found["requests_open", "probe"] == 1, "the scrape itself"
    assert found["request_seconds_count", "page"] == 4
    assert found["request_seconds_bucket", "page", "32"] == 4


@pytest.mark.parametrize(
    ("path", "method", "kind"),
    [
        ("/static/1/board.css", "GET", None),
        ("/live", "GET", "live"),
        ("/search/part", "GET", "search"),
        ("/export/search/hits.csv", "GET", "export"),
        ("/api/v1/alerts", "POST", "api"),
        ("/sign-in/entra/back", "GET", "sign-in"),
        ("/sign-ins", "GET", "page"),
        ("/collectors/apply", "POST", "change"),
    ],
)
def test_each_request_is_of_one_of_few_kinds(path: str, method: str, kind: str | None) -> None:
    """So that the number of series is bounded."""
    assert kind_of({"type": "http", "path": path, "method": method}) == kind


def test_questions_to_the_lake_are_counted_by_how_they_end(collected: Path) -> None:
    """Those that a browser has gone away from, too."""
    sources = sources_of(collected)
    assert sources.facts is not None
    view = view_of("range=30d")
    queries = sources.facts.queries

    async def act() -> int:
        await sources.ask(view, TOTAL)
        left = asyncio.create_task(sources.ask(replace(view, page="x"), TOTAL))
        while not queries.running["panel"]:
            await asyncio.sleep(0)
        running = queries.running["panel"]
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        return running

    assert asyncio.run(act()) == 1
    found = figures(board_of(sources))
    assert found["queries_total", "panel", "answered"] == 1
    assert found["queries_total", "panel", "cancelled"] == 1
    assert found["queries_running", "panel"] == 0
    sources.facts.close()


@pytest.mark.parametrize(
    ("error", "ended"),
    [(QueryStopped("too long", fix="less"), "stopped"), (LakeUnusable("x", fix="y"), "failed")],
)
def test_a_question_that_fails_is_told_from_one_that_was_stopped(error: Exception, ended: str) -> None:
    """A limit is the question's own doing."""
    queries = Queries()

    with pytest.raises(type(error)), queries.one_more("sql"):
        raise error

    assert (queries.ended, queries.running["sql"]) == ({("sql", ended): 1}, 0)


def test_sessions_are_counted_where_people_sign_in(tmp_path: Path, sources: Sources) -> None:
    """Those that are open: after a sign-out it is none."""
    entrance, clock = entrance_in(tmp_path, user_named("ann"))
    board = board_of(sources, entrance=entrance)
    ann = Browser(board, client="192.0.2.7")

    def count() -> int:
        return entrance.sessions.count(clock.now().timestamp())

    asyncio.run(ann.sign_in("ann"))
    assert count() == 1
    asyncio.run(clock.advance(13 * 3600))
    assert count() == 0
    assert "board_sessions" not in "".join(name for name, *_ in figures(board_of(sources)))
    shown = board_of(replace(sources, count_sessions=count))
    assert figures(shown)["sessions",] == 0


def test_a_token_for_some_tenants_has_nothing_of_them(sources: Sources, tmp_path: Path) -> None:
    """They are of everybody who asks."""
    door = Door(sources, tmp_path)
    tenant = sources.settings.tenants[0].tenant_id.lower()

    assert "m365watch_board_" not in door.call("/metrics", door.token(Scope.METRICS, tenants=(tenant,))).text
    assert "m365watch_board_" in door.call("/metrics", door.token(Scope.METRICS)).text
