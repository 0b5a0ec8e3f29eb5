"""Every promise of docs/guarantees.md is kept by a test that exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from sources import ROOT

PROMISE = re.compile(r"^(?:#+\s+|[-*]\s+|\|\s*)?\**(?:G-?)?(\d+)\b")
TEST = re.compile(r"\btests/[\w/]+\.py(?:::\w+)+")


@cache
def read_promises() -> dict[int, str]:
    """The text of each numbered promise: from its number to the next one."""
    promises: dict[int, str] = {}
    number = 0
    for line in (ROOT / "docs" / "guarantees.md").read_text().splitlines():
        begins = PROMISE.match(line)
        if begins:
            number = int(begins.group(1))
            assert number not in promises, f"promise {number} stands there twice"
        promises[number] = f"{promises.get(number, '')}{line}\n"
    promises.pop(0, None)
    return {number: text for number, text in promises.items() if "MUST" in text}


def test_the_promises_are_numbered_without_a_gap() -> None:
    """A promise that is withdrawn is withdrawn in plain sight, not left out."""
    assert sorted(read_promises()) == list(range(1, len(read_promises()) + 1))
    assert read_promises()


def test_every_promise_names_its_test() -> None:
    """A MUST without a test is a wish."""
    assert [number for number, text in read_promises().items() if not TEST.search(text)] == []


def test_the_tests_that_are_named_exist() -> None:
    """A promise names its tests as pytest does: path::name or path::class::name."""
    assert [
        reference
        for text in read_promises().values()
        for reference in TEST.findall(text)
        if not is_test(*reference.split("::"))
    ] == []


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
