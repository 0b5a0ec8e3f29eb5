"""Federated tokens, managed identities and two secrets, as the simulated Entra takes them."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from caller import START, Caller, Reply, calling, in_loop
from m365watch_simulator.entra.federation import Issuer
from m365watch_simulator.entra.managed_identity import APP_SERVICE_PATH, IDENTITY_HEADER, IMDS_PATH

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


async def ask_with(caller: Caller, token: str) -> Reply:
    return await caller.ask_token(
        client_secret="", client_assertion_type=ASSERTION_TYPE, client_assertion=token
    )


async def ask_identity(
    caller: Caller, path: str = IMDS_PATH, *, headers: dict[str, str] | None = None, **query: str
) -> Reply:
    version = "2018-02-01" if path == IMDS_PATH else "2019-08-01"
    asked = {"api-version": version, "resource": caller.running.url, **query}
    given = {key: value for key, value in asked.items() if value}
    url = URL(f"{caller.running.url}{path}").with_query(given)
    return await caller.send("GET", str(url), headers={"Metadata": "true"} if headers is None else headers)


@in_loop
async def test_another_issuers_token_stands_for_the_application() -> None:
    """Contract 1.9: the issuer, subject and audience of the application's federated credential."""
    async with calling(signed_in=False) as caller:
        reply = await ask_with(caller, caller.running.issuer.token(START))

    assert reply.status == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://elsewhere.example"}, 700211),
        ({"aud": "api://another"}, 700212),
        ({"sub": "system:serviceaccount:default:default"}, 700213),
        ({"exp": int(START.timestamp()) - 1}, 700024),
        ({"nbf": int(START.timestamp()) + 3_600}, 700024),
        ({"exp": None}, 700024),
    ],
)
@in_loop
async def test_a_federated_token_that_does_not_fit_gets_its_code(changes: dict[str, Any], code: int) -> None:
    """Each claim is checked against the federated credential."""
    async with calling(signed_in=False) as caller:
        reply = await ask_with(caller, caller.running.issuer.token(START, **changes))

    assert reply.document["error_codes"] == [code]


@in_loop
async def test_a_federated_token_needs_its_issuers_key() -> None:
    """The right claims alone prove nothing."""
    async with calling(signed_in=False) as caller:
        forged = Issuer(caller.running.url).token(START)
        broken = caller.running.issuer.token(START).rpartition(".")[0] + ".x"
        codes = [(await ask_with(caller, one)).document["error_codes"] for one in (forged, broken)]

    assert codes == [[50013], [50027]]


@in_loop
async def test_an_application_may_have_two_secrets_and_one_that_ended() -> None:
    """As while one of them is exchanged."""
    async with calling(signed_in=False) as caller:
        identity = caller.identity
        second = await caller.ask_token(client_secret=identity.second_secret)
        ended = await caller.ask_token(client_secret=identity.expired_secret)

    assert second.status == 200
    assert ended.document["error_codes"] == [7000222]


@in_loop
async def test_imds_gives_a_token_that_the_api_takes() -> None:
    """Azure's page: numbers as text; the token is the identity's own."""
    async with calling(signed_in=False) as caller:
        said = (await ask_identity(caller)).document
        caller.bearer = said["access_token"]
        listed = await caller.get("subscriptions/list")

    assert listed.status == 200
    assert said["expires_in"] == "3599"
    assert said["client_id"] == caller.identity.identity_id


@in_loop
async def test_app_service_gives_one_to_whoever_knows_its_header() -> None:
    """Azure's page: no `expires_in`, but `expires_on`."""
    async with calling(signed_in=False) as caller:
        headers = {"X-IDENTITY-HEADER": IDENTITY_HEADER}
        good = await ask_identity(caller, APP_SERVICE_PATH, headers=headers)
        bad = await ask_identity(caller, APP_SERVICE_PATH, headers={"X-IDENTITY-HEADER": "x"})

    assert good.document["expires_on"] == str(int(START.timestamp()) + 3599)
    assert "expires_in" not in good.document
    assert bad.status == 401


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {}},
        {"headers": {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}},
        {"api-version": "2017-01-01"},
        {"resource": ""},
        {"resource": "https://elsewhere.example"},
        {"client_id": "00000000-1111-4222-8333-444444444444"},
    ],
)
@in_loop
async def test_imds_refuses_what_is_not_asked_as_it_wants(change: dict[str, Any]) -> None:
    """HTTP 400 for every mistake, in OAuth's shape."""
    async with calling(signed_in=False) as caller:
        reply = await ask_identity(caller, **change)

    assert reply.status == 400
    assert set(reply.document) == {"error", "error_description"}


@in_loop
async def test_an_identity_vouches_for_an_application() -> None:
    """Contract 1.9, the end: its token for the exchange is a federated credential."""
    async with calling(signed_in=False) as caller:
        said = (await ask_identity(caller, resource="api://AzureADTokenExchange")).document
        reply = await ask_with(caller, said["access_token"])
        caller.bearer = said["access_token"]
        listed = await caller.get("subscriptions/list")

    assert reply.status == 200
    assert listed.status == 401
