"""`m365watch run`: collect until stopped, or with `--once` until everything is caught up."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.beside import BoardListenOption, BoardOption, board_beside
from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    NoSaveStateOption,
    ProdModeOption,
    ValidateOption,
    configuration_files,
    read_settings,
    state_of,
)
from m365watch.cli.diagnostics import configure_diagnostics, level_of
from m365watch.cli.failures import failing_as_devo
from m365watch.cli.terminal import LineFormat, plain, stderr_terminal

if TYPE_CHECKING:
    from m365watch.app import Collector
    from m365watch.cli.collecting import Ending
    from m365watch.cli.diagnostics import Told
    from m365watch.cli.live import View
    from m365watch.config.settings import Settings
    from m365watch.reloading import Reload


OnceOption = Annotated[
    bool, typer.Option("--once", help="Stop when every feed is caught up, and account for every blob.")
]
LineFormatOption = Annotated[
    LineFormat, typer.Option("--log-format", help="How the lines on stderr are written.")
]


@failing_as_devo
def run(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    once: OnceOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every step.")] = False,
    line_format: LineFormatOption = LineFormat.TEXT,
    board: BoardOption = False,
    board_listen: BoardListenOption = None,
    validate: ValidateOption = False,
    no_save_state: NoSaveStateOption = False,
    prod_mode: ProdModeOption = False,  # noqa: ARG001 - taken because Devo's containers give it
) -> None:
    """Collect the audit records of the tenants that FILE names.

    Runs until SIGTERM or Ctrl-C, and then finishes what is in flight.

    With a `console` output the records have stdout to themselves, and the document of --json goes to stderr.

    Exit codes: 0 done; 1 failed; 2 the configuration is wrong; 3 caught up, but some blob still waits for
    a retry; 4 another process holds the ledger; 130 or 143 stopped by a signal before it had started.
    Those of --validate are the same ones, and not Devo's: 0 where everything answers as it should, 1, 2 or 4
    otherwise. A receiver that cannot be reached is a 1 there, although a run would start and wait for it.
    """
    from m365watch.app import Collector
    from m365watch.cli.live import view_for
    from m365watch.clock import SystemClock, system_random
    from m365watch.reloading import Reload

    clock = SystemClock()
    files = configuration_files(config, job=job, collector=collector_file)

    def load(running: Settings) -> Settings:
        return _as_kept(read_settings(config, job=job, collector=collector_file), running)

    # Before the files are read, so that no change in between is missed.
    reload = None if once else Reload(files, load, clock)
    read = read_settings(config, job=job, collector=collector_file)
    with state_of(read, no_save_state=no_save_state) as settings:
        console = stderr_terminal()
        collector = Collector(settings, clock=clock, random=system_random(), reload=reload)
        told = configure_diagnostics(
            line_format=line_format,
            level=level_of(quiet=quiet, verbose=verbose or settings.debug),
            colour=console is not None and not console.no_color,
            board=collector.board,
        )
        _show_warnings(settings)
        if validate:
            raise typer.Exit(_validate_and_show(collector, settings))
        bars = line_format is LineFormat.TEXT and not (_writes_records(settings) and sys.stdout.isatty())
        view = view_for(console, clock=clock, quiet=quiet, bars=bars)
        with board_beside(
            settings, board_listen, wanted=board, config=config, job=job, collector=collector_file
        ):
            ending = _collect(collector, view=view, once=once, reload=reload)
        raise typer.Exit(_show_end(ending, settings, told=told, as_json=as_json))


def _validate_and_show(collector: Collector, settings: Settings) -> int:
    """Try what a run needs; each problem on stderr, and the exit code."""
    from m365watch.cli.failures import EXIT_FAILED, show_failure
    from m365watch.cli.loop import run_in_loop
    from m365watch.detecting import mistakes_of

    for mistake in mistakes_of(settings.detections):
        sys.stderr.write(f"warning: detections: {plain(mistake)}; it is left out of a run\n")
    problems = run_in_loop(collector.validate())
    for problem in problems:
        show_failure(problem, as_devo=True)
    if not problems:
        sys.stdout.write("settings, tokens, subscriptions and outputs will do\n")
    return EXIT_FAILED if problems else 0


def _as_kept(new: Settings, running: Settings) -> Settings:
    """The settings as the run has them that keeps its state in a temporary folder, whatever the file says."""
    if running.keeps_state:
        return new
    return replace(new, state_directory=running.state_directory, keeps_state=False)


def _collect(collector: Collector, *, view: View, once: bool, reload: Reload | None) -> Ending:
    from m365watch.cli.collecting import collect
    from m365watch.cli.loop import run_in_loop

    on_hangup = None if reload is None else reload.ask
    return run_in_loop(collect(collector, once=once, view=view, on_hangup=on_hangup))


def _show_end(ending: Ending, settings: Settings, *, told: Told, as_json: bool) -> int:
    """Show how a run ended, and answer the exit code."""
    from m365watch.cli import documents
    from m365watch.cli.collecting import show_outcome
    from m365watch.clock import SystemClock

    show_outcome(ending.outcome, told=told)
    if as_json:
        document = documents.outcome_document(
            ending.outcome, exit_code=ending.exit_code, now=SystemClock().now()
        )
        write = sys.stderr.write if _writes_records(settings) else sys.stdout.write
        write(documents.as_json(document) + "\n")
    return ending.exit_code


def _show_warnings(settings: Settings) -> None:
    import structlog

    from m365watch.cli.starts import warnings_of_starts
    from m365watch.clock import SystemClock

    for warning in (*settings.warnings, *warnings_of_starts(settings, now=SystemClock().now())):
        structlog.get_logger(__name__).warning(warning)


def _writes_records(settings: Settings) -> bool:
    """Whether an output writes records on stdout, so that nothing else may."""
    from m365watch.config.settings import ConsoleSettings

    return any(isinstance(output, ConsoleSettings) for output in settings.outputs)
