"""The TLS side of a connection: made of files that are looked at first, and always verified."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from m365watch.common.errors import OutputUnusable
from m365watch.http.settings import TlsSettings


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
