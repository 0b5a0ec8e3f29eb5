"""The reference page of the commands: what each `--help` says."""

from __future__ import annotations

from collections.abc import Iterator

from typer.main import get_command
from typer.testing import CliRunner

from m365watch.cli.program import app

HEAD = """\
# Commands

Made from the commands themselves by `./dev docs`. Answers go to standard output, everything else to
standard error.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed, or a check found something |
| 2 | usage or settings; every mistake of a file is named in one run |
| 3 | caught up, but some blob still waits for a retry; each is named |
| 4 | another process holds the ledger, is at the upkeep of the lake, or carries a response out |
| 130, 143 | stopped by a signal before start-up was complete |

A running collector that is told to stop finishes what is in flight and ends with 0.
"""

SHELL = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
"""The terminal that the help texts are laid out for, whichever one the page is made on."""


def render() -> str:
    """The page: exit codes, then a section for each command, the bare one first."""
    return HEAD + "".join(
        f"\n## {' '.join(['m365watch', *path])}\n\n{help_of(path)}" for path in list_commands()
    )


def list_commands() -> Iterator[list[str]]:
    """The way to each command, in the order in which they are shown; the bare program is []."""
    waiting: list[tuple[list[str], object]] = [([], get_command(app))]
    while waiting:
        path, command = waiting.pop(0)
        yield path
        inner = getattr(command, "commands", {})
        waiting[:0] = [([*path, name], inner[name]) for name in inner if not inner[name].hidden]


def help_of(path: list[str]) -> str:
    """What the command's `--help` prints, as a fenced block."""
    answer = CliRunner().invoke(app, [*path, "--help"], prog_name="m365watch", env=SHELL)
    lines = [line.rstrip() for line in answer.stdout.strip().splitlines()]
    return "\n".join(["```text", *lines, "```", ""])
