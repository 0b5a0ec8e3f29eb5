"""The search: what is found, in which parts, within whose rights."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlencode

import duckdb
import pytest
from deltalake import DeltaTable

from asking import EVERYTHING, Answer, ask, board_of, document_of, view_of
from m365watch.board.access import Access, Role
from m365watch.board.hits_reader import HitsReader
from m365watch.board.pages import search
from m365watch.board.serving import Board
from m365watch.board.shapes import Hits
from m365watch.board.sources import Sources

STRANGER = Access("bob", Role.ADMIN, tenants=frozenset({"00000000-0000-4000-8000-000000000000"}))


def counted(collected: Path, condition: str) -> int:
    """How many records fulfil a condition, read from the lake's files by nothing of ours."""
    files = DeltaTable(collected.parent / "lake" / "audit").file_uris()
    sql = f"SELECT count(*) FROM read_parquet($files) WHERE {condition}"
    return int((duckdb.execute(sql, {"files": files}).fetchone() or (0,))[0])


def searched(sources: Sources, query: str, access: Access = EVERYTHING) -> Hits:
    shape = asyncio.run(search.hits(view_of(query, access), sources))
    assert isinstance(shape, Hits)
    return shape


FOUND = [
    ("op:UserLoggedIn", "lower(operation) = 'userloggedin'"),
    ("workload:Exchange -op:MailItemsAccessed", "workload = 'Exchange' AND operation <> 'MailItemsAccessed'"),
    ("inboxrule", "contains(lower(raw), 'inboxrule')"),
    ("", "true"),
]


@pytest.mark.parametrize(("text", "condition"), FOUND)
def test_a_search_counts_what_the_lake_has(
    sources: Sources, collected: Path, text: str, condition: str
) -> None:
    """The number, the course and the newest rows are those of the lake's own files."""
    shape = searched(sources, urlencode({"range": "30d", "q": text}))

    assert not shape.more
    assert shape.count == sum(shape.chart.lines[0].values) == counted(collected, condition) > 0
    assert len(shape.rows) == min(shape.count, search.ROWS_SHOWN)
    times = [row.cells[0].sorts or 0 for row in shape.rows]
    assert times == sorted(times, reverse=True)


def test_the_filters_of_the_page_hold_for_the_search(sources: Sources, collected: Path) -> None:
    """Time, workload and result narrow a search as they narrow a chart."""
    shape = searched(sources, "range=30d&workload=Exchange&workload=OneDrive&result=ok&q=-op:Send")

    condition = "workload IN ('Exchange', 'OneDrive') AND operation <> 'Send'"
    assert 0 < shape.count <= counted(collected, condition)
    assert {row.cells[1].text for row in shape.rows} <= {"Exchange", "OneDrive"}
    assert {row.cells[5].text for row in shape.rows} == {"ok"}
    assert searched(sources, "from=2020-01-01&to=2020-02-01").count == 0


@pytest.fixture
def pieces(sources: Sources, collected: Path) -> Board:
    """The pages, which search in many small parts."""
    assert sources.facts is not None
    sources.facts.hits.close()
    sources.facts.hits = HitsReader(collected.parent / "lake", part_records=60)
    return board_of(sources)


def followed(board: Board, query: str) -> list[Answer]:
    """The panel, and every further part that the one before names."""
    answers = [asyncio.run(ask(board, f"/panel/search/hits?{query}"))]
    while more := re.search(r'data-more="([^"]+)"', answers[-1].text):
        answers.append(asyncio.run(ask(board, unescape(more[1]))))
        assert answers[-1].status == 200
    return answers


def test_older_parts_follow_one_by_one(pieces: Board, collected: Path) -> None:
    """The first answer has the newest days, each further one those before; together they have everything."""
    answers = followed(pieces, urlencode({"range": "30d", "q": "inboxrule OR op:UserLoggedIn"}))

    figures = [dict(re.findall(r'data-(count|searched|left)="(\d+)"', one.text)) for one in answers]
    assert len(answers) > 2
    condition = "contains(lower(raw), 'inboxrule') OR lower(operation) = 'userloggedin'"
    assert sum(int(one["count"]) for one in figures) == counted(collected, condition)
    assert sum(int(one["searched"]) for one in figures) == counted(collected, "true")
    assert [int(one["left"]) for one in figures][-1] == 0
    times = [float(one) for answer in answers for one in re.findall(r'data-value="(\d+)"', answer.text)]
    assert times == sorted(times, reverse=True)
    assert len(times) <= search.ROWS_SHOWN


REFUSED = ["usr:alice", "user:ann (", 'op:Send "']


@pytest.mark.parametrize("text", REFUSED)
def test_a_filter_with_a_mistake_is_shown_where_it_goes_wrong(board: Board, text: str) -> None:
    """The panel repeats it, with the rest from the mistake on marked; the document says the same."""
    answer = asyncio.run(ask(board, f"/panel/search/hits?q={quote(text)}"))
    document = document_of(asyncio.run(ask(board, f"/api/v1/search/hits?q={quote(text)}")))
    part = asyncio.run(ask(board, f"/search/part?q={quote(text)}&before=1"))

    at = document["panel"]["refused"]["at"]
    assert answer.status == 200
    assert f"<mark>{text[at:] or ' '}</mark>" in unescape(answer.text)
    assert f'data-refused="{at}"' in answer.text
    assert part.status == 503


def test_a_stranger_finds_nothing(sources: Sources) -> None:
    """Whoever may see another tenant finds no record of this one, whatever the filter says."""
    for text in ("", "tenant:*", "-tenant:x", "user:* OR -user:*", "inboxrule"):
        shape = searched(sources, urlencode({"range": "30d", "q": text}), STRANGER)
        assert (shape.count, list(shape.rows)) == (0, [])


def test_a_text_is_shown_where_it_stands(sources: Sources) -> None:
    """Beside each hit there is the piece of the record, with the text marked in it."""
    shape = searched(sources, urlencode({"range": "30d", "q": "inboxRULE"}))

    passages = [row.passage for row in shape.rows]
    assert passages
    assert {one.found.lower() for one in passages if one is not None} == {"inboxrule"}


def test_whoever_leaves_is_not_searched_for(board: Board) -> None:
    """A browser that went away gets no answer, and its search is stopped."""
    for path in ("/panel/search/hits?range=30d&q=a", "/search/part?range=30d&q=a&before=99999999999"):
        assert asyncio.run(ask(board, path, leaves=True)).status in {200, 499}
