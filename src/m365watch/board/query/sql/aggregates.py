"""Sums over facts, in the words that DuckDB is quickest with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from m365watch.board.query.query_planner import Query, Sieve
from m365watch.board.query.time_range import POINTS_MAX
from m365watch.lake.rollups.facts import IS_MARKED

COUNT = "CAST(sum(n) AS BIGINT)"
STEP = "at_s // $step_s * $step_s"
"""The step of the chart that a fact belongs to."""
STEPS_ROWS_MAX = POINTS_MAX * 2_000
"""Rows of steps and operations: Microsoft has some 1,500 of these."""


def count_if(condition: str) -> str:
    """How many records fulfil a condition of ours: a CASE takes half the time of a FILTER."""
    return f"CAST(coalesce(sum(CASE WHEN {condition} THEN n ELSE 0 END), 0) AS BIGINT)"


def has_word(*words: str) -> str:
    """Whether an operation's name has one of these words in it, in small letters.

    DuckDB tries this before it reads a record's own text, and a regular expression after that.
    """
    return _one_of("contains", words)


def begins(*words: str) -> str:
    """Whether it begins with one of them."""
    return _one_of("starts_with", words)


def _one_of(function: str, words: Iterable[str]) -> str:
    tests = " OR ".join(f"{function}(lower(operation), '{one}')" for one in words)
    return f"({tests})"


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes one by one with their own text: the newest, and the newest of those that stand out by it."""

    newest: Query
    marked: Query
    named: Query
    """Those of `$ids`, however old."""
    is_worst: bool = False
    """Whether none stands out more than the marked ones: as many as are shown leave no room for others."""


_NAMED = "record IN (SELECT unnest($ids))"


def marked(condition: str) -> str:
    """The condition of those that stand out among changes."""
    return f"({condition}) AND {IS_MARKED}"


def newest_of(condition: str, counts: Sieve, *also: str, most: int = 200) -> Query:
    """Records that fulfil a condition of `counts`, the newest first: what a row tells, `also`, and the id."""
    columns = ("at_s", "operation", "user_id", "client_ip", "outcome", "object", "raw", *also, "record")
    return Query(
        f"SELECT {', '.join(columns)} FROM facts WHERE {counts.only} AND ({condition})"
        f" ORDER BY at_s DESC, record LIMIT {most}",
        of=counts.of,
        exact=True,
        newest=most,
        sieve=counts,
        place=counts.index(condition),
    )


def changes_of(condition: str, counts: Sieve, *also: str, worst: str = "") -> Changes:
    """The changes that fulfil a condition of `counts`, which has its `marked` one too, or the `worst`."""
    newest = newest_of(condition, counts, *also)
    standing_out = newest_of(worst or marked(condition), counts, *also)
    if not worst:
        standing_out = replace(standing_out, only=IS_MARKED)
    named = replace(newest, sql=newest.sql.replace(" ORDER BY", f" AND {_NAMED} ORDER BY"), newest=0)
    return Changes(newest, standing_out, named, is_worst=bool(worst))


def in_alerts(counts: Sieve, conditions: Sequence[str]) -> Query:
    """Of each condition, how many of the records `$ids` fulfil it that do not stand out by their own text."""
    sums = ", ".join(count_if(f"({one}) AND NOT {IS_MARKED}") for one in conditions)
    return Query(f"SELECT {sums} FROM facts WHERE {counts.only} AND {_NAMED}", of=counts.of, exact=True)


def most_by(
    columns: Sequence[str],
    sums: Mapping[str, str],
    *,
    order: Sequence[str],
    most: int,
    only: str = "true",
    shown: str = "true",
) -> str:
    """Name of a column, its value, the `sums` by name, people: of each column the first by `order`.

    `only` is a condition over facts, `shown` one over what is summed.
    """
    kind = " ".join(f"WHEN grouping({one}) = 0 THEN '{one}'" for one in columns)
    summed = ", ".join(f"{sql} AS {name}" for name, sql in sums.items())
    by = ", ".join(f"{one} DESC" for one in order)
    return (
        f"WITH sets AS (SELECT CASE {kind} END AS kind, coalesce({', '.join(columns)}) AS name, {summed},"
        f" count(DISTINCT user_id) AS persons FROM facts WHERE {only}"
        f" GROUP BY GROUPING SETS ({', '.join(f'({one})' for one in columns)})),"
        f" placed AS (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY {by}, name) AS place"
        f" FROM sets WHERE {shown})"
        f" SELECT kind, name, {', '.join(sums)}, persons FROM placed WHERE place <= {most}"
        " ORDER BY kind, place"
    )


def most_by_pairs(
    columns: Sequence[str],
    sums: Mapping[str, str],
    *,
    order: Sequence[str],
    most: int,
    only: str = "true",
    shown: str = "true",
) -> str:
    """The same of people and one more column of which a person has few values: both from pairs of them.

    To count different people of a value is then to count rows, and to tell them apart took a third of it all.
    """
    [other] = {*columns} - {"user_id"}
    summed = ", ".join(f"{sql} AS {name}" for name, sql in sums.items())
    added_up = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in sums)
    by = ", ".join(f"{one} DESC" for one in order)
    tops = " UNION ALL ".join(
        f"(SELECT '{one}' AS kind, {one} AS name, {added_up},"
        f" {'1' if one == 'user_id' else 'count(*)'} AS persons"
        f" FROM pairs GROUP BY {one} HAVING {shown} ORDER BY {by}, name LIMIT {most})"
        for one in columns
    )
    return (
        f"WITH pairs AS MATERIALIZED (SELECT user_id, {other}, {summed} FROM facts WHERE {only}"
        f" GROUP BY user_id, {other})"
        f" SELECT kind, name, {', '.join(sums)}, persons FROM ({tops}) ORDER BY kind, {by}, name"
    )


def added(counted: Iterable[Sequence[int]], conditions: int) -> list[int]:
    """The sums of what a sieve has counted: one for each of its conditions."""
    rows = list(counted)
    return [sum(row[1 + place] for row in rows) for place in range(conditions)]
