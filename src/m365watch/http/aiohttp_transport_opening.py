"""How a connection comes to be: name, own address, TCP, proxy, TLS; each failure is named."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import aiohappyeyeballs
import httptools
from aiohappyeyeballs import AddrInfoType
from yarl import URL

from m365watch.http.aiohttp_transport import HEAD_BYTES_MAX, Connection
from m365watch.http.origin import Origin, tunnel_request
from m365watch.http.settings import NetworkSettings
from m365watch.http.transport import ExchangeFailed, Failure

_NEXT_ADDRESS_S = 0.25
"""After this long without a connection the host's next address is tried beside (RFC 8305)."""


async def open_connection(
    origin: Origin, connection: Connection, tls: Callable[[], ssl.SSLContext], *, network: NetworkSettings
) -> None:
    """Make `connection` lead to `origin`; `tls` is asked only if it is needed.

    Raises: ExchangeFailed.
    """
    own = network.bind_addresses
    try:
        async with asyncio.timeout(network.connect_timeout_s):
            if origin.proxy is None:
                context = tls() if origin.is_tls else None
                await _connect(lambda: connection, origin.host, origin.port, tls=context, own=own)
            else:
                await _open_by_proxy(origin, origin.proxy.url, connection, tls, own=own)
    except OSError as error:
        raise _failed(error, connect_s=network.connect_timeout_s) from None


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
