from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from m365watch.auth.certificates.inspection import (
    KeyFinding,
    Use,
    days_left,
    faults_of,
    kind_of,
    warnings_of,
)

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
KEYS: dict[str, Key] = {
    "rsa": rsa.generate_private_key(65537, 2048),
    "weak": rsa.generate_private_key(65537, 1024),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
}
GOOD = KeyFinding("a.key", belongs=True, file=Path("a.key"), mode=0o100600)


@cache
def certificate(kind: str = "rsa") -> x509.Certificate:
    key = KEYS[kind]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def test_of_a_sound_certificate_nothing_is_said() -> None:
    """With its key, and for whatever it is."""
    for use in Use:
        assert faults_of(certificate(), GOOD, use=use, now=NOW) == []
        assert warnings_of(certificate(), GOOD, use=use, now=NOW) == []
    assert faults_of(certificate(), None, use=Use.CREDENTIAL, now=NOW) == []


@pytest.mark.parametrize(
    ("kind", "key", "now", "words"),
    [
        ("rsa", GOOD, END, "it expired at 2027-01-01 00:00:00Z; make another with `m365watch certificate"),
        ("rsa", GOOD, BEGIN - timedelta(seconds=1), "it is valid only from 2026-01-01 00:00:00Z on"),
        ("weak", GOOD, NOW, "its RSA key has 1,024 bits, and Entra takes none below 2,048"),
        ("ec", GOOD, NOW, "its key is EC secp256r1, and Entra takes what RSA keys have signed"),
        ("ed25519", GOOD, NOW, "its key is Ed25519, and Entra takes what RSA keys have signed"),
        ("rsa", replace(GOOD, belongs=False), NOW, "the private key in a.key is another certificate's"),
        ("rsa", KeyFinding("a.key", lack="is not there"), NOW, "a.key is not there"),
    ],
)
def test_what_keeps_a_credential_from_working_is_a_fault(
    kind: str, key: KeyFinding, now: datetime, words: str
) -> None:
    """One sentence, which says what to do."""
    found = faults_of(certificate(kind), key, use=Use.CREDENTIAL, now=now)

    assert len(found) == 1
    assert found[0].startswith(words)


def test_every_fault_is_told_at_once() -> None:
    """Nobody likes to mend one and be told of the next."""
    key = replace(GOOD, belongs=False)

    assert len(faults_of(certificate("weak"), key, use=Use.CREDENTIAL, now=END)) == 3


def test_what_entra_demands_is_not_demanded_of_an_output_s_certificate() -> None:
    """TLS takes EC keys; an expired one is still refused, in words that fit."""
    assert faults_of(certificate("ec"), GOOD, use=Use.CLIENT, now=NOW) == []
    (fault,) = faults_of(certificate("ec"), GOOD, use=Use.CLIENT, now=END)
    assert fault.endswith("have the receiver's administrator issue another")


def test_an_authority_that_expired_is_odd_and_no_fault() -> None:
    """Another one of the same file may be the one that counts."""
    assert faults_of(certificate(), None, use=Use.AUTHORITY, now=END) == []
    assert len(warnings_of(certificate(), None, use=Use.AUTHORITY, now=END)) == 1


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=30), None),
        (timedelta(days=30, seconds=-1), "it ends in 29 days, at 2027-01-01 00:00:00Z; make another"),
        (timedelta(days=1), "it ends in 1 day,"),
        (timedelta(seconds=1), "it ends within a day,"),
        (timedelta(), None),
    ],
)
def test_a_certificate_with_less_than_30_days_is_warned_of(left: timedelta, words: str | None) -> None:
    """To the second; once it has expired, that is a fault and no warning."""
    found = warnings_of(certificate(), None, use=Use.CREDENTIAL, now=END - left)

    assert [one.startswith(words or "-") for one in found] == [True] * (words is not None)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_key_that_others_can_use_is_warned_of(mode: int) -> None:
    """With the command that ends it, ready to be pasted."""
    key = replace(GOOD, file=Path("my key"), mode=0o100000 | mode)
    (found,) = warnings_of(certificate(), key, use=Use.CREDENTIAL, now=NOW)

    assert f"(mode {mode:04o}); run: chmod 600 'my key'" in found


def test_a_key_that_nobody_gave_the_password_of_is_no_fault() -> None:
    """It was not looked at, and that is said."""
    key = KeyFinding("a.key", lack="holds an encrypted private key", is_only_locked=True)

    assert faults_of(certificate(), key, use=Use.CREDENTIAL, now=NOW) == []
    (found,) = warnings_of(certificate(), key, use=Use.CREDENTIAL, now=NOW)
    assert found.startswith("whether the private key belongs to it was not seen: a.key holds")


def test_days_are_whole_and_negative_once_it_is_over() -> None:
    """A day that has begun does not count."""
    spans = (timedelta(days=2), timedelta(hours=47), timedelta(), timedelta(seconds=-1))

    assert [days_left(certificate(), END - span) for span in spans] == [2, 1, 0, -1]


def test_keys_are_told_by_kind_and_size() -> None:
    """RSA and EC have a size; the others are of one."""
    assert [kind_of(KEYS[kind].public_key()) for kind in KEYS] == [
        ("RSA", 2048),
        ("RSA", 1024),
        ("EC secp256r1", 256),
        ("Ed25519", None),
    ]
