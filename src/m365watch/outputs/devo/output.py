"""Output `devo_platform` as the pipeline sees it.

Devo acknowledges nothing, so this output promises "at least once": see `outputs.wire.sender`
for what a returned `deliver` means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress

import structlog

from m365watch.clock import Clock, Random
from m365watch.config.settings import DevoSettings
from m365watch.errors import OutputUnavailable
from m365watch.model import Batch, Receipt, RefusedRecord
from m365watch.outputs.devo.compression import Gauge, list_compressed, make_compress
from m365watch.outputs.devo.framing import Framer, join_chunks
from m365watch.outputs.devo.statistics import Statistics
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.port import OPEN_BYTES_MAX
from m365watch.outputs.wire import WireSender

"""Open batches of so many bytes make the queue full, for the decision whether to compress."""

_log = structlog.get_logger(__name__)


class DevoOutput:
    """Devo's ingestion over TLS, with a client certificate."""

    needs_wide_headers = False
    batches_at_once_max = 64
    waits_on_disk = True

    def __init__(self, settings: DevoSettings, *, clock: Clock, random: Random) -> None:
        """Nothing is touched before `open`."""
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._sender = WireSender(
            settings.address,
            settings.port,
            settings.tls,
            settings.wire,
            name=settings.name,
            deliveries_max=self.batches_at_once_max,
            clock=clock,
            random=random,
        )
        self._framer = Framer(
            Tags(settings.tags, where=f"output {settings.name}"),
            host=settings.host,
            line_bytes_max=settings.wire.line_bytes_max,
            adds_devo_fields=settings.adds_devo_fields,
        )
        self._gauge = Gauge(settings.compression)
        self._compress = make_compress(settings.compression.level)
        self._statistics = Statistics(self._sender, clock=clock)
        self._reporter: asyncio.Task[None] | None = None

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - it keeps none
        newest_batch: int | None = None,  # noqa: ARG002 - it finds nothing of an earlier run
    ) -> int:
        """Answer `last_batch`: what was sent can neither be found again nor taken back.

        A receiver that cannot be reached just now is a warning.

        Raises: OutputUnusable: a file, a setting or a certificate is wrong, and the text says which.
        """
        await self._sender.open()
        self._reporter = asyncio.create_task(self._report())
        return last_batch

    @property
    def trouble(self) -> OutputUnavailable | None:
        """Why Devo could not be reached when it was last tried; None if it could."""
        return self._sender.trouble

    async def deliver(self, batch: Batch) -> Receipt:
        """Send every record, but those that are no line; return when all have outlived the retention.

        Raises: OutputUnavailable: nothing of the batch counts; it is delivered again.
        """
        refused: list[RefusedRecord] = []
        lines = self._framer.list_lines(batch, refused=refused)
        records, size_bytes = batch.record_count, batch.size_bytes
        del batch  # Its memory is free once the last line is made, unless the caller keeps it.
        await self._sender.deliver(self._list_chunks(lines, size_bytes), size_bytes=size_bytes)
        self._statistics.count(records - len(refused), size_bytes)
        return Receipt(refused=tuple(refused))

    async def write_tagged(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Send what the collector says of itself, pairs of tag and JSON object; some may be lost."""
        if not self._settings.sends_notices:
            return
        at = self._clock.now()
        joined = b"".join(self._framer.make_line(tag, at, body) for tag, body in lines)
        if joined:
            self._sender.send_unkept(joined)
            self._statistics.count_internal(len(lines), len(joined))

    async def flush(self) -> None:
        """Find out what Devo has read, by closing each connection in order."""
        await self._sender.flush()

    async def close(self) -> None:
        """Leave in order; what is not known to have been read is not acknowledged."""
        if self._reporter is not None:
            self._reporter.cancel()
            with suppress(asyncio.CancelledError):
                await self._reporter
            self._reporter = None
        await self._sender.close()

    def _list_chunks(self, lines: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        counted = (self._sender.open_count + 1) / self.batches_at_once_max
        weighed = (self._sender.open_bytes + size_bytes) / OPEN_BYTES_MAX
        if not self._gauge.look(min(1.0, max(counted, weighed))):
            return join_chunks(lines)
        member_bytes = self._settings.compression.buffer_bytes
        return list_compressed(lines, self._compress, member_bytes=member_bytes)

    async def _report(self) -> None:
        """Tell the figures once in a while, for as long as the output is open."""
        while True:
            await self._clock.sleep(self._settings.wire.stats_period_s)
            for line in self._statistics.list_lines():
                _log.info(f"output {self.name}: {line}")
