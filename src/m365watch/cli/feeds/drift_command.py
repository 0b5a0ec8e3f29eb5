"""`m365watch drift`: record types, operations and fields that were never seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.feeds.blob_commands import LimitOption, say_if_cut
from m365watch.cli.terminal.console import stdout_console, write_line

if TYPE_CHECKING:
    from m365watch.pipeline.schema_drift import Sighting, Vocabulary


def drift(
    config: ConfigOption = None,
    *,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also the names that are documented and no news.")
    ] = False,
    limit: LimitOption = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List record types, operations and fields that are new in a tenant, or that no document names.

    New is what came after a tenant's first day of records. Records are delivered all the same: this is
    for whoever keeps queries and rules. Counts are of records; of a field, among the records looked into.
    --json also has the blob that brought each name first.

    Reads the ledger only, so it is free to use while `m365watch run` is running.
    """
    from m365watch.cli.feeds.drift_view import drift_document, drift_page, is_drift
    from m365watch.cli.terminal.json_output import as_json as to_json
    from m365watch.common.clock import SystemClock
    from m365watch.health.collector_status import read_vocabularies

    settings = read_settings(config, job=job, collector=collector_file, for_reading=True)
    vocabularies = read_vocabularies(settings)
    shown: list[tuple[Vocabulary, Sighting]] = [
        (words, one) for words in vocabularies for one in words if every or is_drift(one)
    ]
    total, shown = len(shown), shown[:limit]
    if as_json:
        write_line(to_json(drift_document(vocabularies, shown, total=total, now=SystemClock().now())))
    else:
        stdout_console().print(drift_page(vocabularies, shown), crop=False)
    say_if_cut(len(shown), total)
