"""`m365watch hunt`: rules over the records that the lake has already."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.feeds.blob_commands import say_if_cut
from m365watch.cli.periods import parse_period
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.cli.terminal.error_output import no_such_rule
from m365watch.cli.terminal.input_warnings import look_at_lake, tell_unreadable, warn
from m365watch.common.file_access import is_there

if TYPE_CHECKING:
    from m365watch.common.model import Window
    from m365watch.config.models.settings import Settings
    from m365watch.detection.retro_hunt import HuntAsked
    from m365watch.detection.rules.rule import Rule
    from m365watch.detection.rules.rule_library import Library

DAYS_BACK = 7


def hunt(
    rules: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RULE|PATH]...",
            help="A rule's number, id or title, or a file or folder of rules; left out, all in force.",
        ),
    ] = None,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    start: Annotated[
        str, typer.Option("--from", metavar="T", help="The first instant; left out, 7 days before the end.")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", metavar="T", help="The instant after the last; left out, now.")
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most so many.")
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take the records of the lake past rules, and show the alerts that they give.

    The same records, rules and settings give the same alerts as a run does, ids included. Nothing is kept:
    this is for trying rules on what came before them, and for looking back. At most 90 days at once, by
    CreationTime, or where that is no time, by when a record was fetched. Works while `m365watch run` is
    running.

    Exit codes: 0 done, whatever was found; 1 failed; 2 there is no such rule, or the configuration or the
    period is wrong.
    """
    from m365watch.cli.lake.hunt_view import hunt_document, hunt_page
    from m365watch.cli.lake.lake_view import ProgressLine
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.detection.retro_hunt import hunt as look_back

    clock = SystemClock()
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    asked = _asked(settings, rules or [], _period(start, end, now=clock.now()))
    with ProgressLine(clock) as progress:
        outcome = look_back(asked, progress=progress)
    if as_json:
        write_line(to_json(hunt_document(outcome, asked.period, limit=limit, now=clock.now())))
    else:
        stdout_console().print(hunt_page(outcome, limit=limit), crop=False)
    say_if_cut(min(limit, len(outcome.alerts)), len(outcome.alerts))
    if asked.exceptions.every and outcome.matches and not outcome.alerts:
        sys.stderr.write("hint: what detections.exceptions_file excepts makes no alert here either\n")


def _period(start: str, end: str, *, now: datetime) -> Window:
    from m365watch.detection.retro_hunt import HUNT_MAX

    last = end or f"{now:%Y-%m-%dT%H:%M:%SZ}"
    try:
        first = (
            start or f"{datetime.fromisoformat(last.strip()) - timedelta(days=DAYS_BACK):%Y-%m-%dT%H:%M:%S%z}"
        )
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"--to {end}: write 2026-11-01 or 2026-11-01T09:30Z") from None
    period = parse_period(first, last, now=now)
    if period.end - period.start > HUNT_MAX:
        raise typer.BadParameter(
            f"the period is longer than {HUNT_MAX.days} days; look at one part after another"
        )
    return period


def _asked(settings: Settings, names: list[str], period: Window) -> HuntAsked:
    from m365watch.common.errors import SettingsRefused
    from m365watch.detection.factory import knowledge_of, list_vain, load_exceptions
    from m365watch.detection.retro_hunt import HuntAsked
    from m365watch.detection.rule_test_cases import with_sources

    if settings.lake_directory is None:
        fix = "add an output of type lake; only what is in a lake can be looked at again"
        raise SettingsRefused(["no output is a lake"], where=str(settings.path), fix=fix)
    look_at_lake(settings, settings.lake_directory)
    library = _library(settings, [Path(one) for one in names if is_there(Path(one))])
    every = library.with_risk(settings.detections.risk_points)
    chosen = _chosen(settings, every, names)
    exceptions, mistakes = load_exceptions(settings.detections)
    for mistake in mistakes:
        warn(f"{mistake}; the exception does not hold")
    for line in list_vain(exceptions, library, settings):
        warn(line)
    known = tell_unreadable(settings.detections)
    return HuntAsked(
        settings.lake_directory,
        period,
        with_sources(chosen, every),
        frozenset(rule.id for rule in chosen),
        knowledge=knowledge_of(known),
        exceptions=exceptions,
    )


def _library(settings: Settings, paths: list[Path]) -> Library:
    """The rules in force and those at the paths; what is wrong with one is told."""
    from m365watch.detection.factory import load_rules

    library = load_rules(settings.detections, tried=paths)
    for mistake in library.mistakes:
        warn(f"{mistake}; {mistake.follows}")
    return library


def _chosen(settings: Settings, library: Library, names: list[str]) -> list[Rule]:
    """The rules that are named; all where none is."""
    from m365watch.detection.rules.rule_library import names_of_files

    if not names:
        return list(library.rules)
    found: dict[str, Rule] = {}
    for name in names:
        path = Path(name)
        places = names_of_files(path) if is_there(path) else None
        if places is None:
            some = library.find(name)
        else:
            some = [one for one in library.rules if one.path in places and one.id in library.tried]
        if not some:
            if places is None:
                raise no_such_rule(name, settings.detections)
            why = f"`m365watch rules validate {name}` says why"
            raise typer.BadParameter(f"there is no rule that will do in {name}; {why}")
        found.update((rule.id, rule) for rule in some)
    return list(found.values())
