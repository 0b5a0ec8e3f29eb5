"""A certificate and its key: read from their files, again when they change, and refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.auth.credentials.certificate.spec import CertificateSettings
from m365watch.auth.credentials.client_certificate import KeyFiles, read_pair
from m365watch.common.errors import CredentialsRefused
from m365watch_testing.applications import ApplicationCertificate, rsa_key, write_private
from m365watch_testing.clock import START
from m365watch_testing.credentials import certificate as certificate_settings

PASSWORD = "correct-horse-battery"
DAY = timedelta(days=1)
OWN = ApplicationCertificate(START - DAY)
OLD = ApplicationCertificate(START - 9 * DAY, lasts=DAY)
NEW = ApplicationCertificate(START + DAY)
STRANGER = ApplicationCertificate(START - DAY, key=rsa_key(1))


def settings(folder: Path, certificate: bytes, key: bytes | None = None, **more: str) -> CertificateSettings:
    return certificate_settings(
        write_private(folder / "cert", certificate),
        key=None if key is None else write_private(folder / "key", key),
        **more,
    )


def refusal_of(given: CertificateSettings) -> CredentialsRefused:
    with pytest.raises(CredentialsRefused) as caught:
        KeyFiles(given).pair(START)
    return caught.value


FORMS: dict[str, Callable[[Path], CertificateSettings]] = {
    "two files": lambda folder: settings(folder, OWN.pem, OWN.key_pem()),
    "one file": lambda folder: settings(folder, OWN.key_pem() + OWN.pem),
    "a key with a password": lambda folder: settings(
        folder, OWN.pem, OWN.key_pem(PASSWORD), password=PASSWORD
    ),
    "PFX": lambda folder: settings(folder, OWN.pfx(PASSWORD), password=PASSWORD),
    "PFX without a password": lambda folder: settings(folder, OWN.pfx()),
    "the key as text": lambda folder: settings(folder, OWN.pem, key_text=OWN.key_pem().decode()),
    "behind its issuer": lambda folder: settings(folder, STRANGER.pem + OWN.pem, OWN.key_pem()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_certificate_and_key_is_read(form: str, tmp_path: Path) -> None:
    """PEM in one file or two, with and without a password, PFX, and a key from the environment."""
    pair = KeyFiles(FORMS[form](tmp_path)).pair(START)

    assert pair.certificate == OWN.certificate
    assert pair.key.private_numbers() == OWN.key.private_numbers()


def weak() -> ApplicationCertificate:
    return ApplicationCertificate(START - DAY, key=rsa_key(bits=1024))


def elliptic() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


WRONG: dict[str, tuple[Callable[[Path], CertificateSettings], str, str]] = {
    "another's key": (
        lambda folder: settings(folder, OWN.pem, STRANGER.key_pem()),
        "does not belong to the certificate",
        "made with",
    ),
    "too short": (lambda folder: settings(folder, weak().pem, weak().key_pem()), "1024 bits", "create"),
    "not RSA": (lambda folder: settings(folder, OWN.pem, elliptic()), "is not RSA", "create"),
    "expired": (
        lambda folder: settings(folder, OLD.pem, OLD.key_pem()),
        "expired at 2026-11-09T09:00:00Z",
        "certificate create",
    ),
    "too early": (
        lambda folder: settings(folder, NEW.pem, NEW.key_pem()),
        "is not valid before 2026-11-18T09:00:00Z",
        "clock",
    ),
    "without a password": (
        lambda folder: settings(folder, OWN.pem, OWN.key_pem(PASSWORD)),
        "needs a password",
        "give credentials.certificate_password",
    ),
    "a wrong password": (
        lambda folder: settings(folder, OWN.pfx(PASSWORD), password="another"),
        "does not open",
        "correct credentials.certificate_password",
    ),
    "no key": (lambda folder: settings(folder, OWN.pem), "holds no private key", "private_key_file"),
    "no certificate": (
        lambda folder: settings(folder, b"nothing", OWN.key_pem()),
        "holds no cert",
        "PEM or PFX",
    ),
    "a broken key": (
        lambda folder: settings(folder, OWN.pem, OWN.key_pem()[:400]),
        "private key",
        "give a certificate",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_used_is_named_with_its_cure(name: str, tmp_path: Path) -> None:
    """The file, what is wrong with it, and what to do; no password and no part of a key."""
    make, what, fix = WRONG[name]
    error = refusal_of(make(tmp_path))
    told = "".join((str(error), repr(error), repr(error.args), repr(vars(error))))

    assert what in error.what
    assert fix in error.fix
    assert str(tmp_path) in error.what
    assert not [secret for secret in (PASSWORD, "another'", *OWN.key_lines) if secret in told]


def test_a_file_that_went_is_named(tmp_path: Path) -> None:
    """It was there when the configuration was read."""
    given = settings(tmp_path, OWN.pem, OWN.key_pem())
    (tmp_path / "key").unlink()

    assert refusal_of(given).what == f"{tmp_path}/key is not there"


@guarantee(25)
def test_a_rotated_certificate_is_read_without_a_restart(tmp_path: Path) -> None:
    """As soon as both files have been exchanged; what did not change is not read again."""
    files = KeyFiles(settings(tmp_path, OWN.pem, OWN.key_pem()))
    first, again = files.pair(START), files.pair(START)
    exchange(tmp_path / "key", STRANGER.key_pem())
    with capture_logs() as said:
        half, still = files.pair(START), files.pair(START)
    exchange(tmp_path / "cert", STRANGER.pem)
    whole = files.pair(START)

    assert again is first
    assert (half, still) == (first, first)
    assert [line["event"].partition(" belong")[0] for line in said] == [f"the key in {tmp_path}/key does not"]
    assert whole.certificate == STRANGER.certificate


def test_a_half_exchange_does_not_outlive_the_old_certificate(tmp_path: Path) -> None:
    """Once that has ended, what is wrong with the new files is told."""
    files = KeyFiles(settings(tmp_path, OWN.pem, OWN.key_pem()))
    files.pair(START)
    exchange(tmp_path / "key", STRANGER.key_pem())

    with pytest.raises(CredentialsRefused, match="does not belong"):
        files.pair(START + 366 * DAY)


def test_a_certificate_that_ends_while_it_is_in_use_is_told(tmp_path: Path) -> None:
    """The files did not change, and the time did."""
    files = KeyFiles(settings(tmp_path, OWN.pem, OWN.key_pem()))
    files.pair(START)

    with pytest.raises(CredentialsRefused, match="expired at"):
        files.pair(START + 366 * DAY)


def test_a_pair_is_read_whatever_its_time(tmp_path: Path) -> None:
    """Whoever shows a certificate wants to see one that has ended, too."""
    assert read_pair(settings(tmp_path, OLD.pem, OLD.key_pem())).certificate == OLD.certificate


def exchange(path: Path, content: bytes) -> None:
    """As a careful writer does it: another file under the same name."""
    write_private(path.with_suffix(".new"), content)
    path.with_suffix(".new").replace(path)
