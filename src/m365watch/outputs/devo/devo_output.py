"""When what is sent to Devo is compressed, and how: gzip members between the plain lines."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from isal import isal_zlib

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.outputs.devo.line_format import CHUNK_BYTES, Framing, LineMaker, devo_header, join_chunks
from m365watch.outputs.devo.spec import CompressionKeys, DevoSection
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.network.sender import WireSender
from m365watch.outputs.network.sender_statistics import Now, Statistics
from m365watch.registry.outputs import OPEN_BYTES_MAX

_LOOKS = 1000
_WINDOW_BITS = 31  # 15 for the largest window, 16 more for a gzip header
_QUICK_LEVEL = 1
_QUICK_UP_TO = 6


class Gauge:
    """Decides by the fullness of the queue, as Devo's SDK does: the mean of the last 1,000 looks."""

    def __init__(self, settings: CompressionKeys) -> None:
        """No look was taken yet."""
        self._threshold = settings.threshold_for_using_gzip_in_transport_layer
        self._looks: deque[float] = deque(maxlen=_LOOKS)

    def look(self, fullness: float) -> bool:
        """Take note of a fullness in [0, 1]; whether to compress now.

        A threshold below 0 means always, above 1 never.
        """
        self._looks.append(fullness)
        return sum(self._looks) / len(self._looks) >= self._threshold


def make_compress(level: int) -> Callable[[bytes], bytes]:
    """The function that makes a whole gzip member; `level` is 1 to 9.

    1 to 6 (Devo's default is 6) are all the same: ISA-L at its level 1. From 7 on it is zlib at that
    level, where size matters more than time. Measured with real records of 1.3 kB in members of 51,200
    bytes, one core: ISA-L 0.9 microseconds a record and a ratio of 10.8; zlib at 6: 8.2 and 12.4,
    at 9: 11.5 and 12.7; zlib-ng at 6: 3.8 and 12.2.
    """
    if level <= _QUICK_UP_TO:
        return lambda lines: isal_zlib.compress(lines, _QUICK_LEVEL, _WINDOW_BITS)
    return lambda lines: zlib.compress(lines, level, _WINDOW_BITS)


def list_compressed(
    lines: Iterator[bytes], compress: Callable[[bytes], bytes], *, member_bytes: int
) -> Iterator[bytes]:
    """Chunks of whole gzip members, each of about `member_bytes` of whole lines."""
    gathered: list[bytes] = []
    size_bytes = 0
    for member in join_chunks(lines, chunk_bytes=member_bytes):
        gathered.append(compress(member))
        size_bytes += len(member)
        if size_bytes >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size_bytes = [], 0
    if gathered:
        yield b"".join(gathered)


class DevoOutput:
    """Devo's ingestion over TLS, with a client certificate."""

    needs_wide_headers = False
    batches_at_once_max = 64
    waits_on_disk = True

    def __init__(self, settings: DevoSection, *, clock: Clock, random: Random) -> None:
        """Nothing is touched before `open`."""
        config = settings.config
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._sender = WireSender(
            config.address,
            config.port,
            config.tls,
            config,
            name=settings.name,
            deliveries_max=self.batches_at_once_max,
            clock=clock,
            random=random,
        )
        self._maker = LineMaker(
            devo_header(Tags(settings), host=settings.host),
            Framing("newline", line_bytes_max=config.line_bytes_max),
            adds_devo_fields=settings.adds_devo_fields,
        )
        self._gauge = Gauge(config)
        self._compress = make_compress(config.compression_level)
        self._statistics = Statistics(
            lambda: Now(self._sender.figures.connections, self._sender.open_count),
            name=settings.name,
            period_s=config.period_sender_stats_in_seconds,
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
        if not self._settings.sends_events:
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
        member_bytes = self._settings.config.compression_buffer_in_bytes
        return list_compressed(lines, self._compress, member_bytes=member_bytes)
