"""The command line: one typer app, and how its errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from m365watch.cli.commands import CommandGroup
from m365watch.cli.terminal.console import take_any_text
from m365watch.cli.terminal.error_output import exit_code_of, show_failure
from m365watch.common.errors import CollectorError

app = typer.Typer(
    name="m365watch",
    cls=CommandGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
def show_help(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unforeseen error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show what is installed here, as the command version does.")
    ] = False,
) -> None:
    """Collect the audit records of Microsoft 365, prove that none is missing, and query them.

    Start with `m365watch demo`: no credentials, no configuration, under a minute.
    """
    if debug:
        sys.excepthook = sys.__excepthook__
    if version:
        from m365watch.cli.version import show_version

        show_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command line; leaves with one of the exit codes of the architecture page."""
    take_any_text()
    try:
        app(prog_name="m365watch")
    except CollectorError as error:
        show_failure(error)
        sys.exit(exit_code_of(error))
