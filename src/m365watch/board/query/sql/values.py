"""Which values there are of a column of the facts, the most frequent first."""

from __future__ import annotations

from m365watch.board.query.query_planner import Query

VALUES_MAX = 12


def values_of(column: str) -> Query:
    """Value and count of those that hold what was typed, and of those that are called so in words."""
    text = f"CAST({column} AS VARCHAR)"
    return Query(
        f"SELECT {column}, CAST(sum(n) AS BIGINT) FROM facts"
        f" WHERE (contains(lower({text}), $typed) OR list_contains($named, lower({text}))) AND {text} <> ''"
        f" GROUP BY 1 ORDER BY starts_with(lower({text}), $typed) DESC, 2 DESC, 1"
        f" LIMIT {VALUES_MAX}",
        frozenset({column}),
    )
