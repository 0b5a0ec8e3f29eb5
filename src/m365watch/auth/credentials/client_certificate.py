"""A certificate and its private key from their files, read again when one of them changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from uuid import uuid4

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256

from m365watch.auth.certificates.certificate import (
    CertificateUnreadable,
    PasswordNeeded,
    PasswordWrong,
    Thumbprints,
    key_belongs,
    load_certificate,
    load_private_key,
    thumbprints_of,
)
from m365watch.auth.credentials.certificate.spec import FILE_BYTES_MAX, CertificateSettings
from m365watch.auth.factory import ASSERTION_TYPE
from m365watch.common import base64url
from m365watch.common.clock import Clock
from m365watch.common.errors import CredentialsRefused
from m365watch.common.file_access import read_small_file

RSA_BITS_MIN = 2_048
"""Source: api-contract 1.5."""

_log = structlog.get_logger(__name__)
_NEW = "make another with m365watch certificate create, upload it to the application, and name its files"
_RENEW = "make another with m365watch certificate create, upload it to the application, and put it there"
_CLOCK = "wait until then, or set this machine's clock right"

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What an assertion is signed with."""

    certificate: x509.Certificate
    key: RSAPrivateKey
    thumbprints: Thumbprints


class KeyFiles:
    """Gives the pair that is in the files now; may be asked by several threads."""

    def __init__(self, settings: CertificateSettings) -> None:
        """Nothing is read yet."""
        self._settings = settings
        self._lock = Lock()
        self._pair: KeyPair | None = None
        self._stamp: _Stamp | None = None

    def pair(self, now: datetime) -> KeyPair:
        """The certificate and its key, good at `now`.

        While new files cannot be used, for example because only one of the two has been exchanged yet, the
        pair that was read before serves as long as it is good; a warning says so.

        Raises: CredentialsRefused: there is none, or it cannot be used; the text names the file and why.
        """
        path = self._settings.certificate_file
        with self._lock:
            stamp = self._stamp_now()
            if self._pair is None or stamp != self._stamp:
                try:
                    self._pair = read_pair(self._settings)
                except CredentialsRefused as error:
                    if self._pair is None or not _is_good(self._pair.certificate, now):
                        raise
                    if stamp != self._stamp:
                        _log.warning(f"{error.what}; the certificate that was there before is used")
                self._stamp = stamp
            check_time(self._pair.certificate, path, now)
            return self._pair

    def _stamp_now(self) -> _Stamp:
        """What changes when a file is written anew or exchanged."""
        paths = (self._settings.certificate_file, self._settings.private_key_file)
        return tuple(_stamp_of(path) for path in paths if path is not None)


def read_pair(settings: CertificateSettings) -> KeyPair:
    """The pair in the files of `settings`, whatever its time.

    Raises: CredentialsRefused: it cannot be read, is too short, not RSA, or not a pair.
    """
    path, key_file, password = settings.certificate_file, settings.private_key_file, settings.password
    inline = settings.private_key.get_secret_value().encode() if settings.private_key else None
    has_own_key = key_file is not None or inline is not None
    content = _read(path)
    try:
        loaded = load_certificate(content, password, reads_key=not has_own_key)
    except CertificateUnreadable as error:
        raise _unreadable(str(path), error) from None
    key = loaded.key
    where = str(path)
    if has_own_key:
        where = str(key_file) if key_file is not None else "credentials.private_key"
        try:
            text = _read(key_file) if key_file is not None else inline or b""
            key = load_private_key(text, password)
        except CertificateUnreadable as error:
            raise _unreadable(where, error) from None
    if key is None:
        raise CredentialsRefused(f"{path} holds no private key", fix="give credentials.private_key_file")
    certificate = next(
        (one for one in (loaded.certificate, *loaded.others) if key_belongs(key, one)), loaded.certificate
    )
    return KeyPair(certificate, _usable(key, certificate, path, where), thumbprints_of(certificate))


def check_time(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    """Refuse a certificate that has ended or not begun.

    Raises: CredentialsRefused.
    """
    ends_at, starts_at = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    if now > ends_at:
        raise CredentialsRefused(
            f"the certificate {path} expired at {ends_at:%Y-%m-%dT%H:%M:%SZ}", fix=_RENEW
        )
    if now < starts_at:
        raise CredentialsRefused(
            f"the certificate {path} is not valid before {starts_at:%Y-%m-%dT%H:%M:%SZ}", fix=_CLOCK
        )


def _is_good(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _usable(key: PrivateKeyTypes, certificate: x509.Certificate, path: Path, where: str) -> RSAPrivateKey:
    if not isinstance(key, RSAPrivateKey):
        raise CredentialsRefused(f"the key in {where} is not RSA, which Entra wants", fix=_NEW)
    if key.key_size < RSA_BITS_MIN:
        raise CredentialsRefused(
            f"the key in {where} has {key.key_size} bits, and Entra wants {RSA_BITS_MIN} at least", fix=_NEW
        )
    if not key_belongs(key, certificate):
        fix = "give the key that the certificate was made with"
        raise CredentialsRefused(f"the key in {where} does not belong to the certificate {path}", fix=fix)
    return key


def _unreadable(where: str, error: CertificateUnreadable) -> CredentialsRefused:
    fix = "give a certificate with its key, in PEM or PFX"
    if isinstance(error, PasswordNeeded):
        fix = "give credentials.certificate_password"
    elif isinstance(error, PasswordWrong):
        fix = "correct credentials.certificate_password"
    return CredentialsRefused(f"{where} {error}", fix=fix)


def _read(path: Path) -> bytes:
    try:
        content, _ = read_small_file(path, bytes_max=FILE_BYTES_MAX)
    except FileNotFoundError:
        raise CredentialsRefused(f"{path} is not there", fix="put it back, or name another file") from None
    except ValueError as error:
        raise CredentialsRefused(f"{path} {error}", fix="make it readable for the collector") from None
    return content


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


LIFE = timedelta(minutes=10)
"""How long an assertion is good for: Entra's page says 5 to 10 minutes."""
EARLY = timedelta(minutes=1)
"""How much of that lies in the past, for a machine whose clock is fast."""

_V2 = "/oauth2/v2.0/token"
_PKCS1 = padding.PKCS1v15()
_PSS = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)


class CertificateAssertion:
    """Signs a new assertion for each request, off the event loop."""

    def __init__(self, client_id: str, settings: CertificateSettings, *, clock: Clock) -> None:
        """The files are read when the first proof is asked for."""
        self.client_id = client_id
        self.name = settings.name
        self._audience = settings.assertion_audience
        self._files = KeyFiles(settings)
        self._clock = clock

    async def proof(self, token_url: str) -> Mapping[str, str]:
        """The fields of an assertion for `token_url`.

        Raises: CredentialsRefused: the certificate or its key cannot be used.
        """
        now = self._clock.now()
        signed = await asyncio.to_thread(self._sign, token_url, now)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}

    def _sign(self, token_url: str, now: datetime) -> str:
        audience = token_url
        if self._audience is not None:
            audience = self._audience.replace("{tenant}", _tenant_in(token_url))
        claims = claims_for(self.client_id, audience, now)
        return sign(self._files.pair(now), claims, is_v2=token_url.endswith(_V2))


def claims_for(client_id: str, audience: str, now: datetime) -> dict[str, object]:
    """The claims of an assertion; each has an id of its own."""
    starts_s = int((now - EARLY).timestamp())
    return {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": str(uuid4()),
        "nbf": starts_s,
        "exp": starts_s + int(LIFE.total_seconds()),
    }


def sign(pair: KeyPair, claims: Mapping[str, object], *, is_v2: bool) -> str:
    """The JWT: PS256 with SHA-256's thumbprint for v2, RS256 with SHA-1's for v1."""
    head = {"alg": "RS256", "typ": "JWT", "x5t": pair.thumbprints.x5t}
    if is_v2:
        head = {"alg": "PS256", "typ": "JWT", "x5t#S256": pair.thumbprints.x5t_s256}
    signed = ".".join(base64url.encoded(msgspec.json.encode(part)) for part in (head, claims))
    signature = pair.key.sign(signed.encode(), _PSS if is_v2 else _PKCS1, SHA256())
    return f"{signed}.{base64url.encoded(signature)}"


def _tenant_in(token_url: str) -> str:
    """The tenant that a token endpoint's address is of."""
    return token_url.rpartition("/oauth2/")[0].rpartition("/")[2]
