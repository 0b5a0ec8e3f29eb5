"""A run that outlasts its outputs: where its configuration asks for that, the collector is built anew.

What is in flight is finished as at the end of a run, and the next collector begins as after a restart: the
ledger's rules for outputs that come and go are the same. But the process stays, with all that is beside it,
and nobody comes between the two, because the ledger's lock is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError, OutputUnusable, RetryLater
from m365watch.common.progress import RunProgress
from m365watch.config.models.settings import Settings
from m365watch.http.client import open_session
from m365watch.registry.output_specs import OutputSettings
from m365watch.registry.outputs import Output
from m365watch.runtime.collector import Collector
from m365watch.runtime.collector_run import Outcome
from m365watch.runtime.config_changes import Change
from m365watch.runtime.config_reload import Reload
from m365watch.runtime.run_context import begin_lasting

REOPEN_S = 5.0
"""Between two tries to open again what was open before."""
_THEN = "; then save the configuration once more, or send SIGHUP"
_log = structlog.get_logger(__name__)


class RenewingCollector:
    """Collects as `app.Collector` does, and goes on with what a changed configuration says."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
        reload: Reload,
        build_output: Callable[[OutputSettings], Output] | None = None,
        on_settings: Callable[[Settings], None] = lambda _: None,
        reopen_s: float = REOPEN_S,
    ) -> None:
        """`on_settings` hears which settings the run has from then on, each time that they are others."""
        self._clock = clock
        self._random = random
        self._reload = reload
        self._build_output = build_output
        self._on_settings = on_settings
        self._reopen_s = reopen_s
        self._lasting = begin_lasting(settings, clock=clock)
        self.board = self._lasting.board
        """A structlog processor: the lines that it gets go to the outputs that take notices."""
        self._collector = self._shown = self._build(settings)

    def _build(self, settings: Settings) -> Collector:
        return Collector(
            settings,
            clock=self._clock,
            random=self._random,
            build_output=self._build_output,
            reload=self._reload,
            lasting=self._lasting,
        )

    @property
    def settings(self) -> Settings:
        """Those that the collector has by now."""
        return self._collector.settings

    def progress(self) -> RunProgress:
        """The figures of all feeds, as committed; those of before, until the next collector has begun."""
        if self._collector.has_begun:
            self._shown = self._collector
        return self._shown.progress()

    async def run(self, *, once: bool, stop: asyncio.Event) -> Outcome:
        """Collect until `stop`, or until a collector fails; `once` is for a run that reads no changes.

        Raises: LedgerHeld, LedgerUnusable, OutputUnusable: nothing was started.
        """
        with self._lasting.lock.kept():
            async with open_session(body_bytes_max=self.settings.answer_bytes_max) as session:
                self._lasting.session = session
                outcome = await self._collect(once=once, stop=stop)
                while not (stop.is_set() or outcome.exit_code) and self._collector.successor is not None:
                    outcome = await self._go_on(self._collector.successor, outcome, stop)
                return outcome

    async def _collect(self, *, stop: asyncio.Event, once: bool = False) -> Outcome:
        """Let the collector run until `stop`, or until a change ends it."""
        has_started = self._lasting.was_started
        async with _ending_with(stop) as ending:
            outcome = await self._collector.run(once=once, stop=ending)
        return replace(outcome, has_started=has_started or outcome.has_started)

    async def _go_on(self, change: Change, outcome: Outcome, stop: asyncio.Event) -> Outcome:
        """Collect with the change, or as before where it cannot be opened; `outcome` if stopped before.

        What was open before and is away just now is waited for. So is an output that cannot be used by now,
        as with a full disk: while it was open, batches waited. What the files say meanwhile is taken up.
        """
        before = self.settings
        wanted: Change | None = change
        while not stop.is_set():
            if wanted is not None:
                ended, wanted = await self._try(wanted, stop), None
            elif (ended := await self._try_again(before, stop)) is None:
                wanted, before = await self._read_meanwhile(before, stop)
            if ended is not None:
                return ended
        return outcome

    async def _try(self, change: Change, stop: asyncio.Event) -> Outcome | None:
        """How a collector with the change ends; None where it cannot be opened, which is told."""
        note = self._reload.note
        self._reload.take_note(change)
        self._take(change.settings)
        try:
            return await self._collect(stop=stop)
        except Exception as error:
            if self._collector.has_begun:
                raise
            self._reload.note = note
            known = error if isinstance(error, CollectorError) else defect_of(error, where="a new collector")
            self._reload.refuse(known, then=_THEN)
        return None

    async def _try_again(self, settings: Settings, stop: asyncio.Event) -> Outcome | None:
        """How a collector with settings that were open before ends; None where something is away."""
        self._take(settings)
        try:
            return await self._collect(stop=stop)
        except (RetryLater, OutputUnusable) as error:
            if self._collector.has_begun:
                raise
            _log.warning(str(error), code=error.code)
        return None

    async def _read_meanwhile(
        self, settings: Settings, stop: asyncio.Event
    ) -> tuple[Change | None, Settings]:
        """What the files say before the next try: a change to be tried, and the settings to go back to."""
        waits = [
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._reload.wait(watches=settings.watches_configuration)),
        ]
        try:
            done, _ = await asyncio.wait(waits, timeout=self._reopen_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        if waits[1] not in done or (change := await self._reload.read(settings)) is None:
            return None, settings
        if change.renews:
            self._reload.warn(change, settings)
            _log.info(f"the configuration has changed; {change.text}: the collector goes on with it")
            return change, settings
        self._reload.tell(change, settings)
        return None, change.settings

    def _take(self, settings: Settings) -> None:
        self.progress()  # So that the last one that has begun is the one that is shown.
        self._lasting.change(settings)
        self._collector = self._build(settings)
        self._on_settings(settings)


@asynccontextmanager
async def _ending_with(stop: asyncio.Event) -> AsyncIterator[asyncio.Event]:
    """An event of its own that is set as soon as `stop` is."""
    ending = asyncio.Event()

    async def follow() -> None:
        await stop.wait()
        ending.set()

    if stop.is_set():
        ending.set()
    following = asyncio.create_task(follow(), name="following the stop")
    try:
        yield ending
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
