"""docs/failure-modes.md quotes the collector: what it says must stand in the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from m365watch import errors
from m365watch.errors import CollectorError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")
EXIT_CODES = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8").split("## m365watch")[0]
FAULTS = [part.partition("\n") for part in PAGE.split("\n### ")[1:]]
OF_COMMANDS_THAT_ASK = {
    "erasure_open",
    "lake_held",
    "lake_missing",
    "lake_unusable",
    "query_gone",
    "query_refused",
    "query_stopped",
    "settings_refused",
}
"""Codes of mistakes, which their commands explain on the spot."""
BRANCHES = {"retry_later", "needs_operator"}
LOGGED = {"gap", "repaired"}
"""Codes of lines that are no errors."""


def seen(fault: str) -> str:
    """What the operator sees of it, as one line."""
    return " ".join(fault.partition("* Meanwhile:")[0].split())


QUOTED = sorted(
    {
        quoted
        for _, _, fault in FAULTS
        for is_code, quoted in re.findall(r"(code )?`([^`]+)`", seen(fault))
        if not is_code and quoted != "status"
    }
)


def texts_in_the_code() -> Iterator[str]:
    """Every text of the source; `…` stands where something is filled in."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"{[\w.]*}", "…", node.value)


TEXTS = "\n".join(texts_in_the_code())


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_an_operator_sees_is_what_the_code_says(quoted: str) -> None:
    """Word for word, so that it is found by a search in the page; a code's own words follow it."""
    code, _, words = quoted.rpartition(": ") if re.match(r"AF\d+: ", quoted) else ("", "", quoted)

    assert words in TEXTS
    assert code in TEXTS


@pytest.mark.parametrize(("title", "fault"), [(title, fault) for title, _, fault in FAULTS])
def test_each_fault_says_what_is_seen_what_happens_and_what_to_do(title: str, fault: str) -> None:
    """In that order, with nothing left out."""
    assert re.findall(r"^\* (\w+):", fault, re.MULTILINE) == ["Seen", "Meanwhile", "Do"], title


def test_every_error_that_a_run_can_meet_is_on_the_page() -> None:
    """And no code that there is not."""
    codes = {
        kind.code
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, CollectorError) and kind is not CollectorError
    }
    named = set(re.findall(r"code\s+`(\w+)`", PAGE))

    assert named == codes - OF_COMMANDS_THAT_ASK - BRANCHES | LOGGED


def test_its_exit_codes_are_those_of_the_commands() -> None:
    """As the reference page has them."""
    known = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", EXIT_CODES, re.MULTILINE))))

    assert set(re.findall(r"exit code (\d+)", PAGE)) <= known


@pytest.mark.parametrize("page", ["README.md", "docs/operating.md"])
def test_it_is_found_from_where_one_looks_first(page: str) -> None:
    """Whoever has a line of the log before him begins there."""
    assert "failure-modes.md" in (ROOT / page).read_text(encoding="utf-8")
