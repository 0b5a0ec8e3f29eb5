"""A proxy on loopback as companies have it: it wants to know who asks, and leads to where it is told."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from types import TracebackType
from typing import Self

REFUSED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b"Proxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
)
THROUGH = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    """Leads each host that it knows to a port of this machine; `asked` is what it was asked for."""

    def __init__(self, ports: dict[str, int], *, user: str = "", password: str = "") -> None:
        """`ports` by host and port, as in `"login.example:443"`; without `user` it lets everybody through."""
        self.asked: list[str] = []
        """The first line of each request."""
        self.heads: list[str] = []
        """The whole head of each request."""
        self.peers: set[str] = set()
        """The addresses that requests came from."""
        self.url = ""
        self._ports = ports
        self._wants = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        """The proxy, listening on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop leading, and end every way."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            self.heads.append(head)
            self.peers.add(writer.get_extra_info("peername")[0])
            self.asked.append(lines[0])
            if self._wants and f"Proxy-Authorization: {self._wants}" not in lines:
                writer.write(REFUSED)
                await writer.drain()
                return
            onward, back = await asyncio.open_connection("127.0.0.1", self._ports[lines[0].split()[1]])
            self._writers.append(back)
            writer.write(THROUGH)
            await asyncio.gather(_carry(reader, back), _carry(onward, writer))


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await source.read(1 << 16):
            target.write(part)
    target.close()
