"""The command line: one typer app, and how its errors become exit codes."""

from __future__ import annotations

import io
import json
import platform
import sys
from collections import UserDict
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from m365watch import __version__
from m365watch.cli.terminal.console import take_any_text, write_line
from m365watch.cli.terminal.error_output import exit_code_of, hide_tracebacks, show_failure
from m365watch.common.errors import CollectorError
from m365watch.common.text import plain

PLACES = {
    "demo": "m365watch.cli.demo.demo_command:demo",
    "init": "m365watch.cli.setup.init_command:init",
    "consent": "m365watch.cli.setup.consent_command:consent",
    "run": "m365watch.cli.run.run_command:run",
    "status": "m365watch.cli.status.status_report:status",
    "tenants": "m365watch.cli.tenants.tenants_command:tenants",
    "audit": "m365watch.cli.feeds.audit_command:audit",
    "gaps": "m365watch.cli.feeds.gaps_command:gaps",
    "blobs": "m365watch.cli.feeds.blob_commands:blobs",
    "retry": "m365watch.cli.feeds.blob_commands:retry",
    "query": "m365watch.cli.lake.query_command:query",
    "search": "m365watch.cli.lake.search_command:search",
    "drift": "m365watch.cli.feeds.drift_command:drift",
    "board": "m365watch.cli.board.board_server:board",
    "alerts": "m365watch.cli.alerts.alert_triage:alerts",
    "rules": "m365watch.cli.rules.rule_library:rules",
    "hunt": "m365watch.cli.lake.hunt_command:hunt",
    "enrich": "m365watch.cli.enrich:enrich",
    "check": "m365watch.cli.setup.check_command:check",
    "why": "m365watch.cli.feeds.why_command:why",
    "respond": "m365watch.cli.respond.respond_command:respond",
    "monitor": "m365watch.cli.monitor:monitor",
    "recover": "m365watch.cli.feeds.recover_command:recover",
    "replay": "m365watch.cli.lake.replay_command:replay",
    "certificate": "m365watch.cli.setup.certificate_commands:certificate",
    "simulate": "m365watch.cli.simulate:simulate",
    "version": "m365watch.cli.program:show_version",
    "quarantine": "m365watch.cli.feeds.quarantine_commands:quarantine",
    "ledger": "m365watch.cli.feeds.ledger_commands:ledger",
    "lake": "m365watch.cli.lake.lake_commands:lake",
}
"""In the order of `m365watch --help`; a place is a module and the function or the typer app in it."""


class Commands(UserDict[str, Any]):
    """The commands by name; one that is looked up is imported, and made out of its place."""

    def __getitem__(self, name: str) -> Any:
        """The command of that name; raises KeyError where there is none."""
        found = self.data[name]
        if isinstance(found, str):
            found = self.data[name] = _command_at(found, name=name)
        return found


class CommandGroup(TyperGroup):
    """All commands of `PLACES`."""

    def __init__(self, **attributes: Any) -> None:
        """`attributes` are those that typer gives any group."""
        super().__init__(**attributes | {"commands": Commands(PLACES)})

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Run the command line; from here on no error shows a traceback but for `--debug`."""
        # Not before: typer puts its own hook in place when it is called.
        hide_tracebacks(sys.argv[1:])
        return super().main(*arguments, **named)

    def invoke(self, context: Any) -> Any:
        """Run the command that is named; what is wrong with a value of it is said in a sentence."""
        try:
            return super().invoke(context)
        except typer.BadParameter as error:
            if not error.message:
                # One that is missing: typer has the sentence for it.
                raise
            # What checks the values for typer begins with its own name for the kind of mistake.
            said = plain(str(error).removeprefix("Value error, "))
            hint = error.param_hint
            raise typer.BadParameter(said, ctx=error.ctx, param=error.param, param_hint=hint) from None


def _command_at(place: str, *, name: str) -> Any:
    module, _, word = place.partition(":")
    found = getattr(import_module(module), word)
    around = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return get_group(around).commands[name]


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


_PARTS = ("deltalake", "duckdb", "httptools", "msgspec", "pyarrow", "uvloop")


def show_version(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the version, Python's, and those of the parts that matter in a report of a fault."""
    parts = {name: _version_of(name) for name in _PARTS}
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}"
    if as_json:
        write_line(json.dumps({"m365watch": __version__, "python": python, "system": system, "parts": parts}))
        return
    write_line(f"m365watch {__version__} ({python}, {system})")
    write_line(", ".join(f"{name} {number or 'missing'}" for name, number in parts.items()))


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
        bool,
        typer.Option("--version", "-V", help="Show what is installed here, as the command version does."),
    ] = False,
) -> None:
    """Collect the audit records of Microsoft 365, prove that none is missing, and query them.

    Start with `m365watch demo`: no credentials, no configuration, under a minute.
    """
    if debug:
        sys.excepthook = sys.__excepthook__
    if version:
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
