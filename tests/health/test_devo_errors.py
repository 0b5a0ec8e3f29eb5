"""Every error has its place among Devo's classes, and is told by it."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import m365watch
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.error_output import lines_of
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common import errors
from m365watch.common.errors import (
    AccessRefused,
    CollectorError,
    ConnectionClosed,
    CredentialsRefused,
    LedgerUnusable,
    OutputClosed,
    SettingsRefused,
    Throttled,
    TokenRefused,
)
from m365watch.health.devo_error_codes import (
    CONNECTION_CLOSED,
    LIMITS_FORMAT,
    LIMITS_TYPE,
    ROWS,
    devo_line,
    devo_text,
    row_of,
)


def kinds_below(root: type[CollectorError]) -> Iterator[type[CollectorError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds_below(kind)


OURS = [kind for kind in kinds_below(CollectorError) if kind.__module__ == errors.__name__]


def codes_in_lines() -> set[str]:
    """The codes that lines of the package carry as plain text: `_log.error(..., code="gap")`."""
    package = Path(m365watch.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("_log."):
                found |= {
                    word.value.value
                    for word in node.keywords
                    if word.arg == "code" and isinstance(word.value, ast.Constant)
                }
    return {str(code) for code in found}


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.slow
def test_every_class_of_errors_has_a_row() -> None:
    """A new error is placed before it is raised; so is a code that only lines carry."""
    codes = {row.code for row in ROWS}

    assert {kind.code for kind in OURS} <= codes
    assert codes_in_lines() <= codes
    assert {"gap", "quarantined"} <= codes_in_lines()


def test_rows_are_in_the_order_of_devos_numbers() -> None:
    """The page of them is looked up by number."""
    numbers = [row.number for row in ROWS]

    assert numbers == sorted(numbers)


def test_numbers_are_unique_and_in_devos_ranges() -> None:
    """Each class of Devo's has its hundred."""
    rows = [*ROWS, LIMITS_TYPE, LIMITS_FORMAT]

    assert len({row.number for row in rows}) == len(rows)
    assert len({row.code for row in ROWS}) == len(ROWS)
    assert [row for row in rows if row.number not in row.devo_class.value] == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            AccessRefused("no permission", fix="grant it", where="contoso"),
            (
                "SetupError [CODE:0100] reason: The remote data is not pullable with the given credentials."
                " Check the error traces for details. contoso: no permission; grant it"
            ),
        ),
        (
            TokenRefused("HTTP 401"),
            (
                "SetupError [CODE:0101] reason: The token/header/authentication was refreshed but is still"
                " expired. Check the error traces for details. HTTP 401; tried again, nothing lost"
            ),
        ),
        (
            CredentialsRefused("AADSTS7000222", fix="renew the secret"),
            "SetupError [CODE:0102] reason: AADSTS7000222; renew the secret",
        ),
        (
            Throttled("HTTP 429", after_s=30),
            "ApiError [CODE:0429] reason: HTTP 429; tried again in 30 s, nothing lost",
        ),
        (
            ConnectionClosed("the server closed it"),
            (
                "ApiError [CODE:0411] reason: collector failed Connection closed by server."
                " the server closed it; tried again, nothing lost"
            ),
        ),
        (
            OutputClosed("the peer closed it", where="output devo"),
            (
                "PullError [CODE:0311] reason: collector failed Connection closed by server."
                " output devo: the peer closed it; tried again, nothing lost"
            ),
        ),
        (
            LedgerUnusable("it is damaged", fix="put back a copy"),
            (
                "PrePullError [CODE:0200] reason: collector failed Connection closed by server."
                " it is damaged; put back a copy"
            ),
        ),
    ],
)
def test_an_error_is_told_in_devos_form(error: CollectorError, text: str) -> None:
    """Class, code and reason; where Devo documents a text for the code, it comes first."""
    assert devo_text(error) == text


@pytest.mark.parametrize(
    ("mistakes", "number"),
    [
        (["inputs.office365.id: is missing"], 1),
        (["inputs.a.requests_limits: an object is of the wrong kind"], 2),
        (['inputs.a.requests_limits[0].period: "0m" is no period'], 3),
        (["inputs.a.requests_limits: is wrong", "inputs.a.id: is missing"], 1),
        ([], 1),
    ],
)
def test_a_configuration_is_refused_under_devos_codes(mistakes: list[str], number: int) -> None:
    """1 in general; 2 and 3 where nothing but `requests_limits` is wrong."""
    assert row_of(SettingsRefused(mistakes, where="config.json")).number == number


def test_an_error_of_another_room_has_the_place_of_its_kind() -> None:
    """A subclass without a row of its own is told as what it is above."""

    class LeaseLost(LedgerUnusable):
        """As PostgreSQL might lose one."""

        code = "lease_lost"

    assert row_of(LeaseLost("gone", fix="wait")).number == 200


def test_only_lost_connections_and_states_carry_devos_words() -> None:
    """What the query of the product page counts."""
    assert {row.code for row in ROWS if row.fixed == CONNECTION_CLOSED} == {
        "connection_closed",
        "output_closed",
        "ledger_unavailable",
        "ledger_unusable",
    }


def test_a_line_in_text_has_devos_form_in_place_of_our_code(capsys: pytest.CaptureFixture[str]) -> None:
    """An operator of Devo's reads what is in their runbooks."""
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    structlog.get_logger().error("blob x is lost", code="content_lost")

    assert capsys.readouterr().err[8:] == " error   PullError [CODE:0301] reason: blob x is lost\n"


def test_a_line_in_json_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    """Our code is the stable name for metrics."""
    configure_diagnostics(line_format=LineFormat.JSON, level=logging.INFO, colour=False)
    structlog.get_logger().warning("HTTP 429", code="throttled")

    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["code"]) == ("ApiError [CODE:0429] reason: HTTP 429", "throttled")


def test_an_error_that_was_told_is_known_by_its_own_text() -> None:
    """The end of a run does not repeat it, although the line began with Devo's form."""
    told = configure_diagnostics(line_format=LineFormat.TEXT, level=logging.ERROR, colour=False)
    structlog.get_logger().error("it is damaged", code="ledger_unusable")

    assert "it is damaged" in told


def test_a_code_without_a_row_leaves_the_line_as_it_is() -> None:
    """Nothing is invented."""
    assert devo_line("no_such_code", "text") == "text"


def test_a_run_that_cannot_start_says_so_in_devos_form(tmp_path: Path) -> None:
    """The mistakes and the cure follow, each on its line."""
    config = tmp_path / "config.json"
    config.write_text("{}")
    command = [sys.executable, "-m", "m365watch.cli.main", "run", "--config", str(config)]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    first, *others = ended.stderr.splitlines()
    assert ended.returncode == 2
    assert first.startswith(f"error: InitVariablesError [CODE:0001] reason: {config}: inputs")
    assert others[-1] == "hint: correct what is named and start again"


def test_other_commands_speak_plainly() -> None:
    """`status` and `query` are no part of Devo's contract."""
    assert lines_of(LedgerUnusable("no ledger", fix="run first"))[0] == "error: no ledger"
