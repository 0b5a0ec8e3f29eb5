"""`m365watch run`: collect until stopped, or with `--once` until everything is caught up."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from m365watch.cli.board.board_process import BoardListenOption, BoardOption
from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    NoSaveStateOption,
    ProdModeOption,
    ValidateOption,
)
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.error_output import failing_as_devo

OnceOption = Annotated[
    bool, typer.Option("--once", help="Stop when every feed is caught up, and account for every blob.")
]
LineFormatOption = Annotated[
    LineFormat, typer.Option("--log-format", help="How the lines on stderr are written.")
]


@failing_as_devo
def run(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    once: OnceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
    line_format: LineFormatOption = LineFormat.TEXT,
    board: BoardOption = False,
    board_listen: BoardListenOption = None,
    validate: ValidateOption = False,
    no_save_state: NoSaveStateOption = False,
    prod_mode: ProdModeOption = False,  # noqa: ARG001 - taken because Devo's containers give it
) -> None:
    """Collect the audit records of the tenants that FILE names.

    Runs until SIGTERM or Ctrl-C, and then finishes what is in flight.

    With a `console` output the records have stdout to themselves, and the document of --json goes to stderr.

    Exit codes: 0 done; 1 failed; 2 the configuration is wrong; 3 caught up, but some blob still waits for
    a retry; 4 another process holds the ledger; 130 or 143 stopped by a signal before it had started.
    Those of --validate are the same ones, and not Devo's: 0 where everything answers as it should, 1, 2 or 4
    otherwise. A receiver that cannot be reached is a 1 there, although a run would start and wait for it.
    """
    from m365watch.cli.run.collector_command import Asked, run_as_asked

    asked = Asked(
        config,
        job=job,
        collector_file=collector_file,
        once=once,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        line_format=line_format,
        board=board,
        board_listen=board_listen,
        validate=validate,
        no_save_state=no_save_state,
    )
    sys.exit(run_as_asked(asked))
