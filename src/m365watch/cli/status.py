"""`m365watch status`: how every feed stands, read from the ledger alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    arguments_for,
    read_settings,
)
from m365watch.cli.terminal import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.cli.status_view import Standing
    from m365watch.clock import Clock
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

    The watermark is the instant before which every blob is known, the lag is the time since then. Of the
    blobs that were listed, each is delivered, waiting, quarantined or lost. Pieces are records, or bytes
    that are no record, which could not go on and are kept: `m365watch quarantine` shows them.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    from m365watch.clock import SystemClock

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    arguments = arguments_for(config, job=job, collector=collector_file)
    clock = SystemClock()

    def read() -> Standing:
        return _read(settings, arguments, clock)

    try:
        if as_json:
            print_documents(read, clock, watch=watch)
        elif watch and stdout_console().is_terminal:
            _redraw(read, clock)
        else:
            print_pages(read, clock, watch=watch)
    except KeyboardInterrupt:
        if not watch:
            raise


def _read(settings: Settings, arguments: str, clock: Clock) -> Standing:
    from m365watch.cli.status_view import Standing
    from m365watch.inspection import read_status, waiting_blobs

    return Standing(read_status(settings), waiting_blobs(settings), clock.now(), arguments)


def print_documents(read: Callable[[], Standing], clock: Clock, *, watch: bool) -> None:
    """One JSON document on stdout; with `watch` one a line, until Ctrl-C."""
    from m365watch.cli.documents import as_json, status_document

    while True:
        standing = read()
        write_line(as_json(status_document(standing.progress, waiting=standing.waiting, now=standing.at)))
        if not watch:
            return
        asyncio.run(clock.sleep(WATCH_PERIOD_S))


def print_pages(read: Callable[[], Standing], clock: Clock, *, watch: bool) -> None:
    """The page on stdout; with `watch` one below the other, each with its instant, until Ctrl-C."""
    from m365watch.cli.render import moment
    from m365watch.cli.status_view import status_page

    console = stdout_console()
    while True:
        standing = read()
        if watch:
            console.print(f"at {moment(standing.at)}")
        console.print(status_page(standing, columns=console.width), crop=False)
        if not watch:
            return
        console.print()
        console.file.flush()
        asyncio.run(clock.sleep(WATCH_PERIOD_S))


def _redraw(read: Callable[[], Standing], clock: Clock) -> None:
    """Draw the page over and over on a screen of its own, until Ctrl-C."""
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    from m365watch.cli.render import moment
    from m365watch.cli.status_view import status_page

    console = stdout_console()

    def page() -> RenderableType:
        standing = read()
        head = f"at {moment(standing.at)}; again every {WATCH_PERIOD_S:g} s, Ctrl-C ends it"
        return Group(Text(head, style="dim"), status_page(standing, columns=console.width, on_screen=True))

    with Live(page(), console=console, auto_refresh=False, screen=True) as live:
        while True:
            asyncio.run(clock.sleep(WATCH_PERIOD_S))
            live.update(page(), refresh=True)
