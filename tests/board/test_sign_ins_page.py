"""The figures of Sign-ins, and those of Overview that lead to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from asking import view_of
from m365watch.board.pages import overview, sign_ins
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader, Row
from m365watch.board.query.sql.sign_in_queries import ACCOUNTS
from m365watch.board.widgets.widget_types import Tiles
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.writer.table_writer import AuditWriter, OpenTable
from m365watch_testing.batches import make_batch, make_part, make_record


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
        for load in (sign_ins.networks, sign_ins.devices, sign_ins.outcomes)
    ]
    assert bare.facts is not None
    bare.facts.close()

    assert len({str(getattr(one, "empty", "")) for one in shapes}) == 1
    assert "Choose a shorter time" not in str(shapes)


def test_changes_of_accounts_in_one_second_have_one_order(tmp_path: Path) -> None:
    """However the lake's files have them: a page looked at twice shows the same."""
    changes = [
        make_record(1_800 * number, workload="AzureActiveDirectory").replace(
            b'"MailItemsAccessed"', b'"Disable user."' if number % 2 else b'"Add user."'
        )
        for number in range(30)
    ]

    def told(name: str, records: list[bytes]) -> list[Row]:
        writer = AuditWriter(tmp_path / name, app_id="m365watch/lake/test")
        writer.append(make_batch(1, [make_part(records, outputs=["lake"])]))
        facts = FactsReader(tmp_path / name)
        try:
            return asyncio.run(facts.ask(view_of("from=2026-11-17T00:00Z&to=2026-11-18T00:00Z"), ACCOUNTS))
        finally:
            facts.close()

    rows = told("one", changes)

    assert len(rows) == 30
    assert len({row[1:4] for row in rows}) > 5
    assert len({row[0] for row in rows}) == 1
    assert told("other", changes[::-1]) == rows
