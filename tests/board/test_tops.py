"""The first and the last of many values: each quick way to find them against one that puts all in order."""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import Any

import duckdb
import pytest

from m365watch.board.queries import trails


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
