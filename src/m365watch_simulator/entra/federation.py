"""Tokens of other issuers, and the check of one that stands for an application.

An application trusts two: what the simulated issuer gives to its subject, as Kubernetes does to a pod, and
what Entra gives to the machine's managed identity.

Source: api-contract 1.9.
"""

from __future__ import annotations

import binascii
from datetime import datetime
from functools import cached_property
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from m365watch.common import base64url
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.service.identities import TRUSTED_SUBJECT, TenantIdentity

EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
LIFE_S = 3_600
_PADDING = padding.PKCS1v15()


class Issuer:
    """Signs tokens with a key of its own."""

    def __init__(self, base_url: str) -> None:
        """`base_url` is where the simulator listens; the key is made when it is needed first."""
        self.base_url = base_url
        self.name = f"{base_url}/simulator/issuer"
        """The `iss` of its tokens."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(self, now: datetime, *, life_s: int = LIFE_S, **changes: object) -> str:
        """A token for the subject that applications trust; `changes` are claims that differ."""
        issued = int(now.timestamp())
        claims = {
            "iss": self.name,
            "sub": TRUSTED_SUBJECT,
            "aud": EXCHANGE_AUDIENCE,
            "iat": issued,
            "nbf": issued,
            "exp": issued + life_s,
            **changes,
        }
        head = {"typ": "JWT", "alg": "RS256", "kid": "simulated"}
        signed = ".".join(base64url.encoded(msgspec.json.encode(part)) for part in (head, claims))
        return f"{signed}.{base64url.encoded(self._key.sign(signed.encode(), _PADDING, hashes.SHA256()))}"

    def identity_token(self, home: TenantIdentity, now: datetime) -> str:
        """What Entra gives to the managed identity of a machine in the tenant `home`, to vouch with."""
        return self.token(now, iss=identity_issuer(home), sub=home.identity_id, oid=home.identity_id)

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is this issuer's."""
        try:
            self._key.public_key().verify(signature, signed, _PADDING, hashes.SHA256())
        except InvalidSignature:
            return False
        return True


def identity_issuer(home: TenantIdentity) -> str:
    """The `iss` of tokens of Entra's in the tenant `home`."""
    return f"https://login.microsoftonline.com/{home.tenant_id}/v2.0"


class FederationCheck:
    """The federated credentials of one application."""

    def __init__(self, identity: TenantIdentity, issuer: Issuer) -> None:
        """The application trusts `issuer` for one subject, and Entra for any machine's managed identity."""
        self._identity = identity
        self._issuer = issuer

    def verify(self, assertion: str, *, now: datetime) -> None:
        """Return if the token is one that the application trusts, and good now.

        Raises: Refusal: 50027, 50013, 700211, 700212, 700213, 700024.
        """
        try:
            head, body, signature = assertion.split(".")
            claims = _claims(body)
            is_signed = self._issuer.has_signed(f"{head}.{body}".encode(), base64url.decoded(signature))
        except (ValueError, RecursionError, binascii.Error):
            raise aadsts(50027, now=now) from None
        name, subject = str(claims.get("iss")), claims.get("sub")
        # Any home tenant's identity will do, so that one machine can vouch for many applications.
        is_entra = name.startswith("https://login.microsoftonline.com/") and name.endswith("/v2.0")
        if name != self._issuer.name and not is_entra:
            raise aadsts(700211, name, now=now)
        if not is_signed:
            raise aadsts(50013, now=now)
        if claims.get("aud") != EXCHANGE_AUDIENCE:
            raise aadsts(700212, str(claims.get("aud")), now=now)
        if not is_entra and subject != self._identity.trusted_subject:
            raise aadsts(700213, str(subject), now=now)
        starts, ends = claims.get("nbf"), claims.get("exp")
        if not isinstance(starts, int) or not isinstance(ends, int):
            raise aadsts(700024, now=now)
        if not starts - 300 <= now.timestamp() < ends:
            raise aadsts(700024, now=now)


def is_federated(assertion: str) -> bool:
    """Whether another issuer than the application itself made the assertion."""
    try:
        return str(_claims(assertion.split(".")[1]).get("iss")).startswith(("http://", "https://"))
    except (ValueError, IndexError, RecursionError, binascii.Error):
        return False


def _claims(part: str) -> dict[str, Any]:
    return msgspec.json.decode(base64url.decoded(part), type=dict[str, Any])
