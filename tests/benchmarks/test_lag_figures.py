"""The benchmark of many tenants: what it requires."""

from __future__ import annotations

import pytest
from promises import guarantee

from benchmarks.lag import Course, judge


@guarantee(32)
@pytest.mark.parametrize(
    ("memory_mb", "lag_s", "passed"),
    [(600.0, 66.0, [True, True]), (600.1, 66.0, [False, True]), (100.0, 67.0, [True, False])],
)
def test_memory_and_the_lag_of_the_others_are_judged(
    memory_mb: float, lag_s: float, passed: list[bool]
) -> None:
    """At most 600 MB, and a tenth more lag than without the ill."""
    well, ill = Course(ill=False, lag_p95_s=60.0), Course(ill=True, memory_mb=memory_mb, lag_p95_s=lag_s)

    assert [one.passed for one in judge([well, ill])] == passed
