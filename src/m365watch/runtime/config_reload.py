"""A changed configuration taken up by a running collector; one with mistakes changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn, defect_of
from m365watch.common.errors import CollectorError, LedgerUnavailable, NeedsOperator, SettingsRefused
from m365watch.config.models.settings import Settings
from m365watch.health.config_status import (
    LINES_MAX,
    MEMORY,
    ConfigurationNote,
    earlier_lakes,
    note_of,
    places_of,
)
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.ports import Ledger
from m365watch.runtime.config_changes import Change, plan_change

LOOK_EVERY_S = 2.0
"""Between two looks. What differs in one look and is the same in the next is a change."""
MISSING_S = 10.0
"""A file that is not there for so long is gone; some programs take it away before they put the new one."""

_State = tuple[int, int, int] | None
"""When a file was written, which it is, and its size; None where there is none."""


class FileWatch:
    """Some files, which may be replaced, rewritten in place, or reached by a link that is turned.

    Links are followed: a volume of Kubernetes changes by the link to its folder.
    """

    def __init__(self, paths: Sequence[Path], clock: Clock, *, work: LedgerCalls = asyncio.to_thread) -> None:
        """Changes count from now on. `work` does what may have to wait for a disk, off the loop."""
        self._work = work
        self._paths = tuple(paths)
        self._clock = clock
        self._known = self._look()

    def take_note(self) -> None:
        """What there is now is no change any more."""
        self._known = self._look()

    async def changed(self) -> None:
        """Return once the files are others than at the last time, and were the same in two looks."""
        last, missing_s = self._known, 0.0
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            now = await self._work(self._look)
            missing_s = missing_s + LOOK_EVERY_S if None in now else 0.0
            if now == last != self._known and (None not in now or missing_s >= MISSING_S):
                self._known = now
                return
            last = now

    def _look(self) -> tuple[_State, ...]:
        return tuple(_state_of(path) for path in self._paths)


def _state_of(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


_log = structlog.get_logger(__name__)


class Reload:
    """How a run's configuration is read again, and who asks for it."""

    def __init__(
        self,
        files: Sequence[Path],
        load: Callable[[Settings], Settings],
        clock: Clock,
        *,
        work: LedgerCalls = asyncio.to_thread,
    ) -> None:
        """`load` reads `files`, given the settings of the run, and may raise CollectorError.

        Changes of the files count from now on: make it before they are read for the first time. `work` does
        what takes its time, off the loop.
        """
        self._clock = clock
        self.note = ConfigurationNote(clock.now().timestamp(), ", ".join(map(str, files)))
        """What became of the last try to read them."""
        self.work = work
        self.files = tuple(files)
        self.load = load
        self.watch = FileWatch(files, clock, work=work)
        self.asked = asyncio.Event()
        """Set where somebody wants it done now, whatever the files say."""
        self.also: list[Callable[[], None]] = []
        """Called then as well: what else a run goes by is read again."""

    def take_note(self, change: Change) -> None:
        """The run has by now what `change` says."""
        waits = list(change.needs_restart[:LINES_MAX])
        self.note = ConfigurationNote(
            self._clock.now().timestamp(),
            self.note.file,
            needs_restart=waits,
            outputs=self.note.outputs,
            earlier=self.note.earlier,
        )

    def refuse(self, error: CollectorError, *, then: str = "") -> None:
        """Say why what the files say changes nothing, and what to do, and `then`."""
        mistakes = error.mistakes if isinstance(error, SettingsRefused) else [error.what]
        fix = error.fix if isinstance(error, NeedsOperator) else "it is read again at the next change"
        if isinstance(error, SettingsRefused):
            fix = "correct what is named; the file is read again once it is saved"
        where = error.where or self.note.file
        for mistake in mistakes:
            _log.error(f"{where}: {mistake}", code=error.code)
        _log.error(
            f"{where}: nothing is changed, and all goes on as it was; {fix}{then}",
            code=error.code,
        )
        self.note.refused_s = self._clock.now().timestamp()
        self.note.mistakes = list(mistakes[:LINES_MAX])
        self.note.fix = f"{fix}{then}"

    def ask(self) -> None:
        """Have it done now."""
        self.asked.set()
        for one in self.also:
            one()

    async def wait(self, *, watches: bool) -> None:
        """Return when somebody asks, or, with `watches`, when the files have changed."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self.asked.wait())]
        if watches:
            waits.append(asyncio.create_task(self.watch.changed()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.asked.is_set():
            self.asked.clear()
            _log.info("the configuration is read again: asked for")
            self.watch.take_note()

    async def read(self, settings: Settings) -> Change | None:
        """What the files say by now that a run with `settings` has not; None where they are refused."""
        try:
            return plan_change(settings, await self.work(self.load, settings))
        except CollectorError as error:
            self.refuse(error)
        except Exception as error:  # noqa: BLE001 - a configuration that brings a defect to light stops no run
            self.refuse(defect_of(error, where="reading the configuration again"))
        return None

    def tell(self, change: Change, settings: Settings) -> None:
        """Say what of a change of `settings` is taken up, and what is not, and keep it for `status`."""
        self.warn(change, settings)
        if change.text:
            _log.info(f"the configuration is taken up; {change.text}")
        else:
            rest = ", but for what needs a restart" if change.needs_restart else ""
            _log.info(f"the configuration is read; nothing of it has changed{rest}")
        self.take_note(change)

    def warn(self, change: Change, settings: Settings) -> None:
        """Say what is odd of a change of `settings`, and what of it needs a restart, as far as it is news."""
        for warning in change.settings.warnings:
            if warning not in settings.warnings:
                _log.warning(warning)
        for line in change.needs_restart:
            if line not in self.note.needs_restart:
                _log.warning(f"{self.note.file}: {line}")


class Reloader:
    """Takes up what changes while a run lasts."""

    def __init__(
        self,
        reload: Reload,
        settings: Settings,
        *,
        apply: Callable[[Change], Awaitable[None]],
        renew: Callable[[Change], None],
        ledger: Ledger,
        calls: LedgerCalls,
        clock: Clock,
    ) -> None:
        """`settings` are the run's; `apply` brings it to what a change says, `renew` ends it for that."""
        self._reload = reload
        reload.note.outputs = places_of(settings)
        self._settings = settings
        self._apply = apply
        self._renew = renew
        self._is_over = False
        self._begun_s = clock.now().timestamp()
        self._knows_earlier = False
        self._ledger = ledger
        self._calls = calls
        self._clock = clock
        self._going_on = GoingOn("the note of the configuration")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within the block changes are taken up."""
        task = asyncio.create_task(self.run(), name="reloading")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Take up changes until cancelled, or until one is for the next run."""
        await self._remember()
        while not self._is_over:
            await self._reload.wait(watches=self._settings.watches_configuration)
            await self.reload()

    async def reload(self) -> None:
        """Read the configuration once and take up what it says, or say why that cannot be done."""
        change = await self._reload.read(self._settings)
        if change is None:
            await self._remember()
            return
        if change.renews:
            self._end(change)
            return
        try:
            if change.detections or change.settings.tenants != self._settings.tenants:
                await self._apply(change)
            self._reload.tell(change, self._settings)
            self._settings = change.settings
        except CollectorError as error:
            self._reload.refuse(error)
        except Exception as error:  # noqa: BLE001 - a configuration that brings a defect to light stops no run
            self._reload.refuse(defect_of(error, where="taking up the configuration"))
        await self._remember()

    def _end(self, change: Change) -> None:
        """Leave the change to a run that begins with it."""
        self._reload.warn(change, self._settings)
        _log.info(
            f"the configuration has changed; {change.text}: what is in flight is finished first, then the "
            "collector goes on with it"
        )
        self._is_over = True
        self._renew(change)

    async def _remember(self) -> None:
        note = self._reload.note
        # What is not remembered now is remembered with the next reading.
        with self._going_on("remembering"), suppress(LedgerUnavailable):
            if not self._knows_earlier:
                # Not before it is read what the run before has written there.
                before = note_of(await self._calls(self._ledger.remembered, MEMORY))
                note.earlier = earlier_lakes(before, note.outputs or {}, now_s=self._begun_s)
                self._knows_earlier = True
            await self._calls(self._ledger.remember, MEMORY, note.body())
