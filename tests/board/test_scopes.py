"""Somebody of one tenant and the records of another: at no address, whatever will be added."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

import duckdb
import pytest
from deltalake import DeltaTable
from promises import guarantee

from asking import ask, board_of, document_of, view_of
from every_address import every_answer
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.query.data_sources import Sources
from test_withheld import OnlyGate

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))
ASKED = {"range": "30d", "dimension": "user", "typed": "a", "q": "", "at": "0", "sql": "SELECT * FROM audit"}
"""What a route that is no page may want to be told."""
THEIR_OWN = {"/search/saved", "/search/saved/{number:int}/remove"}
"""What anybody may change: what is theirs."""
ASKED_BY_POST = {"/panel/{page}/{panel}", "/export/sql/answer.csv", "/export/sql/answer.ndjson"}
"""What is asked, and changes nothing."""
VIEWER = Access("vera", Role.VIEWER, tenants=None)


@pytest.fixture
def strange(sources: Sources) -> Board:
    """The board, as somebody of another tenant has it."""
    return board_of(sources, gate=OnlyGate(STRANGER))


def known_of(sources: Sources) -> set[str]:
    """What only this tenant's records say: people, addresses, ids, and its own id."""
    lake = sources.settings.lake_directory
    assert lake is not None
    rows = duckdb.execute(
        "SELECT DISTINCT unnest([user_id, client_ip, session_id, tenant_id]) FROM read_parquet($files,"
        " hive_partitioning = true)",
        {"files": DeltaTable(lake / "audit").file_uris()},
    ).fetchall()
    return {one for (one,) in rows if one and len(one) >= 9 and ("@" in one or "." in one or "-" in one)}


@guarantee(43)
@pytest.mark.slow
def test_nothing_of_another_tenant_is_at_any_address(sources: Sources, strange: Board) -> None:
    """Pages, panels, documents and exports, asked for by name, by id and by the other tenant."""
    known = known_of(sources)
    tenant = next(one.tenant_id for one in sources.settings.tenants)
    assert len(known) > 50

    for url in every_answer(sources):
        asked = f"{url}&tenant={tenant}"
        text = asyncio.run(ask(strange, asked)).text
        # What the URL itself says of people stands in the filters; nothing else may.
        assert {one for one in known if one in text and one not in asked.replace("%40", "@")} == set(), url


def test_news_of_another_tenant_are_told_to_nobody(strange: Board, sources: Sources) -> None:
    """An alert of another tenant is not changed either, and is as if it were not there."""
    page = asyncio.run(ask(strange, "/overview")).text
    token = page.partition('name="csrf-token" content="')[2][:64]
    alerts = asyncio.run(sources.list_alerts(view_of("range=30d"))) or []
    alert = alerts[0].alert.id
    body = json.dumps({"ids": [alert], "state": "closed", "reason": "mine"}).encode()

    answer = asyncio.run(
        ask(strange, "/alerts/state", method="POST", headers={TOKEN_HEADER: token}, body=body)
    )

    assert answer.status == 404
    assert "no such alert" in document_of(answer)["says"]


@guarantee(43)
def test_no_other_route_shows_anything_of_another_tenant(sources: Sources, strange: Board) -> None:
    """Whatever is asked for beside pages and panels; news, completions, exports, and what will be added."""
    known = known_of(sources)
    for path, methods in routes_of(strange).items():
        if "GET" in methods and "{" not in path and path != "/live" and not path.startswith("/static/"):
            text = asyncio.run(ask(strange, f"{path}?{urlencode(ASKED)}")).text
            assert {one for one in known if one in text} == set(), path


def test_whoever_only_sees_changes_nothing(sources: Sources) -> None:
    """Every route that changes something, whatever will be added, is refused to a viewer."""
    board = board_of(sources, gate=OnlyGate(VIEWER))
    page = asyncio.run(ask(board, "/overview")).text
    headers = {TOKEN_HEADER: page.partition('name="csrf-token" content="')[2][:64]}
    changing = (
        {path for path, methods in routes_of(board).items() if "POST" in methods} - THEIR_OWN - ASKED_BY_POST
    )

    for path in changing:
        answer = asyncio.run(ask(board, path, method="POST", headers=headers, body=b"{}"))
        assert answer.status == 403, path
    assert len(changing) >= 2


def routes_of(board: Board) -> dict[str, set[str]]:
    """The methods of each path; those of a mount are GET."""
    found: dict[str, set[str]] = {}
    for route in board.app.routes:
        methods = getattr(route, "methods", None) or {"GET"}
        found.setdefault(str(getattr(route, "path", "")), set()).update(methods)
    return found
