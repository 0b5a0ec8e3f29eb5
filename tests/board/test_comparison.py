"""What is new where there is more than is compared, or than is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from asking import view_of
from m365watch.board.pages import period_comparison as comparison
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.widgets.widget_types import Grid, Several

MOST = trails.VALUES_MAX


def addresses(numbers: Sequence[int], *, rare: Sequence[int] = ()) -> list[Row]:
    """As the lake tells the addresses of a time: the most frequent ones, and the rarest."""
    rows: list[Row] = [("client_ip", f"10.0.{one >> 8}.{one & 255}", 5, 9_999) for one in numbers]
    return rows + [(f"{trails.RARE}client_ip", f"10.0.{one >> 8}.{one & 255}", 1, 9_999) for one in rare]


def compared(sources: Sources, monkeypatch: pytest.MonkeyPatch, now: list[Row], then: list[Row]) -> Grid:
    """The table of addresses."""

    async def list_now(_: View, __: Sources) -> list[Row]:
        return now

    async def list_then(_: View, __: Sources) -> list[Row]:
        return then

    monkeypatch.setattr(comparison, "list_values", list_now)
    monkeypatch.setattr(comparison, "list_compared", list_then)
    view = replace(view_of("operation=UserLoggedIn&range=24h"))
    shape = asyncio.run(comparison.compare(view, sources))
    assert isinstance(shape, Several)
    [grid] = [one for one in shape.parts if isinstance(one, Grid) and one.headings[0].text == "Address"]
    return grid


def test_what_is_not_compared_is_not_called_new(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most frequent values of the other time nobody can say whether one is new, and it is said."""
    grid = compared(sources, monkeypatch, addresses([1, MOST + 7]), addresses(range(MOST)))

    standing = {row[0].text: row[1].text for row in grid.rows}
    assert standing["10.0.5.227"] == "new or rare"
    assert grid.rows[1][1].text == "gone"
    assert f"{MOST:,} most frequent" in grid.cut


def test_the_rarest_are_compared_too(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intruders come once."""
    grid = compared(sources, monkeypatch, addresses(range(MOST), rare=[9_000]), addresses([1]))

    standing = {row[0].text: row[1].text for row in grid.rows}
    assert set(standing.values()) == {"new"}
    assert f"{MOST:,} most frequent" in grid.cut
    assert f"{len(standing)} of {MOST + 1:,}" in grid.cut


def test_all_that_is_compared_and_shown_needs_no_words(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cut."""
    grid = compared(sources, monkeypatch, addresses([1, 2]), addresses([1]))

    assert (grid.cut, [row[1].text for row in grid.rows]) == ("", ["new", ""])
