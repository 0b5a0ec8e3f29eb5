"""The outputs of a run opened, and their queues on disk settled with the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

import structlog

from m365watch.common.worker_thread import OwnThread
from m365watch.config.models.detections import DETECTIONS
from m365watch.config.models.settings import Settings
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerThread
from m365watch.pipeline.disk_queue import QUEUES_FOLDER, BatchQueue, foreign_queue
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.registry.outputs import Output, Preloads

_log = structlog.get_logger(__name__)


def preload(outputs: Iterable[Output]) -> None:
    """Let libraries be imported while the ledger waits for its disk."""
    for output in outputs:
        if isinstance(output, Preloads):
            output.preload()


def queues_of(settings: Settings, outputs: Sequence[Output]) -> dict[str, BatchQueue]:
    """Each output's queue on disk, and those of outputs that the configuration no longer has."""
    folder = settings.state_directory / QUEUES_FOLDER
    wide = {output.name: output.needs_wide_headers for output in outputs}
    # A queue whose output the configuration no longer has keeps what it has until somebody decides.
    orphans = {path.name for path in folder.iterdir()} - wide.keys() if folder.is_dir() else set[str]()
    return {
        name: BatchQueue(
            folder / name,
            output=name,
            bytes_max=settings.queue_bytes_max,
            wide_headers=wide.get(name, False),
        )
        for name in [*wide, *sorted(orphans)]
    }


class Opening:
    """Opens outputs, then their queues, beside a ledger that is open; all of it is closed by `closing`."""

    def __init__(self, ledger: SqliteLedger, calls: LedgerThread, closing: AsyncExitStack) -> None:
        self._ledger = ledger
        self._calls = calls
        self._closing = closing
        self._durable: dict[str, int] = {}
        """The last batch that each output says it has."""

    async def open_output(self, output: Output) -> None:
        """Open it where the ledger knows it to be. Raises: OutputUnusable, OutputUnavailable."""
        known = await self._calls(self._ledger.output_position, output.name)
        self._durable[output.name] = await output.open(
            last_batch=known.last_batch,
            position=known.position,
            newest_batch=await self._calls(self._ledger.newest_batch),
        )
        self._closing.push_async_callback(output.close)

    async def open_queues(
        self, queues: Mapping[str, BatchQueue], outputs: Sequence[Output], *, at: datetime
    ) -> tuple[list[QueuedOutput], dict[str, list[int]]]:
        """Each output with its queue on disk, and the batches in each that are still to be delivered.

        All accounts are settled then: the ledger's, what outputs say they have, and the files of the queues.
        Raises: OutputUnusable.
        """
        found = await self._find_queued(queues)
        kept = await self._calls(self._ledger.settle_outputs, self._durable, queued=found, at=at)
        for name, numbers in found.items():
            for number in set(numbers) - set(kept[name]):
                await self._calls(queues[name].remove, number)
        for name in sorted(queues.keys() - {output.name for output in outputs}):
            if kept[name]:
                _warn_of_orphan(queues[name], batches=len(kept[name]))
        queued = [
            QueuedOutput(one, queues[one.name], self._thread(), stands_aside=one.name == DETECTIONS)
            for one in outputs
        ]
        return queued, kept

    async def _find_queued(self, queues: Mapping[str, BatchQueue]) -> dict[str, list[int]]:
        """The batches in each queue, of which none is newer than the ledger. Raises: OutputUnusable."""
        found = {name: await self._calls(queue.open) for name, queue in queues.items()}
        newest = await self._calls(self._ledger.newest_batch)
        for name, numbers in found.items():
            if numbers and numbers[-1] > newest:
                raise foreign_queue(queues[name].directory, output=name)
        return found

    def _thread(self) -> OwnThread:
        """A thread for one queue's disk work, which ends with the run."""
        thread = OwnThread("queue")
        self._closing.callback(thread.close)
        return thread


def _warn_of_orphan(queue: BatchQueue, *, batches: int) -> None:
    _log.warning(
        f"{queue.directory}: {batches} batches wait there for an output that the configuration no longer has;"
        " bring the output back under this name to have them delivered, or remove the folder to give them up"
    )
