"""One command started by another, as if it had been typed."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from m365watch.cli.commands import PLACES, Commands


def is_there(name: str) -> bool:
    """Whether there is a command of that name."""
    return name in PLACES


def run_command(name: str, *arguments: str) -> int:
    """Run the command, and answer the exit code that it would leave with.

    Raises: CollectorError, as the command itself does.
    """
    left = Commands(PLACES)[name].main(
        args=list(arguments), prog_name=f"m365watch {name}", standalone_mode=False
    )
    return left if isinstance(left, int) else 0


def answer_of(name: str, *arguments: str) -> tuple[int, str]:
    """The same, and what the command would have printed as its answer."""
    with redirect_stdout(io.StringIO()) as printed:
        code = run_command(name, *arguments)
    return code, printed.getvalue()
