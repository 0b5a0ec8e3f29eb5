"""`m365watch status`: how every feed stands, read from the ledger."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    arguments_for,
    read_settings,
)
from m365watch.cli.status.liveness import WITHIN_MINUTES, alive_line
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.input_warnings import warn_of_lakes
from m365watch.common.errors import CollectorError, OutputUnusable
from m365watch.common.timestamps import ms_of

if TYPE_CHECKING:
    from m365watch.cli.status.status_view import Standing
    from m365watch.common.clock import Clock
    from m365watch.config.models.settings import Settings
    from m365watch.detection.alerts.triage import DetectionFigures
    from m365watch.health.checks.check_specs import Surface
    from m365watch.notifications.channel_status import Standings

WATCH_PERIOD_S = 2.0

AliveOption = Annotated[
    bool,
    typer.Option(
        "--alive",
        help="Say in one line whether a collector runs and gets on, and end with 0 or 1: a health check.",
    ),
]
WithinOption = Annotated[
    int,
    typer.Option(
        metavar="MINUTES",
        min=1,
        help="With --alive: how long ago its last answer of Microsoft may be, longer than the settings'"
        " request periods.",
    ),
]


def status(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; with --watch one a line.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print the figures as Prometheus reads them from a text file.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every 2 s until Ctrl-C.")
    ] = False,
    alive: AliveOption = False,
    within: WithinOption = WITHIN_MINUTES,
) -> None:
    """Show how every feed stands: watermark, lag, blobs by state, records, and what to do about errors.

    The watermark is the instant before which every blob is known, the lag is the time since then. Of the
    blobs that were listed, each is delivered, waiting, quarantined or lost. Pieces are records, or bytes
    that are no record, which could not go on and are kept: `m365watch quarantine` shows them.

    Credentials that expire within 30 days are warned of, with what to do; of others it is told when they
    do, where that is known.

    The table of latency counts blobs; for what begins with the act, one record of each speaks.

    Reads the ledger, so it is free to use while `m365watch run` is running. Of a lake that is not
    whole it warns.
    """
    from m365watch.common.clock import SystemClock
    from m365watch.health.checks.check_specs import Surface

    if metrics and (as_json or watch):
        raise typer.BadParameter("--metrics goes with neither --json nor --watch")
    if alive and (as_json or watch or metrics):
        raise typer.BadParameter("--alive goes with none of --json, --metrics and --watch")
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    arguments = arguments_for(config, job=job, collector=collector_file)
    clock = SystemClock()
    if alive:
        raise typer.Exit(_say_alive(settings, clock, timedelta(minutes=within)))

    def read() -> Standing:
        return _read(settings, arguments, clock, Surface.METRICS if metrics else Surface.STATUS)

    if metrics:
        print_metrics(read, [one.name for one in settings.detections.channels])
        return
    warn_of_lakes(settings)
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


def _say_alive(settings: Settings, clock: Clock, within: timedelta) -> int:
    """One line on stdout, and the exit code."""
    from m365watch.health.collector_status import read_status, who_collects

    holder = who_collects(settings)
    feeds = [] if holder is None else read_status(settings, now=clock.now()).feeds
    is_alive, line = alive_line(holder, feeds, now=clock.now(), within=within)
    write_line(line)
    return 0 if is_alive else 1


def _read(settings: Settings, arguments: str, clock: Clock, surface: Surface) -> Standing:
    from m365watch.cli.status.status_view import Standing
    from m365watch.health.checks.check_specs import trouble_for
    from m365watch.health.collector_status import (
        read_audits,
        read_configuration,
        read_expiry,
        read_latency,
        read_status,
        waiting_blobs,
    )

    now = clock.now()
    return Standing(
        read_status(settings, now=now),
        waiting_blobs(settings),
        now,
        arguments,
        latency=read_latency(settings),
        audits=read_audits(settings),
        applications=read_expiry(settings),
        configuration=read_configuration(settings),
        detections=_read_detections(settings),
        checks=trouble_for(surface, settings, clock),
        unread=_list_unread(settings),
        notifications=_read_notifications(settings, clock),
    )


def _read_detections(settings: Settings) -> DetectionFigures | OutputUnusable | None:
    """How the detections stand, or why that cannot be read; none where they are off, or have not run."""
    if not settings.detections.enabled:
        return None
    from m365watch.detection.alerts.triage import read_figures
    from m365watch.detection.detection_output import FILE_NAME

    try:
        return read_figures(settings.state_directory / FILE_NAME)
    except OutputUnusable as error:
        return error


def _list_unread(settings: Settings) -> Sequence[str]:
    """The user's own rules and exceptions that are not there, or closed to this user."""
    if not settings.detections.enabled:
        return ()
    from m365watch.detection.factory import list_unread

    return [one.line for one in list_unread(settings.detections)]


def _read_notifications(settings: Settings, clock: Clock) -> Standings | None:
    """How the targets of notifications stand, as far as a run has known them."""
    if not settings.detections.enabled or not settings.detections.channels:
        return None
    from m365watch.notifications.channel_status import look_at_standings

    names = {one.name for one in settings.detections.channels}
    return look_at_standings(settings.state_directory, names, now_ms=ms_of(clock.now()))


def print_metrics(read: Callable[[], Standing], targets: Sequence[str]) -> None:
    """Everything on stdout in Prometheus' text format."""
    from m365watch.health.metrics import metrics_text
    from m365watch.pipeline.latency import LatencyBook

    standing = read()
    book, applications, told = (
        standing.latency or LatencyBook(),
        standing.applications,
        standing.notifications,
    )
    sys.stdout.write(
        metrics_text(
            standing.progress,
            book,
            applications,
            now=standing.at,
            targets=told.figures if told is not None else (),
            untold=targets if told is not None and told.fault is not None else (),
            checks=standing.checks,
        )
    )


def print_documents(read: Callable[[], Standing], clock: Clock, *, watch: bool) -> None:
    """One JSON document on stdout; with `watch` one a line, until Ctrl-C."""
    from m365watch.cli.setup.check_view import step_document
    from m365watch.cli.status.expiry_view import credentials_document
    from m365watch.cli.status.latency_view import latency_document
    from m365watch.cli.status.report_sections import configuration_document
    from m365watch.cli.terminal.json_output import as_json, status_document

    while True:
        standing = read()
        document = status_document(
            standing.progress, waiting=standing.waiting, now=standing.at, audits=standing.audits
        )
        if standing.latency is not None:
            document["latency"] = latency_document(standing.latency, now=standing.at)
        document["checks"] = [step_document(step) for steps in standing.checks.values() for step in steps]
        document["configuration"] = configuration_document(standing.configuration)
        if isinstance(standing.detections, CollectorError):
            document["detections_trouble"] = str(standing.detections)
        elif standing.detections is not None:
            from m365watch.cli.status.detections_view import detections_document

            document["detections"] = detections_document(standing.detections)
        if standing.unread:
            document.setdefault("detections", {})["missing"] = list(standing.unread)
        if standing.notifications is not None and standing.notifications.fault is not None:
            document["notifications_trouble"] = str(standing.notifications.fault)
        elif standing.notifications is not None and standing.notifications.figures:
            from m365watch.cli.alerts.notifications_view import figures_document

            document["notifications"] = [
                {"name": one.name, **figures_document(one)} for one in standing.notifications.figures
            ]
        document["credentials"] = credentials_document(standing.applications, now=standing.at)
        write_line(as_json(document))
        if not watch:
            return
        asyncio.run(clock.sleep(WATCH_PERIOD_S))


def print_pages(read: Callable[[], Standing], clock: Clock, *, watch: bool) -> None:
    """The page on stdout; with `watch` one below the other, each with its instant, until Ctrl-C."""
    from m365watch.cli.status.status_view import status_page
    from m365watch.cli.terminal.formatting import moment

    console = stdout_console()
    while True:
        standing = read()
        if watch:
            console.print(f"at {moment(standing.at)}")
        rows = console.height if console.is_terminal else None
        console.print(status_page(standing, columns=console.width, rows=rows), crop=False)
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

    from m365watch.cli.status.status_view import status_page
    from m365watch.cli.terminal.formatting import moment

    console = stdout_console()

    def page() -> RenderableType:
        standing = read()
        head = f"at {moment(standing.at)}; again every {WATCH_PERIOD_S:g} s, Ctrl-C ends it"
        page = status_page(standing, columns=console.width, rows=console.height - 1, on_screen=True)
        return Group(Text(head, style="dim"), page)

    with Live(page(), console=console, auto_refresh=False, screen=True) as live:
        while True:
            asyncio.run(clock.sleep(WATCH_PERIOD_S))
            live.update(page(), refresh=True)
