"""Bars on a terminal: how each feed of a run stands, drawn anew five times a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import completeness_line, content_name, count, span, totals_of
from m365watch.common.clock import Clock
from m365watch.common.model import Feed
from m365watch.common.progress import FeedProgress, RunProgress

if TYPE_CHECKING:
    from rich.console import Console


ReadProgress = Callable[[], RunProgress]

REPORT_PERIOD_S = 60.0


class View(Protocol):
    """Shows how a run stands until it is cancelled."""

    async def follow(self, read_progress: ReadProgress) -> None:
        """Show `read_progress()` again and again; never returns."""
        ...


class Reports:
    """A line at INFO every minute, for terminals of machines and for collectors of lines."""

    def __init__(self, *, clock: Clock, period_s: float = REPORT_PERIOD_S) -> None:
        """Report every `period_s` seconds."""
        self._clock = clock
        self._period_s = period_s

    async def follow(self, read_progress: ReadProgress) -> None:
        """Report again and again, the first time after one period."""
        while True:
            await self._clock.sleep(self._period_s)
            structlog.get_logger().info(report_line(read_progress(), clock=self._clock))


class Nothing:
    """Shows nothing: `--quiet`."""

    async def follow(self, read_progress: ReadProgress) -> None:
        """Return at once."""


def report_line(progress: RunProgress, *, clock: Clock) -> str:
    """The completeness line, and by how much the slowest feed lags."""
    lags = [lag for row in progress.feeds if (lag := row.lag_s(clock.now())) is not None]
    slowest = f"; largest lag {span(max(lags))}" if lags else "; nothing listed yet"
    return completeness_line(progress) + slowest


def view_for(console: Console | None, *, clock: Clock, quiet: bool, bars: bool) -> View:
    """The view that suits `console`: bars where they can be drawn and are wanted; None is no terminal."""
    if quiet:
        return Nothing()
    if not (bars and console and console.is_terminal):
        return Reports(clock=clock)

    return Bars(console, clock=clock)


REFRESH_S = 0.2
_RATE_SPAN_S = 3.0
_OTHER_LINES = 6
"""Lines of the screen that are not for feeds: the line of sums, and room above for warnings."""


class Bars:
    """A bar per feed on a terminal: blobs delivered of those listed, records a second, lag."""

    def __init__(self, console: Console, *, clock: Clock) -> None:
        """Draw on `console`, which has to be a terminal."""
        self._console = console
        self._clock = clock
        self._speed = Speed()

    async def follow(self, read_progress: ReadProgress) -> None:
        """Redraw five times a second; when cancelled, the last state stays on the screen."""
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._draw(read_progress()), refresh=True)
                    await self._clock.sleep(REFRESH_S)
            finally:
                live.update(self._draw(read_progress()), refresh=True)

    def _draw(self, progress: RunProgress) -> RenderableType:
        self._speed.observe(progress, at_s=self._clock.monotonic_s())
        rows = rows_to_show(progress.feeds, lines_max=self._console.height - _OTHER_LINES)
        grid = Table.grid(padding=(0, 1), expand=False)
        name_columns = 20 if self._console.width < 100 else 28
        grid.add_column(width=name_columns, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=max(8, min(30, self._console.width - name_columns - 54)))
        for _figure in range(4):
            grid.add_column(justify="right", no_wrap=True)
        for row in rows:
            grid.add_row(*self._cells(row, progress=progress))
        hidden = len(progress.feeds) - len(rows)
        more = [Text(f"and {count(hidden, 'feed')} more", style="dim")] if hidden else []
        return Group(grid, *more, self._sum_line(progress))

    def _cells(self, row: FeedProgress, *, progress: RunProgress) -> list[RenderableType]:
        done = row.blobs_listed - row.blobs_waiting
        bar = ProgressBar(
            total=max(1, row.blobs_listed),
            completed=done,
            pulse=row.listed_at is None,
            complete_style="cyan",
            finished_style="green",
        )
        to_list = f"{row.windows_planned} to list" if row.windows_planned else ""
        style = "red" if row.needs_operator else "yellow" if row.last_error and row.blobs_waiting else ""
        return [
            Text(_feed_name(row.feed, progress), style=style),
            bar,
            Text(f"{done:,}/{row.blobs_listed:,} blobs"),
            Text(f"{self._speed.of(row.feed):,.0f} rec/s", style="cyan"),
            Text(f"lag {span(row.lag_s(self._clock.now()))}", style="dim"),
            Text(to_list, style="dim"),
        ]

    def _sum_line(self, progress: RunProgress) -> Text:
        sums = totals_of(progress.feeds)
        parts = [
            count(sums.records, "record"),
            f"{self._speed.of(None):,.0f} records/s",
            f"{count(sums.duplicates, 'duplicate')} left out",
            *([f"{count(sums.lost, 'blob')} lost"] if sums.lost else []),
            *([f"{count(sums.quarantined, 'blob')} quarantined"] if sums.quarantined else []),
            *([f"{count(sums.pieces_kept, 'piece')} kept"] if sums.pieces_kept else []),
        ]
        return Text(", ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")


class Speed:
    """Records a second over the last few seconds, per feed and (None) for all."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._seen: deque[tuple[float, dict[Feed | None, int]]] = deque()

    def observe(self, progress: RunProgress, *, at_s: float) -> None:
        """Take note of the counts at the monotonic instant `at_s`."""
        counts: dict[Feed | None, int] = {row.feed: row.records_delivered for row in progress.feeds}
        counts[None] = sum(counts.values())
        self._seen.append((at_s, counts))
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - _RATE_SPAN_S:
            self._seen.popleft()

    def of(self, feed: Feed | None) -> float:
        """Records a second; 0 before the second observation."""
        if len(self._seen) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        passed_s = last_s - first_s
        return (last.get(feed, 0) - first.get(feed, 0)) / passed_s if passed_s > 0 else 0.0


def rows_to_show(feeds: list[FeedProgress], *, lines_max: int) -> list[FeedProgress]:
    """As many feeds as the screen has lines for: in their order, or the busiest where there are more."""
    if len(feeds) <= lines_max:
        return feeds
    return sorted(feeds, key=lambda row: row.blobs_waiting, reverse=True)[: max(1, lines_max)]


def _feed_name(feed: Feed, progress: RunProgress) -> str:
    tenants = {row.feed.tenant_id for row in progress.feeds}
    name = content_name(feed)
    return name if len(tenants) < 2 else f"{feed.tenant_id[:8]} {name}"
