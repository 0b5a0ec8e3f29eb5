"""An application's certificate and its private key, read from PEM, DER or PFX; their thumbprints.

Pure: bytes in, values out. The files are read by whoever knows their names and modes.
Source of the thumbprints: api-contract 1.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PrivateKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from m365watch.common import base64url
from m365watch.http.tls import PEM_CERTIFICATE, PEM_KEY, PFX

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FAULTS = (ValueError, TypeError, UnsupportedAlgorithm)
"""What the library raises for bytes that it cannot make sense of."""


class CertificateUnreadable(ValueError):
    """There is no certificate or no key to be had; the text ends a sentence that starts with the file's name.

    It never holds a password or any part of a key.
    """


class PasswordNeeded(CertificateUnreadable):
    """What is asked for is encrypted, and no password was given."""


class PasswordWrong(CertificateUnreadable):
    """The password that was given opens nothing."""


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """What one file holds."""

    certificate: x509.Certificate
    """The one that the key belongs to; where the file has no key, its first."""
    key: PrivateKeyTypes | None
    """None: the file has none, or it was not to be read."""
    others: tuple[x509.Certificate, ...] = ()
    """Further certificates of the file, such as those of issuers."""


@dataclass(frozen=True, slots=True)
class Thumbprints:
    """The digests of a certificate's DER by which Entra knows it."""

    sha1: bytes
    sha256: bytes

    @property
    def sha1_hex(self) -> str:
        """As the portal shows it: 40 capital hexadecimal digits."""
        return self.sha1.hex().upper()

    @property
    def sha256_hex(self) -> str:
        """64 capital hexadecimal digits."""
        return self.sha256.hex().upper()

    @property
    def x5t(self) -> str:
        """SHA-1 as an assertion's header has it."""
        return base64url.encoded(self.sha1)

    @property
    def x5t_s256(self) -> str:
        """SHA-256 as an assertion's header has it, there called `x5t#S256`."""
        return base64url.encoded(self.sha256)


def load_certificate(
    content: bytes, password: bytes | None = None, *, reads_key: bool = True
) -> LoadedCertificate:
    """The certificate in `content`: PEM, DER or PFX (PKCS #12), and the private key where one lies beside it.

    A `password` that is not needed is ignored. Without `reads_key` an encrypted key in PEM is left alone.

    Raises:
        PasswordNeeded: the PFX, or the key beside the certificate, is encrypted.
        PasswordWrong: `password` does not open it.
        CertificateUnreadable: there is no certificate in it, or it is damaged.
    """
    if content.startswith(_UTF16):
        raise CertificateUnreadable("is UTF-16 text; save it as plain ASCII")
    if PFX.match(content):
        return _load_pfx(content, password)
    if PEM_CERTIFICATE.search(content):
        certificates = _parse_certificates(lambda: x509.load_pem_x509_certificates(content))
        has_key = reads_key and PEM_KEY.search(content) is not None
        key = load_private_key(content, password) if has_key else None
        return _choose(certificates, key)
    if content.startswith(b"\x30"):
        return _choose(_parse_certificates(lambda: [x509.load_der_x509_certificate(content)]), None)
    if PEM_KEY.search(content):
        raise CertificateUnreadable("holds a private key and no certificate; name the certificate's file")
    raise CertificateUnreadable("holds no certificate; give one in PEM, DER or PFX")


def load_private_key(content: bytes, password: bytes | None = None) -> PrivateKeyTypes:
    """The private key in `content`: PEM (also beside a certificate), DER or PFX.

    A `password` that is not needed is ignored.

    Raises:
        PasswordNeeded: the key is encrypted.
        PasswordWrong: `password` does not open it.
        CertificateUnreadable: there is no private key in it, or it is damaged.
    """
    if content.startswith(_UTF16):
        raise CertificateUnreadable("is UTF-16 text; save it as plain ASCII")
    if PFX.match(content):
        key = _load_pfx(content, password).key
        if key is None:
            raise CertificateUnreadable("holds a certificate and no private key")
        return key
    load = load_pem_private_key if PEM_KEY.search(content) else load_der_private_key
    if load is load_der_private_key and not content.startswith(b"\x30"):
        held = "a certificate and no" if PEM_CERTIFICATE.search(content) else "no"
        raise CertificateUnreadable(f"holds {held} private key; give one in PEM")
    try:
        return load(content, None)
    except TypeError:
        # It is whole, and encrypted: only then does the library miss a password.
        return _open_key(lambda: load(content, password), is_given=bool(password))
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateUnreadable("holds no private key that can be read") from None


def thumbprints_of(certificate: x509.Certificate) -> Thumbprints:
    """The SHA-1 and the SHA-256 of the certificate's DER."""
    der = certificate.public_bytes(Encoding.DER)
    return Thumbprints(hashlib.sha1(der, usedforsecurity=False).digest(), hashlib.sha256(der).digest())


def key_belongs(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Whether `certificate` is of this key: whether both have the same public half."""
    return _public_half(key.public_key()) == _public_half(certificate.public_key())


def _load_pfx(content: bytes, password: bytes | None) -> LoadedCertificate:
    pfx = _open_pfx(content, password)
    held = (pfx.cert, *pfx.additional_certs)
    certificates = _parse_certificates(lambda: [one.certificate for one in held if one is not None])
    if not certificates:
        raise CertificateUnreadable("is a PFX without a certificate in it")
    return _choose(certificates, pfx.key)


def _open_pfx(content: bytes, password: bytes | None) -> pkcs12.PKCS12KeyAndCertificates:
    # No password and an empty one are two things to a PFX, and Azure's Key Vault makes the latter.
    for candidate in (*([password] if password else ()), None, b""):
        try:
            return pkcs12.load_pkcs12(content, candidate)
        except _FAULTS:
            continue
    if password:
        raise PasswordWrong("is a PFX that its password does not open, or it is damaged")
    raise PasswordNeeded("is a PFX that needs a password, or it is damaged")


def _open_key(load: Callable[[], PrivateKeyTypes], *, is_given: bool) -> PrivateKeyTypes:
    if not is_given:
        raise PasswordNeeded("holds an encrypted private key, which needs a password") from None
    try:
        return load()
    except _FAULTS:
        raise PasswordWrong("holds an encrypted private key that its password does not open") from None


def _parse_certificates(load: Callable[[], list[x509.Certificate]]) -> list[x509.Certificate]:
    try:
        found = load()
        for one in found:
            # The library reads the parts when they are asked for, and what is broken shows only then.
            _ = one.public_key(), one.subject, one.not_valid_before_utc, one.not_valid_after_utc
    except _FAULTS:
        raise CertificateUnreadable("holds a certificate that cannot be read; it is damaged") from None
    return found


def _choose(certificates: list[x509.Certificate], key: PrivateKeyTypes | None) -> LoadedCertificate:
    own = [one for one in certificates if key is not None and key_belongs(key, one)]
    chosen = own[0] if own else certificates[0]
    return LoadedCertificate(chosen, key, tuple(one for one in certificates if one is not chosen))


def _public_half(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
