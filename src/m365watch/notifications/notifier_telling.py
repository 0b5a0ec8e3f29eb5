"""Tells while a run lasts, whatever becomes of the file of notifications: nothing else waits for it.

A file that cannot be used is told, and tried again until it can be; one that is moved away, put back or made
anew in the middle of a run is taken up as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn
from m365watch.common.errors import NeedsOperator
from m365watch.common.timestamps import ms_of
from m365watch.notifications.notifier import Notifier

AGAIN_S = 5.0
"""Between two looks at a file that cannot be used."""
AGAIN_MAX_S = 300.0
"""After so long one that has not changed is tried all the same: it may have been the disk, or a folder."""

_log = structlog.get_logger(__name__)


class Telling:
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
        self._task = asyncio.create_task(self._keep_on(), name="telling")

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
