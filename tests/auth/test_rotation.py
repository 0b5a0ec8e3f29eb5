"""Two credentials of one application: no gap while one of them is renewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.auth.credentials.client_secret.spec import ClientSecret
from m365watch.auth.rotation import Applications, CredentialFailed, Rotation
from m365watch.auth.tokens import TokenSource
from m365watch.common.errors import CollectorError, ConsentMissing, CredentialsRefused, Throttled, Unavailable
from m365watch.common.model import TenantId
from m365watch.config.models.clouds import Cloud
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import open_session
from m365watch.registry.credential_specs import Credential
from m365watch_testing.clock import FakeClock
from m365watch_testing.credentials import client_secret
from m365watch_testing.loopback import LoopbackServer, Received, Reply

Result = TypeVar("Result")
TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
SETTINGS = TenantSettings(
    input_name="office365",
    input_id="1",
    tenant_id=TenantId("0a1b2c3d-0000-4000-8000-00000000000a"),
    client_id="app",
    credentials=(client_secret("s3cr3t"),),
    cloud=Cloud("test", "https://l", "https://m", "a"),
    publisher_id="p",
    services=(),
    requests_per_minute=None,
    lookback_s=0.0,
)
EXPIRED, WRONG, DISABLED = 7000222, 7000215, 7000112


class Entra:
    """Gives each secret its answer: a code of refusal, or a token for 0."""

    def __init__(self, **answers: int | Reply) -> None:
        self.answers: dict[str, int | Reply] = dict(answers)

    def __call__(self, received: Received) -> Reply:
        secret = dict(parse_qsl(received.body.decode()))["client_secret"]
        answer = self.answers[secret.partition("-")[0]]
        if isinstance(answer, Reply):
            return answer
        if answer:
            said: dict[str, object] = {"error": "invalid_client", "error_codes": [answer]}
            return Reply(401, json.dumps(said).encode())
        return Reply(200, json.dumps({"access_token": f"by-{secret}", "expires_in": 3600}).encode())


class Unusable:
    """A credential that is not to be had."""

    def __init__(self, error: CollectorError) -> None:
        self.client_id = "app"
        self.name = "certificate_file"
        self._error = error

    async def proof(self, token_url: str) -> Mapping[str, str]:
        del token_url
        raise self._error


class Coming:
    """A credential whose file comes and goes."""

    def __init__(self, credential: ClientSecret) -> None:
        self.client_id = "app"
        self.name = "certificate_file"
        self.is_away = False
        self._credential = credential

    async def proof(self, token_url: str) -> Mapping[str, str]:
        if self.is_away:
            raise CredentialsRefused("cert.pem is not there", fix="put it back")
        return await self._credential.proof(token_url)


class Direct:
    """Gives the token itself."""

    name = "managed_identity"

    async def token(self, audience: str) -> Mapping[str, object]:
        return {"access_token": f"for-{audience}", "expires_in": "3600"}


def secret(name: str) -> ClientSecret:
    return ClientSecret("app", client_secret(f"{name}-s3cr3t", name=name))


BOTH = (secret("first"), secret("second"))


def run(
    entra: Entra,
    use: Callable[[TokenSource, FakeClock], Awaitable[Result]],
    credentials: tuple[Credential, ...] | Rotation = BOTH,
    token_endpoint: str | None = None,
) -> tuple[Result, list[str], list[str]]:
    """What `use` gives, whose secrets were sent, and what was logged."""

    async def main() -> tuple[Result, list[Received]]:
        clock = FakeClock()
        async with LoopbackServer(entra) as server, open_session(stall_s=2) as session:
            cloud = Cloud("test", server.url, server.url, "a", token_endpoint=token_endpoint)
            source = TokenSource(session, cloud, tenant_id=TENANT, credentials=credentials, clock=clock)
            return await use(source, clock), server.received

    with capture_logs() as said:
        result, received = asyncio.run(main())
    sent = [dict(parse_qsl(one.body.decode()))["client_secret"].partition("-")[0] for one in received]
    lines = [f"{line['log_level']}: {line['event']}" for line in said]
    assert "s3cr3t" not in "".join(lines)
    return result, sent, lines


async def ask(source: TokenSource, _: FakeClock) -> str:
    return await source.current()


async def fail(source: TokenSource, _: FakeClock) -> CollectorError:
    with pytest.raises(CollectorError) as caught:
        await source.current()
    assert "s3cr3t" not in f"{caught.value!r}{vars(caught.value)!r}"
    return caught.value


@guarantee(25)
@pytest.mark.parametrize("code", [EXPIRED, WRONG, 700027, 700024, 700213, 1])
def test_where_one_is_refused_the_next_is_tried(code: int) -> None:
    """In the same request for a token, so that nothing waits; an unknown code counts by OAuth's word."""
    token, sent, lines = run(Entra(first=code, second=0), ask)

    assert (token, sent) == ("by-second-s3cr3t", ["first", "second"])
    assert len(lines) == 1
    assert lines[0].startswith(
        f"warning: {TENANT}/token: credentials.first does not work, "
        "and credentials.second is used in its place: "
    )


@guarantee(25)
def test_what_worked_last_is_tried_first_and_the_fall_is_told_once() -> None:
    """Not every hour again; and what was renewed meanwhile is come back to when it is needed."""
    entra = Entra(first=EXPIRED, second=0)

    async def renew(source: TokenSource, clock: FakeClock) -> list[str]:
        tokens = []
        for number in range(4):
            if number == 2:
                entra.answers = {"first": 0, "second": EXPIRED}
            tokens.append(await source.current())
            await clock.advance(3_500)
        return tokens

    tokens, sent, lines = run(entra, renew)

    assert [token.split("-")[1] for token in tokens] == ["second", "second", "first", "first"]
    assert sent == ["first", "second", "second", "second", "first", "first"]
    assert ["credentials.first does" in line for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (DISABLED, ConsentMissing),
        (Reply(503, b""), Unavailable),
        (Reply(429, b""), Throttled),
    ],
)
def test_what_is_not_about_the_credential_tries_no_other(
    answer: int | Reply, kind: type[CollectorError]
) -> None:
    """The application is disabled, or Entra is down: another credential would not help."""
    error, sent, lines = run(Entra(first=answer, second=0), fail)

    assert (type(error), sent, lines) == (kind, ["first"], [])


@guarantee(25)
def test_where_none_works_the_error_names_each() -> None:
    """With what is wrong with it, and what to do."""
    error, sent, lines = run(Entra(first=EXPIRED, second=WRONG), fail)

    assert isinstance(error, CredentialsRefused)
    assert (sent, lines) == (["first", "second"], [])
    assert str(error).startswith(
        f"{TENANT}/token: no credential works: credentials.first: AADSTS7000222: the client secret has "
        "expired; credentials.second: AADSTS7000215: the client secret is wrong; "
    )
    assert ", or " in error.fix


def test_the_cure_names_the_key_that_the_credential_stands_under() -> None:
    """What `second` has is not mended at the first."""
    second = ClientSecret("app", client_secret("late-s3cr3t", name="second.client_secret"))
    error, _, _ = run(Entra(first=EXPIRED, late=WRONG), fail, (secret("first"), second))

    assert isinstance(error, CredentialsRefused)
    assert "not its id) into credentials.second.client_secret" in error.fix
    assert "its value into credentials.client_secret" in error.fix


def test_one_that_is_not_to_be_had_leaves_the_other() -> None:
    """A certificate that has ended, whose file is gone, or whose endpoint is away."""
    unusable = Unusable(CredentialsRefused("the certificate x expired", fix="make another"))
    token, sent, [line] = run(Entra(second=0), ask, (unusable, secret("second")))

    assert (token, sent) == ("by-second-s3cr3t", ["second"])
    assert line.endswith("is used in its place: the certificate x expired; make another")


def test_what_may_pass_is_tried_again_later() -> None:
    """Where one credential failed for a passing reason, the whole is no matter for an operator yet."""
    away = Unusable(Unavailable("no answer", after_s=7))
    error, _, _ = run(Entra(first=EXPIRED), fail, (away, secret("first")))

    assert type(error) is Unavailable
    assert error.after_s == 7
    assert "credentials.certificate_file: no answer; credentials.first: AADSTS7000222" in error.what


@guarantee(25)
def test_a_token_that_is_still_good_outlives_a_credential_that_is_not_to_be_had() -> None:
    """A file is being exchanged just when the token is renewed: the feeds go on, for as long as it lasts."""
    coming = Coming(secret("first"))

    async def exchange(source: TokenSource, clock: FakeClock) -> list[str]:
        tokens = [await source.current()]
        coming.is_away = True
        await clock.advance(3_400)
        tokens.append(await source.current())
        await clock.advance(201)
        with pytest.raises(CredentialsRefused, match="is not there"):
            await source.current()
        coming.is_away = False
        return [*tokens, await source.current()]

    tokens, sent, _ = run(Entra(first=0), exchange, (coming,))

    assert (len(tokens), sent) == (3, ["first", "first"])


def test_a_single_one_fails_as_it_always_did() -> None:
    """No word of others."""
    error, _, _ = run(Entra(first=EXPIRED), fail, (secret("first"),))

    assert str(error).startswith(f"{TENANT}/token: AADSTS7000222: the client secret has expired; create")


def test_a_token_that_is_given_is_not_asked_of_entra() -> None:
    """A managed identity's own: kept and renewed like any other."""

    async def twice(source: TokenSource, clock: FakeClock) -> list[str]:
        first = await source.current()
        await clock.advance(3_200)
        return [first, await source.current()]

    tokens, sent, _ = run(Entra(), twice, (Direct(),))

    assert (tokens, sent) == (["for-a", "for-a"], [])


@pytest.mark.parametrize(("wanted", "path"), [("v1", "oauth2/token"), ("v2", "oauth2/v2.0/token")])
def test_the_endpoint_that_is_wanted_is_the_only_one(wanted: str, path: str) -> None:
    """`token_endpoint`: the other is not tried, even where this one is not there."""
    asked: list[str] = []

    def absent(received: Received) -> Reply:
        asked.append(received.target)
        return Reply(404, b"<html>")

    run(absent, fail, (secret("first"),), token_endpoint=wanted)  # type: ignore[arg-type]

    assert asked == [f"/{TENANT}/{path}"]


def test_tenants_of_one_application_share_its_credentials() -> None:
    """One key in memory and one reading of it, however many tenants; another cloud is apart."""

    async def main() -> list[Rotation]:
        async with open_session() as session:
            applications = Applications(session, FakeClock())
            china = replace(SETTINGS, cloud=replace(SETTINGS.cloud, name="china"))
            others = [replace(SETTINGS, tenant_id=TENANT), replace(SETTINGS, client_id="other"), china]
            return [applications.of(one) for one in (SETTINGS, *others)]

    first, same, other, apart = asyncio.run(main())

    assert same is first
    assert len({id(one) for one in (first, other, apart)}) == 3


def test_tenants_of_one_application_learn_from_each_other() -> None:
    """The first of 500 tenants tells that a credential is refused; the others ask with what works."""
    entra = Entra(first=EXPIRED, second=0)
    rotation = Rotation(BOTH)

    async def many(source: TokenSource, _: FakeClock) -> Any:
        return await source.current()

    _, sent_first, lines_first = run(entra, many, rotation)
    _, sent_next, lines_next = run(entra, many, rotation)

    assert (sent_first, sent_next) == (["first", "second"], ["second"])
    assert (len(lines_first), lines_next) == (1, [])


@guarantee(25)
def test_tenants_that_ask_together_are_told_of_the_fall_once() -> None:
    """Each of them meets the refusal before any has learned what works."""
    rotation = Rotation(BOTH)

    async def use(credential: Credential) -> None:
        await asyncio.sleep(0)
        if credential is BOTH[0]:
            raise CredentialFailed(CredentialsRefused("it has expired", fix="renew it", where="token"))

    async def main() -> None:
        await asyncio.gather(*(rotation.use(use, where=f"tenant {number}") for number in range(10)))

    with capture_logs() as lines:
        asyncio.run(main())

    assert len(lines) == 1
