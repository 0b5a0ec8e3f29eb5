"""What a server shows of itself: its TLS, its certificate, its time. Nothing secret is sent.

Imported only where somebody looks, because a run does without the library that reads certificates.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID
from yarl import URL

from m365watch.common.text import one_line
from m365watch.http.aiohttp_transport import Connection, Origin, open_connection
from m365watch.http.settings import NetworkSettings
from m365watch.http.transport import ExchangeFailed, Failure

BODY_BYTES_MAX = 4 << 20
"""The largest body that the page at a server's root may have; it is not used."""
_NAMES_MAX = 100


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a server's certificate says; every text on one line, short and printable."""

    subject: str
    issuer: str
    """Organisation and common name, as far as there are any."""
    names: tuple[str, ...]
    """The hosts and addresses that it is for."""
    begins_at: datetime
    ends_at: datetime
    is_self_signed: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen over one connection."""

    tls_version: str | None
    """TLSv1.2 or TLSv1.3; None in the clear."""
    certificate: Certificate | None
    """None in the clear."""
    date: str | None
    """The header `Date` of the answer; None without one, or where nothing was asked."""


async def look_at(
    origin: Origin,
    tls: Callable[[], ssl.SSLContext],
    *,
    network: NetworkSettings,
    limit_s: float,
    asks: bool = True,
) -> Looked:
    """What the server of `origin` shows over a connection of its own; with `asks`, also its time.

    Raises: ExchangeFailed.
    """
    connection = Connection(body_bytes_max=BODY_BYTES_MAX, on_over=lambda _: None)
    try:
        async with asyncio.timeout(limit_s):
            await open_connection(origin, connection, tls, network=network)
            secured = connection.secured
            version = secured.version() if secured else None
            certificate = _certificate_of(secured.getpeercert(binary_form=True)) if secured else None
            if not asks:
                return Looked(version, certificate, None)
            url = URL.build(scheme="https" if origin.is_tls else "http", authority=origin.authority, path="/")
            request = origin.request("GET", url, headers={}, body=None)
            answer = await connection.exchange(request, ends_tick=0)
            return Looked(version, certificate, answer.headers.get("Date"))
    except TimeoutError:
        raise ExchangeFailed(Failure.OUT_OF_TIME) from None
    finally:
        connection.drop()


def unverified_context() -> ssl.SSLContext:
    """TLS that takes any certificate: to read the one that was not accepted, and for nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificate_of(der: bytes | None) -> Certificate | None:
    """What the certificate says; None where it cannot be read."""
    if not der:
        return None
    try:
        parsed = x509.load_der_x509_certificate(der)
        return Certificate(
            _name(parsed.subject),
            _name(parsed.issuer),
            _names(parsed),
            parsed.not_valid_before_utc,
            parsed.not_valid_after_utc,
            is_self_signed=parsed.subject == parsed.issuer,
        )
    except ValueError:
        return None


def _name(name: x509.Name) -> str:
    """Organisation and common name; the whole name where it has neither."""
    parts = [
        str(attribute.value)
        for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        for attribute in name.get_attributes_for_oid(oid)
    ]
    return one_line(", ".join(dict.fromkeys(parts)) or name.rfc4514_string()) or "nobody"


def _names(parsed: x509.Certificate) -> tuple[str, ...]:
    try:
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(map(one_line, [*names.get_values_for_type(x509.DNSName), *addresses][:_NAMES_MAX]))
