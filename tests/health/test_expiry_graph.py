"""The question to Graph over HTTP: its address, its token, and what each answer means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from promises import guarantee

from expiry_ward import CLIENT, SECRET, TENANT, tenant_of
from m365watch.auth.app_registration import Registration, Standing
from m365watch.common.errors import BadAnswer, RetryLater, Throttled, TokenRefused, Unavailable
from m365watch.config.models.clouds import Cloud
from m365watch.http.client import open_session
from m365watch.sources.factory import ask_registration
from m365watch_testing.clock import FakeClock
from m365watch_testing.loopback import LoopbackServer, Received, Reply

EMPTY = json.dumps({"passwordCredentials": [], "keyCredentials": []}).encode()
TARGET = f"/v1.0/applications(appId='{CLIENT}')?$select=passwordCredentials,keyCredentials"


def run(answer: Callable[[Received], Reply]) -> tuple[Registration, list[Received], list[Received]]:
    """What came of it, and what Graph and the login host were asked."""
    given: list[str] = []

    def sign_in(_: Received) -> Reply:
        given.append(f"t{len(given) + 1}")
        return Reply(200, json.dumps({"access_token": given[-1], "expires_in": 3_599}).encode())

    async def main() -> tuple[Registration, list[Received], list[Received]]:
        async with (
            LoopbackServer(sign_in) as login,
            LoopbackServer(answer) as graph,
            open_session() as session,
        ):
            cloud = Cloud("test", login.url, "https://manage", "https://manage", graph.url)
            tenant = replace(tenant_of(), cloud=cloud)
            found = await ask_registration(tenant, session, clock=FakeClock())
            return found, graph.received, login.received

    return asyncio.run(main())


@guarantee(25)
def test_the_token_is_for_graph_and_goes_there_only() -> None:
    """One question, at the address that Graph documents."""
    found, asked, signed_in = run(lambda _: Reply(200, EMPTY))

    assert found == Registration(Standing.LISTED)
    assert [(one.method, one.target) for one in asked] == [("GET", TARGET)]
    assert asked[0].headers["Authorization"] == "Bearer t1"
    assert [one.target for one in signed_in] == [f"/{TENANT}/oauth2/v2.0/token"]
    assert b"scope=http%3A%2F%2F127.0.0.1" in signed_in[0].body
    assert not [one for one in asked if SECRET in f"{one.target}{one.headers}{one.body!r}"]


def test_a_token_that_is_refused_is_renewed_once() -> None:
    """And the question asked again."""
    found, asked, _ = run(
        lambda received: Reply(200, EMPTY) if received.headers["Authorization"] == "Bearer t2" else Reply(401)
    )

    assert found.standing is Standing.LISTED
    assert len(asked) == 2


@pytest.mark.parametrize(("status", "standing"), [(403, Standing.NOT_PERMITTED), (404, Standing.NOT_HERE)])
def test_a_refusal_is_an_answer(status: int, standing: Standing) -> None:
    """Nobody has to do anything about it."""
    assert run(lambda _: Reply(status))[0] == Registration(standing)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", TokenRefused),
        (429, b"", Throttled),
        (503, b"", Unavailable),
        (302, b"", BadAnswer),
        (200, b"<html>", BadAnswer),
    ],
)
def test_everything_else_passes(status: int, body: bytes, kind: type[RetryLater]) -> None:
    """It is asked again another day."""
    with pytest.raises(kind):
        run(lambda _: Reply(status, body, {"Location": "https://elsewhere.example/"}))
