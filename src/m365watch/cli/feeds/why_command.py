"""`m365watch why`: why no records arrive, step by step, until the first that is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.common.model import Service

if TYPE_CHECKING:
    from m365watch.config.models.settings import Settings
    from m365watch.registry.checks import Diagnosis

ANSWER_S = 30.0
"""How long one answer of a server may take."""


def why(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    service: Annotated[
        Service | None,
        typer.Option(
            "--service", metavar="NAME", help="Only this service, for example exchange.", show_default=False
        ),
    ] = None,
    tenant: Annotated[
        str, typer.Option("--tenant", metavar="TEXT", help="Only tenants whose id has TEXT in it.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Find out why no records arrive: look at every step from the settings to the outputs.

    The steps are configuration, proxy, dns, tls, clock, token, tenant, roles, audit, subscriptions, served
    (content that Microsoft lists now), listed (content that the collector knows), fetched, deduplicated,
    routed and delivered. It stops at the first one that is broken and says what to do. What comes from
    Microsoft Graph is looked at with --service service_health. A health check of this machine that is broken,
    such as disk, is a step as well.

    Sends few requests and changes nothing; free to use while `m365watch run` is running.

    Exit codes: 0 nothing is broken; 1 a step is; 2 the configuration is wrong.
    """
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.feeds.why_view import why_document, why_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock

    settings = read_settings(config, job=job, collector=collector_file)
    diagnoses = run_in_loop(_examine(settings, service=service, tenant_part=tenant.lower()))
    if as_json:
        write_line(to_json(why_document(diagnoses, now=SystemClock().now())))
    else:
        stdout_console().print(why_page(diagnoses), crop=False)
    raise typer.Exit(1 if any(one.is_broken for one in diagnoses) else 0)


async def _examine(settings: Settings, *, service: Service | None, tenant_part: str) -> list[Diagnosis]:
    """Each tenant's diagnosis, one after the other.

    Raises: typer.BadParameter: no tenant of the configuration is meant.
    """
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.health.checks.check_engine import DiagnosisMeans, examine
    from m365watch.http.client import open_session
    from m365watch.sources.factory import reach_tenant
    from m365watch.sources.management_api.request_budget import RequestBudget

    tenants = [one for one in settings.tenants if tenant_part in one.tenant_id]
    if not tenants:
        raise typer.BadParameter("no tenant of the configuration has this in its id", param_hint="--tenant")
    clock, random = SystemClock(), system_random()
    async with open_session(stall_s=ANSWER_S, total_s=ANSWER_S) as session:
        means = DiagnosisMeans(
            settings,
            session,
            clock,
            lambda one: reach_tenant(
                one, session, budget=RequestBudget(one.requests_per_minute, clock), clock=clock, random=random
            ),
        )
        return [await examine(means, one, service=service) for one in tenants]
