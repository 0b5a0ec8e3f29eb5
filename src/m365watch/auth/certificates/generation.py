"""A new key and a certificate that it signs itself, for an application to prove itself with at Entra.

Pure but for the key, which is drawn from the system's source of chance.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from m365watch.auth.certificates.certificate import thumbprints_of


def manifest_of(certificates: Iterable[x509.Certificate]) -> dict[str, list[dict[str, str]]]:
    """The manifest's part that makes `certificates` the application's own; nothing in it is secret."""
    return {"keyCredentials": [key_credential(one) for one in certificates]}


def key_credential(certificate: x509.Certificate) -> dict[str, str]:
    """The one certificate; always the same for it, its `keyId` included."""
    thumbprints = thumbprints_of(certificate)
    return {
        "customKeyIdentifier": _base64(thumbprints.sha1),
        "displayName": certificate.subject.rfc4514_string(),
        "endDateTime": _instant(certificate.not_valid_after_utc),
        "key": _base64(certificate.public_bytes(Encoding.DER)),
        "keyId": str(UUID(bytes=thumbprints.sha256[:16], version=4)),
        "startDateTime": _instant(certificate.not_valid_before_utc),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


BACKDATED = timedelta(minutes=5)
"""How long before now a certificate begins, so that a clock which is behind ours takes it at once."""
NAME_CHARACTERS_MAX = 64
"""Of a common name. Source: RFC 5280, appendix A.1, `ub-common-name`."""

_DISTINGUISHED = re.compile(r"[A-Za-z][A-Za-z0-9]*=")


@dataclass(frozen=True, slots=True)
class MadeCertificate:
    """A certificate and the private key that it was made with."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)


def parse_subject(text: str) -> x509.Name:
    """The subject that `text` stands for: a common name, or whole as in `CN=collector,O=Contoso`.

    Raises: ValueError: it is none; the text says what would be right.
    """
    text = text.strip()
    try:
        if _DISTINGUISHED.match(text):
            subject = x509.Name.from_rfc4514_string(text)
            return _require_texts(subject)
        return _require_texts(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]))
    except ValueError:
        raise ValueError(
            f"give a name of 1 to {NAME_CHARACTERS_MAX} printable characters, or one such as"
            ' "CN=collector,O=Contoso"'
        ) from None


def make_certificate(subject: x509.Name, *, bits: int, days: int, now: datetime) -> MadeCertificate:
    """A new RSA key of `bits` and its certificate, valid for `days` from `now`; no two are alike.

    Takes about 0.04 s for 2048 bits, 0.2 s for 3072 and 0.8 s for 4096.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    now = now.replace(microsecond=0)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return MadeCertificate(certificate, key)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as it is uploaded; there is nothing secret in it."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: rsa.RSAPrivateKey, password: bytes | None) -> bytes:
    """The private key as PKCS #8 in PEM, encrypted where there is a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password))


def pfx_bytes(made: MadeCertificate, password: bytes | None) -> bytes:
    """Certificate and private key as one PFX, the key encrypted where there is a password."""
    return pkcs12.serialize_key_and_certificates(
        None, made.key, made.certificate, None, _encryption(password)
    )


def _encryption(password: bytes | None) -> KeySerializationEncryption:
    return BestAvailableEncryption(password) if password else NoEncryption()


def _require_texts(subject: x509.Name) -> x509.Name:
    """The subject itself; raises ValueError where it is empty or a part is no readable text."""
    values = [str(attribute.value) for attribute in subject]
    if not values or not all(value.strip() and value.isprintable() for value in values):
        raise ValueError("no text")
    return subject
