"""The command line: one typer app, and the entry point that turns errors into exit codes."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from m365watch.cli.audit import audit
from m365watch.cli.blobs import blobs, retry
from m365watch.cli.demo.command import demo
from m365watch.cli.drift import drift
from m365watch.cli.failures import exit_code_of, failing_as_devo, hide_tracebacks, show_failure
from m365watch.cli.gaps import gaps
from m365watch.cli.lake import lake
from m365watch.cli.ledger import ledger
from m365watch.cli.quarantine import quarantine
from m365watch.cli.query import query
from m365watch.cli.recover import recover
from m365watch.cli.replay import replay
from m365watch.cli.run import run
from m365watch.cli.simulate import simulate
from m365watch.cli.status import status
from m365watch.cli.version import show_version
from m365watch.cli.why import why
from m365watch.errors import CollectorError

app = typer.Typer(
    name="m365watch",
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

    Start with `m365watch demo`: no credentials, no configuration, 20 seconds.
    """
    if not debug:
        # Not before: typer puts its own hook in place when it is called.
        hide_tracebacks(sys.argv[1:])
    if version:
        show_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command()(demo)
app.command()(failing_as_devo(run))
app.command()(status)
app.command()(audit)
app.command()(gaps)
app.command()(blobs)
app.add_typer(quarantine, name="quarantine")
app.command()(retry)
app.add_typer(ledger, name="ledger")
app.command()(query)
app.command()(drift)
app.command()(why)
app.command()(recover)
app.add_typer(lake)
app.command()(replay)
app.command()(simulate)
app.command("version")(show_version)


def main() -> None:
    """Run the command line; leaves with one of the exit codes of the architecture page."""
    for text in (sys.stdout, sys.stderr):
        if isinstance(text, io.TextIOWrapper):
            text.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="m365watch")
    except CollectorError as error:
        show_failure(error)
        sys.exit(exit_code_of(error))


if __name__ == "__main__":
    main()
