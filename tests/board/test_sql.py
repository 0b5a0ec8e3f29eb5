"""SQL on the board: an analyst's own, over their tenants and nothing else."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from made_outputs import lake_in
from promises import guarantee
from starlette.requests import HTTPConnection

from asking import EVERYTHING, ask, ask_api_sql, ask_sql, board_of, view_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.pages import sql
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.widgets.widget_types import Grid
from m365watch.common.errors import QueryRefused, QueryStopped

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))
VIEWER = Access("vera", Role.VIEWER, tenants=None)


class GateFor:
    """Whoever comes is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: HTTPConnection) -> Access:
        return self._access


def test_before_the_first_record_sql_says_what_all_else_says(sources: Sources, tmp_path: Path) -> None:
    """Nobody is told to run a collector that runs already and is about to bring the first records."""
    lake = tmp_path / "lake"
    state = replace(sources.settings, state_directory=tmp_path, outputs=(lake_in(lake),))
    empty = replace(sources, settings=state, facts=FactsReader(lake))
    said = [
        asyncio.run(ask_sql(board_of(empty), "/panel/sql/answer", "SELECT 1")).text,
        asyncio.run(ask(board_of(empty), "/panel/overview/recent")).text,
    ]

    assert [one.count("No record has arrived yet.") for one in said] == [1, 1]


def test_sql_answers_and_its_values_lead_on(sources: Sources) -> None:
    """Numbers sort as numbers, users and addresses lead to all that has them, nulls are muted."""
    text = (
        "SELECT user_id, client_ip, count(*) AS n, NULL AS nothing, max(created_at) AS last, [1, 2] AS list,"
        " encode('é') AS bytes, 1.5::DECIMAL(5, 2) AS price FROM audit WHERE client_ip IS NOT NULL"
        " GROUP BY ALL ORDER BY n DESC"
    )
    shape = asyncio.run(sql.answer(view_of(urlencode({"sql": text})), sources))

    assert isinstance(shape, Grid)
    assert [one.text for one in shape.headings][:3] == ["user_id", "client_ip", "n"]
    assert [one.numeric for one in shape.headings][:3] == [False, False, True]
    first = shape.rows[0]
    assert first[0].url.startswith("/investigate?user=")
    assert first[1].url.startswith("/investigate?ip=")
    assert float(first[2].text) == first[2].sorts
    assert (first[3].text, first[3].tone) == ("", "muted")
    assert first[4].text.endswith("Z")
    assert [one.text for one in first[5:]] == ["[1, 2]", "c3a9", "1.50"]


HOSTILE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('{lake}/audit/_delta_log/00000000000000000000.json')",
    "COPY audit TO '/tmp/stolen.csv'",
]
"""A file of the system, one of the lake, a statement: all ways are tried in tests/lake/test_sandbox.py."""


@guarantee(18)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_sql_is_refused(board: Board, sources: Sources, text: str) -> None:
    """The page has one line for it, and no traceback."""
    text = text.format(lake=sources.settings.lake_directory)
    answer = asyncio.run(ask_sql(board, "/panel/sql/answer", text))

    assert answer.status == 200
    assert 'class="empty trouble"' in answer.text
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text


def test_a_field_of_the_record_is_told_from_a_column(board: Board) -> None:
    """Whoever knows records writes UserId, which no column is called."""
    page = asyncio.run(ask_sql(board, "/panel/sql/answer", "SELECT UserId, CreationTime FROM audit")).text

    assert re.search(r"field\(raw, &#39;\$\.(UserId|CreationTime)&#39;\)", page)


@guarantee(43)
@pytest.mark.slow
def test_a_strangers_sql_sees_no_record(sources: Sources) -> None:
    """Neither by the table, nor by an alias, nor by what the table itself was made of."""
    tables = ("audit", "exchange", "alerts", '"cloud.office365.management"')
    text = f"SELECT {' + '.join(f'(SELECT count(*) FROM {one})' for one in tables)} AS n"
    for access, seen in ((STRANGER, False), (EVERYTHING, True)):
        told = asyncio.run(sources.ask_sql(view_of("", access), text, rows_max=1))
        assert told is not None
        assert bool(told.rows[0][0]) is seen


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["SELECT path FROM board_trail", 'SELECT n FROM (SELECT count(*) AS n FROM "BOARD_TRAIL") AS a']
)
def test_what_people_did_is_told_to_administrators(sources: Sources, text: str) -> None:
    """By SQL as by the page; whoever may not see it is not left to think that nobody did anything."""
    analyst = Access("ana", Role.ANALYST, tenants=None)

    assert asyncio.run(sources.ask_sql(view_of(), text, rows_max=1)) is not None
    with pytest.raises(QueryRefused, match="board_trail is for the role admin"):
        asyncio.run(sources.ask_sql(view_of("", analyst), text, rows_max=1))


@guarantee(18)
@pytest.mark.slow
def test_bombs_are_stopped(sources: Sources) -> None:
    """One that would never end, one that would take all memory."""
    endless = "SELECT count(*) FROM range(100000000000000) AS a (i) WHERE hash(i) = 1"
    greedy = "SELECT list(repeat('x', 1000) || range::VARCHAR) FROM range(100000000)"
    for text, limit_s, words in ((endless, 1.0, "longer than"), (greedy, 250.0, "more memory")):
        with pytest.raises(QueryStopped, match=words):
            asyncio.run(sources.ask_sql(view_of(), text, rows_max=10, limit_s=limit_s))


ENDLESS = "SELECT count(*) FROM range(100000000000000) AS a (i) WHERE hash(i) = 1"


def children() -> set[str]:
    """The processes that this one has started and that are there."""
    found = set[str]()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            found.update((task / "children").read_text().split())
    return found


@guarantee(18)
@pytest.mark.parametrize("place", ["panel/sql/answer", "api/v1/sql/answer", "export/sql/answer.ndjson"])
def test_a_query_ends_with_the_browser_that_asked(board: Board, place: str) -> None:
    """The browser goes while its query is at work, which nothing else ends for half a minute."""

    async def act() -> int:
        before = children()
        asking = ask_api_sql if "api" in place else ask_sql
        left = await asking(board, f"/{place}", ENDLESS, leaves_when=lambda: bool(children() - before))
        async with asyncio.timeout(60):
            while children() - before:
                await asyncio.sleep(0.01)
        return left.status

    assert asyncio.run(act()) == 499


@guarantee(18)
def test_whoever_leaves_ends_the_process(sources: Sources) -> None:
    """The child that works for a browser that went away is killed, and not left to its limit."""

    async def act() -> None:
        before = children()
        asking = asyncio.create_task(sources.ask_sql(view_of(), ENDLESS, rows_max=1, limit_s=250.0))
        while not children() - before:
            await asyncio.sleep(0.01)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(60):
            while children() - before:
                await asyncio.sleep(0.01)

    asyncio.run(act())


@guarantee(43)
def test_only_analysts_ask_sql(sources: Sources) -> None:
    """Neither the page, nor the panel, nor the document, nor an export answers to anybody else."""
    viewer = board_of(sources, gate=GateFor(VIEWER))

    assert asyncio.run(ask(viewer, "/sql?sql=SELECT+1")).status == 404
    for place in ("/panel/sql/answer", "/export/sql/answer.csv", "/export/sql/answer.ndjson"):
        assert asyncio.run(ask_sql(viewer, place, "SELECT 1", of="/overview")).status == 404, place
    assert asyncio.run(ask_api_sql(viewer, "/api/v1/sql/answer", "SELECT 1", of="/overview")).status == 403
    assert "/sql" not in asyncio.run(ask(viewer, "/search")).text


@pytest.mark.slow
def test_an_answer_is_exported(board: Board) -> None:
    """As rows for a spreadsheet and as lines of JSON, formulas made harmless in the one alone."""
    text = "SELECT '=1' AS a, 2 AS b, NULL AS c UNION ALL SELECT 'x', 3, NULL ORDER BY b"

    table = asyncio.run(ask_sql(board, "/export/sql/answer.csv", text))
    lines = asyncio.run(ask_sql(board, "/export/sql/answer.ndjson", text))
    wrong = asyncio.run(ask_sql(board, "/export/sql/answer.csv", "SELEC 1"))
    nothing = asyncio.run(ask_sql(board, "/export/sql/answer.csv", ""))

    assert list(csv.reader(io.StringIO(table.text))) == [["a", "b", "c"], ["'=1", "2", ""], ["x", "3", ""]]
    assert [json.loads(one) for one in lines.body.splitlines()] == [
        {"a": "=1", "b": 2, "c": None},
        {"a": "x", "b": 3, "c": None},
    ]
    assert (wrong.status, nothing.status) == (503, 400)
    assert "Traceback" not in wrong.text


def test_sql_that_is_too_long_is_not_cut(sources: Sources) -> None:
    """A part of a question is another question."""
    shape = asyncio.run(sql.answer(view_of(urlencode({"sql": "x" * 9_000})), sources))

    assert shape.empty
    assert "longer than 8,000" in shape.empty.why
