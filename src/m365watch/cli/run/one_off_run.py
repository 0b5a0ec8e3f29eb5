"""A run that comes to its end by itself, such as `recover` and `replay`."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from m365watch.cli.event_loop import StopSignals, run_in_loop
from m365watch.cli.terminal.console import LineFormat, stderr_console
from m365watch.cli.terminal.log_output import configure_diagnostics, level_of
from m365watch.runtime.collector import Collector

Outcome_co = TypeVar("Outcome_co", covariant=True)


class Errand(Protocol[Outcome_co]):
    """What is run to its end."""

    @property
    def collector(self) -> Collector:
        """The collector that does it; what it says goes to stderr."""
        ...

    async def run(self, stop: asyncio.Event) -> Outcome_co:
        """What came of it, once it is done or `stop` is set."""
        ...


def run_errand(errand: Errand[Outcome_co], *, quiet: bool) -> tuple[Outcome_co, int | None]:
    """What came of the errand, and 130 or 143 where a signal came; `quiet` shows warnings and errors only."""
    console = stderr_console()
    configure_diagnostics(
        line_format=LineFormat.TEXT,
        level=level_of(quiet=quiet, verbose=False),
        colour=console.is_terminal and not console.no_color,
        board=errand.collector.board,
    )

    async def run() -> tuple[Outcome_co, int | None]:
        stop = asyncio.Event()
        with StopSignals(stop) as signals:
            outcome = await errand.run(stop)
        return outcome, signals.exit_code

    return run_in_loop(run())
