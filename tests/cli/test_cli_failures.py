from __future__ import annotations

import errno
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from promises import guarantee

from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.error_output import exit_code_of, hide_tracebacks, lines_of
from m365watch.cli.terminal.log_output import configure_diagnostics, level_of
from m365watch.common.errors import (
    AccessRefused,
    CollectorError,
    LedgerHeld,
    LedgerUnusable,
    SettingsRefused,
    Unavailable,
)
from m365watch.common.text import plain


@guarantee(29)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsRefused(["a: wrong"], where="c.json"), 2),
        (LedgerHeld("held", fix="stop it"), 4),
        (LedgerUnusable("no space", fix="make room"), 1),
        (AccessRefused("no permission", fix="grant it"), 1),
        (Unavailable("HTTP 503"), 1),
    ],
)
def test_each_error_has_its_exit_code(error: CollectorError, code: int) -> None:
    """The codes of the architecture page, for scripts to tell apart."""
    assert exit_code_of(error) == code


@guarantee(29)
def test_each_mistake_of_a_configuration_has_its_line() -> None:
    """All in one run, so that a file is put right in one go."""
    error = SettingsRefused(["inputs: missing", "outputs.x.type: unknown"], where="config.json")

    assert lines_of(error) == [
        "error: config.json: 2 mistakes",
        "  inputs: missing",
        "  outputs.x.type: unknown",
        "hint: correct what is named and start again",
    ]


def test_a_single_mistake_of_a_configuration_is_one_line_and_a_hint() -> None:
    """Nobody needs a heading over one line."""
    error = SettingsRefused(["there is no such file"], where="config.json", fix="name another")

    assert lines_of(error) == ["error: config.json: there is no such file", "hint: name another"]
    assert str(error) == "config.json: there is no such file; name another"


def test_a_command_that_has_ended_does_not_say_that_it_tries_again() -> None:
    """A run does; here somebody has to."""
    assert lines_of(Unavailable("no connection", where="devo")) == [
        "error: devo: no connection",
        "hint: nothing was lost; try again later",
    ]
    assert lines_of(Unavailable("HTTP 429", after_s=30))[1] == "hint: nothing was lost; try again in 30 s"


def test_the_cure_is_a_hint_on_its_own_line() -> None:
    """What happened first, what to do second."""
    assert lines_of(LedgerHeld("held by pid 7", where="state", fix="stop that process first")) == [
        "error: state: held by pid 7",
        "hint: stop that process first",
    ]


@guarantee(29)
def test_an_unforeseen_error_is_one_line_and_a_way_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback unless somebody asks for it."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    hide_tracebacks(["run", "--config", "my file.json"])

    sys.excepthook(ZeroDivisionError, ZeroDivisionError("division\nby zero"), None)

    assert capsys.readouterr().err.splitlines() == [
        "error: unexpected ZeroDivisionError: division by zero",
        "hint: `m365watch --debug run --config 'my file.json'` shows the traceback; please report it",
    ]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: the output cannot be written: no space left on device",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"),
            "error: /data/x: cannot be written: disk quota exceeded",
        ),
    ],
)
def test_a_full_disk_is_no_fault_of_the_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: OSError, line: str
) -> None:
    """Whoever sends what a command prints into a file has nothing to report, but room to make."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    hide_tracebacks(["alerts", "export"])

    sys.excepthook(OSError, error, None)

    assert capsys.readouterr().err.splitlines() == [line, "hint: make room on the disk, and run it again"]


def test_text_for_a_terminal_is_one_line_without_controls() -> None:
    """Records and servers may send escape sequences; letters of any script stay."""
    assert plain("größe\x1b[2J\r\nnext\u2028line\u202e") == "größe [2J  next line "


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_diagnostics_as_text_are_short_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level where it matters, what happened, and the figures."""
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    structlog.get_logger().debug("not shown")
    structlog.get_logger().warning("throttled", after_s=30)

    assert capsys.readouterr().err[8:] == " warning throttled after_s=30\n"


def test_diagnostics_as_json_are_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """For collectors of lines."""
    configure_diagnostics(line_format=LineFormat.JSON, level=logging.INFO, colour=False)
    structlog.get_logger().info("größer", after_s=30)

    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["event"], line["after_s"]) == ("info", "größer", 30)
    assert line["timestamp"].endswith("Z")


def test_colour_is_only_where_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """NO_COLOR and pipes get plain text."""
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=True)
    structlog.get_logger().error("lost")
    coloured = capsys.readouterr().err
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    structlog.get_logger().error("lost")

    assert "\x1b[31m" in coloured
    assert "\x1b" not in capsys.readouterr().err


def test_quiet_means_warnings_and_verbose_means_everything() -> None:
    """Verbose wins where both are given."""
    assert level_of(quiet=False, verbose=False) == logging.INFO
    assert level_of(quiet=True, verbose=False) == logging.WARNING
    assert level_of(quiet=True, verbose=True) == logging.DEBUG
