"""Receivers of syslog on loopback, for the output contract and for a look at what came."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from made_outputs import options_of, syslog_to

from m365watch.common.clock import SystemClock, system_random
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.syslog.spec import SyslogSection
from m365watch.outputs.syslog.syslog_output import SyslogOutput, _Wire
from m365watch.registry.outputs import Output
from m365watch_testing.batches import make_record
from m365watch_testing.devo_server import DevoServer

LINE_BYTES_MAX = 4_000
HEADERS = {
    "rfc5424": re.compile(rb"<14>1 \S{24} \S+ \S+ - \S+ - "),
    "rfc3164": re.compile(rb"<14>\w{3} [ 123]\d \d\d:\d\d:\d\d \S+ [^: ]+: "),
    "devo": re.compile(rb"<14>\d{4}-\d\d-\d\d \S{12} \S+ [^: ]+: "),
}
WIRE = SendingKeys.model_construct(
    retention_secs=0.01,
    connecting_initial_wait_in_seconds=0.05,
    sending_initial_wait_in_seconds=0.05,
    line_bytes_max=LINE_BYTES_MAX,
)


def settings_for(
    port: int, *, tls: TlsSettings | None = None, wire: SendingKeys = WIRE, **changes: object
) -> SyslogSection:
    """The settings of an output named `syslog` that sends to `port` of this machine."""
    options = vars(wire) | (options_of(tls) if tls else {}) | changes
    return syslog_to("127.0.0.1", port, hostname="collector.example").with_options(**options)


def records_of(lines: list[bytes], *, form: str) -> list[bytes]:
    """What follows the header of each line."""
    records = []
    for line in lines:
        header = HEADERS[form].match(line)
        assert header is not None, line
        records.append(line[header.end() :])
    return records


class SyslogPlace:
    """A receiver on the other end of connections."""

    can_undo = False
    exactly_once = False
    keeps_order = True

    def __init__(self, server: DevoServer, settings: SyslogSection) -> None:
        """`settings` lead to `server`."""
        self._server = server
        self._settings = settings

    def make(self) -> SyslogOutput:
        """A new output for the server."""
        return SyslogOutput(self._settings, clock=SystemClock(), random=system_random(1))

    async def kill(self, output: Output) -> None:
        """Let the connections fall."""
        assert isinstance(output, SyslogOutput)
        assert isinstance(output._carrier, _Wire)
        await output._carrier._sender._stop()
        await output._statistics.stop()

    def records_in(self) -> list[bytes]:
        """Every record that came, once the server has seen each connection's end."""
        self._server.wait_until_over()
        return records_of(self._server.lines, form=self._settings.format)

    def refusable_record(self) -> bytes | None:
        """One that makes too long a line."""
        return make_record(7, note="x" * LINE_BYTES_MAX)

    def filled(self) -> AbstractContextManager[None] | None:
        """Not arranged: what a receiver does that takes nothing is for the engine's own tests."""
        return None


class DatagramReceiver:
    """Keeps every datagram that comes to its port while it is entered."""

    _MARK = b"end of what was sent so far"

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._stopped = threading.Event()
        self._marked = threading.Event()
        self._datagrams: list[bytes] = []
        self.port = int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        """The receiver, reading."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading."""
        self._stopped.set()
        self._thread.join(5)
        self._socket.close()

    @property
    def datagrams(self) -> list[bytes]:
        """All that were sent before this was asked; none overtakes another on loopback."""
        self._marked.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(self._MARK, ("127.0.0.1", self.port))
        assert self._marked.wait(60)
        return list(self._datagrams)

    def _receive(self) -> None:
        while not self._stopped.is_set():
            try:
                datagram = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            if datagram == self._MARK:
                self._marked.set()
            else:
                self._datagrams.append(datagram)


class DatagramPlace:
    """A receiver of datagrams."""

    can_undo = False
    exactly_once = False
    keeps_order = True

    def __init__(self, receiver: DatagramReceiver) -> None:
        """`receiver` reads on while the place is tested."""
        self._receiver = receiver
        self._settings = settings_for(receiver.port, transport="udp")

    def make(self) -> SyslogOutput:
        """A new output for the receiver."""
        return SyslogOutput(self._settings, clock=SystemClock(), random=system_random(1))

    async def kill(self, output: Output) -> None:
        """Close the socket, as the system would."""
        await output.close()

    def records_in(self) -> list[bytes]:
        """Every record that came."""
        return records_of(self._receiver.datagrams, form=self._settings.format)

    def refusable_record(self) -> bytes | None:
        """One that makes too long a line."""
        return make_record(7, note="x" * LINE_BYTES_MAX)

    def filled(self) -> AbstractContextManager[None] | None:
        """Not arranged."""
        return None
