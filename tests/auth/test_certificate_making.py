from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from m365watch.auth.certificates.certificate import (
    PasswordNeeded,
    PasswordWrong,
    key_belongs,
    load_certificate,
    load_private_key,
)
from m365watch.auth.certificates.generation import (
    certificate_pem,
    key_credential,
    key_pem,
    make_certificate,
    manifest_of,
    parse_subject,
    pfx_bytes,
)

NOW = datetime(2026, 11, 25, 12, 0, 0, 987654, tzinfo=UTC)
MADE = make_certificate(parse_subject("collector"), bits=2048, days=90, now=NOW)
DER = MADE.certificate.public_bytes(Encoding.DER)


def test_a_certificate_is_valid_from_a_little_before_now_for_the_days_asked() -> None:
    """A clock that is some minutes behind takes it all the same."""
    assert MADE.certificate.not_valid_after_utc == NOW.replace(microsecond=0) + timedelta(days=90)
    assert timedelta() < NOW - MADE.certificate.not_valid_before_utc < timedelta(minutes=10)


def test_a_certificate_is_signed_by_its_own_key_and_for_clients_alone() -> None:
    """It vouches for nobody else, so that whoever trusts it trusts nothing more."""
    extensions = MADE.certificate.extensions

    MADE.certificate.verify_directly_issued_by(MADE.certificate)
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2048, 4096])
def test_the_key_has_the_size_asked(bits: int) -> None:
    """The key itself, not only the certificate's word for it."""
    assert make_certificate(parse_subject("x"), bits=bits, days=1, now=NOW).key.key_size == bits


def test_no_two_certificates_are_alike() -> None:
    """Not even of one name and one moment: Entra tells them apart by thumbprint."""
    again = make_certificate(parse_subject("collector"), bits=2048, days=90, now=NOW)

    assert again.certificate.serial_number != MADE.certificate.serial_number
    assert not key_belongs(again.key, MADE.certificate)


@pytest.mark.parametrize("password", [None, b"a pass"])
def test_what_is_written_is_read_again(password: bytes | None) -> None:
    """Key, certificate and PFX; the key signs what the certificate verifies."""
    key = load_private_key(key_pem(MADE.key, password), password)
    both = load_certificate(pfx_bytes(MADE, password), password)

    assert load_certificate(certificate_pem(MADE.certificate)).certificate == MADE.certificate
    assert both.certificate == MADE.certificate
    assert both.key is not None
    assert key_belongs(both.key, MADE.certificate)
    assert key_belongs(key, MADE.certificate)


def test_with_a_password_neither_key_nor_pfx_opens_without_it() -> None:
    """Not with none, and not with another."""
    for content in (key_pem(MADE.key, b"a pass"), pfx_bytes(MADE, b"a pass")):
        with pytest.raises(PasswordNeeded):
            load_private_key(content)
        with pytest.raises(PasswordWrong):
            load_private_key(content, b"another")
    assert b"ENCRYPTED" in key_pem(MADE.key, b"a pass")


def test_what_is_uploaded_has_no_key_in_it() -> None:
    """The public file and the manifest."""
    private = MADE.key.private_numbers().p.to_bytes(128, "big")

    assert b"PRIVATE" not in certificate_pem(MADE.certificate)
    assert private not in DER
    assert "PRIVATE" not in str(manifest_of([MADE.certificate]))


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("collector", "CN=collector"),
        (" two words ", "CN=two words"),
        ("Zoë & Söhne, Köln", "CN=Zoë & Söhne\\, Köln"),
        ("CN=collector,O=Contoso", "CN=collector,O=Contoso"),
        ("x" * 64, "CN=" + "x" * 64),
    ],
)
def test_a_name_is_a_common_name_or_a_whole_subject(text: str, subject: str) -> None:
    """As people write it; a comma in a plain name parts nothing."""
    assert parse_subject(text).rfc4514_string() == subject


@pytest.mark.parametrize("text", ["", "  ", "x" * 65, "a\x00b", "a\nb", "CN=", "CN=a,nonsense", "XX=a"])
def test_a_name_that_is_none_is_refused(text: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match="give a name of 1 to 64 printable characters"):
        parse_subject(text)


def test_the_manifest_has_what_the_contract_names() -> None:
    """Contract 1.5: base64 of the SHA-1, the DER as key, for verifying."""
    found = key_credential(MADE.certificate)

    assert found == {
        "customKeyIdentifier": base64.b64encode(hashlib.sha1(DER).digest()).decode(),
        "displayName": "CN=collector",
        "endDateTime": "2027-02-23T12:00:00Z",
        "key": base64.b64encode(DER).decode(),
        "keyId": found["keyId"],
        "startDateTime": "2026-11-25T11:55:00Z",
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }
    assert str(UUID(found["keyId"])) == found["keyId"]


def test_a_certificate_has_one_place_in_the_manifest() -> None:
    """The same each time it is asked for, so that it is never registered twice."""
    assert manifest_of([MADE.certificate]) == {"keyCredentials": [key_credential(MADE.certificate)]}
    assert key_credential(MADE.certificate) == key_credential(MADE.certificate)
