"""Sums over facts, in the words that DuckDB is quickest with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from m365watch.board.planning import Query, Sieve
from m365watch.values import dataclass

COUNT = "CAST(sum(n) AS BIGINT)"
STEP = "at_s // $step_s * $step_s"
"""The step of the chart that a fact belongs to."""


def count_if(condition: str) -> str:
    """How many records fulfil a condition of ours: a CASE takes half the time of a FILTER."""
    return f"CAST(coalesce(sum(CASE WHEN {condition} THEN n ELSE 0 END), 0) AS BIGINT)"


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes one by one with their own text: the newest, and the newest of those that stand out by it."""

    newest: Query
    marked: Query


def marked(condition: str) -> str:
    """The condition of those that stand out among changes."""
    return f"({condition}) AND marked"


def changes_of(select: str, condition: str, counts: Sieve, *, most: int = 200) -> Changes:
    """`select` of the changes that fulfil a condition of `counts`, which has its `marked` one too."""
    newest, standing_out = (
        Query(
            f"{select} WHERE {counts.only} AND ({one}) ORDER BY at_s DESC, record LIMIT {most}",
            of=counts.of,
            exact=True,
            newest=most,
            sieve=counts,
            place=counts.index(one),
        )
        for one in (condition, marked(condition))
    )
    return Changes(newest, standing_out)


def added(counted: Iterable[Sequence[int]], conditions: int) -> list[int]:
    """The sums of what a sieve has counted: one for each of its conditions."""
    rows = list(counted)
    return [sum(row[1 + place] for row in rows) for place in range(conditions)]
