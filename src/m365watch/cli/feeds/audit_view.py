"""What `audit` shows: a table per feed and day, the hours with something amiss, the sum of it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import content_name, count, moment, quoted, whole_line
from m365watch.cli.terminal.json_output import (
    SCHEMA,
    audit_summary,
    counts_document,
    instant,
    missing_document,
)
from m365watch.common.missing_files import MissingFiles, fix_of, missing_line
from m365watch.common.text import plain
from m365watch.health.completeness.feed_audit import Counts, FeedAudit, total_of

if TYPE_CHECKING:
    from m365watch.common.model import Feed, TenantId

HOURS_SHOWN_MAX = 12
"""Hours with something amiss that are named; JSON has all of them."""
FIGURES = ("listed", "delivered", "waiting", "quarantined", "lost", "missing")
NEWER = "newer"
"""The figure that has a column only where there is any, so that 80 columns do."""
_PASSING = "nothing to do but to audit again: it may pass"
_UNREACHED = "`m365watch why` looks at every step on the way: network, proxy, TLS, token"
_STYLES = {"waiting": "yellow", "quarantined": "red", "lost": "bold red", "missing": "bold red"}


def audit_page(
    audits: Sequence[FeedAudit],
    lakes: Mapping[str, MissingFiles | None],
    *,
    repair: bool,
    columns: int,
) -> RenderableType:
    """Per tenant a table with a line for each feed and day, then what is amiss, then the verdict."""
    parts: list[RenderableType] = []
    tenants: dict[TenantId, list[FeedAudit]] = {}
    for audit in audits:
        tenants.setdefault(audit.feed.tenant_id, []).append(audit)
    for tenant_id, own in tenants.items():
        parts += [Text(f"tenant {tenant_id}", style="bold"), _table(own), *_hour_lines(own), Text("")]
    parts += error_lines(audits)
    for name, missing in lakes.items():
        if missing is not None:
            parts.append(whole_line(f"error: {plain(missing_line(name, missing))}", style="red"))
            parts.append(whole_line(f"hint: {plain(fix_of(name, missing))}"))
    return Group(*parts, verdict_line(audits, repair=repair, columns=columns), *_proof_lines(audits, lakes))


def _proof_lines(
    audits: Sequence[FeedAudit], lakes: Mapping[str, MissingFiles | None]
) -> list[RenderableType]:
    """What the audit has proven; nothing where it has proven nothing."""
    if not all(one.is_proven for one in audits):
        return []
    return [Text(f"this proves that {_proven(lakes)}")]


def _proven(lakes: Mapping[str, MissingFiles | None]) -> str:
    if any(lakes.values()):
        return "the ledger is complete, and not the lake"
    if not lakes:
        return "the ledger is complete; no output's files were checked"
    many = "lake" if len(lakes) == 1 else "lakes"
    return f"the ledger and the files of the {many} are complete"


def _table(audits: Sequence[FeedAudit]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("feed")
    table.add_column("day", no_wrap=True)
    figures = (*FIGURES, *([NEWER] if any(audit.total.newer for audit in audits) else []))
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    for audit in audits:
        # A column of cells that do not wrap gets narrower where the others may not.
        feed = Text(content_name(audit.feed), no_wrap=True, overflow="ellipsis")
        for day, counts in days_of(audit).items():
            table.add_row(feed, day, *_cells(counts, figures))
            feed = Text()
        table.add_row(feed, "all", *_cells(audit.total, figures), style="bold")
    return table


def days_of(audit: FeedAudit) -> dict[str, Counts]:
    """The sums of each day (UTC), oldest first."""
    days: dict[str, list[Counts]] = {}
    for hour, counts in audit.hours.items():
        days.setdefault(f"{hour:%m-%d}", []).append(counts)
    return {day: total_of(rows) for day, rows in days.items()}


def _cells(counts: Counts, figures: Sequence[str]) -> list[Text]:
    cells = []
    for name in figures:
        number = getattr(counts, name)
        cells.append(Text(f"{number:,}", style=_STYLES.get(name, "") if number else "dim"))
    return cells


def _hour_lines(audits: Iterable[FeedAudit]) -> list[Text]:
    """The hours in which something is not delivered, by feed, the newest first."""
    amiss = [
        (hour, audit, counts)
        for audit in audits
        for hour, counts in reversed(list(audit.hours.items()))
        if not counts.is_sound
    ]
    lines = [
        Text(f"{content_name(audit.feed)} {hour:%m-%d %H}h: {_amiss(counts)}", style="yellow")
        for hour, audit, counts in amiss[:HOURS_SHOWN_MAX]
    ]
    more = len(amiss) - HOURS_SHOWN_MAX
    return [*lines, *([Text(f"and {more:,} hours more: --json has all")] if more > 0 else [])]


def _amiss(counts: Counts) -> str:
    """For example `1 missing, 2 waiting of 34 blobs`."""
    found = [f"{number:,} {name}" for name in FIGURES[:1:-1] if (number := getattr(counts, name))]
    return f"{', '.join(found)} of {count(counts.listed, 'blob')}"


def is_unlisted(audits: Sequence[FeedAudit]) -> bool:
    """Whether nothing could be listed at all, so that there is no result to show."""
    return bool(audits) and all(audit.error is not None and not audit.hours for audit in audits)


def error_lines(audits: Sequence[FeedAudit]) -> list[Text]:
    """Each cause once, with the feeds that met it, and its cure."""
    causes: dict[tuple[str, str | None], list[FeedAudit]] = {}
    for audit in audits:
        if audit.error is not None:
            causes.setdefault((_bare(audit.feed, audit.error), audit.fix), []).append(audit)
    lines = []
    for (error, fix), met in causes.items():
        names = ", ".join(dict.fromkeys(content_name(audit.feed) for audit in met))
        lines += [
            Text(f"error: {names}: {quoted(error)}", style="red"),
            Text(f"hint: {plain(fix or (_UNREACHED if is_unlisted(met) else _PASSING))}"),
        ]
    return lines


def _bare(feed: Feed, error: str) -> str:
    """`error` without the feed, the window or the call in front, by which one cause would look like many."""
    place, mark, what = error.partition(": ")
    return what if mark and place.startswith(f"{feed.tenant_id}/") else error


def verdict_line(audits: Sequence[FeedAudit], *, repair: bool, columns: int) -> Text:
    """The sums over all feeds, and whether that is the proof; on several lines where one is too short."""
    sums = total_of(audit.total for audit in audits)
    parts = [f"{getattr(sums, name):,} {name}" for name in FIGURES[1:]]
    repaired, remaining = sum(one.repaired for one in audits), sum(one.remaining for one in audits)
    mended = f"; {repaired:,} of them repaired, {remaining:,} remain" if sums.missing and repair else ""
    hint = "" if repair or not remaining else "; --repair has what is missing fetched"
    fetched = "they are fetched too" if repair else "the next poll fetches them"
    newer = f"; {sums.newer:,} newer than the last listing: {fetched}" if sums.newer else ""
    since = min((one.span.start for one in audits), default=None)
    listed = f"since {moment(since)}: {count(sums.listed, 'blob')} listed now"
    text = f"{listed}: {', '.join(parts)}{mended}{newer}{hint}"
    if len(text) > columns:
        text = text.replace("listed now: ", "listed now:\n", 1).replace("; ", ";\n")
    return Text(text, style="bold" if all(one.is_proven for one in audits) else "bold red")


def audit_document(
    audits: Sequence[FeedAudit], lakes: Mapping[str, MissingFiles | None], *, now: datetime
) -> dict[str, Any]:
    """What `audit --json` prints."""
    sums = total_of(audit.total for audit in audits)
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "proven": all(audit.is_proven for audit in audits) and not any(lakes.values()),
        "lakes": {name: missing_document(missing) for name, missing in lakes.items()},
        "totals": counts_document(sums)
        | {
            "repaired": sum(audit.repaired for audit in audits),
            "remaining": sum(audit.remaining for audit in audits),
        },
        "feeds": [_feed(audit) for audit in audits],
    }


def _feed(audit: FeedAudit) -> dict[str, Any]:
    return {
        "tenant": audit.feed.tenant_id,
        "content_type": str(audit.feed.content_type),
        **audit_summary(audit),
        "hours": [{"hour": instant(hour), **counts_document(row)} for hour, row in audit.hours.items()],
        "missing_blobs": [
            {"content_id": ref.content_id, "created_at": instant(ref.created_at)} for ref in audit.missing
        ],
    }
