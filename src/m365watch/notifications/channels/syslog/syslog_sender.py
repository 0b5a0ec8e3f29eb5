"""Notifications as lines of syslog, over the wire that outputs send records with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import OutputUnavailable, RetryLater, Unreachable
from m365watch.notifications.channels.syslog.spec import SyslogSection
from m365watch.notifications.channels.syslog.syslog_line import syslog_line
from m365watch.notifications.notification import Notification
from m365watch.outputs.devo.line_format import Framing
from m365watch.outputs.network.connector import try_wire
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.network.sender import WireSender
from m365watch.outputs.network.settings import own_host
from m365watch.outputs.syslog.udp_sender import DATAGRAM_BYTES_MAX, DatagramSender
from m365watch.registry.channel_specs import Channel, Sent

LINES_AT_ONCE = 100
DELIVER_S = 60.0
"""How long lines are tried before that counts as a failed try."""
REACH_S = 5.0
"""The same while there is no way to the receiver."""
_SENDING = SendingKeys()


class SyslogSender:
    """Sends lines; over TCP and TLS the end of each connection shows that the receiver has read them."""

    at_once_max = LINES_AT_ONCE

    def __init__(
        self,
        channel: Channel[SyslogSection],
        *,
        collector: str,
        clock: Clock,
        random: Random,
        reach_s: float = REACH_S,
    ) -> None:
        """Nothing is connected yet; `reach_s` is how long a receiver is looked for in one try."""
        section = self._section = channel.section
        self._reach_s = reach_s
        self._collector = collector
        self._host = section.hostname or own_host()
        self._name = channel.name
        self._where = f"notifications {channel.name}"
        self._place = f"{section.address}:{section.port}"
        self._datagrams: DatagramSender | None = None
        self._sender: WireSender | None = None
        if section.transport == "udp":
            self._framing = Framing("datagram", line_bytes_max=DATAGRAM_BYTES_MAX)
            self._datagrams = DatagramSender(
                section.address,
                section.port,
                timeout_s=_SENDING.sending_timeout,
                where=self._where,
                clock=clock,
            )
        else:
            self._framing = Framing(section.framing, line_bytes_max=_SENDING.line_bytes_max)
            # With one delivery at a time, each is proven by the end of its connection, and not by waiting.
            self._sender = WireSender(
                section.address,
                section.port,
                section.secured_by,
                _SENDING,
                name=f"{channel.name} (notifications)",
                deliveries_max=1,
                clock=clock,
                random=random,
                tells=False,
            )

    async def open(self, *, last: int, position: str, newest: int) -> int:  # noqa: ARG002 - it keeps nothing
        """Connect; a receiver that is away is tried on. Raises: OutputUnusable."""
        if self._sender is not None:
            await self._sender.open()
        return last

    async def send(self, number: int, notifications: Sequence[Notification]) -> Sent:  # noqa: ARG002
        """Send the lines. Raises: OutputUnavailable, OutputUnusable."""
        made = [self._line(one) for one in notifications]
        refused = {place: "its line is too long" for place, line in enumerate(made) if line is None}
        lines = [line for line in made if line is not None]
        if self._datagrams is not None:
            sent = [place for place in range(len(made)) if place not in refused]
            for place in await self._datagrams.deliver(lines):
                refused[sent[place]] = "its line is larger than this system's datagrams"
        elif self._sender is not None and lines:
            await self._deliver(self._sender, b"".join(lines))
        return Sent(refused)

    async def _deliver(self, sender: WireSender, lines: bytes) -> None:
        """Back once the receiver has read them. Raises: Unreachable, OutputUnavailable, OutputUnusable."""
        before = sender.figures.sent_bytes
        delivery = asyncio.ensure_future(sender.deliver([lines]))
        try:
            await asyncio.wait([delivery], timeout=self._reach_s)
            if not delivery.done() and (sender.trouble is None or sender.figures.sent_bytes > before):
                await asyncio.wait([delivery], timeout=DELIVER_S)
            if delivery.done():
                return delivery.result()
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
        trouble = sender.trouble
        if isinstance(trouble, RetryLater) and sender.figures.sent_bytes == before:
            raise Unreachable(trouble.what, where=self._where, fix=trouble.fix)
        raise trouble or OutputUnavailable("the receiver has not read what it was sent", where=self._where)

    async def check(self) -> str:
        """Connect, and leave in order. Raises: OutputUnavailable, OutputUnusable."""
        section = self._section
        if section.transport == "udp":
            return f"{self._place} over UDP: nobody can tell whether anything arrives there"
        try:
            await try_wire(section.address, section.port, section.secured_by, _SENDING, name=self._name)
        except OSError as error:
            raise OutputUnavailable(f"no connection: {error.strerror}", where=self._where) from None
        how = "in TLS" if section.secured_by is not None else "in the clear"
        return f"{self._place} takes connections {how}; nothing was sent"

    async def close(self) -> None:
        """Leave in order."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._sender is not None:
            await self._sender.close()

    def _line(self, notification: Notification) -> bytes | None:
        """The line as it goes out; None for one that is too long."""
        line = syslog_line(
            notification,
            facility=self._section.facility,
            host=self._host,
            collector=self._collector,
            is_cef=self._section.format == "cef",
        )
        framed = self._framing.line(b"", line)
        return framed if len(framed) <= self._framing.line_bytes_max else None
