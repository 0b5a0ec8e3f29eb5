"""Every promise of docs/guarantees.md is held by tests that carry its number."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from sources import ROOT
from tools.guarantees_page import PAGE, list_promises, list_tests

TEST = re.compile(r"\btests/[\w/]+\.py(?:::\w+)+")
WORDS_MAX = 1_500
_TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
_PROMISES, _, _LIMITS = _TEXT.partition("## What is not promised")


def test_the_promises_are_numbered_without_a_gap() -> None:
    """A promise that is withdrawn is withdrawn in plain sight, not left out."""
    numbers = [number for number, _ in list_promises(_TEXT)]

    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_every_promise_has_tests_and_every_mark_a_promise() -> None:
    """A promise without a test is a wish, and a number that nobody explains is noise."""
    marked = {number for test in list_tests() for number in test.promises}

    assert marked == {number for number, _ in list_promises(_TEXT)}


def test_the_promises_are_read_in_ten_minutes() -> None:
    """Who depends on them reads them all; what they leave open stands below them."""
    assert len(_PROMISES.split()) < WORDS_MAX
    assert _LIMITS


def test_the_tests_that_are_named_exist() -> None:
    """What is not promised names the tests that show it."""
    assert [one for one in TEST.findall(_TEXT) if not is_test(*one.split("::"))] == []


def is_test(path: str, *names: str) -> bool:
    """Whether the file defines that function, in that class if one is named."""
    if not (ROOT / path).is_file():
        return False
    body: list[ast.stmt] = parse(ROOT / path).body
    for name in names:
        found = next((node for node in body if getattr(node, "name", None) == name), None)
        if found is None:
            return False
        body = getattr(found, "body", [])
    return True


@cache
def parse(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))
