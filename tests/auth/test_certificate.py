from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from m365watch.auth.certificates.certificate import (
    CertificateUnreadable,
    PasswordNeeded,
    PasswordWrong,
    key_belongs,
    load_certificate,
    load_private_key,
    thumbprints_of,
)
from m365watch.common import base64url

PASSWORD = b"a pass, with spaces"
AT = datetime(2026, 11, 25, tzinfo=UTC)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def certificate_of(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, name: str = "collector", serial: int = 1
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(AT)
        .not_valid_after(AT + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


CERTIFICATE = certificate_of(KEY)
OTHER = certificate_of(OTHER_KEY, "issuer")
PEM = CERTIFICATE.public_bytes(Encoding.PEM)
DER = CERTIFICATE.public_bytes(Encoding.DER)


@cache
def key_bytes(
    encoding: Encoding = Encoding.PEM,
    form: PrivateFormat = PrivateFormat.PKCS8,
    password: bytes | None = None,
) -> bytes:
    return KEY.private_bytes(encoding, form, encryption(password))


@cache
def pfx(password: bytes | None, *, with_key: bool = True) -> bytes:
    key = KEY if with_key else None
    return pkcs12.serialize_key_and_certificates(b"name", key, CERTIFICATE, [OTHER], encryption(password))


def encryption(password: bytes | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password)


@pytest.mark.parametrize(
    "content",
    [PEM, DER, PEM.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + PEM, b"Bag Attributes\n  x: 1\n" + PEM],
    ids=["pem", "der", "crlf", "bom", "bag attributes"],
)
def test_a_certificate_is_read_from_what_portals_and_tools_save(content: bytes) -> None:
    """PEM with whatever stands around it, and DER; there is no key in these."""
    loaded = load_certificate(content)

    assert loaded.certificate == CERTIFICATE
    assert (loaded.key, loaded.others) == (None, ())


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest.mark.parametrize("certificates_first", [True, False])
def test_the_key_beside_the_certificate_is_read_with_it(
    *, certificates_first: bool, password: bytes | None
) -> None:
    """One PEM file may hold all; the certificate that the key belongs to is the one, wherever it stands."""
    parts = [OTHER.public_bytes(Encoding.PEM) + PEM, key_bytes(password=password)]
    loaded = load_certificate(b"".join(parts if certificates_first else reversed(parts)), password)

    assert loaded.certificate == CERTIFICATE
    assert loaded.others == (OTHER,)
    assert loaded.key is not None
    assert key_belongs(loaded.key, CERTIFICATE)


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_pfx_gives_certificate_key_and_issuers(password: bytes | None) -> None:
    """With a password and without."""
    loaded = load_certificate(pfx(password), password)

    assert loaded.certificate == CERTIFICATE
    assert loaded.others == (OTHER,)
    assert loaded.key is not None
    assert key_belongs(loaded.key, loaded.certificate)


def test_a_pfx_of_windows_servers_is_read() -> None:
    """They encrypt with 3DES unless they are told otherwise."""
    form = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2000).hmac_hash(hashes.SHA1())
    legacy = form.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).build(PASSWORD)
    content = pkcs12.serialize_key_and_certificates(b"name", KEY, CERTIFICATE, None, legacy)

    assert load_certificate(content, PASSWORD).certificate == CERTIFICATE


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize(
    ("form", "password"),
    [
        (PrivateFormat.PKCS8, None),
        (PrivateFormat.PKCS8, PASSWORD),
        (PrivateFormat.TraditionalOpenSSL, None),
    ],
)
def test_a_key_of_its_own_file_is_read(
    encoding: Encoding, form: PrivateFormat, password: bytes | None
) -> None:
    """PKCS #8, encrypted or not, and the older RSA form."""
    assert key_belongs(load_private_key(key_bytes(encoding, form, password), password), CERTIFICATE)


def test_a_key_is_found_in_a_pfx_and_beside_a_certificate() -> None:
    """The file of the key may be the whole."""
    assert key_belongs(load_private_key(pfx(PASSWORD), PASSWORD), CERTIFICATE)
    assert key_belongs(load_private_key(PEM + key_bytes()), CERTIFICATE)


def test_a_password_that_nothing_needs_is_no_mistake() -> None:
    """The configuration may have one left over."""
    assert key_belongs(load_private_key(key_bytes(), PASSWORD), CERTIFICATE)
    assert load_certificate(pfx(None), PASSWORD).key is not None


def test_the_certificate_can_be_had_without_its_encrypted_key() -> None:
    """What is public needs no password."""
    loaded = load_certificate(PEM + key_bytes(password=PASSWORD), reads_key=False)

    assert (loaded.certificate, loaded.key) == (CERTIFICATE, None)


@pytest.mark.parametrize("password", [None, b"", b"wrong"])
def test_an_encrypted_key_says_whether_a_password_is_needed_or_wrong(password: bytes | None) -> None:
    """Two mistakes with two cures, and neither text has the password in it."""
    expected = PasswordWrong if password else PasswordNeeded
    for load, content in (
        (load_certificate, pfx(PASSWORD)),
        (load_certificate, PEM + key_bytes(password=PASSWORD)),
        (load_private_key, key_bytes(password=PASSWORD)),
        (load_private_key, key_bytes(Encoding.DER, password=PASSWORD)),
        (load_private_key, pfx(PASSWORD)),
    ):
        with pytest.raises(expected) as caught:
            load(content, password)
        assert type(caught.value) is expected
        assert caught.value.__context__ is None or caught.value.__suppress_context__
        assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no certificate"),
        (b"hello", "holds no certificate"),
        (key_bytes(), "holds a private key and no certificate"),
        (key_bytes(Encoding.DER), "cannot be read"),
        (PEM.replace(PEM[60:70], b"%%%%%%%%%%"), "cannot be read"),
        (DER[:-9], "cannot be read"),
        (PEM.decode().encode("utf-16"), "UTF-16"),
    ],
    ids=["empty", "text", "key", "der key", "broken pem", "cut der", "utf-16"],
)
def test_what_is_no_certificate_is_told_in_a_line(content: bytes, words: str) -> None:
    """The sentence that the file's name begins."""
    with pytest.raises(CertificateUnreadable, match=words) as caught:
        load_certificate(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no private key"),
        (PEM, "holds a certificate and no private key"),
        (pfx(None, with_key=False), "holds a certificate and no private key"),
        (DER, "no private key that can be read"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "that can be read"),
        (key_bytes().decode().encode("utf-16"), "UTF-16"),
    ],
    ids=["empty", "certificate", "pfx", "der certificate", "broken", "utf-16"],
)
def test_what_is_no_key_is_told_in_a_line(content: bytes, words: str) -> None:
    """The usual mistake is the certificate in the key's place."""
    with pytest.raises(CertificateUnreadable, match=words):
        load_private_key(content)


def test_a_key_of_another_certificate_does_not_belong() -> None:
    """Neither one of the same kind nor one of another."""
    assert key_belongs(KEY, CERTIFICATE)
    assert not key_belongs(KEY, OTHER)
    assert not key_belongs(OTHER_KEY, CERTIFICATE)
    assert not key_belongs(KEY, certificate_of(rsa.generate_private_key(65537, 2048)))


@given(name=st.text("abcxyz äß€.-", min_size=1, max_size=64), serial=st.integers(1, 2**158))
def test_thumbprints_are_the_digests_of_the_der(name: str, serial: int) -> None:
    """As hashlib has them, in the portal's form and in the assertion's."""
    certificate = certificate_of(OTHER_KEY, name, serial)
    der = certificate.public_bytes(Encoding.DER)
    found = thumbprints_of(certificate)

    assert found.sha1_hex == hashlib.sha1(der).hexdigest().upper()
    assert found.sha256_hex == hashlib.sha256(der).hexdigest().upper()
    assert base64.urlsafe_b64decode(found.x5t + "=") == hashlib.sha1(der).digest()
    assert base64.urlsafe_b64decode(found.x5t_s256 + "=") == hashlib.sha256(der).digest()


@given(st.binary(max_size=40))
def test_base64url_has_no_padding_and_leads_back(raw: bytes) -> None:
    """As RFC 7515 has it."""
    text = base64url.encoded(raw)

    assert not set(text) & set("=+/")
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == raw


@given(st.binary(max_size=60), st.sampled_from([b"", PEM[:80], DER[:60], pfx(PASSWORD)[:60]]))
def test_any_bytes_are_read_or_refused(tail: bytes, start: bytes) -> None:
    """Nothing but the one error comes out, whatever goes in."""
    for load in (load_certificate, load_private_key):
        with pytest.raises(CertificateUnreadable):
            load(start + tail)
