"""The certificate of an application in Entra, made while tests run, in every form that one may have."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

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
from cryptography.x509.oid import NameOID

_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "m365watch")])


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key, the same for the same `number` in one process: making one takes a tenth of a second."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class ApplicationCertificate:
    """A self-signed certificate with its key; nothing is written until a file is asked for."""

    def __init__(
        self,
        starts_at: datetime,
        *,
        lasts: timedelta = timedelta(days=365),
        key: rsa.RSAPrivateKey | None = None,
    ) -> None:
        """It is good from `starts_at` on."""
        self.key = key or rsa_key()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(_NAME)
            .issuer_name(_NAME)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts_at)
            .not_valid_after(starts_at + lasts)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: str | None = None) -> bytes:
        """The key alone."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password))

    def pfx(self, password: str | None = None) -> bytes:
        """Both, as Windows and Azure's Key Vault have them."""
        return pkcs12.serialize_key_and_certificates(
            b"m365watch", self.key, self.certificate, None, _encryption(password)
        )

    @property
    def key_lines(self) -> list[str]:
        """What must be nowhere: the lines of the key in PEM."""
        return [line for line in self.key_pem().decode().splitlines() if not line.startswith("-----")]


def write_private(path: Path, content: bytes | str) -> Path:
    """The file, readable by its owner alone."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    return path


def _encryption(password: str | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password.encode())
