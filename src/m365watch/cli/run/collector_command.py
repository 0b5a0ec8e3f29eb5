"""A run as it was asked for on the command line, whoever has read that."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from m365watch.cli.options import configuration_files, read_settings, refuse_bound, state_of, writes_records
from m365watch.cli.terminal.console import LineFormat, stderr_terminal
from m365watch.cli.terminal.log_output import configure_diagnostics, level_of
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.cli.run.run_display import Collecting, Ending
    from m365watch.cli.terminal.live_progress import View
    from m365watch.cli.terminal.log_output import Told
    from m365watch.config.models.settings import Settings
    from m365watch.runtime.collector import Collector
    from m365watch.runtime.config_reload import Reload


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of `m365watch run` say."""

    config: Path | None
    job: Path | None = None
    collector_file: Path | None = None
    once: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    line_format: LineFormat = LineFormat.TEXT
    board: bool = False
    board_listen: str | None = None
    validate: bool = False
    no_save_state: bool = False


def run_as_asked(asked: Asked) -> int:
    """Collect as `asked`, and say how it ended; the exit code.

    Raises: CollectorError: it could not begin, or not go on.
    """
    from m365watch.cli.terminal.live_progress import view_for
    from m365watch.cli.terminal.log_output import Told
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.runtime.collector import Collector
    from m365watch.runtime.config_reload import Reload
    from m365watch.runtime.supervisor import RenewingCollector

    clock = SystemClock()
    files = configuration_files(asked.config, job=asked.job, collector=asked.collector_file)

    def load(running: Settings) -> Settings:
        return _as_kept(_read(asked), running)

    # Before the files are read, so that no change in between is missed.
    reload = None if asked.once else Reload(files, load, clock)
    with state_of(_read(asked), no_save_state=asked.no_save_state) as settings:
        console = stderr_terminal()
        told = Told()

        def configure(settings: Settings) -> None:
            configure_diagnostics(
                line_format=asked.line_format,
                level=level_of(quiet=asked.quiet, verbose=asked.verbose or settings.debug),
                colour=console is not None and not console.no_color,
                board=collector.board,
                told=told,
            )

        collector: Collector | RenewingCollector
        if reload is None or asked.validate:
            collector = Collector(settings, clock=clock, random=system_random())
        else:
            collector = RenewingCollector(
                settings, clock=clock, random=system_random(), reload=reload, on_settings=configure
            )
        configure(settings)
        _show_warnings(settings)
        if isinstance(collector, Collector) and asked.validate:
            return _validate_and_show(collector, settings)
        bars = asked.line_format is LineFormat.TEXT and not (writes_records(settings) and sys.stdout.isatty())
        view = view_for(console, clock=clock, quiet=asked.quiet, bars=bars)
        with _board_beside(settings, asked):
            ending = _collect(collector, view=view, once=asked.once, reload=reload)
        prints = writes_records(settings) or writes_records(collector.settings)
        return _show_end(ending, told=told, as_json=asked.as_json, prints_records=prints)


def _read(asked: Asked) -> Settings:
    return read_settings(asked.config, job=asked.job, collector=asked.collector_file)


def _board_beside(settings: Settings, asked: Asked) -> AbstractContextManager[None]:
    if not asked.board and asked.board_listen is None:
        return nullcontext()
    from m365watch.cli.board.board_process import board_beside

    return board_beside(
        settings,
        asked.board_listen,
        wanted=asked.board,
        config=asked.config,
        job=asked.job,
        collector=asked.collector_file,
    )


def _validate_and_show(collector: Collector, settings: Settings) -> int:
    """Try what a run needs; each problem on stderr, and the exit code."""
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.terminal.error_output import EXIT_FAILED, show_failure
    from m365watch.detection.factory import mistakes_of

    for mistake in mistakes_of(settings.detections):
        sys.stderr.write(f"warning: detections: {plain(mistake)}; it is left out of a run\n")
    problems = run_in_loop(collector.validate())
    for problem in problems:
        show_failure(problem, as_devo=True)
    if not problems:
        sys.stdout.write("settings, tokens, subscriptions and outputs will do\n")
    return EXIT_FAILED if problems else 0


def _as_kept(new: Settings, running: Settings) -> Settings:
    """The settings as the run has them that keeps its state in a temporary folder, whatever the file says.

    Raises: SettingsRefused: an output needs the state.
    """
    if running.keeps_state:
        return new
    refuse_bound(new)
    return replace(new, state_directory=running.state_directory, keeps_state=False)


def _collect(collector: Collecting, *, view: View, once: bool, reload: Reload | None) -> Ending:
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.run.run_display import collect

    on_hangup = None if reload is None else reload.ask
    return run_in_loop(collect(collector, once=once, view=view, on_hangup=on_hangup))


def _show_end(ending: Ending, *, told: Told, as_json: bool, prints_records: bool) -> int:
    """Show how a run ended, and answer the exit code."""
    from m365watch.cli.run.run_display import show_outcome
    from m365watch.cli.terminal import json_output as documents
    from m365watch.common.clock import SystemClock

    show_outcome(ending.outcome, told=told)
    if as_json:
        document = documents.outcome_document(
            ending.outcome, exit_code=ending.exit_code, now=SystemClock().now()
        )
        write = sys.stderr.write if prints_records else sys.stdout.write
        write(documents.as_json(document) + "\n")
    return ending.exit_code


def _show_warnings(settings: Settings) -> None:
    import structlog

    from m365watch.cli.terminal.start_warnings import warnings_of_starts
    from m365watch.common.clock import SystemClock

    for warning in (*settings.warnings, *warnings_of_starts(settings, now=SystemClock().now())):
        structlog.get_logger(__name__).warning(warning)
