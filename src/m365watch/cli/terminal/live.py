"""What a person sees while a run lasts: bars on a terminal, a line a minute elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog

from m365watch.cli.terminal.formatting import completeness_line, span
from m365watch.common.clock import Clock
from m365watch.common.progress import RunProgress

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
    from m365watch.cli.terminal.live_progress import Bars

    return Bars(console, clock=clock)
