"""The token endpoint of one tenant, v1 and v2, and the check of its tokens at the API.

Source: api-contract 1.3 to 1.7.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random
from urllib.parse import unquote_plus

import msgspec

from m365watch.common import base64url
from m365watch_simulator.entra.aadsts import aadsts
from m365watch_simulator.entra.assertions import ASSERTION_TYPE, AssertionCheck
from m365watch_simulator.entra.federation import FederationCheck, Issuer, is_federated
from m365watch_simulator.entra.grants import Codes, Consent
from m365watch_simulator.feed.refusals import Refusal, graph_refusal, refusal, unauthorized
from m365watch_simulator.service.identities import TenantIdentity
from m365watch_simulator.service.scenario import Behaviour

OFFICIAL_AUDIENCE = "https://manage.office.com"
OFFICIAL_GRAPH_AUDIENCE = "https://graph.microsoft.com"
GRAPH_PATH = "/graph"
"""Where Graph is below the service's address, so that its tokens and its calls are told apart."""
GRAPH_ROLES = frozenset(
    {
        "AuditLogsQuery.Read.All",
        *(
            f"AuditLogsQuery-{one}.Read.All"
            for one in ("CRM", "Endpoint", "Entra", "Exchange", "OneDrive", "SharePoint")
        ),
    }
)
HEALTH_ROLES = frozenset({"ServiceHealth.Read.All"})
POST_ROLES = frozenset({"ServiceMessage.Read.All"})
APPLICATION_ROLES = frozenset(
    {"Application.Read.All", "Application.ReadWrite.All", "Application.ReadWrite.OwnedBy"}
)


@dataclass(frozen=True, slots=True)
class Token:
    """What the API needs to know of a token that was handed out."""

    audience: str
    expires_at: datetime
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One POST to the token endpoint."""

    form: Mapping[str, str]
    authorization: str
    """The Authorization header; "" if there is none."""
    version: int
    """1 or 2."""


class TokenEndpoint:
    """Hands out tokens to the tenant's application and knows which are good."""

    def __init__(
        self,
        identity: TenantIdentity,
        behaviour: Behaviour,
        *,
        base_url: str,
        seed: int,
        issuer: Issuer,
        secret_ends_at: datetime | None = None,
    ) -> None:
        """`base_url` is where the service listens: the audience of its tokens and assertions.

        `issuer` signs the federated tokens that the application trusts; from `secret_ends_at` on
        the application's secret has expired.
        """
        self._secret_ends_at = secret_ends_at
        self._identity = identity
        self._behaviour = behaviour
        self._base_url = base_url
        self._assertions = AssertionCheck(identity)
        self._issuer = issuer
        self._federation = FederationCheck(identity, issuer)
        self._random = Random(f"{seed}/{identity.tenant_id}/tokens")
        self._issued: dict[str, Token] = {}
        self.consent = Consent(behaviour)
        self.codes = Codes(seed=f"{seed}/{identity.tenant_id}", life_s=behaviour.code_life_s)
        self._presented: deque[str] = deque(maxlen=1_000)

    def adopt(self, identity: TenantIdentity) -> None:
        """Go by the credentials of `identity` from now on; tokens that are out stay good."""
        self._identity = identity
        self._assertions.adopt(identity)
        self._federation = FederationCheck(identity, self._issuer)

    def issue(
        self, request: TokenRequest, *, now: datetime, life_s: int | None = None, bare: bool = False
    ) -> bytes:
        """The answer's body; `life_s` and `bare` (no roles) are a scenario's doing.

        Raises: Refusal: one of Entra's.
        """
        audience = self._verify(request, now)
        uses_secret = "client_assertion" not in request.form
        life_s = life_s or self._behaviour.token_life_s
        if request.form.get("grant_type") == "authorization_code":
            return self._issue_for_code(request, audience, life_s, now)
        text = self._hand_out(
            audience, life_s, now=now, bare=bare, appid=self._identity.client_id, uses_secret=uses_secret
        )
        return msgspec.json.encode(_answer(request.version, text, audience, life_s, now))

    def issue_to_identity(self, audience: str, *, now: datetime) -> str | None:
        """A token for the machine's managed identity; None for an audience that nobody has here."""
        if audience.rstrip("/") not in (*self._audiences(), *self._graph_audiences()):
            return None
        return self._hand_out(
            audience,
            self._behaviour.token_life_s,
            now=now,
            bare=False,
            appid=self._identity.identity_id,
            uses_secret=False,
        )

    def _hand_out(
        self, audience: str, life_s: int, *, now: datetime, bare: bool, appid: str, uses_secret: bool
    ) -> str:
        is_graph = audience.rstrip("/") in self._graph_audiences()
        roles = () if bare else self._behaviour.graph_roles if is_graph else self._behaviour.roles
        text = self._mint(audience, roles, life_s, now=now, appid=appid, uses_secret=uses_secret)
        self._forget_expired(now)
        self._issued[text] = Token(audience, now + timedelta(seconds=life_s), roles)
        return text

    def _issue_for_code(self, request: TokenRequest, audience: str, life_s: int, now: datetime) -> bytes:
        """The answer to a code: a token of the administrator's, one to refresh it, and who signed in."""
        self.codes.redeem(request.form, version=request.version, now=now)
        client_id = self._identity.client_id
        uses_secret = "client_assertion" not in request.form
        mint = partial(self._mint, roles=(), life_s=life_s, now=now, appid=client_id, uses_secret=uses_secret)
        access = mint(audience, scp="ActivityFeed.Read")
        identity = mint(client_id)
        self._issued[access] = Token(audience, now + timedelta(seconds=life_s), ())
        answer = _answer(request.version, access, audience, life_s, now) | {
            "scope": "ActivityFeed.Read",
            "refresh_token": f"0.{base64url.encoded(self._random.randbytes(64))}",
            "id_token": identity,
        }
        return msgspec.json.encode(answer)

    def require(self, authorization: str, now: datetime) -> None:
        """Return if the Authorization header holds a good token for this tenant's API.

        Raises: Refusal: 401 without an error object, or AF10001 for a token without the role.
        """
        token = self._issued.get(authorization.removeprefix("Bearer "))
        if token is None or now >= token.expires_at or token.audience.rstrip("/") not in self._audiences():
            raise unauthorized()
        if "ActivityFeed.Read" not in token.roles:
            raise refusal("AF10001", ",".join(token.roles))

    def require_graph(
        self, authorization: str, now: datetime, *, roles: frozenset[str] = GRAPH_ROLES
    ) -> None:
        """Return if the Authorization header holds a token for Graph with one of `roles`.

        Those of audit log queries where none are given.

        Raises: Refusal: 401, or 403 for a token without the role.
        """
        token = self._issued.get(authorization.removeprefix("Bearer "))
        if (
            token is None
            or now >= token.expires_at
            or token.audience.rstrip("/") not in self._graph_audiences()
        ):
            raise graph_refusal(401, "InvalidAuthenticationToken", "Access token validation failure.")
        if not roles.intersection(token.roles):
            raise graph_refusal(403, "Forbidden", "Insufficient privileges to complete the operation.")

    def carries(self, authorization: str, *roles: str) -> bool:
        """Whether the header's token has one of the roles."""
        token = self._issued.get(authorization.removeprefix("Bearer "))
        return token is not None and not frozenset(roles).isdisjoint(token.roles)

    def handed_out(self) -> list[str]:
        """The tokens that are remembered: the last thousand at least."""
        return list(self._issued)

    def presented(self) -> list[str]:
        """The last thousand assertions that were sent, good or not: what a collector must tell nobody."""
        return list(self._presented)

    def issued(self, authorization: str) -> bool:
        """Whether the header's token is one of this tenant's."""
        return authorization.removeprefix("Bearer ") in self._issued

    def _verify(self, request: TokenRequest, now: datetime) -> str:
        """The audience that is asked for, once everything about the request is right."""
        form = dict(request.form)
        if request.authorization.startswith("Basic "):
            form |= _basic_credentials(request.authorization)
        for name in ("grant_type", "client_id"):
            if not form.get(name):
                raise aadsts(900144, name, now=now)
        if form["grant_type"] not in ("client_credentials", "authorization_code"):
            raise aadsts(70003, now=now)
        if form["client_id"].lower() != self._identity.client_id or not self.consent.is_given(now):
            raise aadsts(700016, form["client_id"], now=now)
        if not self._behaviour.application_enabled:
            raise aadsts(7000112, self._identity.client_id, now=now)
        audience = self._requested_audience(form, request.version, now)
        self._verify_credential(form, now)
        return audience

    def _requested_audience(self, form: Mapping[str, str], version: int, now: datetime) -> str:
        name = "resource" if version == 1 else "scope"
        asked = form.get(name, "")
        if not asked:
            raise aadsts(900144, name, now=now)
        if version == 2:
            if form["grant_type"] == "authorization_code":
                asked = asked.replace("openid ", "", 1)
            if not asked.endswith("/.default"):
                raise aadsts(1002012, asked, now=now)
            if " " in asked:
                raise aadsts(70011, now=now)
            asked = asked.removesuffix("/.default")
        if asked.rstrip("/") not in (*self._audiences(), *self._graph_audiences()):
            raise aadsts(500011, asked, now=now)
        return asked

    def _verify_credential(self, form: Mapping[str, str], now: datetime) -> None:
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION_TYPE:
                raise aadsts(900144, "client_assertion_type", now=now)
            assertion = form["client_assertion"]
            self._presented.append(assertion)
            if is_federated(assertion):
                self._federation.verify(assertion, now=now)
            else:
                self._assertions.verify(assertion, audiences=self._assertion_audiences(), now=now)
            return
        if not form.get("client_secret"):
            raise aadsts(7000218, now=now)
        if form["client_secret"] == self._identity.second_secret:
            return
        if form["client_secret"] == self._identity.expired_secret:
            raise aadsts(7000222, self._identity.client_id, now=now)
        if form["client_secret"] != self._identity.client_secret:
            raise aadsts(7000215, self._identity.client_id, now=now)
        has_ended = self._secret_ends_at is not None and now >= self._secret_ends_at
        if self._behaviour.secret_expired or has_ended:
            raise aadsts(7000222, self._identity.client_id, now=now)

    def _audiences(self) -> tuple[str, ...]:
        return (self._base_url, OFFICIAL_AUDIENCE)

    def _graph_audiences(self) -> tuple[str, ...]:
        return (f"{self._base_url}{GRAPH_PATH}", OFFICIAL_GRAPH_AUDIENCE)

    def _assertion_audiences(self) -> frozenset[str]:
        hosts = (self._base_url, "https://login.microsoftonline.com", "https://login.windows.net")
        tenants = (self._identity.tenant_id, self._identity.domain, "common", "organizations")
        paths = ("oauth2/token", "oauth2/v2.0/token")
        return frozenset(f"{host}/{tenant}/{path}" for host in hosts for tenant in tenants for path in paths)

    def _mint(
        self,
        audience: str,
        roles: tuple[str, ...],
        life_s: int,
        *,
        now: datetime,
        appid: str,
        uses_secret: bool,
        **more: str,
    ) -> str:
        """A text like Entra's tokens; its signature is chance, since only the issuer checks it."""
        issued = int(now.timestamp())
        identity, issuer = self._identity, f"https://sts.windows.net/{self._identity.tenant_id}/"
        is_application = appid == identity.client_id
        principal = identity.service_principal_id if is_application else identity.identity_id
        claims: dict[str, object] = {
            "aud": audience,
            "iss": issuer,
            "iat": issued,
            "nbf": issued,
            "exp": issued + life_s,
            "appid": appid,
            "appidacr": "1" if uses_secret else "2",
            "idp": issuer,
            "oid": principal,
            "sub": principal,
            "tid": self._behaviour.token_tenant or identity.tenant_id,
            "ver": "1.0",
            **more,
        }
        if roles:
            claims["roles"] = roles
        head = {"typ": "JWT", "alg": "RS256", "kid": "simulated"}
        parts = (msgspec.json.encode(head), msgspec.json.encode(claims), self._random.randbytes(256))
        return ".".join(map(base64url.encoded, parts))

    def _forget_expired(self, now: datetime) -> None:
        if len(self._issued) > 1_000:
            self._issued = {text: token for text, token in self._issued.items() if now < token.expires_at}


def unknown_tenant(name: str, *, now: datetime, is_guid: bool) -> Refusal:
    """What the token endpoint answers for a tenant that is not there."""
    return aadsts(90002 if is_guid or "." in name else 900023, name, now=now)


def _answer(version: int, token: str, audience: str, life_s: int, now: datetime) -> dict[str, object]:
    if version == 2:
        return {"token_type": "Bearer", "expires_in": life_s, "ext_expires_in": life_s, "access_token": token}
    issued = int(now.timestamp())
    return {
        "token_type": "Bearer",
        "expires_in": str(life_s),
        "ext_expires_in": str(life_s),
        "expires_on": str(issued + life_s),
        "not_before": str(issued),
        "resource": audience,
        "access_token": token,
    }


def _basic_credentials(authorization: str) -> dict[str, str]:
    try:
        decoded = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return {}
    client_id, _, secret = decoded.partition(":")
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}
