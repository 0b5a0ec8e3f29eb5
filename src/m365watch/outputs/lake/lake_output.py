"""Output `lake`: every batch is one Delta commit, exactly once.

The lake's libraries are loaded by `open`, so that an installation without them can still
write files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from m365watch.common.clock import Clock
from m365watch.common.collector_events import Notice
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.missing_files import MissingFiles
from m365watch.common.model import Batch, Receipt, TenantId
from m365watch.common.worker_thread import OwnThread
from m365watch.config.models.retention import Retention
from m365watch.registry.outputs import HeldPiece, MarkedPiece

if TYPE_CHECKING:
    from m365watch.lake.writer.batch_delivery import Delivery
    from m365watch.lake.writer.parquet_files import Part


_LIBRARIES = ("pyarrow", "deltalake")


def app_id_of(name: str, writer_id: str) -> str:
    """The name under which the lake keeps the number of the output's last batch."""
    return f"m365watch/{name}/{writer_id}"


class LakeOutput:
    """The lake below `directory`: one thread of its own writes the batches' files, another one commits them.

    So the files of a batch are written while the one before is committed, here and in the ledger; its own
    commit still waits for both, so that the lake is never more than one batch ahead.
    """

    needs_wide_headers = True
    batches_at_once_max = 1
    waits_on_disk = False
    notices_every_s = 5.0
    takes_views: Literal[True] = True

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        writer_id: str,
        clock: Clock,
        retention: Retention | None = None,
    ) -> None:
        """Nothing is touched before `open`.

        The lake keeps progress under `name` and `writer_id`: the latter tells collectors
        apart that fill one lake, and has to stay the same from run to run.
        """
        self.name = name
        self._directory = directory
        self._app_id = app_id_of(name, writer_id)
        self._retention = retention
        self._clock = clock
        self._delivery: Delivery | None = None
        self._thread = OwnThread(f"lake-{name}")
        self._writing = OwnThread(f"files-of-lake-{name}")
        self._prepared: tuple[Batch, Future[list[Part]]] | None = None

    def preload(self) -> None:
        """Begin to import the libraries."""
        self._thread.begin(self._prepare)

    async def take_over(self) -> int:
        """The number of the last batch in the lake; 0 for none.

        Raises: OutputUnusable: as for `open`.
        """
        delivery = await self._thread(self._prepare)
        try:
            return await self._thread(delivery.take_over)
        finally:
            await self._thread(delivery.close)

    async def list_held(self, *, since: datetime) -> AsyncIterator[HeldPiece]:
        """The records that the lake received after `since`, perhaps older ones too.

        Raises: OutputUnusable.
        """
        delivery = await self._thread(self._prepare)
        pieces = delivery.list_held(since)
        while (piece := await self._thread(lambda: next(pieces, None))) is not None:
            yield HeldPiece(TenantId(piece[0]), piece[1])

    async def list_erased(self) -> AsyncIterator[MarkedPiece]:
        """Marks of what was erased from the lake.

        Raises: OutputUnusable.
        """
        delivery = await self._thread(self._prepare)
        pieces = delivery.list_erased()
        while (piece := await self._thread(lambda: next(pieces, None))) is not None:
            yield MarkedPiece(*piece)

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - Delta tells it
        newest_batch: int | None = None,
    ) -> int:
        """Answer the number of the last batch in the lake: `last_batch`, or that of the next one.

        Raises: OutputUnusable: a library is missing, the directory cannot be written, the
        table is not ours, or the lake and the ledger do not belong together.
        """
        self._delivery = await self._thread(self._prepare)
        delivery = self._delivery
        found = await self._thread(lambda: delivery.open(last_batch, newest_batch=newest_batch))
        # Before the first batch is there the thread has time for it; at the end of a run all wait for it.
        self._thread.begin(delivery.expect_notices)
        return found

    def prepare(self, batch: Batch) -> None:
        """Begin to write the files of `batch`, which is delivered next."""
        if self._delivery is not None and (self._prepared is None or self._prepared[0] is not batch):
            self._drop_prepared()
            self._prepared = batch, self._writing.begin(self._delivery.write, batch)

    async def deliver(self, batch: Batch) -> Receipt:
        """Commit the batch, unless it is in the lake already.

        Raises: OutputUnavailable: the disk is full or fails; nothing of the batch counts.
        """
        delivery = self._delivery
        if delivery is None:
            raise OutputUnusable("the lake is not open", fix="open it first", where=self.name)
        files = self._take_prepared(batch)
        if files is None:
            if await self._thread(lambda: delivery.holds(batch.number)):
                return Receipt()
            files = self._writing.begin(delivery.write, batch)
        parts = await asyncio.wrap_future(files)
        await self._thread(lambda: delivery.append(batch, parts))
        return Receipt()

    def _take_prepared(self, batch: Batch) -> Future[list[Part]] | None:
        """The files of this very batch, if they are being written; those of another one are given up."""
        if self._prepared is None or self._prepared[0] is not batch:
            self._drop_prepared()
            return None
        files, self._prepared = self._prepared[1], None
        return files

    def _drop_prepared(self) -> None:
        """Remove what was prepared and is not delivered; before anything else is written under its names."""
        if self._prepared is not None and self._delivery is not None:
            self._writing.begin(_forget, self._delivery, self._prepared[1])
        self._prepared = None

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        """Commit what the collector says of itself to the table `collectors_out`.

        Raises: OutputUnavailable: they are offered again.
        """
        delivery = self._delivery
        if delivery is not None:
            await self._thread(lambda: delivery.append_notices(notices))

    async def find_missing_files(self) -> MissingFiles | None:
        """The data files that are gone from the lake. Raises: OutputUnavailable."""
        delivery = self._delivery
        return None if delivery is None else await asyncio.to_thread(delivery.find_missing_files)

    async def flush(self) -> None:
        """Nothing to find out: what was delivered is durable."""

    async def close(self) -> None:
        """Stop the upkeep and the thread; every acknowledged batch is durable already."""
        self._drop_prepared()
        if self._delivery is not None:
            await self._thread(self._writing.close)
            await self._thread(self._delivery.close)
            self._delivery = None
        self._writing.close()
        self._thread.close()

    def _prepare(self) -> Delivery:
        """The lake's own code, which needs the libraries."""
        for library in _LIBRARIES:
            try:
                import_module(library)
            except ImportError:
                raise OutputUnusable(
                    f"output {self.name} needs the Python package {library}",
                    fix=f"run: pip install {' '.join(_LIBRARIES)}",
                ) from None
        from m365watch.lake.writer.batch_delivery import Delivery

        where = f"output {self.name} ({self._directory})"
        return Delivery(
            self._directory,
            app_id=self._app_id,
            where=where,
            clock=self._clock,
            retention=self._retention,
        )


def _forget(delivery: Delivery, files: Future[list[Part]]) -> None:
    """Remove the files, which have been written when this comes to its turn."""
    with suppress(OutputUnavailable):
        delivery.forget(files.result())
