"""A web server on loopback that answers as it was told and keeps what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self

from aiohttp import web


class Fault(Enum):
    """How an answer goes wrong on the wire."""

    NONE = auto()
    RESET = auto()
    """The connection is dropped before the first byte."""
    CUT = auto()
    """The connection is dropped before the last byte."""
    STALL = auto()
    """After the first byte nothing follows."""
    DRIP = auto()
    """One byte after another."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault = Fault.NONE


@dataclass(frozen=True, slots=True)
class Received:
    """One request, as it was on the wire."""

    method: str
    target: str
    """Path and query, not decoded."""
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    body: bytes


class LoopbackServer:
    """Serves while entered: `url` says where, `received` what was asked."""

    def __init__(self, answer: Callable[[Received], Reply]) -> None:
        """`answer` is called for every request, in order of arrival."""
        self.url = ""
        self.received: list[Received] = []
        self._answer = answer
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        """The server, listening on a port of its own."""
        self._runner = web.ServerRunner(web.Server(self._serve, auto_decompress=False), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        received = Received(request.method, request.raw_path, request.headers, body)
        self.received.append(received)
        reply = self._answer(received)
        if reply.fault is Fault.NONE:
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        return await _fail(request, reply)


async def _fail(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    if reply.fault is Fault.RESET:
        _drop(request)
        return response
    response.content_length = len(reply.body)
    await response.prepare(request)
    if reply.fault is Fault.DRIP:
        for byte in reply.body:
            await response.write(bytes([byte]))
            await asyncio.sleep(0.005)
        return response
    await response.write(reply.body[:-1] if reply.fault is Fault.CUT else reply.body[:1])
    if reply.fault is Fault.STALL:
        await asyncio.sleep(3_600)
    _drop(request)
    return response


def _drop(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()
