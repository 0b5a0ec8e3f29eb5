"""What is to be said of a certificate and its key: why it cannot be used, and what is odd about it.

Pure functions of what was found and of now. Source of what Entra takes: api-contract 1.5.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from shlex import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

BITS_MIN = 2_048
"""Of an RSA key that Entra takes."""
ENDS_SOON = timedelta(days=30)
OTHERS_CAN_USE = 0o077
_RENEW = "make another with `m365watch certificate create`, and upload it"


class Use(StrEnum):
    """What a certificate is for."""

    CREDENTIAL = "credential"
    """An application proves itself with it at Entra."""
    CLIENT = "client"
    """An output proves itself with it to its receiver."""
    AUTHORITY = "authority"
    """An output believes a receiver that has one of this authority's."""


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """The private key that was given, or found in the certificate's file or beside it."""

    place: str
    """Its file's name, or the key of the configuration that holds it."""
    belongs: bool | None = None
    """Whether it is the certificate's; None: it could not be read."""
    lack: str = ""
    """Why it could not be read: the end of a sentence that starts with `place`."""
    is_only_locked: bool = False
    """It is encrypted, and nobody gave a password: no fault of it."""
    file: Path | None = None
    mode: int | None = None
    """The mode of the file that it is in; None where it is in none."""


@dataclass(frozen=True, slots=True)
class Examination:
    """One certificate, and what was found."""

    file: Path
    use: Use
    users: tuple[str, ...] = ()
    """Where the configuration names it, such as `input office365`."""
    certificate: x509.Certificate | None = None
    """None: it could not be read, and `faults` says why."""
    key: KeyFinding | None = None
    faults: tuple[str, ...] = ()
    """Why it cannot be used."""
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it does what it is for, today."""
        return not self.faults


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until it ends; below 0 once it has."""
    return (certificate.not_valid_after_utc - now) // timedelta(days=1)


def kind_of(key: CertificatePublicKeyTypes) -> tuple[str, int | None]:
    """The key's kind and its size in bits, None where the kind has but one."""
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}", key.key_size
    return type(key).__name__.strip("_").removesuffix("PublicKey"), None


def faults_of(certificate: x509.Certificate, key: KeyFinding | None, *, use: Use, now: datetime) -> list[str]:
    """Why the certificate, with that key, cannot be used; a sentence each, with its cure."""
    faults = []
    if use is not Use.AUTHORITY and now >= certificate.not_valid_after_utc:
        cure = _RENEW if use is Use.CREDENTIAL else "have the receiver's administrator issue another"
        faults.append(f"it expired at {_moment(certificate.not_valid_after_utc)}; {cure}")
    if now < certificate.not_valid_before_utc:
        begins = _moment(certificate.not_valid_before_utc)
        faults.append(
            f"it is valid only from {begins} on; correct this machine's clock if it is later than that"
        )
    if use is Use.CREDENTIAL:
        faults += _faults_at_entra(certificate.public_key())
    if key is not None and key.belongs is False:
        faults.append(
            f"the private key in {key.place} is another certificate's; name the one that was made with it"
        )
    if key is not None and key.lack and not key.is_only_locked:
        faults.append(f"{key.place} {key.lack}")
    return faults


def warnings_of(
    certificate: x509.Certificate, key: KeyFinding | None, *, use: Use, now: datetime
) -> list[str]:
    """What is odd about the certificate and its key, but keeps nothing from working today."""
    warnings = []
    ends_at, left = certificate.not_valid_after_utc, days_left(certificate, now)
    if use is Use.AUTHORITY and now >= ends_at:
        warnings.append(f"it expired at {_moment(ends_at)}; nothing that it vouches for is believed")
    elif timedelta() < ends_at - now < ENDS_SOON:
        cure = f"{_RENEW} before" if use is Use.CREDENTIAL else "see to its successor"
        when = "within a day" if left < 1 else f"in {left} day{'' if left == 1 else 's'}"
        warnings.append(f"it ends {when}, at {_moment(ends_at)}; {cure}")
    if key is not None and key.is_only_locked:
        warnings.append(f"whether the private key belongs to it was not seen: {key.place} {key.lack}")
    if key is not None and key.mode is not None and key.mode & OTHERS_CAN_USE:
        mode = f"{stat.S_IMODE(key.mode):04o}"
        cure = f"run: chmod 600 {quote(str(key.file))}"
        warnings.append(f"others than its owner can use the file of the private key (mode {mode}); {cure}")
    return warnings


def _faults_at_entra(key: CertificatePublicKeyTypes) -> list[str]:
    kind, bits = kind_of(key)
    if kind != "RSA":
        return [f"its key is {kind}, and Entra takes what RSA keys have signed; {_RENEW}"]
    if bits is not None and bits < BITS_MIN:
        return [f"its RSA key has {bits:,} bits, and Entra takes none below {BITS_MIN:,}; {_RENEW}"]
    return []


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"
