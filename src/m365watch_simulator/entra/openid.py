"""People who sign in to an application of somebody's with OpenID Connect: discovery, keys, code and id token.

The person at the browser is who `person` says, and says yes at once. What a token is to be wrong in, a test
puts into `changes`.

Source: OpenID Connect Core 1.0, sections 2 and 3.1; RFC 7636; Entra's page on id tokens for the claims.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from m365watch.common import base64url
from m365watch_simulator.entra.forms import form_of
from m365watch_simulator.service.gate import Gate
from m365watch_simulator.service.tenant import SimulatedTenant

LIFE_S = 3_600
PERSON: dict[str, object] = {
    "preferred_username": "ann@contoso.example",
    "name": "Ann",
    "oid": "aaaaaaaa-0000-4000-8000-00000000000a",
    "roles": ["Board.Analyst"],
}


@dataclass(slots=True)
class _Asked:
    """What a code was handed out for."""

    redirect_uri: str
    challenge: str
    nonce: str


class OpenId:
    """The provider of all tenants."""

    def __init__(self, tenants: list[SimulatedTenant], gate: Gate, *, base_url: str, seed: int) -> None:
        """`gate` knows the same tenants."""
        self._tenants = {one.identity.tenant_id: one for one in tenants}
        self._gate = gate
        self._base_url = base_url
        self._random = Random(f"{seed}/openid")
        self._codes: dict[str, _Asked] = {}
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.person: dict[str, object] = dict(PERSON)
        """The claims that are about whoever sits at the browser."""
        self.changes: dict[str, object] = {}
        """Claims in place of the right ones."""
        self.head: dict[str, object] = {}
        """The same in the token's head."""
        self.document: dict[str, object] = {}
        """The same in the discovery document."""
        self.refuses: dict[str, int] = {}
        """The AADSTS code that a page answers with, by the page's name in `asked`."""
        self.asked: list[str] = []
        """The pages that were asked for: discovery, keys, authorize, token."""

    def routes(self) -> list[web.AbstractRouteDef]:
        """Its paths."""
        return [
            web.get("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery),
            web.get("/{tenant}/discovery/v2.0/keys", self.keys),
            web.get("/{tenant}/openid/authorize", self.authorize),
            web.post("/{tenant}/openid/token", self.token),
        ]

    def renew_key(self) -> str:
        """Sign with a new key from now on; the old ones are not published any more."""
        self._keys = {f"key-{self._random.randrange(1 << 30)}": rsa.generate_private_key(65_537, 2_048)}
        return next(iter(self._keys))

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        """Where everything is."""
        self.asked.append("discovery")
        if (code := self.refuses.get("discovery")) is not None:
            return _json(_refusal(code), status=400)
        place = f"{self._base_url}/{request.match_info['tenant']}"
        said = {
            "issuer": f"{place}/v2.0",
            "authorization_endpoint": f"{place}/openid/authorize",
            "token_endpoint": f"{place}/openid/token",
            "jwks_uri": f"{place}/discovery/v2.0/keys",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return _json(said | self.document)

    async def keys(self, _request: web.Request) -> web.StreamResponse:
        """The public keys."""
        self.asked.append("keys")
        if not self._keys:
            self.renew_key()
        published = []
        for kid, key in self._keys.items():
            numbers = key.public_key().public_numbers()
            modulus, exponent = (
                base64url.encoded(one.to_bytes((one.bit_length() + 7) // 8)) for one in (numbers.n, numbers.e)
            )
            published.append({"kty": "RSA", "use": "sig", "kid": kid, "n": modulus, "e": exponent})
        return _json({"keys": published})

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """The person says yes."""
        self.asked.append("authorize")
        query = request.query
        is_whole = query.get("response_type") == "code" and query.get("code_challenge_method") == "S256"
        if not is_whole or "openid" not in query.get("scope", "").split():
            return web.Response(status=400, text="what is asked for is not a code with PKCE")
        state = query.get("state", "")
        if (refused := self.refuses.get("authorize")) is not None:
            said = {name: str(value) for name, value in _refusal(refused).items() if name != "error_codes"}
            return _sent_back(query["redirect_uri"], said | {"state": state})
        code = base64url.encoded(self._random.randbytes(48))
        self._codes[code] = _Asked(query["redirect_uri"], query["code_challenge"], query.get("nonce", ""))
        return _sent_back(query["redirect_uri"], {"code": code, "state": state})

    async def token(self, request: web.Request) -> web.StreamResponse:
        """The id token for a code, which is then used up."""
        self.asked.append("token")
        form = await form_of(request)
        tenant = self._tenants.get(request.match_info["tenant"])
        is_secret_wrong = tenant is not None and form.get("client_secret") != tenant.identity.client_secret
        if (code := self.refuses.get("token") or (7000215 if is_secret_wrong else None)) is not None:
            return _json(_refusal(code), status=401)
        asked = self._codes.pop(form.get("code", ""), None)
        if tenant is None or asked is None or not self._is_right(form, asked, tenant):
            return _json(_refusal(70000), status=400)
        said = self._claims(tenant, asked.nonce, self._gate.clock.now())
        return _json({"token_type": "Bearer", "expires_in": LIFE_S, "id_token": self._signed(said)})

    def _is_right(self, form: Mapping[str, str], asked: _Asked, tenant: SimulatedTenant) -> bool:
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        return (
            form.get("grant_type") == "authorization_code"
            and form.get("client_id") == tenant.identity.client_id
            and form.get("redirect_uri") == asked.redirect_uri
            and base64url.encoded(verifier) == asked.challenge
        )

    def _claims(self, tenant: SimulatedTenant, nonce: str, now: datetime) -> dict[str, object]:
        issued = int(now.timestamp())
        return {
            "iss": f"{self._base_url}/{tenant.identity.tenant_id}/v2.0",
            "aud": tenant.identity.client_id,
            "tid": tenant.identity.tenant_id,
            "iat": issued,
            "nbf": issued,
            "exp": issued + LIFE_S,
            "nonce": nonce,
            "ver": "2.0",
            **self.person,
            **self.changes,
        }

    def _signed(self, claims: Mapping[str, object]) -> str:
        if not self._keys:
            self.renew_key()
        kid, key = next(iter(self._keys.items()))
        head = {"typ": "JWT", "alg": "RS256", "kid": kid} | self.head
        signed = ".".join(base64url.encoded(msgspec.json.encode(part)) for part in (head, claims))
        return f"{signed}.{base64url.encoded(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _refusal(code: int) -> dict[str, object]:
    error = {50105: "access_denied", 70000: "invalid_grant", 90002: "invalid_tenant"}.get(
        code, "invalid_client"
    )
    words = f"AADSTS{code}: refused. Trace ID: 00000000-0000-4000-8000-000000000000"
    return {"error": error, "error_description": words, "error_codes": [code]}


def _sent_back(place: str, said: Mapping[str, str]) -> web.Response:
    return web.Response(status=302, headers={"Location": f"{place}?{urlencode(said)}"})


def _json(said: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(said), status=status, content_type="application/json")
