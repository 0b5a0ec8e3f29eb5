"""`m365watch gaps`: hours without content, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.terminal.console import stdout_console, write_line


def gaps(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=14, help="How many days back, 14 at most.")
    ] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Name the hours without content that are unusual for their feed, and the likely reason.

    Usual is what a feed did in the same hours of the week before, learned for at least two weeks. Hours that
    are not listed yet are told apart. The last two hours are not judged: their content may still come.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    from m365watch.cli.feeds.gaps_view import gaps_document, gaps_page
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import read_gaps

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    now = SystemClock().now()
    found = read_gaps(settings, now=now, days=days)
    if as_json:
        write_line(to_json(gaps_document(found, now=now)))
    else:
        stdout_console().print(gaps_page(found), crop=False)
