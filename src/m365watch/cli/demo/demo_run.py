"""The demo's course: a tenant starts, its history is collected, then live traffic, then the account."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m365watch.cli.demo.attack_results import judge_so_far
from m365watch.cli.demo.demo_command import write_private
from m365watch.cli.demo.tenant_process import StagedAttack, TenantPlan, tenant_running
from m365watch.cli.run.run_display import Collecting, Ending, collect
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.formatting import count, totals_of
from m365watch.cli.terminal.live_progress import Bars, Nothing, Reports, View
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common.clock import SystemClock, system_random
from m365watch.common.errors import CollectorError
from m365watch.config.loader import load_settings
from m365watch.health.event_log import NoticeBoard
from m365watch.runtime.collector import Collector
from m365watch.runtime.config_reload import Reload
from m365watch.runtime.supervisor import RenewingCollector

if TYPE_CHECKING:
    from rich.console import Console

    from m365watch.common.progress import FeedProgress, RunProgress
    from m365watch.config.models.settings import Settings
    from m365watch.runtime.collector_run import Outcome

LIVE_S = 2.5
LIVE_S_MAX = 5.0
"""Live traffic is collected for `LIVE_S`, and longer, up to this, if nothing has arrived by then."""
POLL_S = 1
EXCEPTIONS_NAME = "exceptions.yml"
NO_EXCEPTIONS = "exceptions: []   # what is expected time and again: docs/detection.md\n"
_LOOK_S = 0.1
_REPORT_S = 2.0


@dataclass(frozen=True, slots=True)
class PlayPlan:
    """What the demo was asked for."""

    tenant: TenantPlan
    config_path: Path
    keep_running: bool
    shows_board: bool = False
    """Whether the board is served while live traffic goes on."""


@dataclass(frozen=True, slots=True)
class Played:
    """How the demo's collecting went."""

    outcome: Outcome
    lake_directory: Path
    live_records: int
    """Records that arrived after the history was complete."""
    took_s: float
    stopped_by: int | None
    """130 or 143 where a signal ended it before the account was complete."""
    settings: Settings | None = None
    """Those of the run."""
    attacks: tuple[StagedAttack, ...] = ()
    """What the tenant was under."""


Tell = Callable[[Played], Awaitable[int]]
"""Tells the account while the tenant is still there; gives the exit code."""


async def play(plan: PlayPlan, *, console: Console, tell: Tell) -> int:
    """Run the demo, narrated on stderr, and have it told; the exit code.

    Raises: NeedsOperator: the tenant or the collector could not start.
    """
    say(f"starting a simulated Microsoft 365 tenant with {count(plan.tenant.days, 'day')} of history")
    course = Course(plan, console=console)
    output_path = plan.config_path.with_name("tenant.txt")
    async with tenant_running(plan.tenant, output_path=output_path) as introduction:
        write_private(plan.config_path, demo_configuration(introduction.configuration))
        plan.config_path.with_name(EXCEPTIONS_NAME).write_text(NO_EXCEPTIONS)
        played = await course.run(introduction.attacks)
        if played.stopped_by is not None:
            say("stopped before the end; nothing is broken by it, start the demo again")
            return played.stopped_by
        return await tell(played)


class _Configuration:
    """The demo's file, as somebody may change it meanwhile."""

    def __init__(self, path: Path) -> None:
        """It is not read yet."""
        self._path = path

    def read(self) -> Settings:
        """As it is now. Raises: SettingsRefused."""
        self.latest = load_settings(self._path, environment={})
        return self.latest

    def read_again(self, running: Settings) -> Settings:  # noqa: ARG002 - what a reload is given
        """The same, for a run that lasts."""
        return self.read()


class Course:
    """One demo from the moment its tenant answers."""

    def __init__(self, plan: PlayPlan, *, console: Console) -> None:
        """Show progress on `console`."""
        self._plan = plan
        self._file = _Configuration(plan.config_path)
        self._clock = SystemClock()
        self._started_s = self._clock.monotonic_s()
        self._history: tuple[FeedProgress, ...] | None = None
        """The feeds as they stood when all history was there."""
        self._beside = contextlib.ExitStack()
        """What goes on beside live traffic."""
        self._view: View = (
            Bars(console, clock=self._clock)
            if console.is_terminal
            else Reports(clock=self._clock, period_s=_REPORT_S)
        )

    async def run(self, attacks: tuple[StagedAttack, ...]) -> Played:
        """Collect history and live traffic, then once more until nothing waits."""
        # Before the file is read, so that no change in between is missed.
        reload = Reload([self._plan.config_path], self._file.read_again, self._clock)
        settings = self._file.read()

        lasting = RenewingCollector(settings, clock=self._clock, random=system_random(), reload=reload)
        _tell_troubles(lasting.board)
        ending = await self._collect_until_live_is_over(lasting, reload, attacks)
        settings = lasting.settings
        by_wish = self._plan.keep_running and self._history is not None
        stopped_by = None if by_wish else ending.signal_code
        if stopped_by is None and ending.exit_code == 0:
            rest = Collector(settings, clock=self._clock, random=system_random())
            _tell_troubles(rest.board)
            ending = await collect(rest, once=True, view=Nothing())
            stopped_by = ending.signal_code
        # Two collectors, and one run to whoever watches: nothing was there before it.
        progress = replace(ending.outcome.progress, before=[])
        return Played(
            outcome=replace(ending.outcome, progress=progress),
            lake_directory=settings.lake_directory or self._plan.config_path.with_name("lake"),
            live_records=live_records(self._history, progress.feeds),
            took_s=self._passed_s(),
            stopped_by=stopped_by,
            settings=settings,
            attacks=attacks,
        )

    async def _collect_until_live_is_over(
        self, collector: Collecting, reload: Reload, attacks: tuple[StagedAttack, ...]
    ) -> Ending:
        stop = asyncio.Event()
        directing = asyncio.create_task(self._direct(collector, stop, attacks))
        # What it fails with is raised at the end, and nobody else would bring that about.
        directing.add_done_callback(lambda _: stop.set())
        try:
            with self._beside:
                return await collect(collector, once=False, view=self._view, stop=stop, on_hangup=reload.ask)
        finally:
            directing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await directing

    async def _direct(
        self, collector: Collecting, stop: asyncio.Event, attacks: tuple[StagedAttack, ...]
    ) -> None:
        """Wait until the history is complete, and end the live traffic after its time."""
        while not is_complete(collector.progress()):
            await self._clock.sleep(_LOOK_S)
        # Copies: the ledger's own go on counting.
        self._history = tuple(replace(feed) for feed in collector.progress().feeds)
        history = totals_of(self._history).records
        caught_up_s = self._passed_s()
        say(f"caught up with {count(history, 'record')} after {caught_up_s:.1f} s; now live traffic")
        if self._plan.keep_running:
            say(while_it_runs(self._plan.config_path, has_board=self._plan.shows_board))
        if self._plan.shows_board:
            await self._open_board(attacks)
        while not stop.is_set():
            await self._clock.sleep(_LOOK_S)
            live_s = self._passed_s() - caught_up_s
            arrived = totals_of(collector.progress().feeds).records > history
            if not self._plan.keep_running and live_s > (LIVE_S if arrived else LIVE_S_MAX):
                stop.set()

    async def _open_board(self, attacks: tuple[StagedAttack, ...]) -> None:
        from m365watch.cli.demo.demo_board import board_meanwhile, new_link, path_to

        settings = self._file.latest
        says, path = path_to(await asyncio.to_thread(judge_so_far, settings, attacks))
        try:
            url = self._beside.enter_context(board_meanwhile(settings, self._plan.config_path))
            link = await asyncio.to_thread(new_link, settings, url, path)
        except CollectorError as error:
            say(f"no board: {error}")
        else:
            say(f"{says} (opens once, within 10 minutes): {link}")

    def _passed_s(self) -> float:
        return self._clock.monotonic_s() - self._started_s


def _tell_troubles(board: NoticeBoard) -> None:
    """Trouble only: what goes well is told in the demo's own words, and the lake has the rest."""
    configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False, board=board)


def while_it_runs(config_path: Path, *, has_board: bool = False) -> str:
    """What can be done meanwhile, in other terminals, and what comes at the end."""
    from m365watch.cli.demo.demo_summary import invocation

    command, named = invocation(sys.argv), shlex.quote(str(config_path))
    verbs = ["alerts list", "status", *([] if has_board else ["board"])]
    return "\n".join(
        [
            "it goes on until Ctrl-C, and names the attacks and their alerts then; meanwhile, elsewhere:",
            *(f"  {command} {verb} --config {named}" for verb in verbs),
        ]
    )


def live_records(history: Sequence[FeedProgress] | None, feeds: Sequence[FeedProgress]) -> int:
    """How many came after all history was there; a feed that is paused meanwhile takes none away."""
    if history is None:
        return 0
    were = {one.feed: one.records_delivered for one in history}
    return sum(max(0, one.records_delivered - were.get(one.feed, 0)) for one in feeds)


def is_complete(progress: RunProgress) -> bool:
    """Whether everything that can be listed was listed and delivered."""
    return bool(progress.feeds) and progress.caught_up and not totals_of(progress.feeds).waiting


def demo_configuration(configuration: dict[str, Any]) -> dict[str, Any]:
    """The tenant's own `configuration` with quick polls, a lake as its output, and a file of exceptions."""
    lake = {"lake": {"type": "lake", "config": {"directory": "lake"}}}
    inputs = {name: _with_quick_polls(tenant) for name, tenant in configuration["inputs"].items()}
    detections = configuration.get("detections", {}) | {"exceptions_file": EXCEPTIONS_NAME}
    return configuration | {"inputs": inputs, "outputs": lake, "detections": detections}


def _with_quick_polls(tenant: dict[str, Any]) -> dict[str, Any]:
    services = tenant["services"].items()
    return tenant | {
        "services": {name: service | {"request_period_in_seconds": POLL_S} for name, service in services}
    }


def say(text: str) -> None:
    """A line of narration on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
