"""The page that `status` shows: tables of feeds, what is wrong and its cure, the account of every blob."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.status.expiry_view import credential_lines
from m365watch.cli.status.latency_view import latency_part
from m365watch.cli.status.report_sections import configuration_lines
from m365watch.cli.terminal.formatting import (
    Totals,
    completeness_line,
    content_name,
    count,
    course_of,
    figure_cell,
    quoted,
    span,
    totals_of,
    whole_line,
)
from m365watch.common.errors import CollectorError, OutputUnusable
from m365watch.common.missing_files import fix_of, missing_line
from m365watch.common.model import Feed, TenantId
from m365watch.common.progress import RETRIED, FeedProgress, RunProgress
from m365watch.common.text import plain

if TYPE_CHECKING:
    from m365watch.detection.alerts.triage import DetectionFigures
    from m365watch.health.completeness.feed_audit import FeedAudit
    from m365watch.health.config_status import ConfigurationNote
    from m365watch.health.expiry.expiry_store import KnownApplication
    from m365watch.notifications.channel_status import Standings
    from m365watch.pipeline.latency import LatencyBook
    from m365watch.registry.checks import Checked
    from m365watch.registry.ports import WaitingBlob

WIDE_COLUMNS = 118
"""From this width on every figure has a column; below it the rare ones have lines of their own."""
ERRORS_SHOWN_MAX = 6
WAITING_SHOWN_MAX = 3
_ROOMY_COLUMNS = 132
_NARROW_COLUMNS = 78
"""Below this width the watermark has to go, which the lag tells as well."""
_REASON_LENGTH_MAX = 120
_LATE_S = 3600.0
"""A lag beyond this is shown in colour: four polls were missed, or the backfill is still on."""
_PATIENCE = f"{RETRIED}; if it lasts, `m365watch why` finds the cause"


@dataclass(frozen=True, slots=True)
class Standing:
    """How all feeds stood at one moment, and where to ask on."""

    progress: RunProgress
    waiting: Sequence[WaitingBlob]
    at: datetime
    arguments: str
    """What a command that reads the same ledger needs, as a shell takes it: `--config tenant.json`."""
    latency: LatencyBook | None = None
    audits: Mapping[Feed, FeedAudit] = field(default_factory=dict)
    """The last audit of each feed that was audited."""
    applications: Sequence[KnownApplication] = ()
    """What is known of the ends of their credentials."""
    configuration: ConfigurationNote | None = None
    """What became of the file while the collector ran."""
    detections: DetectionFigures | OutputUnusable | None = None
    """None where they are off, or have not run; why where that cannot be read."""
    notifications: Standings | None = None
    """None where nobody is told of alerts."""
    checks: Mapping[str, Sequence[Checked]] = field(default_factory=dict)
    """By health check, what it found on this machine."""
    unread: Sequence[str] = ()
    """The user's own rules and exceptions that are not there, or closed to who asks."""


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    of: Callable[[Totals], int]
    style: str = ""
    rare: bool = False


_FIGURES = (
    _Figure("listed", lambda sums: sums.listed, rare=True),
    _Figure("delivered", lambda sums: sums.delivered),
    _Figure("waiting", lambda sums: sums.waiting, style="yellow"),
    _Figure("quarantined", lambda sums: sums.quarantined, style="red", rare=True),
    _Figure("lost", lambda sums: sums.lost, style="bold red", rare=True),
    _Figure("records", lambda sums: sums.records),
    _Figure("duplicates", lambda sums: sums.duplicates),
    _Figure("pieces", lambda sums: sums.pieces_kept, style="red", rare=True),
)


def status_page(
    standing: Standing, *, columns: int, rows: int | None = None, on_screen: bool = False
) -> RenderableType:
    """A table per tenant, then the errors and what waits, then the account of every blob.

    On a terminal of so many `rows` the table of latency gets what the rest leaves. With `on_screen`, where
    there is no scrolling, the tables come last, after fewer lines, all of them wrapped. Otherwise names and
    commands are left whole, so that they can be copied.
    """
    tables: list[RenderableType] = []
    for feeds in _by_tenant(standing.progress).values():
        tables += [*_tenant_part(feeds, now=standing.at, columns=columns), Text("")]
    errors_max, waiting_max = (2, 1) if on_screen else (ERRORS_SHOWN_MAX, WAITING_SHOWN_MAX)
    errors, waiting = _error_lines(standing, errors_max), _waiting_lines(standing, waiting_max)
    lines = [*errors, *waiting, *_output_lines(standing), *_check_lines(standing)]
    lines += [*_audit_lines(standing), *_ask_on(standing)]
    if isinstance(standing.detections, CollectorError):
        lines.append(whole_line(f"detections: {standing.detections}", style="red"))
    elif standing.detections is not None:
        from m365watch.cli.status.detections_view import detection_lines

        lines += detection_lines(standing.detections)
    lines += [
        whole_line(f"detections: {plain(one)}; a run does without it", style="red") for one in standing.unread
    ]
    if standing.notifications is not None:
        from m365watch.cli.alerts.notifications_view import status_lines

        lines += status_lines(standing.notifications, now=standing.at)
    lines += configuration_lines(standing.configuration, now=standing.at)
    lines += credential_lines(standing.applications, now=standing.at, shown_max=errors_max)
    # Not what is in the ledger now, as an audit says: what it forgot, and what it was told twice, counts.
    account = _account(f"in all: {completeness_line(standing.progress)}", columns=columns)
    if on_screen:
        for line in lines:
            line.no_wrap = line.overflow = None
    gap = [Text("")] if lines else []
    room = None if rows is None else rows - _height([*tables, *lines, *gap, account], columns=columns) - 1
    latency = latency_part(standing.latency, now=standing.at, room=room) if standing.latency else None
    if latency is not None:
        tables += [latency, Text("")]
    if on_screen:
        return Group(account, *lines, Text(""), *tables[:-1])
    return Group(*tables, *lines, *gap, account)


def _account(line: str, *, columns: int) -> Text:
    """The sums; where they need more than one line, blobs and records have one each."""
    return Text(line if len(line) <= columns else line.replace("; ", ";\n", 1), style="bold")


def _height(parts: Sequence[RenderableType], *, columns: int) -> int:
    """How many lines the parts take at this width."""
    return len(Console(width=columns).render_lines(Group(*parts), pad=False))


def _output_lines(standing: Standing) -> list[Text]:
    """Each output's error and what to do about it, and how much waits for it."""
    lines = []
    for output in standing.progress.outputs:
        if output.last_error is not None:
            at = output.last_error_at or standing.at
            age = f" ({span((standing.at - at).total_seconds())} ago)"
            style = "red" if output.needs_operator else "yellow"
            lines.append(Text(f"error: {quoted(output.last_error)}{age}", style=style))
            lines.append(Text(f"hint: {plain(output.next_step(standing.at))}"))
        if output.missing_files is not None:
            lines.append(
                whole_line(f"error: {plain(missing_line(output.name, output.missing_files))}", style="red")
            )
            lines.append(whole_line(f"hint: {plain(fix_of(output.name, output.missing_files))}"))
        if output.blobs_missing:
            again = output.blobs_missing - output.blobs_queued
            fetched = f", {again:,} are fetched again for it" if again else ""
            queued = f"{count(output.blobs_queued, 'blob')} in its queue on disk"
            lines.append(whole_line(f"output {output.name}: {queued}{fetched}", style="yellow"))
    return lines


def _check_lines(standing: Standing) -> list[Text]:
    """What the health checks of this machine found."""
    lines = []
    for step in chain.from_iterable(standing.checks.values()):
        lines.append(whole_line(f"error: {step.check}: {plain(step.told)}", style="red"))
        lines += [whole_line(f"hint: {plain(step.fix)}")] if step.fix else []
    return lines


def _audit_lines(standing: Standing) -> list[Text]:
    """When every feed was last audited, and what of it is missing or could not be read."""
    audits = list(standing.audits.values())
    if not audits:
        return []
    age = span((standing.at - min(audit.at for audit in audits)).total_seconds())
    listed = count(sum(audit.total.listed for audit in audits), "blob")
    repaired, remaining = sum(one.repaired for one in audits), sum(one.remaining for one in audits)
    found = f"{repaired + remaining:,} missing" if repaired + remaining else "none missing"
    mended = f", {repaired:,} of them repaired, {remaining:,} remain" if repaired + remaining else ""
    bad = [audit for audit in audits if not audit.is_proven]
    lines = [
        Text(
            f"audit: {count(len(audits), 'feed')}, the oldest {age} ago: {listed} listed, {found}{mended}",
            style="red" if bad else "yellow" if repaired else "",
        )
    ]
    if bad:
        names = ", ".join(dict.fromkeys(content_name(audit.feed) for audit in bad))
        command = f"`m365watch audit {standing.arguments} --repair`"
        lines.append(whole_line(f"hint: audit of {names} is not complete: {command}"))
    return lines


def _by_tenant(progress: RunProgress) -> dict[TenantId, list[FeedProgress]]:
    tenants: dict[TenantId, list[FeedProgress]] = {}
    for row in progress.feeds:
        tenants.setdefault(row.feed.tenant_id, []).append(row)
    return tenants


def _tenant_part(rows: Sequence[FeedProgress], *, now: datetime, columns: int) -> list[RenderableType]:
    notes = [] if columns >= WIDE_COLUMNS else [*map(_rare_note, rows)]
    title = Text(f"tenant {rows[0].feed.tenant_id}", style="bold")
    lines = [note for note in [*notes, *map(_gap_note, rows)] if note is not None]
    return [title, _feed_table(rows, now=now, columns=columns), *lines]


def _feed_table(rows: Sequence[FeedProgress], *, now: datetime, columns: int) -> Table:
    """One line per feed, with a line of sums where there are several."""
    wide = columns >= WIDE_COLUMNS
    gap = 2 if columns >= _ROOMY_COLUMNS else 1
    table = Table(box=None, header_style="dim", padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column("feed")
    if columns >= _NARROW_COLUMNS:
        table.add_column("watermark", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    figures = [figure for figure in _FIGURES if wide or not figure.rare]
    for figure in figures:
        table.add_column(figure.name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_feed_cells(row, now=now, columns=columns), *_figure_cells([row], figures))
    if len(rows) > 1:
        blanks = [""] * (len(table.columns) - len(figures) - 1)
        table.add_row("all", *blanks, *_figure_cells(rows, figures), style="bold")
    return table


def _feed_cells(row: FeedProgress, *, now: datetime, columns: int) -> list[Text]:
    style = "red" if row.needs_operator else ""
    # A column of cells that do not wrap gets narrower where the others may not.
    name = Text(content_name(row.feed), style=style, no_wrap=True, overflow="ellipsis")
    lag_s = row.lag_s(now)
    late = lag_s is None or lag_s > _LATE_S
    lag = Text(span(lag_s), style="yellow" if late else "green")
    if columns < _NARROW_COLUMNS:
        return [name, lag]
    day = "%Y-%m-%d" if columns >= WIDE_COLUMNS else "%m-%d"
    return [name, Text(f"{row.watermark:{day} %H:%MZ}" if row.watermark else "not listed"), lag]


def _figure_cells(rows: Sequence[FeedProgress], figures: Sequence[_Figure]) -> list[Text]:
    sums = totals_of(rows)
    return [figure_cell(figure.of(sums), style=figure.style) for figure in figures]


def _rare_note(row: FeedProgress) -> Text | None:
    """What a narrow table has no columns for, where there is any of it."""
    pieces = totals_of([row]).pieces_kept
    parts = [
        *([f"{count(row.blobs_lost, 'blob')} lost"] if row.blobs_lost else []),
        *([f"{count(row.blobs_quarantined, 'blob')} quarantined"] if row.blobs_quarantined else []),
        *([f"{count(pieces, 'piece')} in quarantine"] if pieces else []),
    ]
    return Text(f"{content_name(row.feed)}: {', '.join(parts)}", style="red") if parts else None


def _gap_note(row: FeedProgress) -> Text | None:
    if not row.unlisted_s:
        return None
    return Text(f"{content_name(row.feed)}: {span(row.unlisted_s)} never listed, and lost", style="bold red")


def _error_lines(standing: Standing, shown_max: int) -> list[Text]:
    """Each error that feeds are in, with their names and its age, and under it what to do about it.

    Those that need a person come first.
    """
    groups: dict[tuple[TenantId, str, str | None], list[FeedProgress]] = {}
    for row in standing.progress.feeds:
        if row.last_error is not None:
            groups.setdefault((row.feed.tenant_id, _bare_error(row, row.last_error), row.fix), []).append(row)
    in_order = sorted(groups.items(), key=lambda group: not group[1][0].needs_operator)
    lines = []
    for (_, error, fix), rows in in_order[:shown_max]:
        names = ", ".join(content_name(row.feed) for row in rows)
        ages = [(standing.at - row.last_error_at).total_seconds() for row in rows if row.last_error_at]
        age = f" ({span(min(ages))} ago)" if ages else ""
        where = _tenant_of(rows[0].feed, standing.progress) + names
        style = "red" if rows[0].needs_operator else "yellow"
        lines += [
            Text(f"error: {where}: {quoted(error)}{age}", style=style),
            Text(f"hint: {plain(fix) if fix else _PATIENCE}"),
        ]
    more = len(in_order) - shown_max
    if more > 0:
        lines.append(whole_line(f"error: and {more:,} more: `m365watch status {standing.arguments} --json`"))
    return lines


def _tenant_of(feed: Feed, progress: RunProgress) -> str:
    """The feed's tenant, where there are several."""
    return f"{feed.tenant_id} " if len(_by_tenant(progress)) > 1 else ""


def _bare_error(row: FeedProgress, error: str) -> str:
    """`error` without the feed's name in front and without its cure at the end, which stand beside it."""
    return error.removeprefix(str(row.feed)).lstrip(": ").removesuffix(f"; {row.fix}")


def _waiting_lines(standing: Standing, shown_max: int) -> list[Text]:
    """The blobs whose fetch failed, the next to be tried first, and how to see the rest."""
    lines = []
    for blob in standing.waiting[:shown_max]:
        name = _tenant_of(blob.feed, standing.progress) + content_name(blob.feed)
        course = course_of(blob, reason_length_max=_REASON_LENGTH_MAX)
        lines.append(whole_line(f"waiting: {name} {plain(blob.content_id)}: {course}", style="yellow"))
    more = len(standing.waiting) - shown_max
    if more > 0:
        command = f"m365watch blobs {standing.arguments} --state waiting"
        lines.append(whole_line(f"waiting: and {more:,} more: `{command}`", style="yellow"))
    return lines


def _ask_on(standing: Standing) -> list[Text]:
    """Which commands name what was set aside."""
    sums = totals_of(standing.progress.feeds)
    lines = []
    if sums.quarantined or sums.lost:
        lines.append(whole_line(f"hint: each blob and its cure: `m365watch blobs {standing.arguments}`"))
    dropped = standing.progress.pieces_dropped
    if dropped:
        lines.append(whole_line(f"quarantine: {count(dropped, 'piece')} dropped by hand", style="dim"))
    if sums.pieces_kept:
        lines.append(whole_line(f"hint: the pieces kept: `m365watch quarantine {standing.arguments}`"))
    return lines
