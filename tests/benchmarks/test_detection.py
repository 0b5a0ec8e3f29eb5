"""The ways that are compared look at the same records, and find the same."""

from __future__ import annotations

import pytest

from benchmarks.detection import (
    PLACED,
    RESIDUAL,
    RULES,
    make_blobs,
    make_rules,
    run_engine,
    run_naive,
    run_sql,
    without_residual,
)
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rules.rule_library import load_packs


@pytest.mark.slow
def test_all_ways_find_the_same_records() -> None:
    """A way that finds less would be fast for the wrong reason."""
    library = make_rules()
    blobs = make_blobs(12_000)
    figures = [
        run_engine("engine", library, blobs),
        run_naive("naive", library, blobs),
        run_sql(library, blobs),
    ]

    assert len({one.hits for one in figures}) == 1
    assert figures[0].hits > 0
    assert {one.records for one in figures} == {12_000}


@pytest.mark.slow
def test_a_table_of_places_gives_the_packs_more_to_keep() -> None:
    """What it costs to know where addresses are is measured on records whose addresses it has."""
    blobs, packs = make_blobs(3_000), load_packs()
    without, placed = (
        run_engine("packs", packs, blobs, knowledge=one).hits for one in (NOTHING_KNOWN, PLACED)
    )

    assert placed > 1.3 * without > 0


def test_the_rules_are_as_many_as_is_said() -> None:
    """Two hundred, forty-five of which name no operation."""
    library = make_rules()

    assert len(library.rules) == RULES
    assert len(without_residual(library).rules) == RULES - RESIDUAL
