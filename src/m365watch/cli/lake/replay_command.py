"""`m365watch replay`: records of the lake delivered again, to any other output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.periods import (
    FromOption,
    ServiceOption,
    TenantsOption,
    ToOption,
    parse_period,
    parse_services,
)
from m365watch.cli.terminal.input_warnings import look_at_lake

if TYPE_CHECKING:
    from pathlib import Path

    from m365watch.common.model import FeedContent
    from m365watch.config.models.settings import Settings
    from m365watch.runtime.replay_run import ReplayOutcome


def replay(
    start: FromOption,
    end: ToOption,
    output: Annotated[
        str, typer.Option("--output", metavar="NAME", help="The output that gets the records.")
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    tenant: TenantsOption = None,
    service: ServiceOption = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="T", help="Only this Devo table, in full or by its last part."),
    ] = None,
    received: Annotated[
        bool, typer.Option("--received", help="The period is one of arrival, and not of CreationTime.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew, also what an earlier start has delivered.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
) -> None:
    """Deliver records of the lake again, byte for byte, to an output: also older than 7 days.

    The period is one of CreationTime, its end left out. The records go in the order of time, with the masks
    and tags that the configuration has now. Works beside a running collector, whose positions stay as they
    are. An output of files gets a folder of its own, DIRECTORY.replay/NAME. What was begun is kept: the same
    command goes on with it.

    With a `console` output the records have stdout to themselves, and what came of it goes to stderr.

    Exit codes: 0 all is delivered; 1 something kept it from its end, the same command goes on; 2 the
    configuration or the call is wrong; 3 some of it waits for the output; 4 the same replay is running.
    """
    from m365watch.cli.run.one_off_run import run_errand
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.lake.record_scan import Clock, ScanAsked
    from m365watch.runtime.replay_run import Replay, find_tenants

    period = parse_period(start, end, now=SystemClock().now())
    settings = _settings_of(config, job, collector_file)
    asked = ScanAsked(
        period,
        Clock.RECEIVED if received else Clock.CREATED,
        _content_types(service),
        table,
        find_tenants(settings, tenant) if tenant else None,
    )
    one = Replay(settings, asked, output, clock=SystemClock(), random=system_random())
    if again:
        one.forget()
    elif one.was_done:
        sys.stderr.write("it was delivered before, all of it; --again delivers it once more\n")
        raise typer.Exit
    outcome, signal_code = run_errand(one, quiet=quiet)
    _show(outcome, as_json=as_json, stdout_is_free=not one.writes_records)
    raise typer.Exit(signal_code if signal_code is not None and not outcome.is_done else outcome.exit_code)


def _settings_of(config: Path | None, job: Path | None, collector: Path | None) -> Settings:
    """The settings, whose lake is not lost. Raises: LakeUnusable."""
    settings = read_settings(config, job=job, collector=collector)
    if settings.lake_directory is not None:
        look_at_lake(settings, settings.lake_directory)
    return settings


def _content_types(service: list[str] | None) -> frozenset[FeedContent]:
    from m365watch.common.model import Service

    types = [one.content for one in parse_services(service, of_audit=False) or tuple(Service)]
    return frozenset(one for one in types if one is not None)


def outcome_document(outcome: ReplayOutcome) -> dict[str, Any]:
    """What `replay --json` prints."""
    from m365watch.cli.terminal.json_output import SCHEMA

    return {
        "schema": SCHEMA,
        "exit_code": outcome.exit_code,
        "is_done": outcome.is_done,
        "went_on": outcome.went_on,
        "records": outcome.records,
        "slices_waiting": outcome.waiting,
        "pieces": outcome.pieces,
        "directory": None if outcome.directory is None else str(outcome.directory),
        "problems": list(outcome.problems),
    }


def _show(outcome: ReplayOutcome, *, as_json: bool, stdout_is_free: bool) -> None:
    """What came of it: the document on stdout, unless records went there; else a line on stderr."""
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.text import plain

    if as_json:
        sink = sys.stdout if stdout_is_free else sys.stderr
        sink.write(to_json(outcome_document(outcome)) + "\n")
        return
    for problem in outcome.problems:
        sys.stderr.write(f"error: {plain(problem)}\n")
    waiting = f", {count(outcome.waiting, 'slice')} wait" if outcome.waiting else ""
    refused = f", {count(outcome.pieces, 'record')} refused" if outcome.pieces else ""
    place = f" in {outcome.directory}" if outcome.directory is not None else ""
    sys.stderr.write(f"{count(outcome.records, 'record')} delivered{place}{waiting}{refused}\n")
    if outcome.exit_code:
        sys.stderr.write("hint: it is not at its end; the same command goes on from here\n")
