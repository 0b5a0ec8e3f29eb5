"""The `files` output as the pipeline sees it: one thread, one timer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import Literal

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import GoingOn
from m365watch.common.errors import OutputUnusable
from m365watch.common.model import Batch, Receipt
from m365watch.common.worker_thread import OwnThread
from m365watch.outputs.files.archive import Archive
from m365watch.outputs.files.spec import FilesSection
from m365watch.registry.outputs import HeldPiece

QUIET_S = 3.0
"""A table without new records for so long gets its file published."""

_LOOK_AFTER_S = 1.0
_LOOK_AFTER_FAILURE_S = 30.0

_log = structlog.get_logger(__name__)


class FilesOutput:
    """NDJSON files below a directory; exactly once, and what is published is final."""

    needs_wide_headers = False
    batches_at_once_max = 1
    waits_on_disk = False
    takes_views: Literal[True] = True

    def __init__(self, settings: FilesSection, *, clock: Clock, quiet_s: float = QUIET_S) -> None:
        """Nothing is touched before `open`."""
        self.name = settings.name
        self._clock = clock
        self._archive = Archive(settings, clock=clock, quiet_s=quiet_s)
        self._thread = OwnThread(f"output-{self.name}")
        self._is_held = False
        """Whether the directory is, so that it has to be let go of."""
        self._publisher: asyncio.Task[None] | None = None

    async def take_over(self) -> int:
        """Publish whatever is there, whole records only; the highest number of a batch, 0 for none.

        Raises: OutputUnusable: a person has to act, and the text says how.
        """
        return await asyncio.to_thread(self._archive.take_over)

    async def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        """The published records that came after `since`, perhaps older ones too.

        Raises: OutputUnusable: they cannot be read.
        """
        pieces = self._archive.list_records(since)
        try:
            while (records := await asyncio.to_thread(next, pieces, None)) is not None:
                yield HeldPiece(None, records)
        except OSError as error:
            raise OutputUnusable(
                f"its files cannot be read: {error.strerror}",
                fix="let this user read them",
                where=f"output {self.name}",
            ) from error

    async def open(self, *, last_batch: int, position: str, newest_batch: int | None = None) -> int:
        """Cut the files back to `last_batch`, and answer it.

        Raises: OutputUnusable: a person has to act, and the text says how.
        """
        self._is_held = True
        try:
            await self._thread(
                self._archive.open, last_batch=last_batch, position=position, newest_batch=newest_batch
            )
        except BaseException:
            await self._let_go()
            raise
        self._publisher = asyncio.create_task(self._publish_in_time())
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Make every record of `batch` durable, but those with a line break inside.

        Raises: OutputUnavailable: nothing of the batch is in the files.
        """
        return await self._thread(self._archive.deliver, batch)

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Publish every file and let go of the directory."""
        if self._publisher is not None:
            try:
                await self._thread(self._archive.publish_all)
            except OSError as error:
                _warn_unpublished(self.name, error)
        await self._let_go()

    async def _publish_in_time(self) -> None:
        """Publish what is due, for as long as the output is open."""
        after_s, going_on = _LOOK_AFTER_S, GoingOn(f"output {self.name}")
        while True:
            await self._clock.sleep(after_s)
            after_s = _LOOK_AFTER_FAILURE_S
            with going_on("publishing"):
                try:
                    if self._archive.has_parts:
                        await self._thread(self._archive.publish_due)
                    after_s = _LOOK_AFTER_S
                except OSError as error:
                    _warn_unpublished(self.name, error)

    async def _let_go(self) -> None:
        """Stop the timer, the files and the thread, and publish nothing."""
        if self._publisher is not None:
            self._publisher.cancel()
            with suppress(asyncio.CancelledError):
                await self._publisher
            self._publisher = None
        if self._is_held:
            self._is_held = False
            await self._thread(self._archive.release)
            self._thread.close()


def _warn_unpublished(name: str, error: OSError) -> None:
    """Say that files have to wait for their published name; their records are safe."""
    _log.warning(
        "files cannot be published yet; their records are safe and follow later",
        output=name,
        reason=error.strerror,
    )
