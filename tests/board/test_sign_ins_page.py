"""The figures of Sign-ins, and those of Overview that lead to them."""

from __future__ import annotations

import asyncio

from asking import view_of
from m365watch.board.pages import overview, sign_ins
from m365watch.board.shapes import Tiles
from m365watch.board.sources import Sources


def test_overview_counts_the_failed_sign_ins_that_its_link_shows(sources: Sources) -> None:
    """Also where an operation that says it succeeded has an error."""
    for query in ("range=30d", "range=30d&user=a*", "range=7d&not-operation=UserLoginFailed"):
        figures = [asyncio.run(page.figures(view_of(query), sources)) for page in (overview, sign_ins)]
        told = [
            next(tile.value for tile in shape.tiles if tile.label == label)
            for shape, label in zip(figures, ("Failed sign-ins", "Failed"), strict=True)
            if isinstance(shape, Tiles)
        ]

        assert told[0] == told[1], query
