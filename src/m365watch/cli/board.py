"""`m365watch board`: the analyst's pages, in a browser."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.beside import LISTEN
from m365watch.cli.board_packages import require_board
from m365watch.cli.board_token import token
from m365watch.cli.board_user import user
from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, named_files, read_settings
from m365watch.cli.giving_way import give_way
from m365watch.cli.terminal import LineFormat, stderr_console

if TYPE_CHECKING:
    from pathlib import Path

    from m365watch.board.serving import Listening
    from m365watch.config.settings import Settings

board = typer.Typer(rich_markup_mode=None)
board.add_typer(user, name="user")
board.add_typer(token, name="token")


@board.callback(invoke_without_command=True)
def serve_or_go_on(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help=f"Where the pages are served, in place of `board.listen`, or {LISTEN}.",
            show_default=False,
        ),
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", hidden=True, help="Give way to a collector, and end with stdin.")
    ] = False,
) -> None:
    """Serve the analyst's pages: what happens, who signs in, what was found, and whether all arrives.

    Without a command, the pages are served until Ctrl-C: to this machine alone, or where the section `board`
    of the configuration says, to whoever signs in. The lake, the ledger and the alerts are read for it, so
    it is free to use while `m365watch run` is running.

    Exit codes: 0 stopped; 1 it cannot be served there, or a package is missing; 2 the configuration is wrong.
    """
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    from m365watch.cli.diagnostics import configure_diagnostics
    from m365watch.cli.loop import run_in_loop

    console = stderr_console()
    configure_diagnostics(
        line_format=LineFormat.TEXT,
        level=logging.INFO,
        colour=console.is_terminal and not console.no_color,
    )
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True, for_board=True)
    require_board()
    from m365watch.boarding import plan_listening

    named = named_files(config, job=job, collector=collector_file)
    run_in_loop(_serve(settings, plan_listening(settings, listen), files=tuple(named.items()), beside=beside))


async def _serve(
    settings: Settings, listening: Listening, *, files: tuple[tuple[str, Path], ...], beside: bool
) -> None:
    from m365watch.boarding import serve_board
    from m365watch.cli.signals import StopSignals
    from m365watch.clock import SystemClock

    def tell() -> None:
        sys.stderr.write(f"board: {listening.url}/{'' if beside else ' (Ctrl-C ends it)'}\n")

    stop = asyncio.Event()
    if beside:
        give_way()
        _stop_with_stdin(stop)
    with StopSignals(stop):
        await serve_board(
            settings,
            listening,
            clock=SystemClock(),
            stop=stop,
            files=files,
            tell=tell,
            give_way=give_way,
        )


def _stop_with_stdin(stop: asyncio.Event) -> None:
    """Set `stop` when whoever started this process closes its input, or is no more."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
