"""Output `devo_platform` as the pipeline sees it.

Devo acknowledges nothing, so this output promises "at least once": see `outputs.wire.sender`
for what a returned `deliver` means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.outputs.devo.devo_output import Gauge, list_compressed, make_compress
from m365watch.outputs.devo.line_format_framing import devo_header, join_chunks
from m365watch.outputs.devo.lines import Framing, LineMaker
from m365watch.outputs.devo.spec import DevoSettings
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.network.sender import WireSender
from m365watch.outputs.network.sender_statistics import Now, Statistics
from m365watch.registry.outputs import OPEN_BYTES_MAX


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
        self._maker = LineMaker(
            devo_header(Tags(settings.tags, where=f"output {settings.name}"), host=settings.host),
            Framing("newline", line_bytes_max=settings.wire.line_bytes_max),
            adds_devo_fields=settings.adds_devo_fields,
        )
        self._gauge = Gauge(settings.compression)
        self._compress = make_compress(settings.compression.level)
        self._statistics = Statistics(
            lambda: Now(self._sender.figures.connections, self._sender.open_count),
            name=settings.name,
            period_s=settings.wire.stats_period_s,
            clock=clock,
        )

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - it keeps none
        newest_batch: int | None = None,  # noqa: ARG002 - it finds nothing of an earlier run
    ) -> int:
        """Answer `last_batch`: what was sent can neither be found again nor taken back.

        A receiver that cannot be reached just now, or that refuses, is told and stands in `trouble`.

        Raises: OutputUnusable: a file or a setting is wrong, and the text says which.
        """
        await self._sender.open()
        self._statistics.start()
        return last_batch

    @property
    def trouble(self) -> CollectorError | None:
        """Why Devo could not be reached, or took nothing, when it was last tried; None if it did."""
        return self._sender.trouble

    async def deliver(self, batch: Batch) -> Receipt:
        """Send every record, but those that are no line; return when all have outlived the retention.

        Raises: OutputUnavailable, OutputUnusable: nothing of the batch counts; it is delivered again.
        """
        refused: list[RefusedRecord] = []
        lines = self._maker.lines(batch, refused=refused)
        records, size_bytes = batch.record_count, batch.size_bytes
        del batch  # Its memory is free once the last line is made, unless the caller keeps it.
        await self._sender.deliver(self._list_chunks(lines, size_bytes), size_bytes=size_bytes)
        self._statistics.count(records - len(refused), size_bytes)
        return Receipt(refused=tuple(refused))

    async def write_tagged(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Send what the collector says of itself, pairs of tag and JSON object; some may be lost.

        Raises: OutputUnavailable: Devo cannot be reached just now.
        """
        if not self._settings.sends_notices:
            return
        at = self._clock.now()
        joined = b"".join(self._maker.line(tag, body, at=at) for tag, body in lines)
        if joined:
            await self._sender.send_unkept(joined)
            self._statistics.count_internal(len(lines), len(joined))

    async def flush(self) -> None:
        """Find out what Devo has read, by closing each connection in order."""
        await self._sender.flush()

    async def close(self) -> None:
        """Leave in order; what is not known to have been read is not acknowledged."""
        await self._statistics.stop()
        await self._sender.close()

    def _list_chunks(self, lines: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
        counted = (self._sender.open_count + 1) / self.batches_at_once_max
        weighed = (self._sender.open_bytes + size_bytes) / OPEN_BYTES_MAX
        if not self._gauge.look(min(1.0, max(counted, weighed))):
            return join_chunks(lines)
        member_bytes = self._settings.compression.buffer_bytes
        return list_compressed(lines, self._compress, member_bytes=member_bytes)
