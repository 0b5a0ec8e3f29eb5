"""The figures of Sign-ins, and those of Overview that lead to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from asking import view_of
from m365watch.board.lake_reader import FactsReader
from m365watch.board.pages import overview, sign_in_firsts, sign_ins
from m365watch.board.shapes import Tiles
from m365watch.board.sources import Sources
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.writer import OpenTable


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


def test_without_any_record_nobodys_networks_are_asked_about(sources: Sources, tmp_path: Path) -> None:
    """A panel of what is new says what all others say: another time would show nothing either."""
    OpenTable(tmp_path / "lake", AUDIT_TABLE).commit([], numbers={})
    bare = replace(sources, facts=FactsReader(tmp_path / "lake"))
    shapes = [
        asyncio.run(load(view_of("range=7d"), bare))
        for load in (sign_in_firsts.networks, sign_in_firsts.devices, sign_ins.outcomes)
    ]
    assert bare.facts is not None
    bare.facts.close()

    assert len({str(getattr(one, "empty", "")) for one in shapes}) == 1
    assert "Choose a shorter time" not in str(shapes)
