"""Bounds for every HTTP server: what a client may cost before anybody knows who it is.

A connection stands between a socket and the protocol that serves it. It starts TLS itself, so that handshakes
are counted and timed too, follows the requests, and refuses what goes past a limit. Only requests are timed:
nothing ends a response but a client that does not read it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast

import httptools
import structlog

BODY_BYTES_MAX = 1024 * 1024
"""A notification of one blob has about 600 bytes."""
_CHUNK_BYTES = 16 * 1024


@dataclass
class Request:
    """A request, as far as it has come."""

    target: str = ""
    method: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """By name in lower case; of several the last."""
    body: bytearray = field(default_factory=bytearray)


class RequestRefused(Exception):
    """The request is answered with `status`, and nothing else is done about it."""

    def __init__(self, status: HTTPStatus) -> None:
        """`status` is no success."""
        super().__init__(status)
        self.status = status


@dataclass
class _Reading:
    """What httptools calls while it reads."""

    request: Request = field(default_factory=Request)
    has_head: bool = False
    is_whole: bool = False

    def on_url(self, url: bytes) -> None:
        self.request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        if len(self.request.body) + len(body) > BODY_BYTES_MAX:
            raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self.request.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, judge_head: Callable[[Request], object]
) -> Request | None:
    """The request; None where the connection ended before one came. The listener bounds head and time.

    `judge_head` sees the request once its headers are there, and may raise RequestRefused: then no body
    is read. Raises: RequestRefused, also for what is no HTTP or is too large.
    """
    reading = _Reading()
    parser = httptools.HttpRequestParser(reading)
    judged = False
    while not reading.is_whole:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            return None
        _feed(parser, chunk)
        if reading.has_head and not judged:
            judged = True
            reading.request.method = parser.get_method().decode("latin-1")
            _judge(reading.request, judge_head)
            if not reading.is_whole and reading.request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
    return reading.request


def _judge(request: Request, judge_head: Callable[[Request], object]) -> None:
    judge_head(request)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY_BYTES_MAX:
        raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)


def _feed(parser: httptools.HttpRequestParser, chunk: bytes) -> None:
    try:
        parser.feed_data(chunk)
    except httptools.HttpParserUpgrade:
        raise RequestRefused(HTTPStatus.BAD_REQUEST) from None
    except httptools.HttpParserError as error:
        # What a callback raises comes wrapped.
        cause = error.__context__
        if isinstance(cause, RequestRefused):
            raise cause from None
        raise RequestRefused(HTTPStatus.BAD_REQUEST) from None


_log = structlog.get_logger(__name__)

BACKLOG = 64
"""Connections that the kernel keeps until they are accepted, all at once and before they are counted."""
SPARE = 16
"""Connections beyond the limit, for probes only."""
HEAD_BYTES_MAX = 64 * 1024
_SLICE_BYTES = 8192
"""How much is passed on, and counted, at a time."""
_HEADERS_MAX = 256
_PIPELINED_MAX = 16
"""Requests in one read. Browsers never send a second one before the answer to the first."""
_SENDING_S = 30.0
"""How long a client may take to read `_SENDING_BYTES_MIN` of a response that waits for it."""
_SENDING_BYTES_MIN = 16_384
_ENDING_S = 1.0
"""How long a refusal may take to be sent."""
_WARN_EVERY_S = 60.0
_FILES_WANTED = 16_384
_FILES_EACH = 3
"""For each connection: its socket, a file that it is answered with, and the rest of the process's."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take."""

    head_bytes: int = HEAD_BYTES_MAX
    """The request line and all headers; the trailers of a chunked body likewise."""
    head_s: float = 10.0
    """From the connection, or from the first byte of a later request, to the end of the headers."""
    body_s: float = 10.0
    connections: int = 512
    """At most; fewer where the process may open less than `_FILES_EACH` times as many files."""
    per_address: int | None = 128
    """Of one IPv4 address or IPv6 network of 64 bits; None: only `connections` counts."""
    proxies: tuple[Network, ...] = ()
    """Whose clients all come from one address, so that `per_address` says nothing."""
    probes: frozenset[str] = frozenset()
    """Paths that are answered when all connections are taken."""
    lasting: frozenset[str] = frozenset()
    """Paths whose response has no end; they take at most half of the connections."""


class Listener:
    """The connections of one server, and the limits for them."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        context: ssl.SSLContext | None = None,
        on_refused: Callable[[HTTPStatus], None] = lambda _: None,
        is_idle: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        """`name` is for the log; with `context` every connection speaks TLS.

        A connection gives way to a new one while `is_idle` says that the server's protocol owes no response,
        or while its client does not read the one that it gets.
        The process's limit of open files is raised as far as it goes, and `connections` fitted to it.
        """
        self.limits = limits
        self.context = context
        self.connections_max = min(limits.connections, _raise_open_files() // _FILES_EACH)
        self.on_refused, self.is_idle = on_refused, is_idle
        self._name = name
        self._open: dict[_Connection, None] = {}
        self._spare: dict[_Connection, None] = {}
        self._warned_s = -_WARN_EVERY_S

    @property
    def count(self) -> int:
        """How many connections are open."""
        return len(self._open) + len(self._spare)

    def protocol(self, make: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """The protocol of a new connection, that `make` makes the server's own protocol for."""
        return _Connection(self, make)

    async def serve(self, make: Callable[[], asyncio.Protocol], **where: Any) -> asyncio.Server:
        """Listen at `host` and `port`, or with `sock`. Raises: OSError: that cannot be."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: self.protocol(make), backlog=BACKLOG, **where)

    def admit(self, one: _Connection) -> bool:
        """Give the connection a place, perhaps of one that waits for its client."""
        if self._make_room(one):
            self._open[one] = None
            return True
        one.is_spare = True
        if len(self._spare) >= SPARE and not _drop_waiting(self._spare):
            return False
        self._spare[one] = None
        return True

    def release(self, one: _Connection) -> None:
        """Take the connection's place back, if it has one."""
        self._open.pop(one, None)
        self._spare.pop(one, None)

    def has_room_for_lasting(self) -> bool:
        """Whether one more response may stay open."""
        lasting = sum(one.is_lasting and not one.is_waiting for one in self._open)
        return lasting < self.connections_max // 2

    def _make_room(self, one: _Connection) -> bool:
        most = self.limits.per_address
        if most is not None and one.address and not self._is_proxy(one.address):
            theirs = {other: None for other in self._open if other.address == one.address}
            if len(theirs) >= most and not self._drop(theirs):
                return False
        return len(self._open) < self.connections_max or self._drop(self._open)

    def _drop(self, among: dict[_Connection, None]) -> bool:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._warned_s + _WARN_EVERY_S:
            self._warned_s = now_s
            _log.warning(
                f"{self._name}: {len(among)} connections are open, which is the limit;"
                " new ones take the place of those that owe no response or whose response is not read"
            )
        return _drop_waiting(among)

    def _is_proxy(self, address: str) -> bool:
        return any(ipaddress.ip_network(address).overlaps(proxies) for proxies in self.limits.proxies)


def _drop_waiting(among: dict[_Connection, None]) -> bool:
    """End the oldest connection that waits for a request, or else the one that was read from least lately.

    False if neither is there: each is waited for by its client.
    """
    chosen = next((one for one in among if one.is_waiting), None)
    if chosen is None:
        chosen = min(among, key=_Connection.unread_since_s, default=None)
        if chosen is None or chosen.unread_since_s() == math.inf:
            return False
    chosen.abort()
    return True


def reading(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> Callable[[], asyncio.Protocol]:
    """Makes the protocol of a server that reads its one request itself, as with `asyncio.start_server`."""
    return lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=2 * HEAD_BYTES_MAX), answer)


class _Phase(Enum):
    """Where the request of a connection stands."""

    HEAD = auto()
    BODY = auto()
    WHOLE = auto()


class _Connection(asyncio.Protocol):
    """One connection: admits, counts, times, and passes on what is within the limits."""

    def __init__(self, listener: Listener, make: Callable[[], asyncio.Protocol]) -> None:
        self.address = ""
        self.is_spare = self.is_lasting = False
        self._listener, self._limits, self._make = listener, listener.limits, make
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._inner: asyncio.Protocol | None = None
        self._securing: asyncio.Task[None] | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        """None after what is no request; the server itself says so."""
        self._phase, self._refusal = _Phase.HEAD, HTTPStatus.OK
        self._target = b""
        self._has_sent = self._is_ending = False
        self._headers = self._body_bytes = self._begun = 0
        self._parsed_bytes = 0
        """Of this request's URL, headers and trailers."""
        self._unparsed_bytes = 0
        """The same with what httptools does not tell yet, and with up to a slice of what came before."""
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._unsent_bytes, self._unread_since_s = 0, math.inf

    @property
    def is_waiting(self) -> bool:
        """Whether it has not sent all of its first or next request, and has read the responses before."""
        return self._phase is not _Phase.WHOLE or (
            self._inner is not None
            and self._listener.is_idle(self._inner)
            and not self._transport.get_write_buffer_size()
        )

    def unread_since_s(self) -> float:
        """Since when the client has read no `_SENDING_BYTES_MIN` of a response; infinity: it has read all."""
        if self._reads_on():
            self._watch_sending()
        return self._unread_since_s

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._securing is None:
            self.address = _network_of(transport.get_extra_info("peername"))
            if not self._listener.admit(self):
                self.abort()
                return
            self._set_timer(self._limits.head_s)
            if self._listener.context is not None:
                self._securing = self._loop.create_task(
                    self._secure(self._listener.context, _taken(transport))
                )
                return
        # Any byte that the client does not take counts, so that no close waits for it for ever.
        transport.set_write_buffer_limits(high=1, low=0)
        self._inner = self._make()
        self._inner.connection_made(transport)

    def data_received(self, received: bytes) -> None:
        self._begun = 0
        for start in range(0, len(received), _SLICE_BYTES):
            part = received[start : start + _SLICE_BYTES]
            if self._is_ending or self._inner is None:
                return
            self._count(part)
            if self._refusal is not HTTPStatus.OK:
                self._refuse(self._refusal)
                return
            self._inner.data_received(part)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        self._watch_sending()
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        _cancel(self._sending)
        self._unsent_bytes, self._unread_since_s = 0, math.inf
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.connection_lost(exc)

    def abort(self) -> None:
        """End it at once, without an answer."""
        self._end()
        self._transport.abort()
        if self._securing is not None:
            self._securing.cancel()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._begun += 1
        if self._begun > _PIPELINED_MAX:
            self._refusal = HTTPStatus.BAD_REQUEST
        self._enter_head()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._parsed_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._parsed_bytes += len(name) + len(value)
        # Here, because a request behind it in the same slice is counted anew.
        if self._headers > _HEADERS_MAX or self._parsed_bytes > self._limits.head_bytes:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_headers_complete(self) -> None:
        path = self._target.partition(b"?")[0].decode("latin-1")
        self.is_lasting = path in self._limits.lasting and self._listener.has_room_for_lasting()
        if (self.is_spare and path not in self._limits.probes) or (
            path in self._limits.lasting and not self.is_lasting
        ):
            self._refusal = HTTPStatus.SERVICE_UNAVAILABLE
        self._phase, self._unparsed_bytes = _Phase.BODY, 0
        self._set_timer(self._limits.body_s)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        self._phase = _Phase.WHOLE
        _cancel(self._timer)

    # What they come to.

    async def _secure(self, context: ssl.SSLContext, taken: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self, taken, ssl=context)
        except (OSError, EOFError):
            self._end()  # the client speaks no TLS, or has gone

    def _enter_head(self) -> None:
        if self._phase is _Phase.WHOLE:
            self._set_timer(self._limits.head_s)
        self._phase, self.is_lasting = _Phase.HEAD, False
        self._target, self._headers = b"", 0
        self._unparsed_bytes = self._parsed_bytes = 0

    def _count(self, part: bytes) -> None:
        """Follow the requests in `part`; sets `_refusal` where one goes past a limit."""
        self._has_sent, self._body_bytes = True, 0
        if self._parser is None:
            if self._phase is _Phase.WHOLE:
                self._enter_head()
        else:
            try:
                self._parser.feed_data(part)
            except httptools.HttpParserUpgrade:
                pass  # no server here knows another protocol: it answers, and the next request follows
            except httptools.HttpParserError:
                self._parser = None
        if self._phase is _Phase.HEAD or (self._phase is _Phase.BODY and not self._body_bytes):
            self._unparsed_bytes += len(part)
        if (
            self._parsed_bytes > self._limits.head_bytes
            or self._unparsed_bytes > self._limits.head_bytes + _SLICE_BYTES
        ):
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def _set_timer(self, after_s: float) -> None:
        _cancel(self._timer)
        self._timer = self._loop.call_later(after_s, self._time_out)

    def _time_out(self) -> None:
        if not self._has_sent:
            self.abort()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        self._end()
        self._listener.on_refused(status)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self._transport.write(line.encode("ascii"))
        self._transport.close()
        self._timer = self._loop.call_later(_ENDING_S, self._transport.abort)

    def _watch_sending(self) -> None:
        """End the connection unless the client goes on reading."""
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._unread_since_s = self._loop.time()
        _cancel(self._sending)
        self._sending = self._loop.call_later(_SENDING_S, self._check_sending)

    def _check_sending(self) -> None:
        if self._reads_on():
            self._watch_sending()
        else:
            self._transport.abort()

    def _reads_on(self) -> bool:
        return self._transport.get_write_buffer_size() <= self._unsent_bytes - _SENDING_BYTES_MIN

    def _end(self) -> None:
        self._is_ending = True
        _cancel(self._timer)
        _cancel(self._sending)
        self._listener.release(self)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _taken(transport: asyncio.Transport) -> socket.socket:
    """The transport's connection, for another one.

    `start_tls` on the same one would lose a handshake that comes at once, which uvloop reads before.
    """
    taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    taken.setblocking(False)
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return taken


def _network_of(peer: object) -> str:
    """What connections of one client have in common: the IPv4 address, or 64 bits of an IPv6 one."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])  # type: ignore[index]
    except (TypeError, IndexError, ValueError):
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = 64 if isinstance(address, ipaddress.IPv6Address) else 32
    return str(ipaddress.ip_network((address, bits), strict=False))


def _raise_open_files() -> int:
    """How many files the process may open, which from now on are as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _FILES_WANTED if soft == resource.RLIM_INFINITY else soft
