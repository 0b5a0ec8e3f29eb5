"""A receiver of syslog lines on loopback, with the faults that wires and receivers have.

It reads as Devo does: TLS with a client certificate, plain lines and gzip members mixed. It runs in
threads of its own, so that a client that blocks can be tested like one that does not.

    with DevoServer(server_tls(authority)) as server:
        ...  # a client sends to 127.0.0.1, server.port
    server.lines
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from m365watch_testing.certificates import Authority, CertificateFiles
from m365watch_testing.syslog_parser import SyslogParser

_RECEIVE_BYTES = 256 * 1024
_LOOK_AFTER_S = 0.02
_PATIENCE_S = 60.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends a reset.


@dataclass(slots=True)
class Faults:
    """How a connection goes wrong; a fresh one is served without any."""

    handshakes: bool = True
    """False: the client's first word is never answered."""
    close_after_bytes: int | None = None
    """After so many bytes of the lines (compressed as they came) nothing more is read and it closes."""
    closes_by_reset: bool = True
    """Whether that close is a reset, or an end in order whatever lies unread."""
    stall_after_bytes: int | None = None
    """After so many bytes nothing more is read until `DevoServer.go_on` or `DevoServer.die`."""
    answers_end: bool = True
    """Whether the client's end is answered with the own one."""
    says_goodbye: bool = True
    """Whether the own end is said in TLS, too; a program that dies leaves the bare end of a connection."""
    resets_at_end: bool = False
    """Whether the client's end is answered with a reset."""
    receive_buffer_bytes: int | None = None
    """The kernel's buffer for what was not read."""


@dataclass(slots=True)
class ServedConnection:
    """What came over one connection."""

    parser: SyslogParser = field(default_factory=SyslogParser)
    received_bytes: int = 0
    ended: bool = False
    """The client closed its side in order, and everything before was read."""
    over: bool = False
    """Nothing more will be read."""
    failure: str = ""
    """Why it was no use: a handshake that failed, bytes of no framing."""


class DevoServer:
    """Serves while entered; `faults` says how the connections that come from then on go wrong."""

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        *,
        faults: Callable[[int], Faults] | None = None,
        port: int = 0,
    ) -> None:
        """Without `tls` the bytes come in the clear; `faults` is asked with its number, from 0."""
        self.connections: list[ServedConnection] = []
        self.faults: Callable[[int], Faults] = faults or (lambda _: Faults())
        self.port = port
        self._tls = tls
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._go_on = threading.Event()
        self._dies = threading.Event()
        self._half_closes = threading.Event()
        self._marks: dict[int, threading.Event] = {}
        """By the port that a connection of the server's own comes from, who waits for it."""

    @property
    def lines(self) -> list[bytes]:
        """Every line of every connection, one connection after the other."""
        return [line for connection in list(self.connections) for line in connection.parser.lines]

    def wait_until_over(self) -> None:
        """Return once no connection will bring anything more; at the latest after a minute."""
        self._accept_all()
        for _ in range(int(_PATIENCE_S / _LOOK_AFTER_S)):
            if all(connection.over for connection in list(self.connections)):
                return
            self._stopped.wait(_LOOK_AFTER_S)

    def _accept_all(self) -> None:
        """Return once every connection that was made before is among `connections`: none overtakes one."""
        with suppress(OSError), socket.socket() as mark:
            mark.bind(("127.0.0.1", 0))
            came = self._marks[mark.getsockname()[1]] = threading.Event()
            mark.connect(("127.0.0.1", self.port))
            came.wait(_PATIENCE_S)

    @property
    def received_bytes(self) -> int:
        """What was read over all connections."""
        return sum(connection.received_bytes for connection in list(self.connections))

    def go_on(self) -> None:
        """Read on where it was stalled."""
        self._go_on.set()

    def half_close(self) -> None:
        """End the own side of every connection that is stalled, though there is something to read."""
        self._half_closes.set()

    def die(self) -> None:
        """Reset every connection that is stalled: what lies unread is lost."""
        self._dies.set()

    def __enter__(self) -> Self:
        """The server, listening on a port of its own unless one was named."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(_LOOK_AFTER_S)
        self.port = self._listener.getsockname()[1]
        self._stopped.clear()
        self._start(self._accept, self._listener)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving; what is still open is reset."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        if self._listener is not None:
            self._listener.close()

    def _start(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=work, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            with suppress(TimeoutError):
                connection, (_, port) = listener.accept()
                if port in self._marks:
                    self._marks.pop(port).set()
                    connection.close()
                    continue
                served = ServedConnection()
                self.connections.append(served)
                self._start(partial(self._serve, served, len(self.connections) - 1), connection)

    def _serve(self, served: ServedConnection, number: int, connection: socket.socket) -> None:
        faults = self.faults(number)
        connection.settimeout(_LOOK_AFTER_S)
        if faults.receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, faults.receive_buffer_bytes)
        try:
            if not faults.handshakes:
                self._stopped.wait()
                return
            if self._tls is not None:
                connection.settimeout(_PATIENCE_S)
                connection = self._tls.wrap_socket(connection, server_side=True)
                connection.settimeout(_LOOK_AFTER_S)
            self._read(connection, served, faults)
        except (OSError, zlib.error, ValueError) as error:
            served.failure = str(error)
        finally:
            connection.close()
            served.over = True

    def _read(self, connection: socket.socket, served: ServedConnection, faults: Faults) -> None:
        while not self._stopped.is_set():
            room = _room(faults, served.received_bytes)
            if room == 0:
                if not self._stall(connection, served, faults):
                    return
                continue
            with suppress(TimeoutError):
                received = connection.recv(min(_RECEIVE_BYTES, room))
                if not received:
                    served.ended = True
                    self._end(connection, faults)
                    return
                served.received_bytes += len(received)
                served.parser.feed(received)
        _reset(connection)

    def _stall(self, connection: socket.socket, served: ServedConnection, faults: Faults) -> bool:
        """Do what comes after the last byte that is read; whether reading goes on."""
        closes_after = faults.close_after_bytes
        if closes_after is not None and served.received_bytes >= closes_after:
            if faults.closes_by_reset:
                _reset(connection)
            return False
        half_closed = False
        while not (self._stopped.is_set() or self._dies.is_set() or self._go_on.wait(_LOOK_AFTER_S)):
            if self._half_closes.is_set() and not half_closed:
                half_closed = True
                connection.shutdown(socket.SHUT_WR)
        faults.stall_after_bytes = None
        if self._dies.is_set():
            _reset(connection)
            return False
        return True

    def _end(self, connection: socket.socket, faults: Faults) -> None:
        if faults.resets_at_end:
            _reset(connection)
        elif not faults.answers_end:
            self._stopped.wait()
        elif isinstance(connection, ssl.SSLSocket) and faults.says_goodbye:
            with suppress(OSError):
                connection.unwrap()


def server_tls(
    authority: Authority,
    *,
    files: CertificateFiles | None = None,
    clients: Path | None = None,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
) -> ssl.SSLContext:
    """A server's side of TLS that asks for a client certificate.

    `files` is its certificate (one of `authority` for localhost and 127.0.0.1 unless given), `clients`
    the authority whose certificates it takes (the same unless given).
    """
    files = files or authority.issue("server", names=["localhost", "127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = oldest, newest
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(clients or authority.chain)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _room(faults: Faults, received_bytes: int) -> int:
    """How many bytes are read before the next fault."""
    bounds = [bound for bound in (faults.close_after_bytes, faults.stall_after_bytes) if bound is not None]
    return max(0, min(bounds) - received_bytes) if bounds else _RECEIVE_BYTES


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
