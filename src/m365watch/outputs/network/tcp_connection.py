"""One connection, in the clear or in TLS, that knows how much of what it was given has left this machine.

TLS is done in memory (`ssl.MemoryBIO`), so that the bytes on the wire can be counted, and the
socket is used without a transport, so that an alert is read before an error of writing hides it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from m365watch.outputs.network.connection_errors import Why, explain

_RECEIVE_BYTES = 64 * 1024
_SO_NWRITE = 0x1024  # macOS: bytes in the send buffer.


class Connection:
    """Made by `connecting.connect`; `attend` must be called before its first use."""

    def __init__(self, connected: socket.socket, tls: Tls | None) -> None:
        """`connected` does not block; `tls` has its handshake behind it."""
        self.written = 0
        """Bytes that were given to the wire so far, as they are on it (encrypted, in TLS)."""
        self.failure: Why | None = None
        """Why the connection is broken."""
        self.ended = False
        """The peer closed its side in order."""
        self.ending = False
        """The own side was closed, or will be once everything has left."""
        self._socket = connected
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._wake: Callable[[], None] = lambda: None
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._drained = 0
        self._waits_for_room = False
        self._shut = False

    def attend(self, wake: Callable[[], None]) -> None:
        """Watch the peer from now on; `wake` is called whenever something changed."""
        self._wake = wake
        self._loop.add_reader(self._socket, self._read)

    @property
    def is_left(self) -> bool:
        """Whether the peer has ended, or has said in TLS that it will."""
        return self.ended or (self._tls is not None and self._tls.heard_goodbye)

    @property
    def has_room(self) -> bool:
        """Whether the system took everything so far, so that more may be written."""
        return not self._unsent

    def write(self, chunk: bytes) -> int:
        """Take `chunk` over; where it ends, counted as `written` is."""
        self._append(chunk if self._tls is None else self._tls.encrypt(chunk))
        return self.written

    def push(self) -> None:
        """Send what the system takes now; `wake` follows when it takes more."""
        while self._unsent and not self.failure:
            first = self._unsent[0]
            try:
                count = self._socket.send(first)
            except BlockingIOError:
                self._wait_for_room()
                return
            except OSError as error:
                self._read()
                self._fail(error)
                return
            self._unsent_bytes -= count
            if count < len(first):
                self._unsent[0] = first[count:]
            else:
                self._unsent.popleft()
        if self.ending and not self._shut and not self.failure:
            self._shut_down()

    def measure_drained(self) -> int:
        """How many of the bytes `written` the peer's system has acknowledged."""
        if not self.failure:
            waiting = _queued_bytes(self._socket)
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._fail(OSError(error, os.strerror(error)))
            else:
                self._drained = max(self._drained, self.written - self._unsent_bytes - waiting)
        return self._drained

    def end(self) -> None:
        """Close the own side behind everything that was written; the peer can still be heard."""
        self.ending = True
        if self._tls is not None:
            self._append(self._tls.say_goodbye())

    @property
    def is_proof(self) -> bool:
        """Whether the peer ended after the own end and without an error: it has read everything.

        In TLS it has to say so: the end of the connection alone is also what a program leaves that died.
        """
        if not (self._shut and self.ended) or self.failure:
            return False
        if self._tls is not None and not self._tls.heard_goodbye:
            return False
        return self.measure_drained() == self.written and not self.failure and _is_empty(self._socket)

    def close(self) -> None:
        """Let go of the socket; what is still in the system's queue is sent on."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _append(self, wire_bytes: bytes) -> None:
        if wire_bytes:
            self._unsent.append(memoryview(wire_bytes))
            self._unsent_bytes += len(wire_bytes)
            self.written += len(wire_bytes)

    def _wait_for_room(self) -> None:
        if not self._waits_for_room:
            self._waits_for_room = True
            self._loop.add_writer(self._socket, self._found_room)

    def _found_room(self) -> None:
        self._waits_for_room = False
        self._loop.remove_writer(self._socket)
        self._wake()

    def _shut_down(self) -> None:
        self._shut = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error)

    def _read(self) -> None:
        """Take note of an end, an alert or a reset; receivers of lines say nothing else."""
        try:
            received = self._socket.recv(_RECEIVE_BYTES)
            if received and self._tls is not None:
                self._append(self._tls.decrypt(received))
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not received:
            self.ended = True
            self._loop.remove_reader(self._socket)
        self._wake()

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = explain(error)._replace(by_peer=True)
        self._loop.remove_reader(self._socket)
        self._wake()


class Tls:
    """TLS between memory and memory."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        """A client's side that has said nothing yet."""
        self.heard_goodbye = False
        """The peer has said that nothing more will come from it."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    @property
    def version(self) -> str:
        """The version that was agreed on, for example TLSv1.3."""
        return self._object.version() or ""

    @property
    def certificate(self) -> bytes:
        """The server's certificate as DER, once the handshake is done."""
        return self._object.getpeercert(binary_form=True) or b""

    def shake_hands(self, received: bytes) -> tuple[bytes, bool]:
        """What to say in answer to `received`, and whether the handshake is done.

        Raises: ssl.SSLError: it failed.
        """
        self._incoming.write(received)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read(), False
        return self._outgoing.read(), True

    @property
    def last_words(self) -> bytes:
        """What has to be said after a failure: the alert."""
        return self._outgoing.read()

    def encrypt(self, chunk: bytes) -> bytes:
        """`chunk` as it is on the wire."""
        self._object.write(chunk)
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> bytes:
        """Take in what the peer said, which is nothing of interest; what has to be answered.

        Raises: ssl.SSLError: it was an alert.
        """
        self._incoming.write(received)
        with suppress(ssl.SSLWantReadError):
            try:
                while self._object.read(_RECEIVE_BYTES):
                    pass
            except ssl.SSLZeroReturnError:
                self.heard_goodbye = True
        return self._outgoing.read()

    def say_goodbye(self) -> bytes:
        """The close_notify."""
        with suppress(ssl.SSLError):
            self._object.unwrap()
        return self._outgoing.read()


def _queued_bytes(connected: socket.socket) -> int:
    """What the system holds until the peer's system acknowledges it, the end of the connection included."""
    if sys.platform == "darwin":
        return connected.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    answer = fcntl.ioctl(connected, termios.TIOCOUTQ, b"\0\0\0\0")
    return int(struct.unpack("i", answer)[0])


def _is_empty(connected: socket.socket) -> bool:
    """Whether nothing waits in the system's queue."""
    return _queued_bytes(connected) == 0
