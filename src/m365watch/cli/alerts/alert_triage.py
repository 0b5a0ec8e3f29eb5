"""`m365watch alerts`: what the detections have found, and what has become of it."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.alerts.alert_selection import (
    DaysOption,
    EntityOption,
    NotRuleOption,
    RuleOption,
    SeverityOption,
    SeverityWanted,
    StateOption,
    StateWanted,
    alerts_asked,
    file_of,
    refuse_empty,
)
from m365watch.cli.alerts.notification_test import notify
from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    JsonOption,
    arguments_for,
    read_settings,
)
from m365watch.cli.tenants.tenant_selection import KeptTenantsOption
from m365watch.cli.terminal.console import LineFormat, stdout_console, write_line
from m365watch.cli.terminal.input_warnings import look_at_lake
from m365watch.cli.this_user import this_user
from m365watch.common.timestamps import ms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from m365watch.config.models.settings import Settings
    from m365watch.detection.alerts.alert import Alert
    from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
    from m365watch.notifications.channel_status import WhoKnows
    from m365watch.response.journal import Line

alerts = typer.Typer(
    help=(
        "Read what the detections have found; acknowledge it, close it, take it along.\n\n"
        "An alert is named by the first digits of its id. Works while `m365watch run` is running."
    ),
    rich_markup_mode=None,
    no_args_is_help=True,
)


class ExportFormat(StrEnum):
    """How alerts are written into a file."""

    NDJSON = "ndjson"
    CSV = "csv"


IdsArgument = Annotated[list[str], typer.Argument(metavar="ALERT...", help="Ids, or their first digits.")]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides; left out, the user of this system.")
]


@alerts.command("list")
def list_alerts(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    state: StateOption = StateWanted.ACTIVE,
    severity: SeverityOption = SeverityWanted.MEDIUM,
    rule: RuleOption = None,
    not_rule: NotRuleOption = None,
    entity: EntityOption = None,
    tenant: KeptTenantsOption = None,
    days: DaysOption = 90,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most so many.")
    ] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the alerts, the worst first.

    That is by severity, and of one severity: those found here before Microsoft's own; those that share a
    record with a graver one; then the latest.

    Signals below medium add to the risk of an account and are left out here unless --severity asks for them;
    the last lines say how many there are.

    Exit codes: 0 done; 1 there is no file of alerts yet; 2 the configuration is wrong.
    """
    from m365watch.cli.alerts.alert_details import alerts_document, alerts_page
    from m365watch.cli.feeds.blob_commands import say_if_cut
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.detection.alerts import triage as desk

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    asked = alerts_asked(
        settings, state, severity, rule=rule, not_rules=not_rule, entity=entity, tenants=tenant, days=days
    )
    found = desk.find_alerts(file_of(settings), asked)
    if as_json:
        write_line(to_json(alerts_document(found, limit=limit, now=SystemClock().now())))
    else:
        stdout_console().print(alerts_page(found, limit=limit), crop=False)
    say_if_cut(min(limit, len(found.alerts)), len(found.alerts))


@alerts.command("show")
def show(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="The alert's id, or its first digits.")],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also the records themselves, a line each, from the lake.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one alert: what happened, the records that say so, what to look at next, and how to contain it.

    The records are looked up in the lake, where there is one. What `respond` did for it already is told,
    with who did it, when, and what came of it.

    Exit codes: 0 done; 1 failed; 2 there is no such alert, or the configuration is wrong.
    """
    from m365watch.cli.alerts.alert_details import alert_document, alert_page, related_document, told_document
    from m365watch.cli.alerts.evidence import find_evidence
    from m365watch.cli.respond.plan_view import deeds_document
    from m365watch.cli.terminal.json_output import SCHEMA
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.detection.alerts import triage as desk
    from m365watch.detection.enrichment.entity_facts import what_is_known
    from m365watch.detection.factory import knowledge_of

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    kept = _found(settings, alert)
    evidence = find_evidence(settings.lake_directory, kept.alert)
    now_ms = ms_of(SystemClock().now())
    told = _told(settings, kept.alert, now_ms=now_ms)
    known = what_is_known(kept.alert, knowledge_of(settings.detections))
    related = [one.alert for one in desk.find_related(file_of(settings), kept.alert)]
    deeds = _deeds(settings, kept.alert)
    if as_json:
        document = {"schema": SCHEMA, **alert_document(kept)}
        document["known"] = known
        document["notifications"] = None if told is None else told_document(told)
        document["responses"] = None if deeds is None else deeds_document(deeds)
        document["related"] = [related_document(one) for one in related]
        document["records"] = [one.document(raw=raw) for one in evidence.records]
        write_line(to_json(document))
        return
    arguments = arguments_for(config, job=job, collector=collector_file)
    page = alert_page(
        kept, evidence, told or (), known, deeds=deeds or (), related=related, arguments=arguments
    )
    stdout_console().print(page, crop=False)
    for one in evidence.records if raw else ():
        write_line(one.raw)


def _told(settings: Settings, alert: Alert, *, now_ms: int) -> Sequence[WhoKnows] | None:
    """Who was told of the alert; None, which is told, where that cannot be read."""
    from m365watch.common.errors import OutputUnavailable, OutputUnusable
    from m365watch.notifications.channel_status import who_knows

    try:
        return who_knows(settings.state_directory, alert.id, now_ms=now_ms)
    except (OutputUnusable, OutputUnavailable) as error:
        sys.stderr.write(f"note: {error}\n")
        return None


def _deeds(settings: Settings, alert: Alert) -> Sequence[Line] | None:
    """What became of what was done over Graph for the alert; None, which is told, where it cannot be read."""
    from m365watch.common.errors import JournalUnreadable
    from m365watch.response.journal import Journal

    try:
        return Journal(settings.state_directory).list_deeds(alert.id, *alert.formerly)
    except JournalUnreadable as error:
        # It is of whoever responds alone, and reading an alert is anybody's.
        sys.stderr.write(f"note: {error}\n")
        return None


@alerts.command("ack")
def acknowledge(
    ids: IdsArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="A note for the others.")] = "",
    by: ByOption = None,
) -> None:
    """Acknowledge alerts: somebody is looking into them.

    What another has acknowledged is taken over, and it is said from whom; what is closed has to be opened
    again first. All that are named, or none. Exit codes: 0 done; 1 failed; 2 there is no such alert, one is
    closed, or the configuration is wrong.
    """
    from m365watch.detection.alerts.stored_alert import AlertState

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    _set(settings, ids, AlertState.ACKNOWLEDGED, reason=reason, by=by)


@alerts.command("close")
def close(
    ids: IdsArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="What it was, for the others. Needed.")
    ],
    by: ByOption = None,
) -> None:
    """Close alerts, with the reason: what it was, and what was done.

    All that are named, or none; `m365watch alerts reopen` takes it back. For what is expected time and again,
    write an exception (`detections.exceptions_file`). Exit codes: 0 done; 1 failed; 2 there is no such alert,
    the reason is empty, or the configuration is wrong.
    """
    from m365watch.detection.alerts.stored_alert import AlertState

    if not reason.strip():
        raise typer.BadParameter("--reason is empty; say what it was")
    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    _set(settings, ids, AlertState.CLOSED, reason=reason, by=by)


@alerts.command("reopen")
def reopen(
    ids: IdsArgument,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="A note for the others.")] = "",
    by: ByOption = None,
) -> None:
    """Open alerts again that were acknowledged or closed.

    All that are named, or none. Exit codes: 0 done; 1 failed; 2 there is no such alert, or the configuration
    is wrong.
    """
    from m365watch.detection.alerts.stored_alert import AlertState

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    _set(settings, ids, AlertState.OPEN, reason=reason, by=by)


@alerts.command("export")
def export(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    row_format: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="One JSON object a line, or a table.")
    ] = ExportFormat.NDJSON,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Into this file, in place of stdout.")
    ] = None,
    state: StateOption = StateWanted.ALL,
    severity: SeverityOption = SeverityWanted.INFORMATIONAL,
    rule: RuleOption = None,
    not_rule: NotRuleOption = None,
    entity: EntityOption = None,
    tenant: KeptTenantsOption = None,
    days: DaysOption = 90,
) -> None:
    """Write alerts as NDJSON or CSV: all of them, unless options say otherwise.

    Exit codes: 0 done; 1 failed; 2 the configuration is wrong.
    """
    from m365watch.cli.alerts.alert_details import csv_of, ndjson_of
    from m365watch.cli.terminal.console import write_text
    from m365watch.cli.terminal.formatting import count
    from m365watch.detection.alerts import triage as desk

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    asked = alerts_asked(
        settings, state, severity, rule=rule, not_rules=not_rule, entity=entity, tenants=tenant, days=days
    )
    found = desk.list_alerts(file_of(settings), asked)
    text = csv_of(found) if row_format is ExportFormat.CSV else ndjson_of(found)
    if out is None:
        write_text(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--out {out}: cannot be written: {error.strerror}") from None
    sys.stderr.write(f"{count(len(found), 'alert')} written to {out}\n")


@alerts.command("rebuild")
def rebuild(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the file of the detections anew from the lake.

    A run does it by itself where the file is lost or damaged. Records of the lake go past the rules again, as
    far back as any rule looks; what was acknowledged or closed, and alerts that are older, come from the
    lake's table of alerts, and so do those that the records give no more by the rules of today: close them if
    you will. The file that is there stays until the new one is complete, and is then kept beside it. No
    collector may run; what is interrupted goes on where it was.

    Exit codes: 0 done; 1 failed; 2 the configuration is wrong, or no output is a lake; 4 a collector is
    running.
    """
    from m365watch.cli.alerts.alert_details import rebuilt_document
    from m365watch.cli.lake.lake_view import ProgressLine
    from m365watch.cli.terminal.formatting import count
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.cli.terminal.log_output import configure_diagnostics
    from m365watch.common.clock import SystemClock
    from m365watch.detection.factory import lakes_of, rebuild_by_hand

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    for lake in lakes_of(settings):
        look_at_lake(settings, lake)
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False)
    clock = SystemClock()
    with ProgressLine(clock) as progress:
        told = rebuild_by_hand(
            settings,
            clock=clock,
            progress=lambda records, percent: progress(
                f"{records:,} records looked at, {percent} % of the period", percent, 1
            ),
        )
    if as_json:
        write_line(to_json(rebuilt_document(told)))
        return
    write_line(
        f"{count(told.alerts, 'alert')} made of {count(told.records, 'record')} since {told.since:%Y-%m-%d};"
        f" {told.restored:,} were known before; {told.put_back:,} of them stay as they were, as the records"
        " give them no more"
    )


alerts.command("notify")(notify)


def _found(settings: Settings, given: str) -> KeptAlert:
    from m365watch.detection.alerts import triage as desk

    try:
        return desk.find_alert(file_of(settings), given)
    except desk.NoSuchAlert as error:
        raise typer.BadParameter(str(error)) from None


def _set(settings: Settings, ids: list[str], state: AlertState, *, reason: str, by: str | None) -> None:
    from m365watch.cli.alerts.alert_details import state_line
    from m365watch.common.clock import SystemClock
    from m365watch.detection.alerts import triage as desk
    from m365watch.detection.alerts.alert import clean_text

    refuse_empty("--by", by)
    now = SystemClock().now()
    before = [_found(settings, one) for one in ids]
    try:
        changed = desk.set_states(
            file_of(settings),
            ids,
            state,
            reason=clean_text(reason),
            by=clean_text(by or "") or this_user(),
            at_ms=ms_of(now),
        )
    except desk.NoSuchAlert as error:
        raise typer.BadParameter(str(error)) from None
    except desk.AlertClosed as error:
        raise typer.BadParameter(f"{error} (`m365watch alerts reopen`)") from None
    for was, kept in zip(before, changed, strict=True):
        write_line(state_line(kept, was=was))
    _bring_to_lake(settings)


def _bring_to_lake(settings: Settings) -> None:
    """Where no collector does it within seconds; what fails is brought by the next run."""
    from m365watch.common.clock import SystemClock
    from m365watch.detection.factory import bring_by_hand

    if (why_not := bring_by_hand(settings, clock=SystemClock())) is not None:
        sys.stderr.write(f"note: {why_not}; the next run brings it there\n")
