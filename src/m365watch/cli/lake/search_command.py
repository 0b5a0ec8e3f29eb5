"""`m365watch search`: the records of the lake that a filter holds for."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m365watch.cli.configuration import CollectorOption, ConfigOption, JobOption
from m365watch.cli.lake.query_command import RowFormat, lake_meant, show_answer
from m365watch.cli.periods import parse_period
from m365watch.cli.tenants.tenant_selection import KeptTenantsOption, tenants_of_lake
from m365watch.cli.terminal.error_output import EXIT_USAGE, show_failure
from m365watch.common.errors import FilterRefused

if TYPE_CHECKING:
    from m365watch.common.model import Window
    from m365watch.lake.delta.table_files import Progress
    from m365watch.lake.search.filter_sql import Condition
    from m365watch.lake.search.record_search import Asked, Finder, Hit
    from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer

DAYS_BACK = 7
CONTEXT_MAX = 60
"""Characters of a filter that are shown on either side of a mistake."""
_TABLE = ("workload", "operation", "actor", "client_ip", "outcome", "object_id")
"""What a table has of each record, beside its time; csv and json have more."""


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILTER", help="What is looked for; left out, every record."),
    ] = None,
    *,
    config: ConfigOption = None,
    job: JobOption = None,
    collector_file: CollectorOption = None,
    lake: Annotated[
        Path | None, typer.Option("--lake", metavar="DIR", help="The lake, instead of a configuration.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="T", help="The first instant; left out, 7 days before the end.")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", metavar="T", help="The instant after the last; left out, now.")
    ] = "",
    tenant: KeptTenantsOption = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, max=10_000, help="Show at most so many.")
    ] = 100,
    row_format: Annotated[
        RowFormat,
        typer.Option(
            "--format", "-f", help="How the records are written; csv and json have more, exact, formulas too."
        ),
    ] = RowFormat.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print the records as they were sent, one a line.")
    ] = False,
) -> None:
    """Find records by a filter, the newest first; works while `m365watch run` is running.

    `m365watch search 'user:alice op:New-InboxRule ip:10.0.0.0/8 -result:ok "text in raw"'`: terms beside each
    other have all to hold; OR and brackets make alternatives, - or NOT negates. Values are compared whole, in
    any case: * is any run of characters, field~part finds a part. docs/search.md has all of it. A filter that
    begins with - comes after --.

    Exit codes: 0 done, whatever was found; 1 failed; 2 the filter or the period is wrong.
    """
    from m365watch.common.clock import SystemClock
    from m365watch.lake.delta.table_files import require_lake
    from m365watch.lake.search.record_search import Asked, Span
    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader

    condition = _condition(" ".join(words or []))
    period = _period(start, end, now=SystemClock().now())
    directory, configured = lake_meant(lake, config, job=job, collector=collector_file)
    require_lake(directory)
    span = Span(int(period.start.timestamp()), int(period.end.timestamp()))
    asked = Asked(condition, span, tenants=tenants_of_lake(LakeReader(directory), tenant, configured))
    if raw:
        _print_raw(directory, asked, limit)
    else:
        _print_hits(directory, asked, limit, RowFormat.JSON if as_json else row_format)


def _print_hits(directory: Path, asked: Asked, limit: int, wanted: RowFormat) -> None:
    """The hits on stdout; on stderr, how many there are of how many records."""
    from m365watch.cli.lake.lake_view import ProgressLine
    from m365watch.common.clock import SystemClock
    from m365watch.lake.search.record_search import Finder

    with ProgressLine(SystemClock()) as progress:
        hits, count, searched = _find(Finder(directory), asked, limit, progress)
    show_answer(_answer(hits, is_wide=wanted is not RowFormat.TABLE), wanted)
    of_all = f"{count:,} of {searched:,} records"
    shown = f", of which the newest {len(hits):,} are shown; --limit N shows more"
    sys.stderr.write(f"{of_all}{'' if count == len(hits) else shown}\n")


def _condition(text: str) -> Condition:
    """What the filter says; one that cannot be read is shown with the place, and ends the command."""
    from m365watch.common.text import plain
    from m365watch.lake.search.filter_parser import read_filter
    from m365watch.lake.search.filter_sql import condition_of

    try:
        return condition_of(read_filter(text))
    except FilterRefused as refusal:
        shown = plain(text[max(0, refusal.at - CONTEXT_MAX) : refusal.at + CONTEXT_MAX])
        blanks = len(plain(text[max(0, refusal.at - CONTEXT_MAX) : refusal.at]))
        sys.stderr.write(f"  {shown}\n  {' ' * blanks}^\n")
        show_failure(refusal)
        raise typer.Exit(EXIT_USAGE) from None


def _period(start: str, end: str, *, now: datetime) -> Window:
    last = end or f"{now:%Y-%m-%dT%H:%M:%SZ}"
    try:
        first = start or (datetime.fromisoformat(last.strip()) - timedelta(days=DAYS_BACK)).isoformat()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"--to {end}: write 2026-11-01 or 2026-11-01T09:30Z") from None
    return parse_period(first, last, now=now)


def _find(finder: Finder, asked: Asked, limit: int, progress: Progress) -> tuple[list[Hit], int, int]:
    """The newest hits, how many there are, and of how many records."""
    hits: list[Hit] = []
    count = searched = 0
    parts = finder.plan(asked)
    total = sum(part.records for part in parts)
    for part in parts:
        progress("searching", searched, total)
        found = finder.find(part, asked, rows=limit - len(hits))
        hits += found.newest
        count += found.count
        searched += part.records
    return hits, count, searched


def _print_raw(directory: Path, asked: Asked, limit: int) -> None:
    """The records themselves, byte for byte."""
    from m365watch.lake.search.record_search import Finder

    finder, left = Finder(directory), limit
    try:
        for part in finder.plan(asked):
            newest = finder.find(part, asked, rows=left)
            first_s = min((hit.at_s for hit in newest.newest), default=None)
            if first_s is None:
                continue
            narrow = replace(asked, span=replace(asked.span, start_s=max(asked.span.start_s, first_s)))
            for chunk in finder.read(part, narrow, in_order=True):
                _write_records([record for _, record in chunk[:left]])
                left -= len(chunk)
                if left <= 0:
                    break
            if left <= 0:
                break
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_records(records: list[bytes]) -> None:
    """A line each: the very bytes, but for a terminal, which would obey some of them."""
    from m365watch.cli.terminal.console import write_line

    if sys.stdout.isatty():
        for record in records:
            write_line(record.decode(errors="backslashreplace"))
    else:
        sys.stdout.buffer.write(b"".join(record + b"\n" for record in records))
        sys.stdout.buffer.flush()


def _answer(hits: list[Hit], *, is_wide: bool) -> QueryAnswer:
    """The hits as rows."""
    import pyarrow as pa

    from m365watch.lake.search.record_search import SHOWN
    from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer

    names = [column.name for column in SHOWN] if is_wide else _TABLE
    kinds = {column.name: "VARCHAR" if pa.types.is_string(column.type) else "INTEGER" for column in SHOWN}
    rows = [(datetime.fromtimestamp(hit.at_s, UTC), *(hit.values[name] for name in names)) for hit in hits]
    return QueryAnswer(
        ("time", *names), ("TIMESTAMP", *(kinds[name] for name in names)), rows, truncated=False
    )
