"""How a connection comes about: name, address, handshake, each with a failure of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass

from m365watch.common.errors import OutputUnusable
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.connection_errors import (
    ConnectFailed,
    Why,
    explain,
    explain_handshake,
    is_name_mismatch,
)
from m365watch.outputs.network.tcp_connection import Connection, Tls
from m365watch.outputs.network.tls import list_names, make_context

_RECEIVE_BYTES = 64 * 1024
_SETTLE_S = 0.5
"""How long a TLS 1.3 server may take to refuse the client's certificate, after the handshake; what
says something sooner is believed."""
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect to, and how."""

    address: str
    port: int
    tls: TlsSettings | None
    context: ssl.SSLContext | None
    """Made of `tls`; None: in the clear."""
    timeout_s: float
    """How long each step may take: the name, the connection, the handshake."""
    where: str
    """Whose connection it is, for errors."""


def check_address(address: str, *, where: str) -> None:
    """Have a name that no machine can have found before anything is tried.

    Raises: OutputUnusable.
    """
    try:
        address.encode("idna")
    except UnicodeError as error:
        what = f"address {address!r} is no host name"
        raise OutputUnusable(what, fix="set `address` to the receiver's name", where=where) from error


async def connect(target: Target) -> tuple[Connection, bytes]:
    """A connection that is ready, and the server's certificate as DER (empty in the clear).

    Raises: ConnectFailed.
    """
    connected = await _reach(target)
    try:
        if target.context is None:
            return Connection(connected, None), b""
        tls = Tls(target.context, target.address)
        await _shake_hands(connected, tls, target)
        return Connection(connected, tls), tls.certificate
    except BaseException:
        connected.close()
        raise


async def _reach(target: Target) -> socket.socket:
    """A connected socket to the first of the name's addresses that answers."""
    loop = asyncio.get_running_loop()
    why = Why("its name has no address")
    try:
        async with asyncio.timeout(target.timeout_s):
            found = await loop.getaddrinfo(target.address, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectFailed(_during("looking its name up", error)) from error
    for family, kind, protocol, _, place in found:
        try:
            connected = socket.socket(family, kind, protocol)
        except OSError as error:
            why = _during("connecting", error)
            continue
        connected.setblocking(False)
        try:
            async with asyncio.timeout(target.timeout_s):
                await loop.sock_connect(connected, place)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            connected.close()
            why = _during("connecting", error)
        except BaseException:
            connected.close()
            raise
        else:
            return connected
    raise ConnectFailed(why)


async def _shake_hands(connected: socket.socket, tls: Tls, target: Target) -> None:
    """Agree with the server, and hear what it says about the client's certificate."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(target.timeout_s):
            said, done = tls.shake_hands(b"")
            await loop.sock_sendall(connected, said)
            while not done:
                said, done = tls.shake_hands(await _receive(connected))
                await loop.sock_sendall(connected, said)
    except OSError as error:
        with suppress(OSError):
            connected.send(tls.last_words)
        raise ConnectFailed(await _with_names(explain_handshake(error), error, target)) from error
    if tls.version != "TLSv1.2":
        await _settle(connected, tls)


async def _settle(connected: socket.socket, tls: Tls) -> None:
    """In TLS 1.3 a client is done before the server has looked at its certificate: hear the verdict."""
    try:
        async with asyncio.timeout(_SETTLE_S):
            tls.decrypt(await _receive(connected))
    except TimeoutError:
        return
    except ssl.SSLError as error:
        raise ConnectFailed(explain(error)) from error
    except OSError as error:
        what = (
            "the server closed the connection right after the handshake; it may refuse the client certificate"
        )
        raise ConnectFailed(Why(what)) from error


async def _receive(connected: socket.socket) -> bytes:
    received = await asyncio.get_running_loop().sock_recv(connected, _RECEIVE_BYTES)
    if not received:
        raise ConnectionAbortedError(0, "the server closed the connection")
    return received


async def _with_names(why: Why, error: OSError, target: Target) -> Why:
    """`why`, with the names that the server's certificate has, if a name was what was wrong.

    They are only to be had from a handshake that does not ask for the name; nothing is sent over it.
    """
    if not is_name_mismatch(error) or target.tls is None:
        return why
    tls = Tls(make_context(target.tls, where=target.where, checks_name=False), target.address)
    with suppress(ConnectFailed):
        connected = await _reach(target)
        try:
            await _shake_hands(connected, tls, target)
        finally:
            connected.close()
        names = list_names(tls.certificate)
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        return Why(f"{why.what}: it has {shown or 'no name at all'}, not {target.address}", why.fix)
    return why


def _during(step: str, error: Exception) -> Why:
    """Why `step` failed; a time-out is told apart by the step."""
    return Why(f"{step} took too long") if isinstance(error, TimeoutError) else explain(error)
