"""Running a collector in sight of a person: signals, a view of the progress, the account at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from m365watch.cli.event_loop import StopSignals
from m365watch.cli.terminal.formatting import completeness_line, count, sums_line, totals_of, waiting_line
from m365watch.cli.terminal.log_output import Told, tell

if TYPE_CHECKING:
    from m365watch.cli.terminal.live_progress import View
    from m365watch.common.progress import RunProgress
    from m365watch.runtime.collector_run import Outcome


class Collecting(Protocol):
    """What a command needs of `app.Collector`."""

    async def run(self, *, once: bool, stop: asyncio.Event) -> Outcome:
        """Collect until caught up (`once`) or stopped."""
        ...

    def progress(self) -> RunProgress:
        """How the run stands."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    outcome: Outcome
    exit_code: int
    """The outcome's; 130 or 143 where a signal came before start-up was complete."""
    signal_code: int | None
    """130 or 143 where a signal ended it, whenever that was."""


async def collect(
    collector: Collecting,
    *,
    once: bool,
    view: View,
    stop: asyncio.Event | None = None,
    on_hangup: Callable[[], None] | None = None,
) -> Ending:
    """Run `collector` to its end while `view` shows how it stands; a signal or `stop` ends it in order.

    SIGHUP calls `on_hangup`; without that it does what the system does.

    Raises: NeedsOperator: the run could not start.
    """
    stop = stop or asyncio.Event()
    with StopSignals(stop, on_hangup=on_hangup) as signals:
        showing = asyncio.create_task(view.follow(collector.progress))
        try:
            outcome = await collector.run(once=once, stop=stop)
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
    exit_code = outcome.exit_code
    if signals.exit_code is not None and not outcome.has_started:
        exit_code = signals.exit_code
    return Ending(outcome, exit_code, signal_code=signals.exit_code)


def show_outcome(outcome: Outcome, *, told: Told) -> None:
    """The end of a run on stderr: problems not `told` before, blobs that wait, the account."""
    for problem in outcome.problems:
        if problem not in told:
            tell(logging.ERROR, f"error: {problem}")
    for blob in outcome.waiting:
        tell(logging.WARNING, waiting_line(blob))
    for line in account_lines(outcome.progress):
        tell(logging.INFO, line)


def account_lines(progress: RunProgress) -> list[str]:
    """The completeness line; where earlier runs have a part in it, first the same of this run alone."""
    before = totals_of(progress.before)
    if not before.listed:
        return [completeness_line(progress)]
    this_run = sums_line(totals_of(progress.feeds).since(before))
    waited = f"; {count(before.waiting, 'blob')} waited from before" if before.waiting else ""
    return [f"this run: {this_run}{waited}", f"in all: {completeness_line(progress)}"]
