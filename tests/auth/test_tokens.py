from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest
from promises import guarantee

from m365watch.auth.credentials.client_secret.spec import ClientSecret
from m365watch.auth.tokens import LIFE_S_MAX, PAUSE_S, TokenSource
from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    ConnectionClosed,
    CredentialsRefused,
    Throttled,
    Unavailable,
)
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.http.client import open_session
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.credentials import client_secret
from m365watch_testing.loopback import Fault, LoopbackServer, Received, Reply

Result = TypeVar("Result")

TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
SECRET = "s3cr3t/~ +"
V2 = f"/{TENANT}/oauth2/v2.0/token"
V1 = f"/{TENANT}/oauth2/token"
AUDIENCE = "https://manage.office.com"


def token_reply(token: object = "t1", **said: object) -> Reply:
    return json_reply(200, {"token_type": "Bearer", "access_token": token, **said})


def json_reply(status: int, said: object, **headers: str) -> Reply:
    return Reply(status, json.dumps(said).encode(), headers)


class Entra:
    """A token endpoint that gives its replies in order, the last one for ever, at the paths it knows."""

    def __init__(self, *replies: Reply, paths: tuple[str, ...] = (V1, V2)) -> None:
        self.replies = list(replies)
        self.paths = paths
        self.absent = Reply(404, b"<html>no such page</html>", {"Content-Type": "text/html"})

    def __call__(self, received: Received) -> Reply:
        if received.target not in self.paths:
            return self.absent
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def run(
    entra: Callable[[Received], Reply], use: Callable[[TokenSource, FakeClock], Awaitable[Result]]
) -> tuple[Result, list[Received]]:
    """What `use` gives, and what the endpoint was asked."""

    async def main() -> tuple[Result, list[Received]]:
        clock = FakeClock()
        async with LoopbackServer(entra) as server, open_session(stall_s=2) as session:
            cloud = Cloud("test", server.url, server.url, AUDIENCE)
            credential = ClientSecret("app", client_secret(SECRET))
            source = TokenSource(session, cloud, tenant_id=TENANT, credentials=[credential], clock=clock)
            return await use(source, clock), server.received

    return asyncio.run(main())


async def ask_once(source: TokenSource, _: FakeClock) -> str:
    return await source.current()


def failure_of(*replies: Reply) -> CollectorError:
    with pytest.raises(CollectorError) as caught:
        run(Entra(*replies), ask_once)
    return caught.value


@guarantee(25)
def test_a_secret_that_was_exchanged_in_its_file_is_sent_without_a_restart(tmp_path: Path) -> None:
    """And while somebody writes the file, or it is gone, the one that was there last."""
    file = tmp_path / "secret"
    credential = ClientSecret("app", client_secret("first", file=file))
    sent = []
    for content in ("first\n", "second\n", "", None, "third"):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        sent.append(asyncio.run(credential.proof(V2))["client_secret"])

    assert sent == ["first", "second", "second", "second", "third"]


def test_the_v2_endpoint_is_asked_first() -> None:
    """With the audience as its scope, and the secret in the body alone."""
    token, received = run(Entra(token_reply(expires_in=3599)), ask_once)

    assert token == "t1"
    assert [asked.target for asked in received] == [V2]
    assert received[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(received[0].body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "app",
        "client_secret": SECRET,
        "scope": f"{AUDIENCE}/.default",
    }


@pytest.mark.parametrize(
    "absent",
    [
        Reply(404, b"<html>"),
        Reply(400, b'{"error":{"code":"AF20013","message":"no"}}'),
        Reply(405, b""),
        Reply(200, b"<html>welcome"),
    ],
)
def test_without_v2_the_v1_endpoint_is_asked_and_remembered(absent: Reply) -> None:
    """Some emulators and clouds know only one of the two."""
    entra = Entra(token_reply("t1", expires_in="60"), token_reply("t2"), paths=(V1,))
    entra.absent = absent

    async def twice(source: TokenSource, clock: FakeClock) -> list[str]:
        first = await source.current()
        await clock.advance(60)
        return [first, await source.current()]

    tokens, received = run(entra, twice)

    assert tokens == ["t1", "t2"]
    assert [asked.target for asked in received] == [V2, V1, V1]
    assert dict(parse_qsl(received[1].body.decode()))["resource"] == AUDIENCE


def test_an_endpoint_that_went_away_is_looked_for_again() -> None:
    """What was remembered is only where the search begins."""
    entra = Entra(token_reply("t1"), token_reply("t2"), paths=(V1,))

    async def move(source: TokenSource, _: FakeClock) -> str:
        refused = await source.current()
        entra.paths = (V2,)
        return await source.renewed(refused)

    token, received = run(entra, move)

    assert (token, [asked.target for asked in received]) == ("t2", [V2, V1, V1, V2])


def test_a_refusal_is_not_an_absent_endpoint() -> None:
    """A wrong secret is sent once, not to both endpoints."""
    refused = json_reply(401, {"error": "invalid_client", "error_codes": [7000215]})

    async def fail(source: TokenSource, _: FakeClock) -> None:
        with pytest.raises(CredentialsRefused):
            await source.current()

    _, received = run(Entra(refused), fail)

    assert [asked.target for asked in received] == [V2]


def test_neither_endpoint_is_a_bad_answer() -> None:
    """The first of the two speaks."""
    with pytest.raises(BadAnswer, match="HTTP 404 without a token"):
        run(Entra(token_reply(), paths=()), ask_once)


@pytest.mark.parametrize(
    ("said", "good_s", "ended_s"),
    [
        ({"expires_in": 3600}, 3299, 3301),
        ({"expires_in": "3600"}, 3299, 3301),
        ({"expires_in": 600}, 539, 541),
        ({"expires_on": str(int(START.timestamp()) + 600)}, 539, 541),
        ({}, 3299, 3301),
        ({"expires_in": "soon"}, 3299, 3301),
        ({"expires_in": "nan"}, 3299, 3301),
        ({"expires_in": None, "expires_on": True}, 3299, 3301),
        ({"expires_in": 10**400}, 3299, 3301),
        ({"expires_in": 0}, 0.5, 1),
        ({"expires_in": -5}, 0.5, 1),
        ({"expires_in": 1e300}, LIFE_S_MAX - 301, LIFE_S_MAX - 299),
    ],
)
def test_a_token_is_renewed_before_it_ends(said: dict[str, Any], good_s: float, ended_s: float) -> None:
    """By 300 s or a tenth of its life, whichever is less; an absurd life is bounded."""

    async def watch(source: TokenSource, clock: FakeClock) -> list[str]:
        tokens = [await source.current()]
        await clock.advance(good_s)
        tokens.append(await source.current())
        await clock.advance(ended_s - good_s)
        return [*tokens, await source.current()]

    tokens, _ = run(Entra(token_reply("t1", **said), token_reply("t2")), watch)

    assert tokens == ["t1", "t1", "t2"]


def test_all_who_need_a_token_share_one_request() -> None:
    """Five feeds start at once."""

    async def together(source: TokenSource, _: FakeClock) -> list[str]:
        return await asyncio.gather(*(source.current() for _ in range(50)))

    tokens, received = run(Entra(token_reply()), together)

    assert (set(tokens), len(received)) == ({"t1"}, 1)


def test_all_who_wait_for_a_token_share_its_refusal() -> None:
    """A wrong secret is not sent once for each of them."""
    refused = json_reply(401, {"error": "invalid_client", "error_codes": [7000215]})

    async def together(source: TokenSource, _: FakeClock) -> set[type]:
        asked = (source.current() for _ in range(50))
        return {type(result) for result in await asyncio.gather(*asked, return_exceptions=True)}

    kinds, received = run(Entra(refused), together)

    assert (kinds, len(received)) == ({CredentialsRefused}, 1)


def test_one_who_gives_up_does_not_take_the_others_along() -> None:
    """Whoever waits next asks in its place."""

    async def give_up(source: TokenSource, _: FakeClock) -> str:
        first, second = (asyncio.create_task(source.current()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert run(Entra(token_reply()), give_up)[0] == "t1"


def test_a_refused_token_is_renewed_once_for_all_who_had_it() -> None:
    """Many calls come back with 401 at the same time."""

    async def refuse(source: TokenSource, _: FakeClock) -> list[str]:
        old = await source.current()
        tokens = await asyncio.gather(*(source.renewed(old) for _ in range(20)))
        return [*tokens, await source.renewed(old)]

    tokens, received = run(Entra(token_reply("t1"), token_reply("t2"), token_reply("t3")), refuse)

    assert (set(tokens), len(received)) == ({"t2"}, 2)


def test_a_token_that_is_still_good_outlives_a_failed_renewal() -> None:
    """An outage of Entra shorter than the margin is not noticed, and not made worse."""

    async def outlive(source: TokenSource, clock: FakeClock) -> list[str]:
        tokens = [await source.current()]
        await clock.advance(3_400)
        tokens += [await source.current(), await source.current()]
        await clock.advance(PAUSE_S)
        return [*tokens, await source.current()]

    down = Reply(503, b"<html>")
    tokens, received = run(Entra(token_reply("t1"), down, token_reply("t2")), outlive)

    assert (tokens, len(received)) == (["t1", "t1", "t1", "t2"], 3)


def test_a_token_that_has_ended_is_not_used_again() -> None:
    """The outage is told then."""

    async def end(source: TokenSource, clock: FakeClock) -> None:
        await source.current()
        await clock.advance(3_601)
        with pytest.raises(Unavailable):
            await source.current()

    run(Entra(token_reply(), Reply(503, b"")), end)


@pytest.mark.parametrize(
    ("reply", "kind", "after_s"),
    [
        (json_reply(429, {"error": "x"}, **{"Retry-After": "7"}), Throttled, 7),
        (json_reply(503, {"error": "temporarily_unavailable"}, **{"Retry-After": "7"}), Unavailable, 7),
        (json_reply(400, {"error": "x", "error_codes": [90055]}), Throttled, None),
        (Reply(500, b"<html>"), Unavailable, None),
        (Reply(408, b""), Unavailable, None),
        (Reply(200, b"{}", fault=Fault.CUT), BadAnswer, None),
        (Reply(fault=Fault.RESET), ConnectionClosed, None),
    ],
)
def test_a_passing_failure_is_tried_again(
    reply: Reply, kind: type[CollectorError], after_s: float | None
) -> None:
    """As late as the service asks for."""
    error = failure_of(reply)

    assert (type(error), getattr(error, "after_s", None)) == (kind, after_s)


@pytest.mark.parametrize(
    "token", ["", "a b", "a\nb", "a\r\nX-Injected: 1", "\u00e9", None, 5, ["t"], "x" * 65_537]
)
def test_what_cannot_be_a_token_is_a_bad_answer(token: object) -> None:
    """It would otherwise end up in a header."""
    error = failure_of(token_reply(token))

    assert type(error) is BadAnswer
    assert "Injected" not in str(error)


@guarantee(24)
def test_no_error_shows_the_secret() -> None:
    """Not even where the server says it back, in any form."""
    said = {
        "error": "invalid_client",
        "error_description": f"got {SECRET} s3cr3t%2F~+%2B",
        "error_codes": [7000215],
    }
    error = failure_of(json_reply(401, said))

    assert "s3cr3t" not in "".join((str(error), repr(error), repr(error.args), repr(vars(error))))
