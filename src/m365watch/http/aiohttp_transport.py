"""One connection to a server: one request after the other, each with its whole answer.

llhttp, by way of httptools, parses; what is here keeps the bounds, and sees to it that a connection is
used again only if nothing at all speaks against it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, cast

import aiohappyeyeballs
import httptools
from aiohappyeyeballs import AddrInfoType
from multidict import CIMultiDict, istr
from yarl import URL

from m365watch import __version__
from m365watch.http.proxies import proxy_for
from m365watch.http.settings import UNSET_NETWORK, NetworkSettings
from m365watch.http.tls import make_context
from m365watch.http.transport import ExchangeFailed, Failure, RawAnswer

if TYPE_CHECKING:
    from m365watch.http.probe import Looked


HEAD_BYTES_MAX = 64 << 10
"""All of an answer that is not its body: heads, trailers, and what the rims of chunks have too much."""

INFORMATIONAL_MAX = 16
"""Answers of 1xx before the one that counts."""

_CHUNK_BYTES = 32
"""What the rim of a chunk may take; a server may send every byte as a chunk of its own."""

_PIECES_MAX = 1_024
"""Pieces of a body that are kept one by one; a piece of 2 bytes would take 70 times as much memory."""

_SWITCHED = 101


class Connection(asyncio.Protocol):
    """Free when it is made; `exchange` occupies it until its future is done. Who gives up drops it."""

    def __init__(self, *, body_bytes_max: int, on_over: Callable[[Connection], None]) -> None:
        """`on_over` is called once, when it can no longer be used."""
        self.silent_ticks = 0
        """Counted up by the owner; any byte sets it back."""
        self.ends_tick = 0
        """When the exchange has to be over, by the owner's count."""
        self.exchanges = 0
        self.is_over = False
        self._body_bytes_max = body_bytes_max
        self._on_over = on_over
        self._transport: asyncio.Transport | None = None
        self._unsent_bytes = 0
        parser = httptools.HttpResponseParser(self)
        parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._parser: httptools.HttpResponseParser | None = parser
        self._waiter: asyncio.Future[RawAnswer] | None = None
        self._keeps_alive = False
        self._forget()

    def _forget(self) -> None:
        """Keep nothing of the last answer, which may be large."""
        self._answer: RawAnswer | None = None
        self._received_bytes = 0
        self._body_bytes = 0
        self._around_bytes_max = HEAD_BYTES_MAX
        self._informational = 0
        self._fields: list[tuple[bytes, bytes]] = []
        self._head: list[tuple[bytes, bytes]] | None = None
        self._chunks: list[bytes] = []
        self._rest = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether its socket may still be open."""
        return self._transport is not None

    @property
    def secured(self) -> ssl.SSLObject | None:
        """The TLS that it is in; None in the clear, and before it is made."""
        if self._transport is None:
            return None
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    @property
    def is_busy(self) -> bool:
        """Whether an answer is waited for."""
        return self._waiter is not None

    @property
    def is_unheard(self) -> bool:
        """Whether not one byte of the answer has come."""
        return self._received_bytes == 0

    @property
    def is_free(self) -> bool:
        """Whether another request may be sent: the last answer was whole, and the server stays."""
        return self._keeps_alive and not self.is_over and self._waiter is None

    def exchange(self, request: bytes, *, ends_tick: int) -> asyncio.Future[RawAnswer]:
        """The answer to `request`; ExchangeFailed is what the future may raise."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self.exchanges += 1
        self.silent_ticks = 0
        self.ends_tick = ends_tick
        if self.is_over or self._transport is None:
            self.fail(Failure.CLOSED)
        else:
            self._transport.write(request)
        return waiter

    def watch_writing(self) -> None:
        """Take bytes that leave for a sign of life: a large request may need its time."""
        unsent_bytes = self._transport.get_write_buffer_size() if self._transport else 0
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self.silent_ticks = 0

    def fail(self, failure: Failure, detail: object = "") -> None:
        """End it; who waits for an answer is told why there is none."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ExchangeFailed(failure, detail))
        self.drop()

    def drop(self) -> None:
        """Close it now; may be called at any time, and again."""
        self._waiter = None
        if self.is_over:
            return
        self.is_over = True
        self._parser = None
        if self._transport is not None:
            self._transport.abort()
        self._on_over(self)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to use `transport`."""
        self._transport = cast(asyncio.Transport, transport)
        if self.is_over:
            self._transport.abort()

    def data_received(self, received: bytes) -> None:
        """Parse what came; bytes that nobody waits for end the connection."""
        if self._waiter is None or self._parser is None:
            self.drop()
            return
        self.silent_ticks = 0
        self._received_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._answer is None:
                self.fail(Failure.NOT_HTTP)
                return
            self._keeps_alive = False
        if self._body_bytes > self._body_bytes_max:
            self.fail(Failure.BODY_TOO_LARGE, self._body_bytes_max)
        elif self._received_bytes - self._body_bytes > self._around_bytes_max:
            self.fail(Failure.HEAD_TOO_LARGE, HEAD_BYTES_MAX)
        elif self._answer is not None:
            self._finish(self._answer)

    def eof_received(self) -> None:
        """Let nobody use it any more; `connection_lost` follows."""
        self._keeps_alive = False

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits what the end means."""
        waiter = self._waiter
        if waiter is not None and self._head is not None and error is None and _ends_by_close(self._head):
            with suppress(httptools.HttpParserError):  # what came is no answer: it is cut short
                self.on_message_complete()
            if self._answer is not None:
                self._finish(self._answer)
        self.fail(Failure.CUT_SHORT if self._head is not None else _failure_of(error))
        self._transport = None

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._answer is not None:
            raise httptools.HttpParserError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a field of the head; those of a trailer are counted and forgotten."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Keep the head; what follows belongs to the body."""
        self._head = self._fields
        self._fields = []

    def on_chunk_header(self) -> None:
        """Let the rim of a chunk be no part of the head."""
        self._around_bytes_max += _CHUNK_BYTES
        self._fields.clear()

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        if len(self._chunks) < _PIECES_MAX:
            self._chunks.append(part)
        else:
            self._rest += part
        self._body_bytes += len(part)

    def on_message_complete(self) -> None:
        """Put the answer together, or wait on after one that only informs."""
        parser = cast(httptools.HttpResponseParser, self._parser)
        status = parser.get_status_code()
        if status < 200:
            self._pass_over(status)
            return
        chunks = self._chunks
        headers = CIMultiDict(
            [
                (_name(name), value.decode("utf-8", "surrogateescape").strip())
                for name, value in self._head or ()
            ]
        )
        coding = headers.get("Transfer-Encoding")
        if coding is not None and coding.lower() != "chunked":
            raise httptools.HttpParserError
        body = chunks[0] if len(chunks) == 1 else b"".join((*chunks, self._rest))
        self._answer = RawAnswer(status, headers, body)
        self._keeps_alive = parser.should_keep_alive()

    def _pass_over(self, status: int) -> None:
        self._informational += 1
        if status < 100 or status == _SWITCHED or self._informational > INFORMATIONAL_MAX:
            raise httptools.HttpParserError
        self._head = None

    def _finish(self, answer: RawAnswer) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)
        if self._keeps_alive and self._transport is not None and self._transport.get_write_buffer_size():
            # The server did not wait for the end of the request.
            self._keeps_alive = False
        self._forget()


@lru_cache(maxsize=256)
def _name(name: bytes) -> istr:
    return istr(name.decode("utf-8", "surrogateescape"))


def _ends_by_close(head: list[tuple[bytes, bytes]]) -> bool:
    """Whether the end of the connection is the only end that the body has."""
    return not {name.lower() for name, _ in head} & {b"content-length", b"transfer-encoding"}


def _failure_of(error: Exception | None) -> Failure:
    """What it means that a connection ended before the head of an answer had come."""
    if error is None or isinstance(error, ConnectionError):
        return Failure.CLOSED
    return Failure.TLS if isinstance(error, ssl.SSLError) else Failure.BROKEN


AGENT = f"m365watch/{__version__}"
_ALWAYS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": AGENT}
_NO_METHOD = re.compile(r"[^A-Z]")
_NO_TARGET = re.compile(r"[^\x21-\x7e]")
_NO_NAME = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]")
_NO_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Origin:
    """One scheme, host and port, and the proxy that leads there."""

    def __init__(self, url: URL, network: NetworkSettings = UNSET_NETWORK) -> None:
        """Whatever `url` has beside scheme, host and port does not matter."""
        self.is_tls = url.scheme == "https"
        self.host = (url.raw_host or "").rstrip(".")
        """As it is looked up: no brackets around an IPv6 address."""
        self.port = url.port or 0
        self.proxy = proxy_for(url.scheme, url.host or "", network)
        self.authority = url.host_port_subcomponent or ""
        """As it stands in `Host`."""
        lines = ""
        self._before_target = ""
        if self.proxy is not None and not self.is_tls:
            self._before_target = f"{url.scheme}://{self.authority}"
            lines = _written(self.proxy.headers)
        self._host_lines = f"Host: {self.authority}\r\n{lines}"
        self._headers: dict[str, str] = {}
        self._lines = self._written_with_ours({})

    def request(self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """The bytes of a request for `url`, whose origin this is.

        Raises: ValueError for a character that would be more than a part of method, address or header.
        """
        target = url.raw_path_qs
        if _NO_TARGET.search(target) or _NO_METHOD.search(method):
            raise ValueError("the address of a request has a character that does not belong there")
        if headers != self._headers:
            self._lines = self._written_with_ours(headers)
            self._headers = dict(headers)
        head = f"{method} {self._before_target}{target} HTTP/1.1\r\n{self._lines}"
        if body is None:
            return f"{head}\r\n".encode()
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _written_with_ours(self, headers: Mapping[str, str]) -> str:
        given = {name.lower() for name in headers}
        ours = {name: value for name, value in _ALWAYS.items() if name.lower() not in given}
        return f"{self._host_lines}{_written(ours)}{_written(headers)}"


def tunnel_request(origin: Origin) -> bytes:
    """The request to a proxy for a way to the origin; nothing in it is meant for the origin itself."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = f"{host}:{origin.port}"
    proxy_headers = origin.proxy.headers if origin.proxy else {}
    lines = _written({"Host": authority, "User-Agent": AGENT, **proxy_headers})
    return f"CONNECT {authority} HTTP/1.1\r\n{lines}\r\n".encode()


def _written(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not name or _NO_NAME.search(name) or _NO_VALUE.search(value):
            raise ValueError("a header of a request has a character that does not belong there")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


_NEXT_ADDRESS_S = 0.25
"""After this long without a connection the host's next address is tried beside (RFC 8305)."""


async def open_connection(
    origin: Origin, connection: Connection, tls: Callable[[], ssl.SSLContext], *, network: NetworkSettings
) -> None:
    """Make `connection` lead to `origin`; `tls` is asked only if it is needed.

    Raises: ExchangeFailed.
    """
    own = network.bind_address
    try:
        async with asyncio.timeout(network.connect_timeout_in_seconds):
            if origin.proxy is None:
                context = tls() if origin.is_tls else None
                await _connect(lambda: connection, origin.host, origin.port, tls=context, own=own)
            else:
                await _open_by_proxy(origin, origin.proxy.url, connection, tls, own=own)
    except OSError as error:
        raise _failed(error, connect_s=network.connect_timeout_in_seconds) from None


async def _open_by_proxy(
    origin: Origin,
    proxy: URL,
    connection: Connection,
    tls: Callable[[], ssl.SSLContext],
    *,
    own: tuple[str, ...],
) -> None:
    first: asyncio.Protocol = _Tunnel() if origin.is_tls else connection
    context = tls() if proxy.scheme == "https" else None
    host = (proxy.raw_host or "").rstrip(".")
    try:
        transport = await _connect(lambda: first, host, proxy.port or 0, tls=context, own=own)
    except ssl.SSLError:
        raise
    except OSError as error:
        if _is_out_of_time(error):
            raise
        raise ExchangeFailed(Failure.PROXY_AWAY) from None
    except ExchangeFailed as error:
        if error.failure is Failure.NO_OWN_ADDRESS:
            raise
        raise ExchangeFailed(Failure.PROXY_AWAY) from None
    if isinstance(first, _Tunnel):
        await _go_through(first, transport, origin, connection, tls())


async def _go_through(
    tunnel: _Tunnel,
    transport: asyncio.Transport,
    origin: Origin,
    connection: Connection,
    tls: ssl.SSLContext,
) -> None:
    """Have the proxy lead to the host, and do TLS with that inside."""
    loop = asyncio.get_running_loop()
    try:
        transport.write(tunnel_request(origin))
        await tunnel.is_through
        with _handshake():
            secured = await loop.start_tls(transport, connection, tls, server_hostname=origin.host)
    except BaseException:
        transport.abort()
        raise
    if secured is None:
        raise ExchangeFailed(Failure.CLOSED)
    connection.connection_made(secured)


async def _connect(
    make: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    own: tuple[str, ...],
) -> asyncio.Transport:
    """A transport to the first address of `host` that takes a connection, from one of `own` if there are."""
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise ExchangeFailed(Failure.NAME_UNKNOWN) from None
    ours = None
    if own:
        ours = _own_places(own)
        kinds = {kind for kind, *_ in ours}
        addresses = [one for one in addresses if one[0] in kinds]
        if not addresses:
            raise ExchangeFailed(Failure.NO_OWN_ADDRESS, f"{own[0]}: the host has no address of its kind")
    connected = await aiohappyeyeballs.start_connection(
        addresses, local_addr_infos=ours, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1
    )
    try:
        with _handshake() if tls else nullcontext():
            transport, _ = await loop.create_connection(
                make, sock=connected, ssl=tls, server_hostname=host if tls else None
            )
    except BaseException:
        connected.close()
        raise
    return transport


def _own_places(own: tuple[str, ...]) -> list[AddrInfoType]:
    """Those addresses that this machine has now, on any port, as sockets take them.

    Raises: ExchangeFailed where it has none of them; the first one and what is wrong with it is named.
    """
    places: list[AddrInfoType] = []
    wrong = []
    for address in own:
        try:
            [place, *_] = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            with socket.socket(place[0], socket.SOCK_STREAM) as tried:
                tried.bind(place[4])
        except OSError as error:
            wrong.append(f"{address}: {error.strerror or 'it cannot be used'}")
        else:
            places.append(place)
    if not places:
        raise ExchangeFailed(Failure.NO_OWN_ADDRESS, wrong[0])
    return places


class _Tunnel(asyncio.Protocol):
    """Hears the head of a proxy's answer, and nothing else."""

    def __init__(self) -> None:
        self.is_through: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the proxy leads on; ExchangeFailed is what it may raise."""
        self.is_through.add_done_callback(_note_heard)
        self._parser = httptools.HttpResponseParser(self)
        self._received_bytes = 0
        self._status = 0

    def data_received(self, received: bytes) -> None:
        if self.is_through.done():
            return
        self._received_bytes += len(received)
        try:
            self._parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._status or self._status == _OK:
                # Behind the head of a success comes what the host says, and it does not speak first.
                self._fail(Failure.NOT_HTTP)
                return
        if self._received_bytes > HEAD_BYTES_MAX:
            self._fail(Failure.HEAD_TOO_LARGE, HEAD_BYTES_MAX)
        elif self._status == _OK and not self.is_through.done():
            self.is_through.set_result(None)
        elif self._status == _WHO_ARE_YOU:
            self._fail(Failure.PROXY_REFUSED)
        elif self._status:
            self._fail(Failure.PROXY_ANSWERED, self._status)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - closed is closed
        self._fail(Failure.CLOSED)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._status = status if status >= 200 else 0

    def on_body(self, part: bytes) -> None:  # noqa: ARG002 - that there is one is enough
        if self._status == _OK:
            raise httptools.HttpParserError

    def _fail(self, failure: Failure, detail: object = "") -> None:
        if not self.is_through.done():
            self.is_through.set_exception(ExchangeFailed(failure, detail))


_OK = 200
_WHO_ARE_YOU = 407


def _note_heard(is_through: asyncio.Future[None]) -> None:
    """Let a failure pass that nobody waits for any more."""
    if not is_through.cancelled():
        is_through.exception()


@contextmanager
def _handshake() -> Iterator[None]:
    """Tell a connection that was closed in here from one that never was: servers end so what they refuse."""
    try:
        yield
    except ConnectionError:
        raise ExchangeFailed(Failure.TLS, _in_brackets("closed in the handshake")) from None


def _failed(error: OSError, *, connect_s: float) -> ExchangeFailed:
    if _is_out_of_time(error):
        return ExchangeFailed(Failure.NO_CONNECTION, f"not within {connect_s:g} s")
    if isinstance(error, ssl.SSLCertVerificationError):
        return ExchangeFailed(Failure.CERTIFICATE, _in_brackets(error.verify_message))
    if isinstance(error, ssl.SSLError):
        return ExchangeFailed(Failure.TLS, _in_brackets((error.reason or "").lower().replace("_", " ")))
    return ExchangeFailed(Failure.NO_CONNECTION, error.strerror or "the server closed it")


def _in_brackets(why: str) -> str:
    """OpenSSL's own words, which say nothing of what was sent."""
    return f" ({why.rstrip('.')})" if why else ""


def _is_out_of_time(error: OSError) -> bool:
    """Whether our own patience ended; where the system's did (ETIMEDOUT), there was no connection."""
    return isinstance(error, TimeoutError) and error.errno is None


IDLE_S = 15.0
"""How long a connection is kept without a request; servers close theirs later."""

ORIGINS_MAX = 64
"""Origins that are remembered; a run has about three."""

CLOSING_TURNS_MAX = 100
"""Turns of the loop that `close` waits for its sockets; they take about three."""

_TICKS = 8
"""Looks of the timer within the shortest limit: none is overrun by more than that share of it."""


class ConnectionPool:
    """Implements `transport.Transport` over HTTP/1.1."""

    def __init__(
        self,
        *,
        connections_max: int,
        body_bytes_max: int,
        stall_s: float,
        total_s: float,
        idle_s: float = IDLE_S,
        network: NetworkSettings = UNSET_NETWORK,
    ) -> None:
        """`stall_s` bounds the time without any byte, `total_s` that of a whole exchange.

        Of `network` all holds but the patience with an answer, which is `stall_s`.
        """
        self._network = network
        self._connections_max = connections_max
        self._body_bytes_max = body_bytes_max
        self._total_s = total_s
        self._tick_s = min(stall_s, total_s, idle_s) / _TICKS
        self._stall_ticks = ceil(stall_s / self._tick_s)
        self._total_ticks = ceil(total_s / self._tick_s)
        self._idle_ticks = ceil(idle_s / self._tick_s)
        self._tick = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None
        self._origins: dict[tuple[str, str], Origin] = {}
        self._places_taken = 0
        self._usable: dict[Connection, Origin] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._waiting: deque[tuple[Origin | None, asyncio.Future[Connection | None]]] = deque()
        self._is_closed = False

    async def exchange(
        self, method: str, url: URL, *, headers: Mapping[str, str], body: bytes | None
    ) -> RawAnswer:
        """The answer, whatever its status; a `body` that is not None is sent with its length.

        A GET that meets a kept connection of which the server has let go is sent once more.

        Raises: ExchangeFailed.
        """
        origin = self._origins.get((url.scheme, url.raw_authority)) or self._origin_of(url)
        request = origin.request(method, url, headers=headers, body=body)
        ends_tick = self._tick + self._total_ticks + 1
        connection = self._kept(origin) or await self._obtain(origin)
        try:
            return await self._exchange(connection, request, ends_tick=ends_tick)
        except ExchangeFailed as error:
            is_stale = error.failure is Failure.CLOSED and connection.is_unheard and connection.exchanges > 1
            if method != "GET" or not is_stale or self._is_closed:
                raise
        connection = await self._obtain(origin, fresh=True)
        return await self._exchange(connection, request, ends_tick=ends_tick)

    async def look(self, url: URL, *, verified: bool = True) -> Looked:
        """What the server of `url` shows of itself over a connection of its own.

        Not `verified`, any certificate is taken, and then nothing is asked.

        Raises: ExchangeFailed.
        """
        from m365watch.http.probe import look_at, unverified_context

        tls = self._context if verified else unverified_context
        origin = self._origin_of(url)
        return await look_at(origin, tls, network=self._network, limit_s=self._total_s, asks=verified)

    async def _exchange(self, connection: Connection, request: bytes, *, ends_tick: int) -> RawAnswer:
        try:
            answer = await connection.exchange(request, ends_tick=ends_tick)
        except BaseException:
            connection.drop()
            raise
        self._give_back(connection)
        return answer

    def _origin_of(self, url: URL) -> Origin:
        if len(self._origins) >= ORIGINS_MAX:
            self._origins.clear()
            self._idle = {known: kept for known, kept in self._idle.items() if kept}
        origin = self._origins[url.scheme, url.raw_authority] = Origin(url, self._network)
        return origin

    # Places: each belongs to a connection, from before it is made until it is over.

    def _kept(self, origin: Origin) -> Connection | None:
        """The connection to `origin` that was used last, of those that nobody uses now."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_free:
                return connection
            connection.drop()
        return None

    async def _obtain(self, origin: Origin, *, fresh: bool = False) -> Connection:
        """A connection to `origin`: one that became free while all places were taken, or a new one."""
        try:
            async with asyncio.timeout(self._total_s):
                while handed := await self._place(None if fresh else origin):
                    if handed.is_free:
                        return handed
                    # The server closed it in the meantime.
                    handed.drop()
                return await self._open(origin)
        except TimeoutError:
            raise ExchangeFailed(Failure.OUT_OF_TIME) from None

    async def _place(self, origin: Origin | None) -> Connection | None:
        """A free place; or, with its place, a connection to `origin`. Who came first is served first."""
        if self._is_closed:
            raise ExchangeFailed(Failure.BROKEN)
        if self._places_taken >= self._connections_max:
            self._drop_longest_idle()
        if self._places_taken < self._connections_max:
            self._places_taken += 1
            return None
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((origin, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove((origin, turn))
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise

    async def _open(self, origin: Origin) -> Connection:
        """A new connection, on a place that is taken already."""
        connection = Connection(body_bytes_max=self._body_bytes_max, on_over=self._release)
        self._usable[connection] = origin
        try:
            await open_connection(origin, connection, self._context, network=self._network)
        except BaseException:
            connection.drop()
            raise
        self._watch()
        return connection

    def _give_back(self, connection: Connection) -> None:
        """Keep `connection` for the next request, or hand it to whoever waits for one."""
        if not connection.is_free:
            connection.drop()
            return
        if self._waiting:
            self._pass_on(connection)
            return
        connection.silent_ticks = 0
        self._idle.setdefault(self._usable[connection], []).append(connection)

    def _release(self, connection: Connection) -> None:
        """Let another have the place of a connection that is over."""
        origin = self._usable.pop(connection)
        idle = self._idle.get(origin, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(origin, None)
        self._pass_on(None)

    def _pass_on(self, connection: Connection | None) -> None:
        """Give a place, with `connection` on it if that leads where it is wanted, to the first who waits."""
        while self._waiting:
            origin, turn = self._waiting.popleft()
            if turn.done():
                continue
            if connection is not None and self._usable.get(connection) is not origin:
                self._waiting.appendleft((origin, turn))
                connection.drop()
                return
            turn.set_result(connection)
            return
        if connection is None:
            self._places_taken -= 1
        else:
            self._give_back(connection)

    def _drop_longest_idle(self) -> None:
        idle = [connection for kept in self._idle.values() for connection in kept]
        if idle:
            max(idle, key=lambda connection: connection.silent_ticks).drop()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = make_context(self._network)
            except ValueError as error:
                raise ExchangeFailed(Failure.AUTHORITIES, f"{self._network.ca_bundle} {error}") from None
        return self._tls

    # Time.

    def _watch(self) -> None:
        if self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._look)

    def _look(self) -> None:
        """End what takes too long, and what is not needed any more."""
        self._tick += 1
        for connection in list(self._usable):
            connection.silent_ticks += 1
            if not connection.is_busy:
                if connection.exchanges and connection.silent_ticks > self._idle_ticks:
                    connection.drop()
                continue
            connection.watch_writing()
            if connection.silent_ticks > self._stall_ticks or self._tick >= connection.ends_tick:
                connection.fail(Failure.OUT_OF_TIME)
        self._timer = None
        if self._usable:
            self._watch()

    async def close(self) -> None:
        """Close every connection; what is under way fails."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(ExchangeFailed(Failure.BROKEN))
        connections = list(self._usable)
        for connection in connections:
            connection.fail(Failure.BROKEN)
        for _ in range(CLOSING_TURNS_MAX):
            await asyncio.sleep(0)
            if not any(connection.is_open for connection in connections):
                break
