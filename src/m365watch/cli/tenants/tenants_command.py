"""`m365watch tenants`: every tenant in one line, the worst first, read from the ledger alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import (
    CollectorOption,
    ConfigOption,
    JobOption,
    arguments_for,
    read_settings,
)
from m365watch.cli.terminal.console import stdout_console, write_line
from m365watch.health.tenant_status import TenantState

if TYPE_CHECKING:
    from m365watch.health.tenant_status import TenantStanding

tenants = typer.Typer(
    help=(
        "Show every tenant in one line: its state, lag and records, and what is wrong with it; the worst"
        " first.\n\n"
        "Without a command, the tenants are shown. `m365watch status` shows every feed of them. A new one"
        " comes by `m365watch consent`, and one that leaves goes by `remove`."
    ),
    rich_markup_mode=None,
)


@tenants.callback(invoke_without_command=True)
def show_or_go_on(
    context: typer.Context,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    state: Annotated[
        list[TenantState] | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help="Only tenants in this state: " + ", ".join(TenantState) + "; may be repeated.",
            show_default=False,
        ),
    ] = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="TEXT",
            help="Only tenants whose id or input has this in it; may be repeated.",
            show_default=False,
        ),
    ] = None,
    worst: Annotated[
        int | None,
        typer.Option("--worst", "-n", metavar="N", min=1, help="Only the N worst of them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show how every tenant stands, the worst first.

    no-consent: revoked, disabled or a permission missing; refused: other credentials or requests; in-trouble:
    a person is needed otherwise; failing, throttled: tried again by itself; poisoned: blobs wait after tries
    that failed; silent: no content where there usually is some; behind: listed up to more than an hour ago;
    new: not listed yet; running; stopped: not in the configuration any more.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    if context.invoked_subcommand is not None:
        context.obj = config
        return
    from m365watch.cli.tenants.tenants_view import TenantsFound, tenants_document, tenants_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import read_configuration, read_tenants, who_collects

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    now = SystemClock().now()
    every = read_tenants(settings, now=now)
    shown = choose_tenants(every, states=state or (), parts=tenant or ())[:worst]
    arguments = arguments_for(config, job=job, collector=collector_file)
    found = TenantsFound(every, shown, now, who_collects(settings), read_configuration(settings), arguments)
    if as_json:
        write_line(to_json(tenants_document(found)))
        return
    console = stdout_console()
    console.print(tenants_page(found, columns=console.width), crop=False)


@tenants.command()
def remove(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's GUID.", show_default=False)],
    config: ConfigOption = None,
    *,
    input_name: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="NAME",
            help="Only from this input; left out, from all that name it.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take it out without asking.")] = False,
) -> None:
    """Take a tenant that leaves out of FILE, where nothing else changes.

    An input that names no other tenant goes as a whole. What changes in FILE is shown before, and asked for.
    A running collector stops with the tenant within seconds, and the others notice nothing. What was
    collected stays: in the lake up to its retention or `m365watch lake erase`, and at every other output.

    Exit codes: 0 the tenant is out of FILE; 1 you said no, or FILE cannot be written; 2 it is not in FILE,
    or the call is wrong.
    """
    from m365watch.cli.setup.consent_options import read_config
    from m365watch.cli.tenants.file_change import require_somebody, write_without_tenant
    from m365watch.config.models.values import is_guid

    if not is_guid(tenant.strip()):
        raise typer.BadParameter(f'"{tenant}" is not a GUID')
    require_somebody(yes=yes, instead="add --yes to take it out")
    file = read_config(config or context.obj)
    removal = write_without_tenant(file, input_name, tenant.strip(), yes=yes)
    for name in removal.gone:
        sys.stderr.write(f"input {name} had no other tenant and is gone as a whole\n")
    sys.stderr.write(
        "a collector that is running stops with it within seconds; its consent ends when its administrator\n"
        "deletes the application under Enterprise applications\n"
    )


def choose_tenants(
    every: Sequence[TenantStanding], *, states: Sequence[TenantState], parts: Sequence[str]
) -> list[TenantStanding]:
    """Those in one of `states` with one of `parts` in their id or input, in any case; all for none given."""
    texts = [part.lower() for part in parts]
    return [
        one
        for one in every
        if (not states or one.state in states)
        and (not texts or any(part in " ".join((one.tenant_id, *one.inputs)).lower() for part in texts))
    ]
