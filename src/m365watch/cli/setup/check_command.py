"""`m365watch check`: everything that a run needs, tried before it, a line a step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import LineFormat, write_line
from m365watch.cli.terminal.error_output import EXIT_FAILED, EXIT_USAGE
from m365watch.common.errors import SettingsRefused

if TYPE_CHECKING:
    from m365watch.cli.setup.check_view import Page
    from m365watch.config.models.settings import Settings, TenantSettings
    from m365watch.registry.checks import Preflight

ANSWER_S = 30.0
"""How long one answer of a server may take, unless --timeout says otherwise."""
TENANTS_SHOWN_MAX = 20
"""Of more tenants than these only what is broken is shown, unless --all says otherwise."""


def check(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    tenants: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="ID",
            help="Only tenants whose id has this in it; may be repeated.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="SECS", min=0.1, help="How long one answer of a server may take."),
    ] = ANSWER_S,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every step of every tenant, however many there are.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Try everything that a run needs, and say for each step that is broken what to do about it.

    The steps are: configuration, permissions (of the files), state (the ledger's directory), disk, webhook,
    detections (rules and exceptions); of each host proxy, dns and tls, and clock; of each tenant credential
    (how long it still lives), token (by each credential apart), tenant, audience, roles, audit, subscriptions
    and listing (the last 24 h of each service); each output, tried the way a run uses it; and the way to each
    target of notifications, which is told nothing. A step that needs a broken one is skipped and says which.
    Of more than 20 tenants only broken steps are shown, and the sums.

    Changes nothing, sends no record, and is free to use while `m365watch run` is running. Only an output
    whose token shows in no other way, such as Devo's HTTP endpoint, gets a notice.

    Exit codes: 0 nothing is broken, whatever the notes say; 1 a step is; 2 the configuration is wrong.
    """
    from m365watch.cli.event_loop import run_in_loop
    from m365watch.cli.setup.check_view import Page
    from m365watch.cli.terminal.log_output import configure_diagnostics
    from m365watch.health.checks.check_engine import refused

    # What outputs tell of themselves stands in their steps.
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.CRITICAL, colour=False)
    page = Page(shows_groups=not as_json)
    path: Path | None = None
    try:
        settings = read_settings(config, job=job, collector=collector_file)
    except SettingsRefused as error:
        preflight = refused(error)
        page.show_all(preflight)
    else:
        path = settings.path
        wanted = _wanted(settings, tenants or [])
        page.only_broken = len(wanted) > TENANTS_SHOWN_MAX and not show_all
        preflight = run_in_loop(_check(settings, wanted, page, limit_s=timeout_s))
    raise typer.Exit(_show_end(preflight, path=path, as_json=as_json))


def _show_end(preflight: Preflight, *, path: Path | None, as_json: bool) -> int:
    """Print the sums, or the document; the exit code."""
    from m365watch.cli.setup.check_view import check_document, summary_line
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock

    exit_code = EXIT_USAGE if preflight.is_refused else EXIT_FAILED if preflight.is_broken else 0
    if as_json:
        document = check_document(preflight, path=path, exit_code=exit_code, now=SystemClock().now())
        write_line(to_json(document))
    else:
        write_line(summary_line(preflight))
    return exit_code


def _wanted(settings: Settings, parts: Sequence[str]) -> list[TenantSettings]:
    """The tenants that are meant, each input's apart.

    Raises: typer.BadParameter: one of `parts` is in no tenant's id.
    """
    from m365watch.health.checks.check_engine import tenants_named

    found, strange = tenants_named(settings, parts)
    if strange:
        raise typer.BadParameter(
            f"no tenant of the configuration has {strange[0]!r} in its id", param_hint="--tenant"
        )
    return found


async def _check(
    settings: Settings, tenants: Sequence[TenantSettings], page: Page, *, limit_s: float
) -> Preflight:
    """The whole preflight, shown as it comes."""
    from m365watch.cli.terminal.start_warnings import warnings_of_starts
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.health.checks.check_engine import Means, Progress, check_all
    from m365watch.http.client import open_session
    from m365watch.registry.checks import Preflight

    clock = SystemClock()
    warnings = (*settings.warnings, *warnings_of_starts(settings, now=clock.now()))
    progress = Progress(total=len(tenants) + 3)
    preflight = Preflight()
    async with open_session(stall_s=limit_s, total_s=limit_s) as session:
        means = Means(replace(settings, warnings=warnings), session, clock, system_random(), limit_s)
        with page.watching():
            following = asyncio.create_task(page.follow(progress, clock))
            try:
                async with aclosing(check_all(means, tenants, progress)) as groups:
                    async for group in groups:
                        preflight.groups.append(group)
                        page.show(group)
            finally:
                following.cancel()
    return preflight
