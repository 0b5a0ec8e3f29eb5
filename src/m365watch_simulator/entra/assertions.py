"""The check of a client assertion: a JWT signed with the application's certificate.

Source: api-contract 1.5; RS256 and PS256 are accepted with `x5t` and with `x5t#S256`.
"""

from __future__ import annotations

import binascii
import hashlib
from datetime import datetime
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from m365watch.common import base64url
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.service.identities import TenantIdentity

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class AssertionCheck:
    """Checks the assertions of one application and remembers their `jti`s."""

    def __init__(self, identity: TenantIdentity) -> None:
        """Without a certificate every assertion is refused."""
        self._identity = identity
        self._used: set[str] = set()

    def adopt(self, identity: TenantIdentity) -> None:
        """Check with the credentials of `identity` from now on."""
        self._identity = identity

    def verify(self, assertion: str, *, audiences: frozenset[str], now: datetime) -> None:
        """Return if `assertion` is signed by the certificate, for us, now and for the first time.

        Raises: Refusal: 700027, 50027, 50012, 700024.
        """
        head, claims, signed, signature = _parts(assertion, now)
        if not any(head.get(name) for name in ("x5t", "x5t#S256")):
            raise aadsts(50027, now=now)
        certificate = self._certificate(head, now)
        _verify_signature(certificate, head, signed, signature, now)
        if claims.get("aud") not in audiences:
            raise aadsts(50012, now=now)
        self._verify_claims(claims, now)

    def _certificate(self, head: dict[str, Any], now: datetime) -> x509.Certificate:
        """The registered one that every thumbprint of the header is of."""
        registered = self._identity.certificate
        for certificate in x509.load_pem_x509_certificates(registered) if registered else ():
            der = certificate.public_bytes(serialization.Encoding.DER)
            thumbprints = {
                "x5t": hashlib.sha1(der, usedforsecurity=False).digest(),
                "x5t#S256": hashlib.sha256(der).digest(),
            }
            if all(head.get(name) in (None, base64url.encoded(one)) for name, one in thumbprints.items()):
                return certificate
        raise aadsts(700027, "The key was not found.", now=now)

    def _verify_claims(self, claims: dict[str, Any], now: datetime) -> None:
        client_id = self._identity.client_id
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise aadsts(700027, "The issuer is not the application.", now=now)
        not_before, expires, name = claims.get("nbf"), claims.get("exp"), claims.get("jti")
        if not isinstance(not_before, int) or not isinstance(expires, int):
            raise aadsts(700024, now=now)
        if not not_before - 300 <= now.timestamp() < expires:
            raise aadsts(700024, now=now)
        if not isinstance(name, str) or name in self._used:
            raise aadsts(700027, "The assertion was used before or has no jti.", now=now)
        self._used.add(name)


def _parts(assertion: str, now: datetime) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
    try:
        head, claims, signature = assertion.split(".")
        return (
            msgspec.json.decode(base64url.decoded(head), type=dict[str, Any]),
            msgspec.json.decode(base64url.decoded(claims), type=dict[str, Any]),
            f"{head}.{claims}".encode(),
            base64url.decoded(signature),
        )
    except (ValueError, RecursionError, binascii.Error):
        raise aadsts(50027, now=now) from None


def _verify_signature(
    certificate: x509.Certificate, head: dict[str, Any], signed: bytes, signature: bytes, now: datetime
) -> None:
    key = certificate.public_key()
    paddings = {
        "RS256": padding.PKCS1v15(),
        "PS256": padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH),
    }
    chosen = paddings.get(str(head.get("alg")))
    if chosen is None or not isinstance(key, rsa.RSAPublicKey):
        raise aadsts(700027, "The algorithm is not accepted.", now=now)
    try:
        key.verify(signature, signed, chosen, hashes.SHA256())
    except InvalidSignature:
        raise aadsts(700027, "The signature is not valid.", now=now) from None
