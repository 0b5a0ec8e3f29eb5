"""The reference page of the promises: the tests that hold each, found by their marks in the source."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = "docs/guarantees.md"
_PROMISE = re.compile(r"^(\d+)\. \*\*(.+?)\*\*", re.MULTILINE | re.DOTALL)
_MARK = "guarantee"

HEAD = """\
# Tests of the promises

Made from the marks `@guarantee(n)` of the tests by `./dev docs`. The promises stand in
[guarantees.md](../guarantees.md).
"""


@dataclass(frozen=True, kw_only=True)
class MarkedTest:
    """A test function, or a class of tests, as its file has it."""

    path: str
    name: str
    """As pytest has it after the path: `test_name`, `TestClass` or `TestClass::test_name`."""
    promises: frozenset[int]
    is_slow: bool
    """It is left out of `./dev test --quick`."""


def render() -> str:
    """The page, in Markdown."""
    tests = list_tests()
    return HEAD + "".join(
        f"\n## {number}. {title}\n\n{''.join(_lines(number, tests))}"
        for number, title in list_promises((ROOT / PAGE).read_text(encoding="utf-8"))
    )


def list_promises(page: str) -> list[tuple[int, str]]:
    """The number and the first words of each promise of the page, in its order."""
    return [(int(number), " ".join(title.split()).rstrip(".,:")) for number, title in _PROMISE.findall(page)]


@cache
def list_tests(folder: Path = ROOT / "tests") -> tuple[MarkedTest, ...]:
    """The marked tests below a folder of the checkout."""
    return tuple(
        test
        for path in sorted(folder.rglob("test_*.py"))
        if f"@{_MARK}(" in (text := path.read_text(encoding="utf-8"))
        for test in read_tests(str(path.relative_to(folder.parent)), text)
        if test.promises
    )


def read_tests(path: str, text: str) -> Iterator[MarkedTest]:
    """Every test of one file, marked or not."""
    tree = ast.parse(text)
    yield from _tests_in(tree.body, path, "", is_slow=_has_slow(_pytestmark(tree.body)))


def _tests_in(body: Sequence[ast.stmt], path: str, prefix: str, *, is_slow: bool) -> Iterator[MarkedTest]:
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not node.name.startswith(("test_", "Test")):
            continue
        slow = is_slow or _has_slow(node.decorator_list)
        name = prefix + node.name
        yield MarkedTest(path=path, name=name, promises=_promises(node.decorator_list), is_slow=slow)
        if isinstance(node, ast.ClassDef):
            yield from _tests_in(node.body, path, f"{name}::", is_slow=slow)


def _promises(decorators: Sequence[ast.expr]) -> frozenset[int]:
    return frozenset(
        number.value
        for mark in decorators
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == _MARK
        for number in mark.args
        if isinstance(number, ast.Constant) and isinstance(number.value, int)
    )


def _has_slow(marks: Sequence[ast.expr]) -> bool:
    return any(ast.unparse(mark) == "pytest.mark.slow" for mark in marks)


def _pytestmark(body: Sequence[ast.stmt]) -> list[ast.expr]:
    """The marks of all tests of a module."""
    return [
        node.value
        for node in body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]


def _lines(number: int, tests: Sequence[MarkedTest]) -> Iterator[str]:
    """One line for each file, with its tests in the file's order."""
    names: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        if number in test.promises:
            names[test.path].append(f"`{test.name}`")
    for path, of_file in names.items():
        yield f"* `{path}`: {', '.join(of_file)}\n"
