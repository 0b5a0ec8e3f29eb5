"""What stands before a record in a line of syslog; pure.

Source: RFC 5424 section 6, RFC 3164 section 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError
from m365watch.common.model import Batch, Receipt, RefusedRecord
from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.outputs.devo import line_format as framing
from m365watch.outputs.devo.line_format import Framing, HeaderOf, LineMaker, Source, join_chunks
from m365watch.outputs.devo.tags import Tags
from m365watch.outputs.network.sender import WireSender
from m365watch.outputs.network.sender_statistics import Now, Statistics
from m365watch.outputs.syslog.spec import SyslogSection
from m365watch.outputs.syslog.udp_sender import DATAGRAM_BYTES_MAX, DatagramSender

NIL = "-"
"""How syslog says nothing."""

HOST_CHARACTERS_MAX = 255
APP_NAME_CHARACTERS_MAX = 48
MSGID_CHARACTERS_MAX = 32
TAG_CHARACTERS_MAX = 64
"""RFC 3164 allows 32; the receivers of today read on to the colon, and a table's name may be longer."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_PRINTABLE = re.compile(r"[^!-~]+")
_NOT_IN_TAG = re.compile(r"[^!-9;-Z\\^-~]+")
"""A colon or a bracket ends the TAG of RFC 3164."""
_TABLE = "{table}"


def rfc5424_header(settings: SyslogSection) -> HeaderOf:
    """Headers such as `<14>1 2026-11-17T09:30:00.000Z host m365watch - exchange - `.

    MSGID is the table without `cloud.office365.management.`, so that a receiver can filter on it.
    There is no structured data, whose names would need a number of our own at IANA. There is no byte order
    mark before the record, which few receivers take off: RFC 5424 calls what comes without it MSG-ANY.
    """
    start = f"<{_priority(settings)}>1 "
    host = _shortened(settings.host, HOST_CHARACTERS_MAX)

    def header(table: str, at: datetime) -> bytes:
        app_name = _shortened(settings.config.app_name.replace(_TABLE, table), APP_NAME_CHARACTERS_MAX)
        kind = _shortened(table.removeprefix(TABLE_PREFIX), MSGID_CHARACTERS_MAX)
        instant = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
        return f"{start}{instant} {host} {app_name} {NIL} {kind} {NIL} ".encode()

    return header


def rfc3164_header(settings: SyslogSection) -> HeaderOf:
    """Headers such as `<14>Nov 17 09:30:00 host m365watch: `, in UTC.

    A host that is not known is left out, since `-` is none there; receivers then take the sender's address.
    """
    start = f"<{_priority(settings)}>"
    host = "" if settings.host == NIL else f" {_shortened(settings.host, HOST_CHARACTERS_MAX)}"

    def header(table: str, at: datetime) -> bytes:
        tag = _shortened(
            settings.config.app_name.replace(_TABLE, table), TAG_CHARACTERS_MAX, not_in=_NOT_IN_TAG
        )
        return f"{start}{_MONTHS[at.month - 1]} {at.day:2d} {at:%H:%M:%S}{host} {tag}: ".encode()

    return header


def devo_header(settings: SyslogSection) -> HeaderOf:
    """Headers as `devo_platform` has them, such as `<14>2026-11-17 09:30:00.000 host table: `.

    A table that Devo lacks becomes the fallback tag; facility and severity are those of Devo's senders.
    """
    return framing.devo_header(Tags(settings), host=settings.host)


def make_header(settings: SyslogSection) -> HeaderOf:
    """Headers of the format that the settings name."""
    return _HEADERS[settings.format](settings)


_HEADERS: dict[str, Callable[[SyslogSection], HeaderOf]] = {
    "rfc5424": rfc5424_header,
    "rfc3164": rfc3164_header,
    "devo": devo_header,
}


def _priority(settings: SyslogSection) -> int:
    return settings.config.facility * 8 + settings.config.severity


def _shortened(name: str, characters_max: int, *, not_in: re.Pattern[str] = _NOT_PRINTABLE) -> str:
    """`name` as one word of a header; where it is too long, its end stays, which tells most of a table."""
    return not_in.sub("_", name)[-characters_max:] or NIL


_BATCHES_AT_ONCE_MAX = 64
"""What one delivery waits for is the retention, in which others, small ones above all, can be sent."""

_log = structlog.get_logger(__name__)


class _TooLarge(NamedTuple):
    """A line that the system would not send."""

    place: int
    """Its place among those of one delivery."""
    line_bytes: int


class _Carrier(Protocol):
    """How lines get to the receiver."""

    @property
    def trouble(self) -> CollectorError | None: ...

    @property
    def now(self) -> Now: ...

    async def open(self) -> None: ...

    async def deliver(self, lines: Iterator[bytes], *, size_bytes: int) -> list[_TooLarge]: ...

    async def send_unkept(self, lines: Sequence[bytes]) -> None: ...

    async def flush(self) -> None: ...

    async def close(self) -> None: ...


class SyslogOutput:
    """One line a record, over TCP, TLS or UDP; at least once, and over UDP not even that."""

    needs_wide_headers = False

    def __init__(self, settings: SyslogSection, *, clock: Clock, random: Random) -> None:
        """Nothing is connected before `open`."""
        self.name = settings.name
        is_udp = settings.config.transport == "udp"
        self.batches_at_once_max = 1 if is_udp else _BATCHES_AT_ONCE_MAX
        self.waits_on_disk = not is_udp
        self._clock = clock
        self._maker = LineMaker(
            make_header(settings), _framing(settings), adds_devo_fields=settings.adds_devo_fields
        )
        self._carrier: _Carrier = (
            _Datagrams(settings, clock=clock) if is_udp else _Wire(settings, clock=clock, random=random)
        )
        self._statistics = Statistics(
            lambda: self._carrier.now,
            name=settings.name,
            period_s=settings.config.period_sender_stats_in_seconds,
            clock=clock,
        )

    @property
    def trouble(self) -> CollectorError | None:
        """Why the receiver could not be reached when it was last tried; None if it could, and over UDP."""
        return self._carrier.trouble

    async def open(
        self,
        *,
        last_batch: int,
        position: str,  # noqa: ARG002 - it keeps none
        newest_batch: int | None = None,  # noqa: ARG002 - it finds nothing of an earlier run
    ) -> int:
        """Answer `last_batch`: what was sent can neither be found again nor taken back.

        A receiver that cannot be reached just now, or that refuses, is told and stands in `trouble`.

        Raises: OutputUnusable: a person has to act on the files or the settings.
        """
        await self._carrier.open()
        self._statistics.start()
        return last_batch

    async def deliver(self, batch: Batch) -> Receipt:
        """Send every record of `batch`, but those that make no line, and wait for what can be known.

        Raises: OutputUnavailable, OutputUnusable: nothing of the batch counts.
        """
        refused: list[RefusedRecord] = []
        sources: list[Source] | None = None if self.waits_on_disk else []
        lines = self._maker.lines(batch, refused=refused, sources=sources)
        records, size_bytes = batch.record_count, batch.size_bytes
        del batch  # Its memory is free once the last line is made, unless the caller keeps it.
        too_large = await self._carrier.deliver(lines, size_bytes=size_bytes)
        refused.extend(_refuse(sources[line.place], line.line_bytes) for line in too_large if sources)
        self._statistics.count(records - len(refused), size_bytes)
        return Receipt(refused=tuple(refused))

    async def write_tagged(self, lines: Sequence[tuple[str, bytes]], /) -> None:
        """Send lines that are no records, once, each under its tag in place of a table.

        Raises: OutputUnavailable: they could not be sent.
        """
        now = self._clock.now()
        made = [self._maker.line(tag, line, at=now) for tag, line in lines]
        if made:
            await self._carrier.send_unkept(made)
            self._statistics.count_internal(len(made), sum(map(len, made)))

    async def flush(self) -> None:
        """Find out soon what the receiver has read."""
        await self._carrier.flush()

    async def close(self) -> None:
        """Leave in order."""
        await self._statistics.stop()
        await self._carrier.close()


def _framing(settings: SyslogSection) -> Framing:
    config = settings.config
    if config.transport == "udp":
        return Framing("datagram", line_bytes_max=min(config.line_bytes_max, DATAGRAM_BYTES_MAX))
    return Framing(config.framing, line_bytes_max=config.line_bytes_max)


class _Wire:
    """Lines over connections that are kept watch over."""

    def __init__(self, settings: SyslogSection, *, clock: Clock, random: Random) -> None:
        self._sender = WireSender(
            settings.config.address,
            settings.config.port,
            settings.secured_by,
            settings.config,
            name=settings.name,
            deliveries_max=_BATCHES_AT_ONCE_MAX,
            clock=clock,
            random=random,
        )

    @property
    def trouble(self) -> CollectorError | None:
        return self._sender.trouble

    @property
    def now(self) -> Now:
        return Now(self._sender.figures.connections, self._sender.open_count)

    async def open(self) -> None:
        await self._sender.open()

    async def deliver(self, lines: Iterator[bytes], *, size_bytes: int) -> list[_TooLarge]:
        await self._sender.deliver(join_chunks(lines), size_bytes=size_bytes)
        return []

    async def send_unkept(self, lines: Sequence[bytes]) -> None:
        await self._sender.send_unkept(b"".join(lines))

    async def flush(self) -> None:
        await self._sender.flush()

    async def close(self) -> None:
        await self._sender.close()


class _Datagrams:
    """Lines over UDP."""

    def __init__(self, settings: SyslogSection, *, clock: Clock) -> None:
        self._where = f"output {settings.name}"
        self._sender = DatagramSender(
            settings.config.address,
            settings.config.port,
            timeout_s=settings.config.sending_timeout,
            where=self._where,
            clock=clock,
        )

    @property
    def trouble(self) -> None:
        """Nobody can tell."""

    @property
    def now(self) -> Now:
        return Now(1, 0)

    async def open(self) -> None:
        _log.warning(
            f"{self._where}: UDP may lose records on their way, and nobody can tell; "
            f"use transport tcp or tls where none may be missing"
        )

    async def deliver(self, lines: Iterator[bytes], *, size_bytes: int) -> list[_TooLarge]:  # noqa: ARG002 - none stay
        made = list(lines)
        return [_TooLarge(place, len(made[place])) for place in await self._sender.deliver(made)]

    async def send_unkept(self, lines: Sequence[bytes]) -> None:
        await self._sender.deliver(lines)

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        self._sender.close()


def _refuse(source: Source, line_bytes: int) -> RefusedRecord:
    """The word of a system that sends no datagram as large as the protocol allows."""
    reason = f"its line has {line_bytes:,} bytes, more than this system sends in one datagram"
    return RefusedRecord(source.blob, source.record, reason)
