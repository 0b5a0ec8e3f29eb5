"""`m365watch query`: SQL on the lake, as a table, CSV or JSON."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption, read_settings
from m365watch.cli.tenants.tenant_selection import KeptTenantsOption, tenants_of_lake
from m365watch.cli.terminal.error_output import EXIT_USAGE, show_failure
from m365watch.cli.terminal.input_warnings import look_at_lake, warn_of_missing
from m365watch.common.errors import QueryRefused, SettingsRefused

if TYPE_CHECKING:
    from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer


class RowFormat(StrEnum):
    """How the rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; `-` reads it from stdin.")],
    *,
    config: ConfigOption = None,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    lake: Annotated[
        Path | None, typer.Option("--lake", metavar="DIR", help="The lake, instead of a configuration.")
    ] = None,
    row_format: Annotated[
        RowFormat,
        typer.Option(
            "--format", "-f", help="How the rows are written; csv and json are exact, formulas too."
        ),
    ] = RowFormat.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most so many rows.")
    ] = 1000,
    tenant: KeptTenantsOption = None,
    timeout_secs: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Stop after so many seconds.")
    ] = 60.0,
) -> None:
    """Ask the lake one SELECT; works while `m365watch run` is running.

    Tables: audit, exchange, sharepoint, onedrive, azureactivedirectory, management (all of
    Devo's), and Devo's own names in double quotes: "cloud.office365.management.exchange";
    alerts (what the detections have found) and collectors_out (what the collectors say of themselves).
    `SHOW TABLES` and `DESCRIBE audit` list them and their columns.
    """
    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader

    text = sys.stdin.read() if sql == "-" else sql
    meant = lake_meant(lake, config, job=job, collector=collector_file)
    reader = LakeReader(meant.directory)
    tenants = tenants_of_lake(reader, tenant, meant.tenants)
    try:
        answer = reader.query(text, tenants=tenants, limit_s=timeout_secs, rows_max=limit)
    except QueryRefused as refusal:
        show_failure(refusal)
        raise typer.Exit(EXIT_USAGE) from None
    show_answer(answer, RowFormat.JSON if as_json else row_format)
    if reader.is_empty():
        sys.stderr.write("the lake is empty: no record has arrived yet\n")


class LakeMeant(NamedTuple):
    """The lake that a command reads."""

    directory: Path
    tenants: frozenset[str]
    """Those of the configuration; none where the lake is named."""


def lake_meant(
    lake: Path | None, config: Path | None, *, job: Path | None, collector: Path | None
) -> LakeMeant:
    """The lake that is named, or that of the configuration; what is missing from it is told.

    Raises: SettingsRefused: it has none. LakeUnusable: it is gone.
    """
    if lake is not None:
        warn_of_missing(lake, {})
        return LakeMeant(lake, frozenset())
    settings = read_settings(config, job=job, collector=collector, for_reading=True)
    if settings.lake_directory is None:
        fix = "add an output of type lake, or name a lake with --lake"
        raise SettingsRefused(["no output is a lake"], where=str(settings.path), fix=fix)
    look_at_lake(settings, settings.lake_directory)
    return LakeMeant(settings.lake_directory, frozenset(one.tenant_id for one in settings.tenants))


def show_answer(answer: QueryAnswer, row_format: RowFormat) -> None:
    """The rows on stdout; on stderr, whether there are more."""
    from m365watch.cli.lake.query_rows import csv_text, json_text, rows_view, whole_table
    from m365watch.cli.terminal.console import stdout_console, write_text

    texts = {RowFormat.TABLE: whole_table, RowFormat.CSV: csv_text, RowFormat.JSON: json_text}
    console = stdout_console()
    try:
        if row_format is RowFormat.TABLE and (console.is_terminal or "COLUMNS" in os.environ):
            console.print(rows_view(answer, columns=console.width))
        else:
            write_text(texts[row_format](answer))
    except BrokenPipeError:
        # `| head` has seen enough; what Python writes at its end has to go somewhere quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if answer.truncated:
        sys.stderr.write(f"only the first {len(answer.rows):,} rows are shown; --limit N shows more\n")
