"""The certificates that somebody names, on the command line or in a configuration, read and looked at."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from shlex import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

from m365watch.auth.certificates.certificate import (
    CertificateUnreadable,
    LoadedCertificate,
    PasswordNeeded,
    key_belongs,
    load_certificate,
    load_private_key,
)
from m365watch.auth.credentials.certificate.spec import FILE_BYTES_MAX, CertificateSettings
from m365watch.common.file_access import read_small_file
from m365watch.common.secret import Secret, secret_of
from m365watch.config.models.settings import Settings
from m365watch.http.settings import TlsSettings

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


_PEM_KEY = b"PRIVATE KEY-----"
_KEY_SUFFIXES = (".key", ".pem")
"""Of the file beside a certificate in which its key is looked for."""


@dataclass(frozen=True, slots=True)
class NamedCertificate:
    """A certificate and its key, as they are named."""

    file: Path
    use: Use = Use.CREDENTIAL
    users: tuple[str, ...] = ()
    key_file: Path | None = None
    key_text: Secret | None = None
    password: Secret | None = None
    is_configured: bool = False
    """Whether a configuration names it: then its key has to be there, and no other is looked for."""


def named_in(settings: Settings) -> tuple[NamedCertificate, ...]:
    """Every certificate that the configuration names: of its inputs first, then of its outputs."""
    users: dict[CertificateSettings, dict[str, None]] = {}
    for tenant in settings.tenants:
        for one in tenant.credentials:
            if isinstance(one, CertificateSettings):
                users.setdefault(one, {})[f"input {tenant.input_name}"] = None
    credentials = [
        NamedCertificate(
            one.certificate_file,
            users=tuple(names),
            key_file=one.private_key_file,
            key_text=secret_of(one.private_key),
            password=secret_of(one.certificate_password),
            is_configured=True,
        )
        for one, names in users.items()
    ]
    secured = [(one.name, one.secured_by) for one in settings.outputs]
    return (*credentials, *(found for name, tls in secured if tls for found in _of_output(name, tls)))


def examine(named: NamedCertificate, *, now: datetime) -> list[Examination]:
    """What is found of `named`: one certificate, or every one of an authority's file."""
    try:
        content, mode = _read(named.file)
        loaded = _load_public(content, named)
    except CertificateUnreadable as error:
        return [Examination(named.file, named.use, named.users, faults=(f"it {_with_cure(error, named)}",))]
    if named.use is Use.AUTHORITY:
        return [_judge(named, one, None, now=now) for one in (loaded.certificate, *loaded.others)]
    key, finding = _find_key(named, content, mode, loaded)
    certificate = _own_of(loaded, key)
    if finding is not None and key is not None:
        finding = replace(finding, belongs=key_belongs(key, certificate))
    return [_judge(named, certificate, finding, now=now)]


def _of_output(name: str, tls: TlsSettings) -> Iterator[NamedCertificate]:
    users = (f"output {name}",)
    if tls.cert is not None:
        yield NamedCertificate(
            tls.cert, Use.CLIENT, users, key_file=tls.key, password=tls.key_password, is_configured=True
        )
    if tls.chain is not None:
        yield NamedCertificate(tls.chain, Use.AUTHORITY, users, is_configured=True)


def _judge(
    named: NamedCertificate, certificate: x509.Certificate, key: KeyFinding | None, *, now: datetime
) -> Examination:
    faults = faults_of(certificate, key, use=named.use, now=now)
    if named.is_configured and named.use is not Use.AUTHORITY and key is None:
        faults.append("it has no private key: name the key's file as private_key_file")
    warnings = warnings_of(certificate, key, use=named.use, now=now)
    return Examination(named.file, named.use, named.users, certificate, key, tuple(faults), tuple(warnings))


def _load_public(content: bytes, named: NamedCertificate) -> LoadedCertificate:
    return load_certificate(content, _password(named), reads_key=False)


def _own_of(loaded: LoadedCertificate, key: PrivateKeyTypes | None) -> x509.Certificate:
    """The certificate of the file that `key` belongs to; where it belongs to none, the first."""
    every = (loaded.certificate, *loaded.others)
    return next((one for one in every if key is not None and key_belongs(key, one)), loaded.certificate)


def _find_key(
    named: NamedCertificate, content: bytes, mode: int, loaded: LoadedCertificate
) -> tuple[PrivateKeyTypes | None, KeyFinding | None]:
    """The private key, and where it is; no finding where there is none to be seen."""
    if named.key_file is not None:
        return _load_key(named, named.key_file)
    if named.key_text is not None:
        text = named.key_text.reveal().encode()
        return _try_key(named, text, KeyFinding("the configuration's private key"))
    inside = KeyFinding(str(named.file), file=named.file, mode=mode)
    if loaded.key is not None:
        return loaded.key, inside
    if _PEM_KEY in content:
        return _try_key(named, content, inside)
    if named.is_configured:
        return None, None
    beside = _key_beside(named.file)
    return (None, None) if beside is None else _load_key(named, beside)


def _key_beside(file: Path) -> Path | None:
    """A file with a key in it that has the certificate's name but for the suffix."""
    for path in (file.with_suffix(suffix) for suffix in _KEY_SUFFIXES):
        with suppress(CertificateUnreadable):
            if path != file and _PEM_KEY in _read(path)[0]:
                return path
    return None


def _load_key(named: NamedCertificate, path: Path) -> tuple[PrivateKeyTypes | None, KeyFinding]:
    try:
        content, mode = _read(path)
    except CertificateUnreadable as error:
        return None, KeyFinding(str(path), lack=str(error), file=path)
    return _try_key(named, content, KeyFinding(str(path), file=path, mode=mode))


def _try_key(
    named: NamedCertificate, content: bytes, finding: KeyFinding
) -> tuple[PrivateKeyTypes | None, KeyFinding]:
    try:
        return load_private_key(content, _password(named)), finding
    except CertificateUnreadable as error:
        is_only_locked = isinstance(error, PasswordNeeded) and not named.is_configured
        return None, replace(finding, lack=_with_cure(error, named), is_only_locked=is_only_locked)


def _with_cure(error: CertificateUnreadable, named: NamedCertificate) -> str:
    if not isinstance(error, PasswordNeeded):
        return str(error)
    if not named.is_configured:
        return f"{error}; give it with --password-file"
    return f"{error}; set {'key_password' if named.use is Use.CLIENT else 'certificate_password_file'}"


def _password(named: NamedCertificate) -> bytes | None:
    return None if named.password is None else named.password.reveal().encode()


def _read(path: Path) -> tuple[bytes, int]:
    """The file's content and mode; raises CertificateUnreadable where it is no small, readable file."""
    try:
        content, mode = read_small_file(path, bytes_max=FILE_BYTES_MAX)
    except FileNotFoundError:
        raise CertificateUnreadable("is not there") from None
    except ValueError as error:
        raise CertificateUnreadable(str(error)) from None
    if len(content) > FILE_BYTES_MAX:
        raise CertificateUnreadable(f"is larger than {FILE_BYTES_MAX:,} bytes, and so no certificate or key")
    return content, mode
