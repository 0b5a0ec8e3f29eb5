"""What servers answer: on the wire, and what they say of tokens, listings, pages, applications and alerts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import cast
from urllib.parse import parse_qs, urlsplit

from made_outputs import devo_http_to
from multidict import CIMultiDict
from pydantic import SecretStr

from fuzz_contract import Attempt, Broken, Loop, Target, allowed, check_line
from fuzz_values import json_text, value
from m365watch.auth.app_registration import read_registration
from m365watch.auth.consent.authorization_request import (
    ConsentAttempt,
    ConsentForm,
    ForeignAnswer,
    read_redirect,
)
from m365watch.auth.consent.code_exchange import tenant_of
from m365watch.auth.credentials.client_secret.spec import ClientSecret
from m365watch.auth.credentials.managed_identity.identity_tokens import IdentityTokens
from m365watch.auth.tokens import TokenSource
from m365watch.board.access.id_token import Expected, TokenWrong, judge, read_keys
from m365watch.board.access.openid_connect import NotSignedIn, OpenIdSignIn
from m365watch.common.errors import CollectorError
from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.common.secret import Secret
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.listeners import EntraSection, GrantSection
from m365watch.config.models.settings import TenantSettings
from m365watch.health.devo_alerts import DevoAlerts
from m365watch.http.aiohttp_transport import Connection
from m365watch.http.client import Answer, Session
from m365watch.http.transport import ExchangeFailed
from m365watch.outputs.devo_http.devo_http_output import Endpoint
from m365watch.response.execution.graph_client import GraphClient
from m365watch.sources.audit_search import audit_search_client as found
from m365watch.sources.management_api import responses as fed
from m365watch.sources.management_api.management_api_client import Urls
from m365watch.sources.service_health import service_health_client as announced
from m365watch.sources.service_health.service_health_client import Kind
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.credentials import client_secret, managed_identity

TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
FEED = Feed(TENANT, ContentType.EXCHANGE)
HOST = "https://server.example"
CLOUD = Cloud("test", HOST, HOST, HOST)
SETTINGS = TenantSettings(
    input_name="office365", input_id="1", tenant_id=TENANT, client_id="app",
    credentials=(client_secret("made~up.secret-value"),), cloud=CLOUD, publisher_id="p", services=(),
    requests_per_minute=None, lookback_s=7_200,
)  # fmt: skip
_BODY_BYTES_MAX = 1 << 20


class _Wire(asyncio.Transport):
    """The other side of a connection, which takes everything."""

    def write(self, _: object) -> None:
        """Take it."""

    def abort(self) -> None:
        """It is over."""

    def get_write_buffer_size(self) -> int:
        return 0


def _prepare_http(_: Path) -> Attempt:
    loop = Loop()

    async def exchange(given: bytes, step: int) -> None:
        connection = Connection(body_bytes_max=_BODY_BYTES_MAX, on_over=lambda _: None)
        connection.connection_made(_Wire())
        waiter = connection.exchange(b"GET / HTTP/1.1\r\n\r\n", ends_tick=1)
        for start in range(0, len(given), step):
            connection.data_received(given[start : start + step])
            if waiter.done():
                break
        connection.eof_received()
        connection.connection_lost(None)
        try:
            answer = await asyncio.wait_for(waiter, 5)
        except ExchangeFailed as error:
            check_line(str(error))
            return
        if len(answer.body) > _BODY_BYTES_MAX:
            raise Broken("a body beyond its bound")
        said = Answer(answer.status, answer.headers, answer.body)
        _told(fed.refusal(said, call=fed.Call.BLOB, where="contoso", now=START))

    def attempt(given: bytes) -> None:
        for step in (len(given) or 1, 7 if len(given) > 4_096 else 1):
            loop.run(exchange(given, step))

    return attempt


def http_answers() -> list[bytes]:
    return [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.0 429 Too Many\r\nRetry-After: 30\r\n\r\nwait",
        b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nRetry-After: Wed, 18 Nov 2026 09:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]]",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ]


class _Server:
    """A session whose server always answers the same."""

    def __init__(self) -> None:
        self.answer = Answer(200, CIMultiDict[str](), b"")

    async def send(self, *_: object, **__: object) -> Answer:
        return self.answer


class _Tokens:
    async def current(self) -> str:
        return "token"

    async def renewed(self, refused: str) -> str:
        return f"{refused}'"


def _askers(session: Session) -> list[Callable[[], Awaitable[object]]]:
    """Everything that asks a server; each made anew, as after a start."""
    clock = FakeClock(jumps=True)
    token = "made~up.token-value"
    devo = devo_http_to(HOST, token)

    def ask_token() -> Awaitable[object]:
        proof = ClientSecret("app", client_secret("made~up.secret-value"))
        return TokenSource(session, CLOUD, tenant_id=TENANT, credentials=[proof], clock=clock).current()

    def ask_graph() -> Awaitable[object]:
        graph = GraphClient(session, HOST, tokens=_Tokens(), clock=clock, tenant="contoso")
        return graph.list("/users", most=1_000)

    return [
        ask_token,
        ask_graph,
        lambda: read_registration(session, SETTINGS, tokens=_Tokens(), clock=clock),
        lambda: DevoAlerts(session, root=f"{HOST}/alerts", token=Secret(token)).find("m365"),
        lambda: Endpoint(devo, session, clock=clock).post("my.app", b"x"),
        lambda: IdentityTokens(managed_identity(), session=session, clock=clock).token("x"),
        lambda: _sign_in(session, clock),
    ]


async def _sign_in(session: Session, clock: FakeClock) -> object:
    """To the issuer that discovery has told of, and back with a code."""
    settings = EntraSection(
        login_url=HOST,
        tenant_id=TENANT,
        client_id=TENANT,
        client_secret=SecretStr("made~up.secret-value"),
        grants=(GrantSection(claim="Board.Analyst", role="analyst"),),
    )
    entra = OpenIdSignIn(settings, session, address="https://board.example", clock=clock)
    begun = await entra.begin("browser", back="/")
    state = parse_qs(urlsplit(begun).query)["state"][0]
    return await entra.end("browser", {"state": state, "code": "c"})


def _parsers() -> list[Callable[[Answer], object]]:
    urls = Urls(SETTINGS)
    return [
        lambda one: fed.parse_subscription_list(one.body, where="contoso"),
        lambda one: _check_page(fed.parse_listing(one.body, FEED, where="contoso"), urls),
        lambda one: fed.check_start(one.body, where="contoso"),
        lambda one: fed.check_blob(one.body, where="contoso"),
        lambda one: urls.next_page(one.body.decode("utf-8", "surrogateescape"), where="contoso"),
        lambda one: found.parse_query(one.body, where="contoso"),
        lambda one: found.parse_page(one.body, where="contoso"),
        lambda one: announced.parse_page(one.body, where="contoso"),
        lambda one: _told(found.refusal(one, asked=found.Asked.PAGE, where="contoso", now=START)),
        lambda one: _told(announced.refusal(one, kind=Kind.ISSUES, where="contoso", now=START)),
        *(
            lambda one, call=call: _told(fed.refusal(one, call=call, where="contoso", now=START))
            for call in fed.Call
        ),
    ]


def _told(error: CollectorError | None) -> None:
    if error is not None:
        check_line(str(error))


def _check_page(page: fed.ListedPage, urls: Urls) -> None:
    for line in page.unreadable:
        check_line(line)
    for ref in page.blobs:
        with allowed():
            if not str(urls.blob(ref.content_id, where="contoso")).startswith(f"{HOST}/api/v1.0/{TENANT}/"):
                raise Broken("an address beyond the tenant's")


def _prepare_answers(_: Path) -> Attempt:
    loop, server = Loop(), _Server()
    askers, parsers = _askers(cast(Session, server)), _parsers()

    def attempt(given: bytes) -> None:
        head, _, body = given.partition(b"\n")
        status, _, after = head.partition(b" ")
        number = int(status) if status.isdigit() and len(status) < 4 else 200
        headers = CIMultiDict({"Retry-After": after.decode("latin-1"), "Content-Type": "application/json"})
        server.answer = Answer(number, headers, body)
        for parse in parsers:
            with allowed():
                parse(server.answer)
        for ask in askers:
            with allowed(NotSignedIn, TokenWrong):
                loop.run(ask())

    return attempt


_SAID: tuple[object, ...] = (
    {"access_token": "a.b.c", "expires_in": "3599", "expires_on": 1_795_824_000, "token_type": "Bearer"},
    {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid. Trace ID: x", "error_codes": [7000215]},
    {"error": {"code": "AF20022", "message": "No subscription"}},
    [{"contentType": "Audit.Exchange", "contentId": "2026$a$b", "contentUri": f"{HOST}/x", "contentCreated": "2026-11-17T09:00:00.000Z", "contentExpiration": "2026-11-24T09:00:00.000Z"}],
    [{"contentType": "Audit.Exchange", "status": "enabled", "webhook": {"address": "https://a.example", "expiration": "", "authId": "x", "status": "enabled"}}],
    {"id": "168ec429-084b-4a51-9a4e-000000000001", "status": "succeeded", "isRecordCountLimitExceeded": False},
    {"value": [{"auditData": {"Id": "a"}, "id": "x"}], "@odata.nextLink": f"{HOST}/v1.0/x?$skiptoken=1"},
    {"passwordCredentials": [{"endDateTime": "2027-01-01T00:00:00Z", "hint": "abc"}], "keyCredentials": [{"customKeyIdentifier": "AAAA", "endDateTime": "2027-01-01T00:00:00Z"}]},
    {"issuer": f"{HOST}/{TENANT}/v2.0", "authorization_endpoint": f"{HOST}/a", "token_endpoint": f"{HOST}/t", "jwks_uri": f"{HOST}/k", "id_token": "e30.e30.x", "keys": [{"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB"}]},
    [{"name": "m365", "id": 7, "alertCorrelationContext": {"querySourceCode": "x"}}],
)  # fmt: skip
_NAMES = (
    "access_token", "expires_in", "expires_on", "error", "error_description", "error_codes", "code", "message", "contentType",
    "contentId", "contentCreated", "contentExpiration", "status", "webhook", "address", "expiration", "authId", "id", "value",
    "auditData", "@odata.nextLink", "isRecordCountLimitExceeded", "passwordCredentials", "keyCredentials", "endDateTime",
    "startDateTime", "customKeyIdentifier", "hint", "name", "issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "id_token",
    "keys", "kty", "kid",
)  # fmt: skip


def answers() -> list[bytes]:
    return [b"200 \n" + json.dumps(one).encode() for one in _SAID] + [b"503 30\n<html>", b"401 \n", b"204 \n"]


def grow_answer(random: Random) -> bytes:
    from fuzz_values import changed

    said = changed(random, random.choice(_SAID), _NAMES) if random.random() < 0.8 else value(random, _NAMES)
    status = random.choice((200, 200, 200, 400, 401, 403, 404, 429, 500, 503, 302, 0, 999, 201, 100))
    after = random.choice(
        (
            "",
            "30",
            "1e9",
            "-5",
            "9" * 400,
            "Wed, 18 Nov 2026 09:00:00 GMT",
            "²",
            "Mon, 01 Jan 0001 00:00:00 +2359",
        )
    )
    return f"{status} {after}\n".encode("utf-8", "replace") + json_text(random, [said])


def _prepare_tokens(_: Path) -> Attempt:
    expected = Expected("https://login.example/41463f53/v2.0", "app", "nonce")
    document = {"keys": [{"kty": "RSA", "kid": "1", "n": _base64((1 << 2_047) + 1), "e": _base64(65_537)}]}
    keys = read_keys(document)

    def attempt(given: bytes) -> None:
        text = given.decode("utf-8", "surrogateescape")
        with allowed(TokenWrong):
            judge(text, keys, expected, now_s=1_795_824_000.0)
        with allowed():
            tenant_of(text, where="contoso")
        try:
            said = json.loads(given)
        except (ValueError, RecursionError):
            return
        read_keys(said)

    return attempt


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(256, "big")).rstrip(b"=").decode()


def tokens() -> list[bytes]:
    def part(said: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=")

    claims = {
        "iss": "https://login.example/41463f53/v2.0",
        "aud": "app",
        "nonce": "nonce",
        "tid": str(TENANT),
        "exp": 1,
        "iat": 1,
    }
    nested = b"[" * 5_000 + b"]" * 5_000
    return [
        b".".join((part({"alg": "RS256", "kid": "1"}), part(claims), base64.urlsafe_b64encode(bytes(256)))),
        b".".join((part({"alg": "none"}), part(claims), b"")),
        b".".join((base64.urlsafe_b64encode(nested), base64.urlsafe_b64encode(nested), b"")),
        json.dumps({"keys": [{"kty": "RSA", "kid": "1", "n": "AQAB", "e": "AQAB", "use": "sig"}]}).encode(),
    ]


def _prepare_redirects(_: Path) -> Attempt:
    questions = [
        ConsentAttempt(form=form, cloud=CLOUD, client_id="app", state="s", verifier="v")
        for form in ConsentForm
    ]

    def attempt(given: bytes) -> None:
        query = given.decode("latin-1")
        for question in questions:
            with allowed(ForeignAnswer):
                read_redirect(query, question)

    return attempt


_REDIRECTS = [
    b"admin_consent=True&tenant=41463f53-8812-40f4-890f-865bf6e35190&state=s&scope=x",
    b"code=0.AAAA-_.&state=s&session_state=x", b"error=access_denied&error_description=AADSTS65004%3a+No&state=s",
]  # fmt: skip

TARGETS = (
    Target("http", _prepare_http, http_answers, None,
        (b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"Retry-After: ", b"1;x=y\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"Connection: close\r\n"),
        input_bytes_max=96 << 10),
    Target("answers", _prepare_answers, answers, grow_answer, tuple(f'"{name}":'.encode() for name in _NAMES)),
    Target("tokens", _prepare_tokens, tokens),
    Target("redirects", _prepare_redirects, lambda: _REDIRECTS),
)  # fmt: skip
