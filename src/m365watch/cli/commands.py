"""The commands and where they are: each is imported once it is asked for, and not before."""

from __future__ import annotations

import sys
from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from m365watch.cli.terminal.error_output import hide_tracebacks
from m365watch.common.plain import plain

PLACES = {
    "demo": "m365watch.cli.demo.demo_command:demo",
    "init": "m365watch.cli.init:init",
    "consent": "m365watch.cli.consent:consent",
    "run": "m365watch.cli.run:run",
    "status": "m365watch.cli.status.status_report:status",
    "tenants": "m365watch.cli.tenants:tenants",
    "audit": "m365watch.cli.verify:audit",
    "gaps": "m365watch.cli.gaps:gaps",
    "blobs": "m365watch.cli.blobs:blobs",
    "retry": "m365watch.cli.blobs:retry",
    "query": "m365watch.cli.query:query",
    "search": "m365watch.cli.search:search",
    "drift": "m365watch.cli.feeds:drift",
    "board": "m365watch.cli.board.board_server:board",
    "alerts": "m365watch.cli.alerts.alert_triage:alerts",
    "rules": "m365watch.cli.rules.rule_library:rules",
    "hunt": "m365watch.cli.hunt:hunt",
    "enrich": "m365watch.cli.enrich:enrich",
    "check": "m365watch.cli.check:check",
    "why": "m365watch.cli.why:why",
    "respond": "m365watch.cli.respond:respond",
    "monitor": "m365watch.cli.monitor:monitor",
    "recover": "m365watch.cli.recover:recover",
    "replay": "m365watch.cli.replay:replay",
    "certificate": "m365watch.cli.certificate:certificate",
    "simulate": "m365watch.cli.simulate:simulate",
    "version": "m365watch.cli.version:show_version",
    "quarantine": "m365watch.cli.quarantine:quarantine",
    "ledger": "m365watch.cli.ledger:ledger",
    "lake": "m365watch.cli.lake:lake",
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
