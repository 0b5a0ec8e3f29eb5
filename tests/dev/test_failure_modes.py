"""docs/failure-modes.md: what it quotes stands in the code, its figures and commands are the code's."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import structlog
from promises import guarantee

from m365watch.cli.program import PLACES
from m365watch.common import errors
from m365watch.common.errors import CollectorError, LedgerUnusable
from m365watch.ledger.ledger_database import DamageGuard
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.ledger.writer_thread import PATIENCE_ONCE_S
from m365watch.runtime.collector_run import STOP_S
from m365watch.sources.management_api.fetch_attempts import RETRY_WAITS_S
from m365watch.sources.poll_loop import BACKOFF_S_MAX, OPERATOR_WAIT_S
from m365watch_testing.clock import START, FakeClock

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "failure-modes.md").read_text(encoding="utf-8")
EXIT_CODES = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8").split("## m365watch")[0]
FAULTS = [part.partition("\n") for part in PAGE.split("\n### ")[1:]]
OF_COMMANDS_THAT_ASK = {
    "alerts_refused",
    "consent_refused",
    "erasure_open",
    "filter_refused",
    "journal_unreadable",
    "journal_unwritable",
    "lake_held",
    "lake_missing",
    "lake_unusable",
    "list_too_long",
    "nothing_there",
    "query_gone",
    "query_refused",
    "query_stopped",
    "response_held",
    "settings_refused",
}
"""Codes of mistakes, which their commands explain on the spot."""
BRANCHES = {"retry_later", "needs_operator"}
LOGGED = {"credential_expires", "gap", "repaired", "schema_drift", "silent"}
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


@cache
def all_texts() -> str:
    """They stand on lines of their own; read when a test asks, and not by every process that collects."""
    return "\n".join(texts_in_the_code())


@guarantee(29)
@pytest.mark.slow
@pytest.mark.parametrize("quoted", QUOTED)
def test_what_an_operator_sees_is_what_the_code_says(quoted: str) -> None:
    """Word for word, so that it is found by a search in the page; a code's own words follow it."""
    code, _, words = quoted.rpartition(": ") if re.match(r"AF\d+: ", quoted) else ("", "", quoted)

    assert words in all_texts()
    assert code in all_texts()


def test_its_figures_are_those_of_the_code() -> None:
    """Of waits and bounds, in the words that the page has for them."""
    *first, last = [f"{wait_s / 60:g}" for wait_s in RETRY_WAITS_S[:-1]]
    figures = {
        "It fails, or answers with something else": [
            f"after {', '.join(first)} and {last} minutes and every {RETRY_WAITS_S[-1] / 3600:g} hours"
        ],
        # The pauses are spread by half of their length.
        "No connection, no name, no answer": ["a minute and a half apart"] * (BACKOFF_S_MAX * 1.5 == 90),
        "Auditing is off in the tenant": [f"every {OPERATOR_WAIT_S / 60:g} minutes"],
        "The secret is wrong or has expired": [f"every {OPERATOR_WAIT_S / 60:g} minutes"],
        "The disk of an output is full": [f"given up after {PATIENCE_ONCE_S:g} s"],
        "It is told to stop (SIGTERM, Ctrl-C)": [f"has {STOP_S:g} s to be delivered"],
    }
    faults = {title: " ".join(fault.split()) for title, _, fault in FAULTS}

    assert [
        (title, words) for title, every in figures.items() for words in every if words not in faults[title]
    ] == []
    assert all(figures.values())


def test_its_commands_are_there() -> None:
    """Whoever is in trouble types them as they stand."""
    assert set(re.findall(r"`m365watch (\w+)", PAGE)) <= PLACES.keys()


def met(fault: str, said: str) -> list[str]:
    """Which of the page's quotations are in what was `said`."""
    quotations = re.findall(r"(?<!code )`([^`]+)`", seen(fault))
    return [one for one in quotations if re.search(re.escape(one).replace("…", ".+"), said)]


@pytest.mark.parametrize("body", [b"no ledger at all " * 1000, b"SQLite format 3\0" + b"x" * 9000])
def test_a_damaged_ledger_does_what_the_page_says(tmp_path: Path, body: bytes) -> None:
    """It is set aside by the start itself, under the name that stands there, and a new one begins."""
    [fault] = [fault for title, _, fault in FAULTS if title == "It is damaged, or no ledger at all"]
    (tmp_path / LEDGER_FILE).write_bytes(body)
    with structlog.testing.capture_logs() as lines:
        guard = DamageGuard(FakeClock())
        SqliteLedger(tmp_path, outputs=frozenset({"lake"}), now=START, before_opening=guard).close()

    [kept] = tmp_path.glob("ledger-*.damaged.sqlite")
    assert "`ledger-<time>.damaged.sqlite`" in fault
    assert kept.read_bytes() == body
    assert met(fault, lines[0]["event"]) == ["the ledger was damaged (…)"]
    assert (tmp_path / LEDGER_FILE).exists()


def test_a_ledger_that_cannot_be_opened_does_what_the_page_says(tmp_path: Path) -> None:
    """Nothing is set aside for that."""
    [fault] = [fault for title, _, fault in FAULTS if title == "It cannot be opened"]
    (tmp_path / LEDGER_FILE).mkdir()
    guard = DamageGuard(FakeClock())
    with pytest.raises(LedgerUnusable) as failed:
        SqliteLedger(tmp_path, outputs=frozenset({"lake"}), now=START, before_opening=guard)

    assert met(fault, str(failed.value)) == ["the ledger cannot be used (…)"]
    assert list(tmp_path.glob("*.damaged.*")) == []


@pytest.mark.parametrize(("title", "fault"), [(title, fault) for title, _, fault in FAULTS])
def test_each_fault_says_what_is_seen_what_happens_and_what_to_do(title: str, fault: str) -> None:
    """In that order, with nothing left out."""
    assert re.findall(r"^\* (\w+):", fault, re.MULTILINE) == ["Seen", "Meanwhile", "Do"], title


@guarantee(29)
def test_every_error_that_a_run_can_meet_is_on_the_page() -> None:
    """And no code that there is not."""
    codes = {
        kind.code
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, CollectorError) and kind is not CollectorError
    }
    named = set(re.findall(r"code\s+`(\w+)`", PAGE))

    assert named == codes - OF_COMMANDS_THAT_ASK - BRANCHES | LOGGED


@guarantee(29)
def test_its_exit_codes_are_those_of_the_commands() -> None:
    """As the reference page has them."""
    known = set(re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", EXIT_CODES, re.MULTILINE))))

    assert set(re.findall(r"exit code (\d+)", PAGE)) <= known


@pytest.mark.parametrize("page", ["README.md", "docs/operating.md"])
def test_it_is_found_from_where_one_looks_first(page: str) -> None:
    """Whoever has a line of the log before him begins there."""
    assert "failure-modes.md" in (ROOT / page).read_text(encoding="utf-8")
