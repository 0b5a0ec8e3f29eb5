from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from promises import guarantee

from m365watch.auth.credentials.managed_identity.identity_tokens import (
    APP_SERVICE_VERSION,
    IMDS_VERSION,
    TRIES,
    IdentityAssertion,
    IdentityTokens,
)
from m365watch.auth.factory import make_credentials
from m365watch.common.errors import BadAnswer, CredentialsRefused, Throttled, Unavailable
from m365watch.common.secret import Secret
from m365watch.config.credential_validation import IdentityEndpoint
from m365watch.http.client import open_session
from m365watch.http.proxies import proxy_for
from m365watch_testing.clock import FakeClock
from m365watch_testing.credentials import managed_identity
from m365watch_testing.loopback import LoopbackServer, Received, Reply

Result = TypeVar("Result")
AUDIENCE = "https://manage.office.com"
HEADER = "app~service~secret"
USER_ASSIGNED = "11111111-2222-4333-8444-555555555555"
GIVEN = {"access_token": "t1", "expires_in": "86399", "expires_on": "1", "token_type": "Bearer"}
GOOD = Reply(200, json.dumps(GIVEN).encode())


def run(
    replies: list[Reply],
    use: Callable[[IdentityTokens, FakeClock], Awaitable[Result]],
    *,
    path: str = "",
    **settings: object,
) -> tuple[Result, list[Received]]:
    """What `use` gives, and what the endpoint was asked; the last reply is given for ever."""

    async def main() -> tuple[Result, list[Received]]:
        clock = FakeClock(jumps=True)
        async with LoopbackServer(answer) as server, open_session(stall_s=2) as session:
            header = settings.get("header")
            endpoint = IdentityEndpoint(server.url + path, Secret(str(header)) if header else None)
            client_id = settings.get("client_id")
            given = managed_identity(str(client_id) if client_id else None, endpoint=endpoint)
            return await use(IdentityTokens(given, session=session, clock=clock), clock), server.received

    def answer(_: Received) -> Reply:
        return replies.pop(0) if len(replies) > 1 else replies[0]

    return asyncio.run(main())


async def ask(tokens: IdentityTokens, _: FakeClock) -> str:
    return str((await tokens.token(AUDIENCE))["access_token"])


def query_of(received: Received) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(received.target).query))


def test_imds_is_asked_as_azure_documents_it() -> None:
    """The header that no forwarded request has, its version, the resource, and nothing else."""
    token, [asked] = run([GOOD], ask)

    assert token == "t1"
    assert (asked.method, urlsplit(asked.target).path) == ("GET", "/metadata/identity/oauth2/token")
    assert asked.headers["Metadata"] == "true"
    assert query_of(asked) == {"api-version": IMDS_VERSION, "resource": AUDIENCE}


def test_app_service_is_asked_with_its_own_secret() -> None:
    """And a user-assigned identity is named by its client ID."""
    _, [asked] = run([GOOD], ask, path="/msi/token", header=HEADER, client_id=USER_ASSIGNED)

    assert urlsplit(asked.target).path == "/msi/token"
    assert asked.headers["X-IDENTITY-HEADER"] == HEADER
    assert "Metadata" not in asked.headers
    assert query_of(asked) == {
        "api-version": APP_SERVICE_VERSION,
        "resource": AUDIENCE,
        "client_id": USER_ASSIGNED,
    }


@pytest.mark.parametrize("status", [404, 408, 410, 429, 500, 503])
def test_a_passing_failure_is_tried_again_with_growing_pauses(status: int) -> None:
    """As Azure's page wants it for 404, 410, 429 and 5xx."""

    async def slept(tokens: IdentityTokens, clock: FakeClock) -> list[float]:
        await tokens.token(AUDIENCE)
        return clock.slept_s

    pauses, received = run([Reply(status, b""), Reply(status, b""), GOOD], slept)

    assert (pauses, len(received)) == ([1.0, 2.0], 3)


def test_what_does_not_pass_is_left_to_the_caller() -> None:
    """After a few tries; a pause that the endpoint asks for is kept."""

    async def fail(tokens: IdentityTokens, clock: FakeClock) -> tuple[type, float | None, list[float]]:
        with pytest.raises((Throttled, Unavailable)) as caught:
            await tokens.token(AUDIENCE)
        return type(caught.value), caught.value.after_s, clock.slept_s

    found, received = run([Reply(429, b"", {"Retry-After": "7"})], fail)

    assert found == (Throttled, 7.0, [7.0, 7.0, 7.0, 8.0])
    assert len(received) == TRIES


def test_a_machine_without_the_identity_is_told_at_once() -> None:
    """In the endpoint's words, in which App Service's secret is blotted out."""
    said = {"error": "invalid_request", "error_description": f"Identity not found {HEADER}"}

    async def fail(tokens: IdentityTokens, _: FakeClock) -> CredentialsRefused:
        with pytest.raises(CredentialsRefused) as caught:
            await tokens.token(AUDIENCE)
        return caught.value

    error, received = run([Reply(400, json.dumps(said).encode())], fail, header=HEADER)

    assert len(received) == 1
    assert error.what == ('the managed identity\'s endpoint answered HTTP 400 ("Identity not found ***")')
    assert "managed_identity" in error.fix


def test_an_endpoint_that_is_not_there_asks_the_right_question() -> None:
    """Most often this is no machine of Azure's."""

    async def main() -> None:
        async with open_session(stall_s=2) as session:
            endpoint = IdentityEndpoint("http://127.0.0.1:9")
            given = managed_identity(endpoint=endpoint)
            tokens = IdentityTokens(given, session=session, clock=FakeClock(jumps=True))
            with pytest.raises(Unavailable, match="is this a machine of Azure's"):
                await tokens.token(AUDIENCE)

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"access_token": 5}', b"{}"])
def test_an_answer_without_a_token_is_a_bad_one(body: bytes) -> None:
    """Whatever answers in the endpoint's place."""

    async def fail(tokens: IdentityTokens, _: FakeClock) -> None:
        with pytest.raises(BadAnswer):
            await tokens.token(AUDIENCE)

    run([Reply(200, body)], fail)


def test_a_token_that_vouches_is_used_for_all_tenants_for_a_while() -> None:
    """IMDS takes few requests, and one machine may read hundreds of tenants."""

    async def vouch(tokens: IdentityTokens, clock: FakeClock) -> list[str]:
        assertion = IdentityAssertion("app", tokens, clock=clock)
        found = await asyncio.gather(*(assertion.proof(f"https://l/{n}/oauth2/token") for n in range(50)))
        await clock.sleep(301)
        found.append(await assertion.proof("https://l/x/oauth2/token"))
        return [proof["client_assertion"] for proof in found]

    second = Reply(200, json.dumps(GIVEN | {"access_token": "t2"}).encode())
    tokens, received = run([GOOD, second], vouch)

    assert tokens == ["t1"] * 50 + ["t2"]
    assert [query_of(asked)["resource"] for asked in received] == ["api://AzureADTokenExchange"] * 2


@pytest.mark.parametrize(
    ("cloud", "audience"),
    [
        ("worldwide", "api://AzureADTokenExchange"),
        ("gcc", "api://AzureADTokenExchange"),
        ("gcc-high", "api://AzureADTokenExchangeUSGov"),
        ("dod", "api://AzureADTokenExchangeUSGov"),
        ("china", "api://AzureADTokenExchangeChina"),
        ("custom", "api://AzureADTokenExchange"),
    ],
)
def test_each_cloud_has_its_own_audience_for_vouching(cloud: str, audience: str) -> None:
    """Entra's page on managed identities as federated credentials."""

    async def main() -> list[Received]:
        async with LoopbackServer(lambda _: GOOD) as server, open_session() as session:
            given = managed_identity(endpoint=IdentityEndpoint(server.url))
            [made] = make_credentials("app", [given], session=session, clock=FakeClock(), cloud=cloud)
            assert isinstance(made, IdentityAssertion)
            await made.proof("https://l/x/oauth2/token")
            return server.received

    [asked] = asyncio.run(main())

    assert query_of(asked)["resource"] == audience


@guarantee(23)
def test_imds_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's own machine would answer, or somebody on the way would hear the token."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    proxy_for.cache_clear()
    found = [proxy_for("http", host) for host in ("169.254.169.254", "127.0.0.1", "elsewhere.example")]
    proxy_for.cache_clear()

    assert [proxy is None for proxy in found] == [True, True, False]
