"""`m365watch status`: how every feed stands, read from the ledger alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.config.settings import Settings

WATCH_PERIOD_S = 2.0


def status(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with --watch one a line.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every 2 s until Ctrl-C.")
    ] = False,
) -> None:
    """Show how every feed stands: watermark, lag, blobs by state, records, and what to do about errors.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    settings = read_settings(config, job=job, collector=collector_file)
    show = _print_documents if as_json else _print_tables
    try:
        show(settings, watch=watch)
    except KeyboardInterrupt:
        if not watch:
            raise


def _print_documents(settings: Settings, *, watch: bool) -> None:
    from m365watch.app import read_status, waiting_blobs
    from m365watch.cli.documents import as_json, status_document
    from m365watch.clock import SystemClock

    clock = SystemClock()
    while True:
        progress, waiting = read_status(settings), waiting_blobs(settings)
        write_line(as_json(status_document(progress, waiting=waiting, now=clock.now())))
        if not watch:
            return
        asyncio.run(clock.sleep(WATCH_PERIOD_S))


def _print_tables(settings: Settings, *, watch: bool) -> None:
    from rich.console import RenderableType
    from rich.live import Live

    from m365watch.app import read_status
    from m365watch.cli.render import feeds_view
    from m365watch.clock import SystemClock

    clock, console = SystemClock(), stdout_console()

    def view() -> RenderableType:
        return feeds_view(read_status(settings), now=clock.now(), columns=console.width)

    if not watch:
        console.print(view())
        return
    with Live(view(), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            asyncio.run(clock.sleep(WATCH_PERIOD_S))
            live.update(view(), refresh=True)
