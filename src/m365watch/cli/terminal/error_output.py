"""What a failed command says, and the exit code it leaves with.

The codes are those of the architecture page: 1 failed, 2 usage or settings, 4 another
process holds the ledger or the lake, or responds.
"""

from __future__ import annotations

import functools
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec

import typer

from m365watch.common.atomic_files import FULL
from m365watch.common.errors import (
    CollectorError,
    LakeHeld,
    LedgerHeld,
    NeedsOperator,
    ResponseHeld,
    RetryLater,
    SettingsRefused,
)
from m365watch.common.text import plain
from m365watch.health.devo_error_codes import row_of

if TYPE_CHECKING:
    from m365watch.config.models.detections import DetectionsSection


def no_such_rule(name: str, settings: DetectionsSection) -> typer.BadParameter:
    """What to raise where no rule in force has that name: of that about risk, why it is not in force."""
    from m365watch.detection.rules.rule_library import Library

    if not settings.risk_points and Library().with_risk(1).find(name):
        return typer.BadParameter(
            f"{name} is off: detections.risk_points is 0, so that no rule adds up risk; give it points, as 50"
        )
    return typer.BadParameter(f"there is no rule {name}; `m365watch rules list --all` names all")


P = ParamSpec("P")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_HELD = 4


def exit_code_of(error: CollectorError) -> int:
    """The exit code that belongs to `error`."""
    match error:
        case SettingsRefused():
            return EXIT_USAGE
        case LedgerHeld() | LakeHeld() | ResponseHeld():
            return EXIT_HELD
        case _:
            return EXIT_FAILED


def lines_of(error: CollectorError, *, as_devo: bool = False) -> list[str]:
    """`error` for a person: what happened, each of several mistakes on its own line, then the hint.

    With `as_devo`, what happened begins as Devo writes it: `SetupError [CODE:0100] reason: ...`.
    """
    # Without the fixed texts: a person wants the cause, and "connection closed" is not always one.
    form = f"{row_of(error).start} " if as_devo else ""
    place = f"{error.where}: " if error.where else ""
    if isinstance(error, RetryLater):
        # A run would try again by itself; a command has ended.
        when = "later" if error.after_s is None else f"in {error.after_s:g} s"
        return [f"error: {form}{plain(place + error.what)}", f"hint: nothing was lost; try again {when}"]
    if not isinstance(error, NeedsOperator):
        return [f"error: {form}{plain(str(error))}"]
    several = isinstance(error, SettingsRefused) and len(error.mistakes) > 1
    mistakes = error.mistakes if isinstance(error, SettingsRefused) and several else []
    return [
        f"error: {form}{plain(place + error.what)}",
        *(f"  {plain(mistake)}" for mistake in mistakes),
        f"hint: {plain(error.fix)}",
    ]


def show_failure(error: CollectorError, *, as_devo: bool = False) -> None:
    """`error` on stderr, a line each."""
    for line in lines_of(error, as_devo=as_devo):
        sys.stderr.write(line + "\n")


def failing_as_devo(command: Callable[P, None]) -> Callable[P, None]:
    """`command`, whose failure is told as Devo writes it."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CollectorError as error:
            show_failure(error, as_devo=True)
            sys.exit(exit_code_of(error))

    return run


def denial_of(error: PermissionError) -> str:
    """What the system refused, and to whom: the end of a sentence that starts with the file's name."""
    return f"{(error.strerror or 'refused').lower()} to user {os.geteuid()}, who runs this"


def hide_tracebacks(arguments: list[str]) -> None:
    """From here on an error that nobody foresaw is told in one line; Python still exits with 1."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        if isinstance(error, PermissionError) and error.filename is not None:
            sys.stderr.write(f"error: {plain(str(error.filename))}: {denial_of(error)}\n")
            sys.stderr.write("hint: run it as the user whose files these are, or let this one in\n")
            return
        if isinstance(error, OSError) and error.errno in FULL:
            # What has no name is mostly what the shell sends the output into.
            what = "the output" if error.filename is None else f"{plain(str(error.filename))}:"
            sys.stderr.write(f"error: {what} cannot be written: {(error.strerror or 'it is full').lower()}\n")
            sys.stderr.write("hint: make room on the disk, and run it again\n")
            return
        last = traceback.extract_tb(trace)[-1:]
        where = f" ({last[0].name}, line {last[0].lineno})" if last else ""
        again = shlex.join(["m365watch", "--debug", *arguments])
        sys.stderr.write(f"error: unexpected {kind.__name__}: {plain(str(error))}{where}\n")
        sys.stderr.write(f"hint: `{again}` shows the traceback; please report it\n")

    sys.excepthook = tell
