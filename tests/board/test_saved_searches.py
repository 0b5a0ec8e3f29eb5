"""Searches that are kept: one's own, and what others share within the same tenants."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from starlette.requests import HTTPConnection

from asking import Answer, ask, board_of, document_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.app.application import Board
from m365watch.board.app.security_middleware import TOKEN_HEADER
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.saved_searches import OF_ONE_MAX, SavedSearches, TooMany
from m365watch.common.errors import NeedsOperator

ANN = Access("ann", Role.ANALYST, tenants=frozenset({"t1", "t2"}))
BOB = Access("bob", Role.VIEWER, tenants=frozenset({"t1"}))
CAT = Access("cat", Role.VIEWER, tenants=frozenset({"t1", "t2", "t3"}))
ROOT = Access("root", Role.ADMIN, tenants=None)


def names(searches: SavedSearches, access: Access) -> list[str]:
    return [one.name for one in searches.list(access)]


@guarantee(43)
def test_a_search_is_its_owners_until_it_is_shared(tmp_path: Path) -> None:
    """Others see what is shared, and only those who may see every tenant that its owner sees."""
    searches = SavedSearches(tmp_path / "state")
    searches.keep(ANN, "mine", "/search?q=a", is_shared=False, now_s=1)
    searches.keep(ANN, "ours", "/search?q=b", is_shared=True, now_s=1)
    searches.keep(ROOT, "of all", "/search?q=c", is_shared=True, now_s=1)

    assert names(searches, ANN) == ["mine", "ours"]
    assert names(searches, BOB) == []
    assert names(searches, CAT) == ["ours"]
    assert names(searches, ROOT) == ["of all", "ours"]
    assert [one.is_own for one in searches.list(ROOT)] == [True, False]


@guarantee(43)
def test_what_others_share_is_nothing_for_who_sees_no_contents(tmp_path: Path) -> None:
    """Its name and its filter are a colleague's words, who may have written what a file is called."""
    searches = SavedSearches(tmp_path)
    blind = replace(ROOT, name="eve", sees_contents=False)
    searches.keep(ROOT, "who has the lay-off list", "/search?q=object~plan", is_shared=True, now_s=1)
    searches.keep(blind, "her own", "/search?q=user:ann", is_shared=True, now_s=1)

    assert names(searches, blind) == ["her own"]
    assert names(searches, ROOT) == ["who has the lay-off list", "her own"]


def test_a_name_is_one_search(tmp_path: Path) -> None:
    """Who keeps another one under a name has that one, and nobody removes what is somebody else's."""
    searches = SavedSearches(tmp_path)
    searches.keep(ANN, "it", "/search?q=a", is_shared=True, now_s=1)
    searches.keep(ANN, "it", "/search?q=b", is_shared=True, now_s=2)
    searches.keep(CAT, "it", "/search?q=c", is_shared=False, now_s=3)

    [own] = searches.list(ANN)
    assert own.url == "/search?q=b"
    assert not searches.remove(CAT, own.id)
    assert names(searches, CAT) == ["it", "it"]
    assert searches.remove(ANN, own.id)
    assert names(searches, CAT) == ["it"]


def test_there_is_a_most(tmp_path: Path) -> None:
    """One person's searches are bounded; one that takes another's place is no more."""
    searches = SavedSearches(tmp_path)
    for number in range(OF_ONE_MAX):
        searches.keep(ANN, f"n{number}", "/search", is_shared=False, now_s=1)

    searches.keep(ANN, "n0", "/search?q=new", is_shared=False, now_s=1)
    with pytest.raises(TooMany):
        searches.keep(ANN, "one more", "/search", is_shared=False, now_s=1)
    searches.keep(BOB, "of another", "/search", is_shared=False, now_s=1)
    assert len(searches.list(ANN)) == OF_ONE_MAX


@guarantee(26)
@pytest.mark.parametrize("tenants", [b"", b" ", b"t1 t", b"t1 t2\xff", b"\xff\xfe"])
def test_a_row_that_a_bad_disk_has_changed_is_its_owners(tmp_path: Path, tenants: bytes) -> None:
    """Nobody knows whom it may name; and what stands there is quoted in no error."""
    searches = SavedSearches(tmp_path)
    searches.keep(ANN, "mine", "/search?q=a", is_shared=True, now_s=1)
    with closing(sqlite3.connect(searches.path)) as file, file:
        file.execute(
            "UPDATE search SET name = CAST(? AS TEXT), tenants = CAST(? AS TEXT)", (b"m\xff", tenants)
        )

    assert names(searches, ANN) == names(searches, ROOT) == ["m\N{REPLACEMENT CHARACTER}"]
    assert names(searches, CAT) == []


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A file that is none of ours is one error, with what to do."""
    searches = SavedSearches(tmp_path)
    searches.path.write_bytes(b"no database" * 200)
    searches.path.chmod(0o600)

    with pytest.raises(NeedsOperator, match=r"board\.sqlite"):
        searches.list(ANN)
    with pytest.raises(NeedsOperator):
        searches.keep(ANN, "it", "/search", is_shared=False, now_s=1)


class GateFor:
    """Whoever comes is the same person."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def access_of(self, connection: HTTPConnection) -> Access:
        return self._access


def post(board: Board, url: str, document: Any) -> Answer:
    """A change, as the page sends it."""
    page = asyncio.run(ask(board, "/search")).text
    token = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', page)
    assert token
    headers = {TOKEN_HEADER: token[1]}
    return asyncio.run(ask(board, url, method="POST", headers=headers, body=json.dumps(document).encode()))


def test_a_page_keeps_its_search(sources: Sources, tmp_path: Path) -> None:
    """The view with its time, filters and text, under a name that is never markup; and removes it again."""
    there = replace(sources, settings=replace(sources.settings, state_directory=tmp_path))
    board = board_of(there, gate=GateFor(ANN))
    asked = {"name": "<b>it</b>", "page": "search", "shared": True}

    kept = post(board, "/search/saved?range=24h&user=ann%40x&q=op%3ASend", asked)
    listed = asyncio.run(ask(board, "/search/saved")).text
    number = re.search(r'data-remove="(\d+)"', listed)

    assert (kept.status, document_of(kept)["says"]) == (200, "Kept as <b>it</b>")
    again = post(board, "/search/saved?range=24h&user=ann%40x&q=op%3ASend", asked)
    assert document_of(again)["says"] == "Kept as <b>it</b>, in place of what it was before"
    assert 'href="/search?range=24h&amp;user=ann%40x&amp;q=op%3ASend"' in listed
    assert "&lt;b&gt;it&lt;/b&gt;" in listed
    assert number
    assert post(board_of(there, gate=GateFor(CAT)), f"/search/saved/{number[1]}/remove", {}).status == 404
    assert post(board, f"/search/saved/{number[1]}/remove", {}).status == 200
    assert "No search is kept yet" in asyncio.run(ask(board, "/search/saved")).text


@pytest.mark.parametrize("wrong", [{}, {"name": ""}, {"name": "x" * 81}, {"name": "x", "page": "other"}, []])
def test_what_cannot_be_meant_is_not_kept(board: Board, wrong: object) -> None:
    """A name is wanted, of a page that there is."""
    assert post(board, "/search/saved", wrong).status == 400
