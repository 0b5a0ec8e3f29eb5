"""`m365watch board`: the analyst's pages, in a browser."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.board.board_packages import require_board
from m365watch.cli.board.board_process import LISTEN
from m365watch.cli.board.low_priority import give_way, open_autogroup
from m365watch.cli.board.token_commands import token
from m365watch.cli.board.user_commands import user
from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, named_files, read_settings
from m365watch.cli.terminal.console import LineFormat, stderr_console, write_line
from m365watch.common.errors import NeedsOperator

if TYPE_CHECKING:
    from pathlib import Path

    from m365watch.board.app.application import Listening
    from m365watch.config.models.settings import Settings

ListenOption = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help=f"Where the pages are served, in place of `board.listen`, or {LISTEN}.",
        show_default=False,
    ),
]

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
    listen: ListenOption = None,
    beside: Annotated[
        bool, typer.Option("--beside", hidden=True, help="Give way to a collector, and end with stdin.")
    ] = False,
) -> None:
    """Serve the analyst's pages: what happens, who signs in, what was found, and whether all arrives.

    Without a command, the pages are served until Ctrl-C: to this machine alone, or where the section `board`
    of the configuration says, to whoever signs in. On this machine alone, a link opens them, which a terminal
    shows at the start and `m365watch board link` prints. The lake, the ledger and the alerts are read for it,
    so it is free to use while `m365watch run` is running.

    Exit codes: 0 stopped; 1 it cannot be served there, or a package is missing; 2 the configuration is wrong.
    """
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.terminal.log_output import configure_diagnostics

    console = stderr_console()
    configure_diagnostics(
        line_format=LineFormat.TEXT,
        level=logging.INFO,
        colour=console.is_terminal and not console.no_color,
    )
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True, for_board=True)
    require_board()
    from m365watch.board.factory import plan_listening

    named = named_files(config, job=job, collector=collector_file)
    give = partial(give_way, open_autogroup())
    serving = _serve(
        settings, plan_listening(settings, listen), files=tuple(named.items()), beside=beside, give_way=give
    )
    run_in_loop(serving)


async def _serve(
    settings: Settings,
    listening: Listening,
    *,
    files: tuple[tuple[str, Path], ...],
    beside: bool,
    give_way: Callable[[], None],
) -> None:
    from m365watch.board.factory import asks_to_sign_in, serve_board
    from m365watch.cli.event_loop import StopSignals
    from m365watch.common.clock import SystemClock
    from m365watch.config.models.listeners import BoardSection

    shown_on = sys.stderr if beside else sys.stdout
    # Whatever else takes the output keeps it: a file, the journal, a container's log.
    is_seen = shown_on.isatty()

    def tell() -> None:
        sys.stderr.write(f"board: {listening.url}/{'' if beside else ' (Ctrl-C ends it)'}\n")
        if not asks_to_sign_in(listening, settings.board or BoardSection()) and not is_seen:
            sys.stderr.write("board: m365watch board link prints a link that opens it\n")

    def show_link(link: str) -> None:
        sys.stderr.write("board: opens in one browser, within 10 minutes, by this link:\n")
        sys.stderr.flush()
        print(link, file=shown_on, flush=True)

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
            show_link=show_link if is_seen else None,
        )


@board.command()
def link(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    listen: ListenOption = None,
) -> None:
    """Print a link that opens a board on this machine in one browser.

    It counts once, within 10 minutes, for a board of the same state directory, be it running already or not
    yet. Where people sign in to the board there is none.

    Exit codes: 0 done; 1 it cannot be kept, or people sign in; 2 the configuration is wrong.
    """
    config = config or context.obj
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True, for_board=True)
    require_board()
    from m365watch.board.access.one_time_links import OpenLinks, link_to
    from m365watch.board.factory import asks_to_sign_in, read_listen
    from m365watch.common.clock import SystemClock
    from m365watch.config.models.listeners import BoardSection

    wanted = settings.board or BoardSection()
    listening = read_listen(listen or wanted.listen, wanted)
    if asks_to_sign_in(listening, wanted):
        raise NeedsOperator(
            "no link opens this board: people sign in to it",
            fix=f"sign in at {listening.url}/sign-in; m365watch board user add NAME adds a user",
        )
    code = OpenLinks(settings.state_directory).create(SystemClock().now())
    write_line(link_to(listening.url, code))
    sys.stderr.write("It opens the board once, within 10 minutes.\n")


def _stop_with_stdin(stop: asyncio.Event) -> None:
    """Set `stop` when whoever started this process closes its input, or is no more."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
