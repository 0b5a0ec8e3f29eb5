"""What came of a recovery, as a page and as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import content_name, count, whole_line
from m365watch.cli.terminal.json_output import SCHEMA
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.runtime.recovery_run import RecoveryOutcome, ServiceRecovered

_FIGURES = ("found", "had", "new", "waiting", "pieces")


def outcome_document(outcome: RecoveryOutcome) -> dict[str, Any]:
    """What `recover --json` prints."""
    return {
        "schema": SCHEMA,
        "exit_code": outcome.exit_code,
        "is_done": outcome.is_done,
        "went_on": outcome.went_on,
        "queries": outcome.queries,
        "pages": outcome.pages,
        "records_of_other_services": outcome.other,
        "services": [_service(row) for row in outcome.services],
        "problems": list(outcome.problems),
    }


def _service(row: ServiceRecovered) -> dict[str, Any]:
    return {
        "tenant": row.feed.tenant_id,
        "content_type": str(row.feed.content_type),
        "found": row.found,
        "had": row.had,
        "new": row.new,
        "blobs_waiting": row.unfinished,
        "pieces": row.pieces,
    }


def outcome_page(outcome: RecoveryOutcome) -> Group:
    """A line for each service, then what else there was, then what went wrong."""
    tenants = {row.feed.tenant_id for row in outcome.services}
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("service", no_wrap=True)
    for name in _FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    tenant_before = None
    for row in outcome.services:
        if len(tenants) > 1 and row.feed.tenant_id != tenant_before:
            table.add_row(Text(row.feed.tenant_id, style="bold"))
            tenant_before = row.feed.tenant_id
        table.add_row(content_name(row.feed), *map(_cell, _numbers(row)))
    asked = f"{count(outcome.queries, 'query', 'queries')}, {count(outcome.pages, 'page')}"
    lines = [whole_line(f"{asked}; {_verdict(outcome)}", style="bold")]
    if outcome.other:
        text = f"{count(outcome.other, 'record')} of services that were not asked for were left out"
        lines.insert(0, whole_line(text, style="dim"))
    lines += [whole_line(f"error: {plain(text)}", style="red") for text in outcome.problems]
    if not outcome.is_done:
        lines.append(whole_line("hint: it is not at its end; the same command goes on from here"))
    elif outcome.exit_code:
        lines.append(whole_line("hint: what waits is delivered by the next `m365watch run`"))
    return Group(table, *lines)


def _verdict(outcome: RecoveryOutcome) -> str:
    """Whether anything was missing, and where it is now."""
    new = sum(row.new for row in outcome.services)
    waiting = sum(row.unfinished for row in outcome.services)
    still = f"{count(waiting, 'blob')} still {'waits' if waiting == 1 else 'wait'}"
    if not new:
        return f"no record was missing{f' so far; {still}' if waiting else ''}"
    were = "was missing and is" if new == 1 else "were missing and are"
    return f"{count(new, 'record')} {were} delivered now{f'; {still}' if waiting else ''}"


def _numbers(row: ServiceRecovered) -> tuple[int, ...]:
    return (row.found, row.had, row.new, row.unfinished, row.pieces)


def _cell(number: int) -> Text:
    return Text(f"{number:,}", style="" if number else "dim")
