"""`m365watch recover`: a period fetched again from Microsoft Graph's audit search."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

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
from m365watch.cli.terminal.console import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.common.model import Window
    from m365watch.runtime.recovery_run import RecoveryOutcome

KEPT = timedelta(days=180)
"""How long Microsoft keeps records in its standard form; with E5, or an add-on, for a year or longer."""


def recover(
    start: FromOption,
    end: ToOption,
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    tenant: TenantsOption = None,
    service: ServiceOption = None,
    may_repeat: Annotated[
        bool,
        typer.Option(
            "--may-repeat",
            help="Without a lake: go back beyond the ledger's 15 days, at the price of repeats.",
        ),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="NAME", help="Deliver what this lake lacks, to it alone."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
) -> None:
    """Fetch a period again from Microsoft Graph's audit search, and deliver what is missing of it.

    For a hole older than the 7 days that the feed serves, or to compare any period with a second source.
    The period is one of CreationTime. Records that were delivered before are left out, whichever way they
    came. The application needs AuditLogsQuery.Read.All of Microsoft Graph, with admin consent. Microsoft
    takes minutes to hours for a day; what was begun is kept, and the same command goes on with it.

    The collector has to be stopped meanwhile; what it missed by that, it fetches when it starts again.

    Exit codes: 0 all of it is delivered; 1 something kept it from its end, the same command goes on; 2 the
    configuration or the call is wrong; 3 some of it waits for an output; 4 a collector is running.
    """
    from m365watch.cli.run.one_off_run import run_errand
    from m365watch.common.clock import SystemClock, system_random
    from m365watch.runtime.recovery_run import Recovery, RecoveryAsked

    clock = SystemClock()
    period = parse_period(start, end, now=clock.now())
    asked = RecoveryAsked(
        period, tuple(tenant or ()), parse_services(service), may_repeat=may_repeat, output=output
    )
    settings = read_settings(config, job=job, collector=collector_file)
    warn_of_age(period, now=clock.now())
    recovery = Recovery(settings, asked, clock=clock, random=system_random())
    outcome, signal_code = run_errand(recovery, quiet=quiet)
    _show(outcome, as_json=as_json)
    raise typer.Exit(signal_code if signal_code is not None and not outcome.is_done else outcome.exit_code)


def warn_of_age(period: Window, *, now: datetime) -> None:
    """Say on stderr that Microsoft may keep none of it: the search then finds nothing, without an error."""
    if period.start >= now - KEPT:
        return
    part = "all" if period.end <= now - KEPT else "a part"
    sys.stderr.write(
        f"warning: {part} of the period is older than {KEPT.days} days, which is what Microsoft keeps in its "
        "standard form (a year with E5): nothing found there does not mean that nothing happened\n"
    )


def _show(outcome: RecoveryOutcome, *, as_json: bool) -> None:
    from m365watch.cli.feeds.recover_view import outcome_document, outcome_page
    from m365watch.cli.terminal.json_output import as_json as to_json

    if as_json:
        write_line(to_json(outcome_document(outcome)))
    else:
        stdout_console().print(outcome_page(outcome), crop=False)
