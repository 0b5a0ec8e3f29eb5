"""A certificate as proof: a client assertion, that is a JWT signed with the certificate's key.

Source: api-contract 1.5. v2 of the token endpoint is documented with PS256 and `x5t#S256`, v1 with RS256
and `x5t`; the audience is the endpoint's address, whose host Microsoft's page on the API prints as
`login.windows.net`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from m365watch.auth.credentials.certificate.key_pair import KeyFiles, KeyPair
from m365watch.auth.credentials.certificate.spec import CertificateSettings
from m365watch.auth.factory import ASSERTION_TYPE
from m365watch.common import base64url
from m365watch.common.clock import Clock

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
