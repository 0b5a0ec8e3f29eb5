from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from caller import START, Caller, calling, in_loop
from m365watch_simulator.service.identities import TenantIdentity, derive_identities
from m365watch_testing.applications import ApplicationCertificate

OTHER = "0f0f0f0f-0000-4000-8000-000000000000"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
CERTIFICATE = (
    x509.CertificateBuilder()
    .subject_name(NAME)
    .issuer_name(NAME)
    .public_key(KEY.public_key())
    .serial_number(1)
    .not_valid_before(START)
    .not_valid_after(START + timedelta(days=1))
    .sign(KEY, hashes.SHA256())
)


@in_loop
async def test_v1_answers_numbers_as_strings() -> None:
    """Contract 7.1 and 1.3: the v1 endpoint's numbers are strings, and it names the resource."""
    async with calling(signed_in=False) as caller:
        answer = (await caller.ask_token(version=1)).document
    assert answer["expires_in"] == "3599"
    assert answer["expires_on"] == str(int(START.timestamp()) + 3599)
    assert answer["resource"] == caller.running.url


@in_loop
async def test_v2_answers_integers() -> None:
    """Contract 7.1 and 1.4: the v2 endpoint's numbers are integers; no resource."""
    async with calling(signed_in=False) as caller:
        answer = (await caller.ask_token(version=2)).document
    assert set(answer) == {"token_type", "expires_in", "ext_expires_in", "access_token"}
    assert answer["expires_in"] == 3599


@in_loop
async def test_the_domain_stands_for_the_tenant() -> None:
    """Contract 1.3: the tenant of the path may be a verified domain."""
    async with calling(signed_in=False) as caller:
        assert (await caller.ask_token(tenant=caller.identity.domain)).status == 200


@in_loop
async def test_basic_authentication_is_taken() -> None:
    """Contract 1.4: the client may name itself in the Authorization header."""
    async with calling(signed_in=False) as caller:
        basic = aiohttp.encode_basic_auth(caller.identity.client_id, caller.identity.client_secret)
        url = f"{caller.running.url}/{caller.identity.tenant_id}/oauth2/v2.0/token"
        form = {"grant_type": "client_credentials", "scope": f"{caller.running.url}/.default"}
        reply = await caller.send("POST", url, data=form, headers={"Authorization": basic})
    assert reply.status == 200


@in_loop
async def test_a_token_carries_the_documented_claims() -> None:
    """Contract 1.6: an app-only token of version 1.0, whichever endpoint gave it."""
    async with calling() as caller:
        claims = claims_of(caller.bearer)
    assert claims["aud"] == caller.running.url
    assert claims["tid"] == caller.identity.tenant_id
    assert claims["appid"] == caller.identity.client_id
    assert claims["roles"] == ["ActivityFeed.Read", "ActivityFeed.ReadDlp"]
    assert (claims["ver"], claims["appidacr"]) == ("1.0", "1")
    assert claims["exp"] - claims["nbf"] == 3599


REFUSALS: list[tuple[dict[str, str], int, int, str]] = [
    ({"client_secret": "wrong"}, 7000215, 401, "invalid_client"),
    ({"client_secret": ""}, 7000218, 401, "invalid_client"),
    ({"client_id": OTHER}, 700016, 400, "unauthorized_client"),
    ({"client_id": ""}, 900144, 400, "invalid_request"),
    ({"grant_type": ""}, 900144, 400, "invalid_request"),
    ({"grant_type": "password"}, 70003, 400, "unsupported_grant_type"),
    ({"scope": ""}, 900144, 400, "invalid_request"),
    ({"scope": "https://manage.office.com"}, 1002012, 400, "invalid_scope"),
    ({"scope": "https://elsewhere.example/.default"}, 500011, 400, "invalid_resource"),
    ({"tenant": OTHER}, 90002, 400, "invalid_request"),
    ({"tenant": "nonsense"}, 900023, 400, "invalid_request"),
]


@pytest.mark.parametrize(("change", "code", "status", "error"), REFUSALS)
@in_loop
async def test_a_wrong_request_gets_its_code(
    change: dict[str, Any], code: int, status: int, error: str
) -> None:
    """Contract 1.7: the code, status and `error` of the table, in Entra's shape."""
    async with calling(signed_in=False) as caller:
        reply = await caller.ask_token(**change)
    document = reply.document
    assert (document["error_codes"], reply.status, document["error"]) == ([code], status, error)
    assert document["error_description"].startswith(f"AADSTS{code}: ")
    assert "\r\nTrace ID: " in document["error_description"]
    assert {"timestamp", "trace_id", "correlation_id"} <= set(document)


@pytest.mark.parametrize(
    ("switch", "code"), [("secret_expired: true", 7000222), ("application_enabled: false", 7000112)]
)
@in_loop
async def test_a_switch_makes_the_credential_bad(switch: str, code: int) -> None:
    """Contract 1.7: an expired secret and a disabled application."""
    async with calling(f"behaviour: {{{switch}}}", signed_in=False) as caller:
        assert (await caller.ask_token()).document["error_codes"] == [code]


@in_loop
async def test_a_token_without_roles_is_refused_at_the_api() -> None:
    """Contract 1.6: such a token is handed out; AF10001 comes later."""
    async with calling("behaviour: {roles: []}", subscribed=False) as caller:
        reply = await caller.get("subscriptions/list")
    assert "roles" not in claims_of(caller.bearer)
    assert (reply.status, reply.code) == (401, "AF10001")


@in_loop
async def test_a_token_ends() -> None:
    """Contract 3.2: an expired token gets ASP.NET's 401, without an error object."""
    async with calling() as caller:
        await caller.clock.sleep(3599)
        reply = await caller.get("subscriptions/list")
    assert reply.status == 401
    assert reply.document == {"Message": "Authorization has been denied for this request."}


@pytest.mark.parametrize("bearer", ["", "nonsense", "a.b.c"])
@in_loop
async def test_a_token_that_is_none_is_refused(bearer: str) -> None:
    """Contract 3.2: missing and malformed tokens."""
    async with calling() as caller:
        caller.bearer = bearer
        assert (await caller.get("subscriptions/list")).status == 401


@in_loop
async def test_a_token_is_good_for_its_tenant_only() -> None:
    """The token of one tenant opens nothing at another."""
    async with calling(tenants=derive_identities(5, 2)) as caller:
        other = Caller(caller.session, caller.running, caller.clock, number=1, bearer=caller.bearer)
        assert (await other.get("subscriptions/list")).status == 401


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
@pytest.mark.parametrize("thumbprint", ["x5t", "x5t#S256"])
@in_loop
async def test_a_certificate_signs_in(algorithm: str, thumbprint: str) -> None:
    """Contract 7.1 and 1.5: RS256 and PS256, each with either thumbprint."""
    async with calling_with_certificate() as caller:
        reply = await ask_with(caller, assertion(caller, algorithm=algorithm, thumbprint=thumbprint))
    assert reply.status == 200
    assert claims_of(reply.document["access_token"])["appidacr"] == "2"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "https://elsewhere.example"}, 50012),
        ({"iss": OTHER}, 700027),
        ({"sub": OTHER}, 700027),
        ({"exp": int(START.timestamp()) - 1}, 700024),
        ({"nbf": int(START.timestamp()) + 3600}, 700024),
        ({"jti": None}, 700027),
    ],
)
@in_loop
async def test_a_wrong_claim_of_an_assertion_gets_its_code(changes: dict[str, Any], code: int) -> None:
    """Contract 1.5 and 1.7: aud, iss, sub, nbf, exp and jti are checked."""
    async with calling_with_certificate() as caller:
        reply = await ask_with(caller, assertion(caller, **changes))
    assert reply.document["error_codes"] == [code]


@in_loop
async def test_an_assertion_is_good_once() -> None:
    """The same jti is not taken twice."""
    async with calling_with_certificate() as caller:
        signed = assertion(caller)
        statuses = [(await ask_with(caller, signed)).status for _ in range(2)]
    assert statuses == [200, 401]


@in_loop
async def test_an_assertion_needs_the_registered_key() -> None:
    """Contract 1.7: another key, no thumbprint, and no certificate at all."""
    async with calling_with_certificate() as caller:
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        codes = [
            (await ask_with(caller, assertion(caller, key=stranger))).document["error_codes"],
            (await ask_with(caller, assertion(caller, thumbprint="kid"))).document["error_codes"],
            (await ask_with(caller, "nonsense")).document["error_codes"],
        ]
    async with calling(signed_in=False) as caller:
        codes.append((await ask_with(caller, assertion(caller))).document["error_codes"])
    assert codes == [[700027], [50027], [50027], [700027]]


@in_loop
async def test_credentials_can_be_exchanged_while_it_runs() -> None:
    """As in the portal: the old secret is refused from then on, the new one and the certificate are taken."""
    async with calling_with_certificate() as caller:
        [tenant], old = caller.running.tenants, caller.identity.client_secret
        tenant.adopt(replace(tenant.identity, client_secret="made~up.new", certificate=None))
        replies = [
            await caller.ask_token(client_secret=old),
            await caller.ask_token(client_secret="made~up.new"),
            await ask_with(caller, assertion(caller)),
        ]
        told = tenant.registration.document()
    assert [reply.document.get("error_codes") for reply in replies] == [[7000215], None, [700027]]
    assert told["keyCredentials"] == []


@in_loop
async def test_an_application_may_have_several_certificates() -> None:
    """Each signs in, as while one takes the place of the other; Graph tells of both."""
    async with calling_with_certificate() as caller:
        [tenant] = caller.running.tenants
        other = ApplicationCertificate(START)
        tenant.adopt(replace(tenant.identity, certificate=other.pem + (tenant.identity.certificate or b"")))
        statuses = [(await ask_with(caller, assertion(caller))).status]
        tenant.adopt(replace(tenant.identity, certificate=other.pem))
        statuses.append((await ask_with(caller, assertion(caller))).status)
    assert statuses == [200, 401]


def calling_with_certificate() -> Any:
    pem = CERTIFICATE.public_bytes(serialization.Encoding.PEM)
    identity = TenantIdentity(
        tenant_id=str(uuid4()),
        client_id=str(uuid4()),
        client_secret="unused",
        domain="certain.example",
        certificate=pem,
    )
    return calling(signed_in=False, tenants=(identity,))


async def ask_with(caller: Caller, signed: str) -> Any:
    return await caller.ask_token(
        client_secret="",
        client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion=signed,
    )


def assertion(
    caller: Caller,
    *,
    algorithm: str = "PS256",
    thumbprint: str = "x5t#S256",
    key: rsa.RSAPrivateKey = KEY,
    **changes: Any,
) -> str:
    der = CERTIFICATE.public_bytes(serialization.Encoding.DER)
    prints = {"x5t": hashlib.sha1(der).digest(), "x5t#S256": hashlib.sha256(der).digest(), "kid": b"x"}
    now = int(START.timestamp())
    claims = {
        "aud": f"{caller.running.url}/{caller.identity.tenant_id}/oauth2/v2.0/token",
        "iss": caller.identity.client_id,
        "sub": caller.identity.client_id,
        "jti": str(uuid4()),
        "nbf": now,
        "exp": now + 600,
        **changes,
    }
    head = {"alg": algorithm, "typ": "JWT", thumbprint: encoded(prints[thumbprint])}
    signed = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(claims).encode())}"
    chosen: Any = padding.PKCS1v15()
    if algorithm == "PS256":
        chosen = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return f"{signed}.{encoded(key.sign(signed.encode(), chosen, hashes.SHA256()))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims
