"""Figures as people read them: counts, spans, the completeness line, the table of feeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal import plain
from m365watch.model import Feed, TenantId
from m365watch.progress import FeedProgress, RunProgress

if TYPE_CHECKING:
    from m365watch.ledger.port import WaitingBlob

NARROW_COLUMNS = 110
"""Below this width the table of feeds leaves out the watermark and breaks its headings."""
_LATE_S = 3600.0
"""A lag beyond this is shown in colour: four polls were missed, or the backfill is still on."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of all feeds together."""

    listed: int
    delivered: int
    waiting: int
    quarantined: int
    lost: int
    records: int
    duplicates: int
    records_quarantined: int
    unlisted_s: float

    @property
    def complete(self) -> bool:
        """Whether everything was listed and delivered, and nothing set aside."""
        return self.listed == self.delivered and not self.records_quarantined and not self.unlisted_s


def totals_of(feeds: Iterable[FeedProgress]) -> Totals:
    """The sums over `feeds`."""
    rows = list(feeds)
    return Totals(
        listed=sum(row.blobs_listed for row in rows),
        delivered=sum(row.blobs_delivered for row in rows),
        waiting=sum(row.blobs_waiting for row in rows),
        quarantined=sum(row.blobs_quarantined for row in rows),
        lost=sum(row.blobs_lost for row in rows),
        records=sum(row.records_delivered for row in rows),
        duplicates=sum(row.records_duplicate for row in rows),
        records_quarantined=sum(row.records_quarantined for row in rows),
        unlisted_s=sum(row.unlisted_s for row in rows),
    )


def completeness_line(progress: RunProgress) -> str:
    """The account of a run: every blob that was listed is in exactly one of the counts."""
    sums = totals_of(progress.feeds)
    waiting = f", {sums.waiting:,} waiting" if sums.waiting else ""
    unlisted = f"; {span(sums.unlisted_s)} never listed" if sums.unlisted_s else ""
    aside = f", {count(sums.records_quarantined, 'record')} quarantined" if sums.records_quarantined else ""
    return (
        f"{count(sums.listed, 'blob')} listed, {sums.delivered:,} delivered, {sums.lost:,} lost, "
        f"{sums.quarantined:,} quarantined{waiting}; "
        f"{count(sums.records, 'record')}{aside}, {count(sums.duplicates, 'duplicate')} left out{unlisted}"
    )


def waiting_line(blob: WaitingBlob) -> str:
    """One blob that waits for a retry: which, how often it was tried, when next, and why it failed."""
    name = f"{blob.feed} {plain(blob.content_id)}"
    tried = f"{count(blob.attempts, 'try', 'tries')}, next at {blob.next_try_at:%Y-%m-%d %H:%M:%SZ}"
    return f"waiting: {name}: {tried}; {plain(blob.last_error)}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 blob`, `2,345 blobs`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(seconds: float | None) -> str:
    """A span of time in one unit, at most 7 wide: `42 s`, `26 min`, `3.6 h`, `6.3 d`; `-` for None."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.1f} d"


def content_name(feed: Feed) -> str:
    """A feed's name where its tenant is known from the place: AzureActiveDirectory, Exchange, DLP."""
    return str(feed.content_type).removeprefix("Audit.").removesuffix(".All")


def feeds_view(progress: RunProgress, *, now: datetime, columns: int) -> RenderableType:
    """Everything `status` shows: a table per tenant, the errors and their cures, the totals."""
    parts: list[RenderableType] = []
    for tenant_id in dict.fromkeys(row.feed.tenant_id for row in progress.feeds):
        rows = [row for row in progress.feeds if row.feed.tenant_id == tenant_id]
        title = Text(f"tenant {tenant_id}", style="bold")
        parts += [title, feed_table(rows, now=now, columns=columns), Text("")]
    parts += trouble_lines(progress, now=now)
    parts.append(Text(completeness_line(progress), style="bold"))
    return Group(*parts)


def feed_table(rows: Sequence[FeedProgress], *, now: datetime, columns: int) -> Table:
    """One line per feed, with a line of sums where there are several."""
    narrow = columns < NARROW_COLUMNS
    table = Table(box=None, header_style="dim", padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False)
    table.add_column("feed", vertical="bottom")
    if not narrow:
        table.add_column("watermark", no_wrap=True)
    for name, broken in _FIGURES:
        table.add_column(broken if narrow else name, justify="right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*_feed_cells(row, now=now, narrow=narrow))
    if len(rows) > 1:
        blanks = [""] if narrow else ["", ""]
        table.add_row("all", *blanks, *_figure_cells(totals_of(rows)), style="bold")
    return table


_FIGURES = (
    ("lag", "lag"),
    ("listed", "listed"),
    ("delivered", "deliv-\nered"),
    ("waiting", "wait-\ning"),
    ("lost", "lost"),
    ("quarantined", "quaran-\ntined"),
    ("records", "records"),
    ("duplicates", "dupli-\ncates"),
)


def _feed_cells(row: FeedProgress, *, now: datetime, narrow: bool) -> list[Text]:
    lag_s = row.lag_s(now)
    late = lag_s is None or lag_s > _LATE_S
    seen = f"{row.watermark:%Y-%m-%d %H:%M:%SZ}" if row.watermark else "not listed yet"
    style = "red" if row.last_error and row.fix else ""
    name = Text(content_name(row.feed), style=style, no_wrap=True, overflow="ellipsis")
    first = [name] if narrow else [name, Text(seen)]
    return [*first, Text(span(lag_s), style="yellow" if late else "green"), *_figure_cells(totals_of([row]))]


def _figure_cells(sums: Totals) -> list[Text]:
    quarantined = sums.quarantined + sums.records_quarantined
    return [
        _figure(sums.listed),
        _figure(sums.delivered),
        _figure(sums.waiting, style="yellow"),
        _figure(sums.lost, style="bold red"),
        _figure(quarantined, style="red"),
        _figure(sums.records),
        _figure(sums.duplicates),
    ]


def _figure(number: int, *, style: str = "") -> Text:
    """A count of at most 9 places: `9,999,999`, then `12.3 M`."""
    text = f"{number:,}" if number < 10_000_000 else f"{number / 1_000_000:,.1f} M"
    return Text(text, style=style if number else "dim")


def trouble_lines(progress: RunProgress, *, now: datetime) -> list[Text]:
    """Each error that feeds are in, with their names and its age, and under it what to do about it."""
    groups: dict[tuple[TenantId, str, str | None], list[FeedProgress]] = {}
    for row in progress.feeds:
        if row.last_error is not None:
            groups.setdefault((row.feed.tenant_id, _bare_error(row, row.last_error), row.fix), []).append(row)
    lines = []
    for (tenant_id, error, fix), rows in groups.items():
        names = ", ".join(content_name(row.feed) for row in rows)
        ages = [(now - row.last_error_at).total_seconds() for row in rows if row.last_error_at]
        age = f" ({span(min(ages))} ago)" if ages else ""
        hint = plain(fix) if fix else "nothing to do, it is tried again by itself"
        lines.append(Text(f"{tenant_id} {names}: {plain(error)}{age}", style="red" if fix else "yellow"))
        lines.append(Text(f"hint: {hint}"))
    return lines


def _bare_error(row: FeedProgress, error: str) -> str:
    """`error` without the feed's name in front and without its cure at the end, which stand beside it."""
    return error.removeprefix(str(row.feed)).lstrip(": ").removesuffix(f"; {row.fix}")
