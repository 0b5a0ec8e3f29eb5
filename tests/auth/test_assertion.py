"""The client assertion of a certificate, as Entra's two endpoints want it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from m365watch.auth.credentials.client_certificate import CertificateAssertion
from m365watch_testing.applications import ApplicationCertificate, write_private
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.credentials import certificate

OWN = ApplicationCertificate(START - timedelta(days=1))
TENANT = "41463f53-8812-40f4-890f-865bf6e35190"
V1 = f"https://login.microsoftonline.com/{TENANT}/oauth2/token"
V2 = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"


def assertion_for(folder: Path, token_url: str, audience: str | None = None) -> tuple[Any, Any, bytes, bytes]:
    """Header, claims, what is signed, and the signature."""
    given = certificate(
        write_private(folder / "cert", OWN.pem),
        key=write_private(folder / "key", OWN.key_pem()),
        audience=audience,
    )
    proof = asyncio.run(CertificateAssertion("app", given, clock=FakeClock()).proof(token_url))
    assert proof["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    head, claims, signature = proof["client_assertion"].split(".")
    return (*(json.loads(raw(part)) for part in (head, claims)), f"{head}.{claims}".encode(), raw(signature))


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_v2_gets_ps256_and_the_sha_256_thumbprint(tmp_path: Path) -> None:
    """Contract 1.5, Entra's page: PSS padding, `x5t#S256` of the DER, the endpoint itself as audience."""
    head, claims, signed, signature = assertion_for(tmp_path, V2)
    thumbprint = hashlib.sha256(OWN.certificate.public_bytes(Encoding.DER)).digest()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)

    assert (head["alg"], head["typ"], raw(head["x5t#S256"])) == ("PS256", "JWT", thumbprint)
    assert "x5t" not in head
    assert claims["aud"] == V2
    OWN.key.public_key().verify(signature, signed, pss, hashes.SHA256())


def test_v1_gets_rs256_and_the_sha_1_thumbprint(tmp_path: Path) -> None:
    """Contract 1.5, the API's page: PKCS #1 padding and `x5t`."""
    head, claims, signed, signature = assertion_for(tmp_path, V1)
    thumbprint = hashlib.sha1(OWN.certificate.public_bytes(Encoding.DER)).digest()

    assert (head["alg"], raw(head["x5t"])) == ("RS256", thumbprint)
    assert claims["aud"] == V1
    OWN.key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        OWN.key.public_key().verify(signature, signed + b"x", padding.PKCS1v15(), hashes.SHA256())


def test_the_claims_are_those_of_the_contract(tmp_path: Path) -> None:
    """Issuer and subject are the application; ten minutes, one of which is past; never twice the same."""
    _, claims, _, _ = assertion_for(tmp_path, V2)
    _, others, _, _ = assertion_for(tmp_path, V2)
    now_s = int(START.timestamp())

    assert set(claims) == {"aud", "iss", "sub", "jti", "nbf", "exp"}
    assert (claims["iss"], claims["sub"]) == ("app", "app")
    assert (claims["nbf"], claims["exp"]) == (now_s - 60, now_s + 540)
    assert claims["jti"] != others["jti"]


def test_the_audience_of_microsofts_page_can_be_asked_for(tmp_path: Path) -> None:
    """`https://login.windows.net/{tenant}/oauth2/token`, whatever endpoint is called."""
    page = "https://login.windows.net/{tenant}/oauth2/token"
    found = [assertion_for(tmp_path, url, page)[1]["aud"] for url in (V1, V2)]

    assert found == [f"https://login.windows.net/{TENANT}/oauth2/token"] * 2
