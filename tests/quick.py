"""`./dev test --quick`: the tests for the desk, with something of every package and promise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from zlib import crc32

CASES_MAX = 3
"""So many cases of one test are run: the first, the last, and one between them."""


def choose_cases(tests: Iterable[str]) -> set[str]:
    """The ids of tests that stand for all of them, at most `CASES_MAX` for each function."""
    cases: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        cases[test.partition("[")[0]].append(test)
    return {test for of_one in cases.values() for test in _few(of_one)}


def _few(cases: list[str]) -> list[str]:
    """The same ones in every run, whatever is added beside them."""
    if len(cases) <= CASES_MAX:
        return cases
    return [cases[0], min(cases[1:-1], key=lambda case: crc32(case.encode())), cases[-1]]
