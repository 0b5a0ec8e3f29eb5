"""`m365watch respond`: what stops the intruder that an alert tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal import plain, write_line

if TYPE_CHECKING:
    from m365watch.config.settings import Settings

GRAPH_URL = "https://graph.microsoft.com"
"""Where Graph is, for a tenant that the configuration does not name any more."""


def respond(
    alert_id: Annotated[
        str, typer.Argument(metavar="ALERT", help="The alert's id, or as much of its beginning as is clear.")
    ],
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a plan of containment for an alert: steps as Graph calls and as PowerShell.

    Nothing is carried out. {subject.x} and {found.x} in a call stand for what the call before it answers;
    words in capitals in PowerShell are yours to fill in. What Graph cannot do says so. Values out of
    records are quoted; one that cannot be quoted whole is in no command.

    Reads the file of detections only, so it is free to use while `m365watch run` is running.

    Exit codes: 0 done; 1 failed; 2 the configuration or the call is wrong, or there is no such alert.
    """
    from m365watch.cli.documents import as_json as to_json
    from m365watch.cli.respond_view import plan_document, plan_lines
    from m365watch.respond.plan import plan_response
    from m365watch.respond.reading import read_alert

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    found = read_alert(settings.state_directory, alert_id.strip().lower())
    if found.alert is None:
        raise typer.BadParameter(f"{plain(alert_id)}: {found.why_none}")
    plan = plan_response(found.alert, found.matches)
    graph_url = _graph_url(settings, plan.tenant)
    if as_json:
        write_line(to_json(plan_document(plan, graph_url=graph_url)))
        return
    for line in plan_lines(plan, graph_url=graph_url):
        write_line(line)


def _graph_url(settings: Settings, tenant_id: str) -> str:
    """The Graph of the tenant's cloud."""
    found = (one.cloud.graph_url for one in settings.tenants if one.tenant_id == tenant_id)
    return next(found, "") or GRAPH_URL
