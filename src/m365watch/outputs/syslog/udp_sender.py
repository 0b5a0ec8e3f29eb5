"""Lines over UDP, one a datagram: quick, and nobody says whether they arrived."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence

from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnavailable

DATAGRAM_BYTES_MAX = 65_507
"""What one datagram can carry over IPv4.

Source: RFC 768 and RFC 791: 65,535 bytes less the two headers.
"""

BURST_DATAGRAMS = 50
"""Datagrams that go out without a pause: about as many as a receiver's buffer of the usual size holds."""
PAUSE_S = 0.005
"""The pause after each burst, so that no more than 10,000 datagrams go out in a second."""

RESOLVED_S = 60.0
"""How long an address that a name has led to is used before the name is looked up again."""

_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS})


class DatagramSender:
    """Sends to one address; returning from `deliver` means that the operating system has taken the lines."""

    def __init__(self, address: str, port: int, *, timeout_s: float, where: str, clock: Clock) -> None:
        """`timeout_s` is how long the operating system may take nothing at all."""
        self._address = address
        self._port = port
        self._timeout_s = timeout_s
        self._where = where
        self._clock = clock
        self._turn = asyncio.Lock()
        self._socket: socket.socket | None = None
        self._resolved_at_s = 0.0

    async def deliver(self, lines: Sequence[bytes]) -> list[int]:
        """The places of the lines that were too large to be sent; all others are sent.

        Raises: OutputUnavailable: the name is not known, nobody listens there, or the network is down.
        """
        async with self._turn:
            try:
                return await self._send_all(await self._connect(), lines)
            except OSError as error:
                self.close()
                what = f"cannot send to {self._address}:{self._port} over UDP: {_reason(error)}"
                raise OutputUnavailable(what, where=self._where) from error

    def close(self) -> None:
        """Let go of the socket; the next `deliver` makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connect(self) -> socket.socket:
        """The socket; connected, so that the system says when nobody listens."""
        now_s = self._clock.monotonic_s()
        if self._socket is not None and now_s - self._resolved_at_s < RESOLVED_S:
            return self._socket
        self.close()
        found = await asyncio.get_running_loop().getaddrinfo(
            self._address, self._port, type=socket.SOCK_DGRAM
        )
        family, kind, protocol, _, place = found[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._socket.connect(place)
        self._resolved_at_s = now_s
        return self._socket

    async def _send_all(self, connected: socket.socket, lines: Sequence[bytes]) -> list[int]:
        too_large = []
        for place, line in enumerate(lines):
            if place % BURST_DATAGRAMS == 0 and place:
                await self._clock.sleep(PAUSE_S)
            if not await self._send(connected, line):
                too_large.append(place)
        _check(connected)
        return too_large

    async def _send(self, connected: socket.socket, line: bytes) -> bool:
        """Whether `line` was small enough; it is sent if so, once the system has room."""
        since_s = self._clock.monotonic_s()
        while True:
            try:
                connected.send(line)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return False
                waited_s = self._clock.monotonic_s() - since_s
                if error.errno not in _FULL or waited_s >= self._timeout_s:
                    raise
                await self._clock.sleep(PAUSE_S)
            else:
                return True


def _check(connected: socket.socket) -> None:
    """Raise what the network has said of the last datagrams, if it has said anything yet."""
    if code := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved; check `address`"
    if error.errno == errno.ECONNREFUSED:
        return "nobody listens there; start the receiver or check `address` and `port`"
    return error.strerror or type(error).__name__
