"""How a connection comes about: name, address, handshake, each with a failure of its own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from m365watch.common.errors import OutputUnusable
from m365watch.http.settings import TlsSettings
from m365watch.outputs.network.connection_errors import (
    ConnectFailed,
    Why,
    explain,
    explain_handshake,
    is_name_mismatch,
)
from m365watch.outputs.network.options import SendingKeys
from m365watch.outputs.network.tcp_connection import Connection, Tls


def make_context(tls: TlsSettings, *, where: str, checks_name: bool | None = None) -> ssl.SSLContext:
    """TLS 1.2 or 1.3 whose peer has to prove itself with a chain to `tls.chain` or the system's CAs.

    `checks_name` overrides `tls.verify_hostname`. Made without `create_default_context`, whose
    strictness about old authorities differs from one Python to the next.

    Raises: OutputUnusable: a file is missing, unreadable, or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = tls.verify_hostname if checks_name is None else checks_name
    if tls.chain is None:
        context.load_default_certs()
    else:
        _load_chain(context, tls.chain, where=where)
    if tls.cert is not None and tls.key is not None:
        _load_pair(context, tls, cert=tls.cert, key=tls.key, where=where)
    return context


def read_own_end(tls: TlsSettings, *, where: str) -> datetime | None:
    """When the own certificate expires, aware UTC; None without one.

    Raises: OutputUnusable.
    """
    return _read_certificate(tls.cert, where=where).not_valid_after_utc if tls.cert else None


def list_names(certificate: bytes) -> list[str]:
    """The hosts and addresses that a DER certificate is for, as written in it."""
    parsed = x509.load_der_x509_certificate(certificate)
    try:
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names = extension.value
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return names.get_values_for_type(x509.DNSName) + addresses


def read_end(certificate: bytes) -> datetime:
    """When a DER certificate expires, aware UTC."""
    return x509.load_der_x509_certificate(certificate).not_valid_after_utc


def _load_chain(context: ssl.SSLContext, chain: Path, *, where: str) -> None:
    _read(chain, "chain", where=where)
    try:
        context.load_verify_locations(chain)
    except ssl.SSLError as error:
        raise OutputUnusable(
            f"chain {chain} holds no certificate in PEM",
            fix="name the file with the receiver's authorities, in PEM",
            where=where,
        ) from error


def _load_pair(context: ssl.SSLContext, tls: TlsSettings, *, cert: Path, key: Path, where: str) -> None:
    """Check that key and certificate belong together, and load them."""
    certificate = _read_certificate(cert, where=where)
    loaded = _read_key(tls, key, where=where)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if loaded.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise OutputUnusable(
            f"key {key} does not belong to cert {cert}",
            fix="name the key that the certificate was made with",
            where=where,
        )
    password = tls.key_password.reveal() if tls.key_password is not None else ""
    try:
        context.load_cert_chain(cert, key, password=password)
    except ssl.SSLError as error:
        reason = (error.reason or "it cannot be loaded").lower().replace("_", " ")
        raise OutputUnusable(
            f"OpenSSL refuses cert {cert}: {reason}",
            fix="have the receiver issue a certificate with a key of 2048 bits or more and SHA-256",
            where=where,
        ) from error


def _read_certificate(cert: Path, *, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(cert, "cert", where=where))
    except ValueError as error:
        raise OutputUnusable(
            f"cert {cert} holds no certificate in PEM", fix="name the client's certificate", where=where
        ) from error


def _read_key(tls: TlsSettings, key: Path, *, where: str) -> PrivateKeyTypes:
    content = _read(key, "key", where=where)
    password = tls.key_password.reveal().encode() if tls.key_password is not None else None
    encrypted = b"ENCRYPTED" in content
    if encrypted and not password:
        raise OutputUnusable(
            f"key {key} is encrypted", fix="set `key_password`, or name a key without one", where=where
        )
    try:
        return serialization.load_pem_private_key(content, password if encrypted else None)
    except (ValueError, TypeError) as error:
        what = "is not opened by `key_password`" if encrypted else "holds no private key in PEM"
        fix = "set the right `key_password`" if encrypted else "name the private key of the certificate"
        raise OutputUnusable(f"key {key} {what}", fix=fix, where=where) from error


def _read(path: Path, option: str, *, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputUnusable(
            f"{option} {path} cannot be read: {error.strerror}",
            fix="name a file that exists and that this user may read",
            where=where,
        ) from error


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
        hint = "see whether the receiver refuses the client certificate"
        raise ConnectFailed(
            Why("the server closed the connection right after the handshake", hint=hint)
        ) from error


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


@dataclass(frozen=True, slots=True)
class Tried:
    """What the connection showed."""

    own_end_at: datetime | None
    """When the client's certificate ends; None without one."""
    server_end_at: datetime | None
    """When the server's does; None in the clear."""


async def try_wire(
    address: str, port: int, tls: TlsSettings | None, settings: SendingKeys, *, name: str
) -> Tried:
    """Connect, do TLS with the client's certificate, hear whether it is refused, and leave in order.

    Raises: OutputUnusable, OutputUnavailable: what is in the way.
    """
    where = f"output {name}: {address}:{port}"
    check_address(address, where=where)
    context = make_context(tls, where=where) if tls is not None else None
    own_end_at = read_own_end(tls, where=where) if tls is not None else None
    target = Target(address, port, tls, context, settings.sending_timeout, where)
    try:
        connection, certificate = await connect(target)
    except ConnectFailed as failed:
        raise failed.why.error(where=where) from None
    try:
        connection.end()
        connection.push()
    finally:
        connection.close()
    return Tried(own_end_at, read_end(certificate) if certificate else None)
