"""The page of errors, and the tree that errors.py begins with."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from m365watch.common import errors
from m365watch.common.errors import CollectorError

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
BRANCHES = CollectorError.__subclasses__()
KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, CollectorError) and kind is not CollectorError
]


def test_every_error_has_its_cause_and_its_cure() -> None:
    """Nobody who looks an error up leaves without something to do."""
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| (.*) \|$", PAGE, re.MULTILINE))

    assert [kind.code for kind in KINDS if not all(rows.get(kind.code, " | ").split(" | ", 1))] == []


def test_the_docstring_shows_what_happens_next() -> None:
    shown = re.findall(r"^    [|`]-- (\w+)", inspect.getdoc(errors) or "", re.MULTILINE)

    assert sorted(shown) == sorted(kind.__name__ for kind in BRANCHES)


def test_every_error_has_a_code_of_its_own() -> None:
    """Metrics and the page tell them apart by it."""
    codes = [kind.code for kind in KINDS]

    assert sorted(codes) == sorted(set(codes))


def test_errors_that_cross_rooms_are_in_one_place() -> None:
    """Whatever of the package is imported, no other module of it adds to the tree."""
    found = [
        kind
        for kind in kinds_below(CollectorError)
        if kind.__module__.startswith("m365watch.") and not kind.__name__.startswith("_")
    ]

    assert {kind.__module__ for kind in found} == {"m365watch.common.errors"}


def kinds_below(kind: type[CollectorError]) -> Iterator[type[CollectorError]]:
    """Every class below `kind`, at whatever depth."""
    for child in kind.__subclasses__():
        yield child
        yield from kinds_below(child)
