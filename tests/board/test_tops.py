"""The first and the last of many values: each quick way to find them against one that puts all in order."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import duckdb
import pytest

from m365watch.board.query.sql import entity_queries as trails
from m365watch.board.query.sql.aggregates import most_by, most_by_pairs

_SUMS = {"number": "CAST(sum(n) AS BIGINT)"}


def _ask(facts: str, sql: str) -> list[tuple[Any, ...]]:
    """What the SQL says of these facts."""
    further = sql.removeprefix("WITH ")
    return duckdb.execute(f"WITH facts AS ({facts}){' ' if further == sql else ', '}{further}").fetchall()


@pytest.mark.parametrize("number", [0, 1, 5, 6, 7, 1_499, 1_500, 1_501, 1_503, 1_506, 1_507, 4_000])
def test_both_ends_of_a_column_are_those_of_all_its_values_in_order(number: int) -> None:
    """Many come as often as others and many at the same second; no value stands at both ends."""
    random = Random(number)
    seen = [(f"v{place}", random.randint(1, 9), random.randint(0, 99)) for place in range(number)]
    rows = [*seen, *random.choices(seen, k=min(number, 200)), ("", 5, 3)]
    values = ", ".join(map(str, rows))
    times: dict[str, int] = defaultdict(int)
    first: dict[str, int] = {}
    for value, n, at_s in rows[:-1]:
        times[value] += n
        first[value] = min(first.get(value, at_s), at_s)
    ordered = sorted(times, key=lambda one: (-times[one], first[one], one))
    rare = ordered[trails.VALUES_MAX :][-trails.FEW :]
    expected = [("user_id", one, times[one], number) for one in ordered[: trails.VALUES_MAX]]
    expected += [(f"{trails.RARE}user_id", one, times[one], number) for one in rare]

    found = _ask(f"SELECT * FROM (VALUES {values}) AS _(user_id, n, at_s)", trails.VALUES["user_id"].sql)

    assert found == expected


@pytest.mark.parametrize("columns", [("user_id", "client_ip"), ("client_ip",)])
@pytest.mark.parametrize("seed", range(20))
def test_tops_of_pairs_are_those_of_each_column(columns: tuple[str, ...], seed: int) -> None:
    """With their people, in one order, and without those that are not said or not asked for."""
    random = Random(seed)
    people = ["", *(f"u{place}" for place in range(random.randint(1, 20)))]
    places = ["", *(f"p{place}" for place in range(random.randint(1, 20)))]
    rows = [
        (random.choice(people), random.choice(places), random.randint(1, 3), random.random() < 0.8)
        for _ in range(random.randint(1, 120))
    ]
    facts = f"SELECT * FROM (VALUES {', '.join(map(str, rows))}) AS _(user_id, client_ip, n, is_read)"
    given: dict[str, Any] = {"order": ("number",), "most": 5, "only": "is_read", "shown": "name <> ''"}

    found = _ask(facts, most_by_pairs(columns, _SUMS, **given))

    assert found == _ask(facts, most_by(columns, _SUMS, **given))
