"""The two places a command writes to: data on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PIPED_COLUMNS = 120
"""How wide text is that goes into a pipe or a file, where nobody set `COLUMNS`."""
_COUNTS_AS_TERMINAL = frozenset({"FORCE_COLOR", "TTY_COMPATIBLE"})
"""Variables by which rich may take a pipe for a terminal."""


class LineFormat(StrEnum):
    """How a line of diagnostics is written on stderr."""

    TEXT = "text"
    JSON = "json"


def stdout_console() -> Console:
    """Where tables go; colour only on a terminal and never with `NO_COLOR`."""
    return _console(on_stderr=False)


def stderr_console() -> Console:
    """Where progress, summaries, warnings and errors go."""
    return _console(on_stderr=True)


def stderr_terminal() -> Console | None:
    """The console on stderr if that is a terminal, or is to count as one; None into a pipe or a file."""
    # rich knows this as well, but takes 25 ms to import, for a collector that nobody watches.
    if not sys.stderr.isatty() and _COUNTS_AS_TERMINAL.isdisjoint(os.environ):
        return None
    console = stderr_console()
    return console if console.is_terminal else None


def take_any_text() -> None:
    """Let stdout and stderr write what they have no bytes for with backslashes, in place of failing."""
    for text in (sys.stdout, sys.stderr):
        if isinstance(text, io.TextIOWrapper):
            text.reconfigure(errors="backslashreplace")


def write_line(text: str) -> None:
    """One line of data on stdout: never wrapped, never coloured."""
    write_text(text + "\n")


def write_text(text: str) -> None:
    """Data on stdout: exactly as it is for a program, and for a terminal nothing that it obeys."""
    sys.stdout.write(escaped(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def escaped(text: str) -> str:
    """`text` with its lines, and what else nobody sees written as JSON does: JSON says the same as before."""
    return "".join(one if _is_seen(one) else json.dumps(one)[1:-1] for one in text)


def _is_seen(character: str) -> bool:
    return character.isprintable() or character in "\n\t" or unicodedata.category(character) == "Zs"


def _console(*, on_stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=on_stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_COLUMNS
    return console
