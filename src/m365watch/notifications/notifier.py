"""Tells the targets of alerts while a run lasts: takes what has changed, and gives each target its turns.

Targets have nothing to do with each other: what one of them fails with, and how long, holds up no other.
Whatever becomes of the file of notifications, nothing else waits for it: one that cannot be used is told, and
tried again until it can be; one that is moved away, put back or made anew in a run is taken up as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import GoingOn
from m365watch.common.errors import CollectorError, NeedsOperator
from m365watch.common.timestamps import ms_of
from m365watch.common.worker_thread import OwnThread
from m365watch.config.models.notifications import ChannelSection
from m365watch.notifications.alert_changes import CHANGES_AT_ONCE, Changes
from m365watch.notifications.channel_status import list_figures
from m365watch.notifications.channel_worker import ChannelWorker
from m365watch.notifications.notification_database import FILE_NAME
from m365watch.notifications.outbox import NotificationStore
from m365watch.registry.channel_specs import Channel, Sender

LOOK_EVERY_S = 1.0
"""Between two looks at what has changed."""
LATE_MS = 12 * 3_600_000
"""What is in a new file of detections was found by whoever made it, or in records that came since: these may
be of acts so long before."""
FORGET_EVERY_S = 3_600.0
AGAIN_S = 5.0
"""Between two looks at a file that cannot be used."""
AGAIN_MAX_S = 300.0
"""After so long one that has not changed is tried all the same: it may have been the disk, or a folder."""
_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Notifier:
    """The targets of one configuration; one thread works with the two files."""

    def __init__(
        self,
        channels: Sequence[tuple[Channel[ChannelSection], Sender]],
        *,
        directory: Path,
        detections: Path,
        clock: Clock,
        random: Random,
        survives_power_cuts: bool = True,
        executor: Executor | None = None,
    ) -> None:
        """Nothing is touched before `open`; `detections` is their file, `directory` that of the state.

        `executor` does what works with the files, one piece after the other; left out, a thread of its own.
        """
        self._channels = channels
        self._sections = {channel.name: channel.section for channel, _ in channels}
        self._path = directory / FILE_NAME
        self._detections = detections
        self._clock = clock
        self._random = random
        self._survives = survives_power_cuts
        self._thread = OwnThread("notify", executor=executor)
        self._store: NotificationStore | None = None
        self._changes: Changes | None = None
        self._workers: list[ChannelWorker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._going_on = GoingOn("notifications")
        self.lost = asyncio.Event()
        """Set once the file of notifications is damaged, or not at its place any more."""

    @property
    def is_damaged(self) -> bool:
        """Whether somebody has met damage in the file of notifications."""
        return self._store is not None and self._store.is_damaged

    async def open(self, *, since_ms: int | None = None) -> None:
        """Know the targets, and have what changes from now on listed.

        What was found before a target was given is not told: they are given now, or were at `since_ms`. Where
        there is no file of detections yet, or it is being made anew, it is looked for again and again.
        Raises: OutputUnusable, OutputUnavailable: it is to be closed, and another may be opened later.
        """
        given_up = await self._thread(lambda: self._open(since_ms))
        for name, count in given_up.items():
            if count:
                _log.warning(
                    f"notifications: the target {name} is in the configuration no longer; "
                    f"{count:,} alerts that waited for it are told nobody"
                )

    def _open(self, since_ms: int | None) -> dict[str, int]:
        try:
            store = self._store = NotificationStore(self._path, survives_power_cuts=self._survives)
            with store.reading():
                return self._begin(store, since_ms)
        except Exception:
            with suppress(CollectorError):  # the detections say themselves what is wrong with their file
                self._list_meanwhile()
            raise

    def _list_meanwhile(self) -> None:
        """Have what changes listed for whoever can take it: this run may end before anybody can."""
        if self._detections.is_file():
            with closing(Changes(self._detections, survives_power_cuts=self._survives)) as changes:
                changes.begin(changes.list_former)

    def _begin(self, store: NotificationStore, since_ms: int | None) -> dict[str, int]:
        given_up: dict[str, int] = {}
        is_lost = not store.list_targets() and self._is_listed()
        if is_lost:
            _log.error(
                f"notifications: {self._path}: the file of notifications was lost, and is made anew: targets "
                "are told of what has changed since it was read last; what waited in it is told nobody, and "
                "`m365watch alerts list` has it"
            )
        if is_lost or since_ms is not None:
            given_up = store.register(self._sections, now_ms=self._now_ms() if since_ms is None else since_ms)
        known = {name: self._sections[name] for name in store.list_targets() if name in self._sections}
        # Targets that were there before are told what came meanwhile; new ones begin with what comes.
        if self._reach(store, known) is not None:
            while self._take(known) == CHANGES_AT_ONCE:
                """The next ones."""
        given_up |= store.register(self._sections, now_ms=self._now_ms())
        store.try_at_once(now_ms=self._now_ms())
        self._workers = [
            ChannelWorker(
                channel,
                sender,
                store=store,
                in_thread=self._with_file,
                clock=self._clock,
                random=self._random,
            )
            for channel, sender in self._channels
        ]
        return given_up

    def _is_listed(self) -> bool:
        """Whether a list of changes is kept already."""
        if not self._detections.is_file():
            return False
        with closing(Changes(self._detections, survives_power_cuts=self._survives)) as changes:
            return changes.is_kept

    def _reach(self, store: NotificationStore, sections: Mapping[str, ChannelSection]) -> Changes | None:
        """The list of changes in the file that is at its place now; None while it is being made anew."""
        if self._changes is not None:
            if self._changes.is_current:
                return self._changes
            self._changes.close()
            self._changes = None
        if not self._detections.is_file():
            return None
        changes = Changes(self._detections, survives_power_cuts=self._survives)

        def take_former() -> None:
            # The file is a new one: whatever it has of a target's own time may have been told nobody.
            with store.reading():
                targets = store.list_targets()
            for name, since_ms in targets.items():
                if name in sections:
                    found = changes.list_all(since_ms=since_ms - LATE_MS)
                    store.take(found, {name: sections[name]}, now_ms=self._now_ms())

        try:
            changes.begin(take_former)
        except BaseException:
            changes.close()
            raise
        self._changes = changes
        return changes

    def start(self) -> None:
        """Begin to tell, once `open` has returned."""
        self._tasks = [asyncio.create_task(self._look_regularly(), name="notifications")]
        self._tasks += [asyncio.create_task(one.run(), name=f"notify {one.name}") for one in self._workers]

    async def finish(self, *, limit_s: float) -> None:
        """Tell what is due, for `limit_s` seconds at most; the rest is told by the next run."""
        await self._take_all()
        if self._tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await asyncio.gather(*(one.idle.wait() for one in self._workers))
            with self._going_on("the end"):
                await self._tell_what_waits()

    async def _tell_what_waits(self) -> None:
        """A line for each target that was not told all: nobody goes on until the next run."""
        store = self._store
        if store is None:
            return
        for one in await self._with_file(lambda: list_figures(store, now_ms=self._now_ms())):
            if one.waiting:
                counted = f"{one.waiting:,} alert{' waits' if one.waiting == 1 else 's wait'}"
                _log.warning(f"notifications {one.name}: {counted}, and the next run tells of them")

    async def close(self) -> None:
        """Stop; what was not told waits in the file."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._workers:
            await one.close()
        await self._thread(self._let_go)
        self._thread.close()

    def _let_go(self) -> None:
        if self._changes is not None:
            self._changes.close()
        if self._store is not None:
            self._store.close()

    async def _look_regularly(self) -> None:
        forgot_at_s = self._clock.monotonic_s()
        while self._store is not None and self._store.is_whole:
            await self._take_all()
            if self._clock.monotonic_s() - forgot_at_s >= FORGET_EVERY_S:
                forgot_at_s = self._clock.monotonic_s()
                with self._going_on("forgetting"):
                    await self._with_file(self._forget)
            await self._clock.sleep(LOOK_EVERY_S)
        self.lost.set()

    async def _with_file(self, work: Callable[[], _T]) -> _T:
        """What `work` answers. Raises: OutputUnavailable: the file cannot be read or written just now."""
        store = self._store

        def read() -> _T:
            if store is None:
                return work()
            with store.reading():
                return work()

        return await self._thread(read)

    def _forget(self) -> None:
        if self._store is not None:
            self._store.forget(now_ms=self._now_ms())

    async def _take_all(self) -> None:
        """Take all that has changed; where that fails, it is taken at the next look."""
        with self._going_on("looks"):
            while (count := await self._with_file(lambda: self._take(self._sections))) > 0:
                for one in self._workers:
                    one.wake()
                if count < CHANGES_AT_ONCE:
                    break

    def _take(self, sections: Mapping[str, ChannelSection]) -> int:
        """Take the next changes for these targets; how many. Only what is durable here is forgotten there.

        Where the file is another one, of which all may have been taken, it is one at least.
        """
        before = self._changes
        changes = None if self._store is None else self._reach(self._store, sections)
        if changes is None or self._store is None:
            return 0
        found, number = changes.take()
        if found:
            self._store.take(found, sections, now_ms=self._now_ms())
            changes.forget(number)
        return len(found) or int(changes is not before)

    def _now_ms(self) -> int:
        return ms_of(self._clock.now())


class NotifierSupervisor:
    """A notifier, and another one whenever the file has become another."""

    def __init__(self, make: Callable[[], Notifier], *, path: Path, clock: Clock) -> None:
        """`make` makes notifiers, which are not opened yet; `path` is the file of notifications."""
        self._make = make
        self._path = path
        self._clock = clock
        self._since_ms: int | None = None
        """When it was first tried in vain: the targets are some since then."""
        self._patience_s = AGAIN_MAX_S
        self._notifier: Notifier | None = None
        self._task: asyncio.Task[None] | None = None
        self._going_on = GoingOn("notifications")

    async def begin(self) -> None:
        """Begin to tell; what keeps it from that is told, and tried again."""
        await self._try()
        self._task = asyncio.create_task(self._keep_on(), name="notifier supervisor")

    async def finish(self, *, limit_s: float) -> None:
        """Tell what is due, for `limit_s` seconds at most."""
        if self._notifier is not None:
            await self._notifier.finish(limit_s=limit_s)

    async def close(self) -> None:
        """Stop; what was not told waits in the file, or in that of the detections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._let_go()

    async def _keep_on(self) -> None:
        while True:
            if self._notifier is not None:
                await self._notifier.lost.wait()
                if not self._notifier.is_damaged:
                    # Another one is at its place, or none: nothing is known against that.
                    self._patience_s = AGAIN_S
                with self._going_on("end"):
                    await self._let_go()
            await self._wait()
            await self._try()

    async def _let_go(self) -> None:
        # Not before it is closed: whoever interrupts that closes it.
        if self._notifier is not None:
            try:
                await self._notifier.close()
            except Exception:
                self._notifier = None
                raise
            self._notifier = None

    async def _try(self) -> None:
        now_ms = ms_of(self._clock.now())
        with self._going_on("beginning"):
            notifier = self._make()
            try:
                await notifier.open(since_ms=self._since_ms)
            except BaseException as error:
                self._patience_s = AGAIN_MAX_S if isinstance(error, NeedsOperator) else AGAIN_S
                await notifier.close()
                raise
            self._patience_s = AGAIN_MAX_S
            notifier.start()
            self._notifier = notifier
        if self._notifier is None and self._since_ms is None:
            self._since_ms = now_ms
        elif self._notifier is not None and self._since_ms is not None:
            self._since_ms = None
            _log.info("notifications: targets are told again")

    async def _wait(self) -> None:
        """Return when it is time to try again: soon where the file has changed or is gone, else later."""
        before, begun_s = self._signs(), self._clock.monotonic_s()
        while True:
            await self._clock.sleep(AGAIN_S)
            signs, waited_s = self._signs(), self._clock.monotonic_s() - begun_s
            if not signs or signs != before or waited_s >= self._patience_s:
                return

    def _signs(self) -> tuple[int, ...]:
        """What tells the file from what it was; nothing where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
