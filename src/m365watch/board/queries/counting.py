"""Sums over facts, in the words that DuckDB is quickest with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

COUNT = "CAST(sum(n) AS BIGINT)"
STEP = "at_s // $step_s * $step_s"
"""The step of the chart that a fact belongs to."""


def count_if(condition: str) -> str:
    """How many records fulfil a condition of ours: a CASE takes half the time of a FILTER."""
    return f"CAST(coalesce(sum(CASE WHEN {condition} THEN n ELSE 0 END), 0) AS BIGINT)"


def added(counted: Iterable[Sequence[int]], conditions: int) -> list[int]:
    """The sums of what a sieve has counted: one for each of its conditions."""
    rows = list(counted)
    return [sum(row[1 + place] for row in rows) for place in range(conditions)]
