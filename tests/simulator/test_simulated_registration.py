"""What the simulated Graph keeps of an application's credentials, and whom it tells."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from caller import START, Caller, Reply, calling, in_loop

PERMITTED = """
behaviour:
  graph_roles: [Application.Read.All]
  secret_days: 2
  alike_secrets_days: [-1]
"""


async def ask(caller: Caller, *, client_id: str = "", **changes: Any) -> Reply:
    """Graph's answer to the question about the application, with a token for Graph."""
    answer = await caller.ask_token(scope=f"{caller.running.graph_url}/.default", **changes)
    caller.bearer = answer.document["access_token"]
    name = client_id or caller.identity.client_id
    query = "$select=passwordCredentials,keyCredentials"
    return await caller.send("GET", f"{caller.running.graph_url}/v1.0/applications(appId='{name}')?{query}")


@in_loop
async def test_the_ends_of_secrets_are_told_to_whom_it_is_permitted() -> None:
    """With the first three characters of each, and never the secret."""
    async with calling(PERMITTED) as caller:
        reply = await ask(caller)
        secrets = caller.identity.client_secret, caller.identity.second_secret, caller.identity.expired_secret

    told = [(one["hint"], one["endDateTime"]) for one in reply.document["passwordCredentials"]]
    ends = [f"{START + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (2, -1, 360, -1)]
    assert told == list(zip(("sim", "sim", "rot", "exp"), ends, strict=True))
    assert not [secret for secret in secrets if secret.encode() in reply.body]


@in_loop
async def test_it_is_not_permitted_on_a_good_day() -> None:
    """The role for audit log queries is another one."""
    async with calling() as caller:
        reply = await ask(caller)

    assert (reply.status, reply.code) == (403, "Forbidden")


@in_loop
async def test_another_application_is_not_found() -> None:
    """As where it is registered in another tenant."""
    async with calling(PERMITTED) as caller:
        reply = await ask(caller, client_id="0f0f0f0f-0000-4000-8000-000000000000")

    assert (reply.status, reply.code) == (404, "Request_ResourceNotFound")


@in_loop
async def test_a_token_for_the_feed_is_none_for_graph() -> None:
    """Each host has tokens of its own."""
    async with calling(PERMITTED) as caller:
        name = caller.identity.client_id
        reply = await caller.send("GET", f"{caller.running.graph_url}/v1.0/applications(appId='{name}')")

    assert (reply.status, reply.code) == (401, "InvalidAuthenticationToken")


@in_loop
async def test_from_its_end_on_the_secret_is_refused() -> None:
    """As Entra does."""
    async with calling(PERMITTED) as caller:
        assert (await caller.ask_token()).status == 200
        await caller.clock.sleep(2 * 86_400)
        refused = await caller.ask_token()

    assert refused.document["error_codes"] == [7000222]
