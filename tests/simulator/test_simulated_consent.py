"""The consent pages and the codes of the simulated tenants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from promises import guarantee

from caller import START, Caller, Reply, calling, in_loop
from m365watch.auth.consent.authorization_request import ConsentAttempt, ConsentForm, Redirect, read_redirect
from m365watch.auth.consent.code_exchange import find_tenant
from m365watch.auth.credentials.client_secret.spec import ClientSecret
from m365watch.auth.factory import make_credentials
from m365watch.common.errors import BadAnswer, ConsentRefused, CredentialsRefused
from m365watch.config.models.clouds import Cloud
from m365watch.http.client import open_session
from m365watch_simulator.service.identities import derive_identities
from m365watch_testing.applications import ApplicationCertificate, write_private
from m365watch_testing.credentials import certificate as certificate_settings
from m365watch_testing.credentials import client_secret, managed_identity

BACK = "http://localhost:8400/consent"
UNKNOWN = "behaviour: {consented: false}"


def attempt_of(caller: Caller, form: str, **changes: str) -> ConsentAttempt:
    cloud = Cloud("custom", caller.running.url, caller.running.url, caller.running.url)
    return ConsentAttempt(ConsentForm(form), cloud, caller.identity.client_id, BACK, **changes).guarded()


async def open_page(caller: Caller, attempt: ConsentAttempt, *, url: str = "") -> dict[str, str]:
    """What the administrator's browser is sent back with."""
    host = f"{caller.running.url}/"
    reply = await caller.send("GET", host + (url or attempt.url).split("/", 3)[3])
    assert reply.status == 302
    back = urlsplit(reply.headers["Location"])
    assert back._replace(query="").geturl() == attempt.redirect_uri
    return dict(parse_qsl(back.query, strict_parsing=True))


async def redeem(caller: Caller, attempt: ConsentAttempt, brought: str, **changes: str) -> Reply:
    form = attempt.exchange_form(brought) | {"client_secret": caller.identity.client_secret} | changes
    return await caller.send("POST", attempt.token_url, data={key: one for key, one in form.items() if one})


async def find(caller: Caller, attempt: ConsentAttempt, redirect: Redirect, *secrets: str) -> str:
    """The tenant that the product finds; each secret is a credential of its own."""
    known = secrets or (caller.identity.client_secret,)
    credentials = [ClientSecret(caller.identity.client_id, client_secret(one)) for one in known]
    async with open_session() as session:
        return await find_tenant(redirect, attempt, session, credentials=credentials, clock=caller.clock)


@in_loop
async def test_a_tenant_without_consent_does_not_know_the_application() -> None:
    """AADSTS700016 before, a token after."""
    async with calling(UNKNOWN, signed_in=False) as caller:
        before = (await caller.ask_token()).document["error_codes"]
        said = await open_page(caller, attempt_of(caller, "admin"))
        after = (await caller.ask_token()).status
    assert (before, after) == ([700016], 200)
    assert (said["tenant"], said["admin_consent"]) == (caller.identity.tenant_id, "True")


@in_loop
async def test_a_consent_takes_effect_after_its_delay() -> None:
    """As long as the scenario says, to the second; the product waits for it."""
    async with calling("behaviour: {consented: false, consent_delay_s: 30}", signed_in=False) as caller:
        attempt = attempt_of(caller, "admin")
        said = await open_page(caller, attempt)
        assert (await caller.ask_token()).status == 400
        redirect = read_redirect("&".join(f"{key}={one}" for key, one in said.items()), attempt)
        assert await find(caller, attempt, redirect) == caller.identity.tenant_id
        assert caller.clock.monotonic_s() == 30


@in_loop
async def test_a_consent_that_never_arrives_is_not_waited_for_for_ever() -> None:
    """After a minute the refusal stands."""
    async with calling(UNKNOWN, signed_in=False) as caller:
        attempt = attempt_of(caller, "admin")
        with pytest.raises(CredentialsRefused, match="AADSTS700016"):
            await find(caller, attempt, Redirect(caller.identity.tenant_id))
        assert 50 < caller.clock.monotonic_s() <= 60


@pytest.mark.parametrize("form", ["code", "v1"])
@in_loop
async def test_a_code_tells_the_tenant(form: str) -> None:
    """Both endpoints, with PKCE; the tenant is that of the id_token."""
    async with calling(UNKNOWN, signed_in=False) as caller:
        attempt = attempt_of(caller, form)
        said = await open_page(caller, attempt)
        assert said["state"] == attempt.state
        assert await find(caller, attempt, Redirect("", said["code"])) == caller.identity.tenant_id
        assert (await caller.ask_token()).status == 200


@in_loop
async def test_the_second_credential_exchanges_what_the_first_cannot() -> None:
    """A code survives a wrong secret."""
    async with calling(signed_in=False) as caller:
        attempt = attempt_of(caller, "code")
        code = (await open_page(caller, attempt))["code"]
        found = await find(caller, attempt, Redirect("", code), "wrong", caller.identity.client_secret)
        assert found == caller.identity.tenant_id
        with pytest.raises(CredentialsRefused, match="AADSTS7000215") as refused:
            await find(caller, attempt, Redirect("", code), "wrong", "wrong as well")
    assert code not in str(refused.value)


@pytest.mark.parametrize("form", ["code", "v1", "admin"])
@in_loop
async def test_a_certificate_finds_the_tenant_as_a_secret_does(form: str, tmp_path: Path) -> None:
    """Its assertion is meant for the endpoint of `common`, or of the tenant that the answer names."""
    certificate = ApplicationCertificate(START)
    file = write_private(tmp_path / "both.pem", certificate.pem + certificate.key_pem())
    (identity,) = derive_identities(5)
    tenants = (replace(identity, certificate=certificate.pem, client_secret="unused"),)
    async with calling(UNKNOWN, signed_in=False, tenants=tenants) as caller, open_session() as session:
        attempt = attempt_of(caller, form)
        said = await open_page(caller, attempt)
        credentials = make_credentials(
            identity.client_id, [certificate_settings(file)], session=session, clock=caller.clock
        )
        redirect = Redirect(said.get("tenant", ""), said.get("code", ""))
        found = await find_tenant(redirect, attempt, session, credentials=credentials, clock=caller.clock)
    assert found == identity.tenant_id


@in_loop
async def test_an_identity_that_gives_tokens_by_itself_exchanges_no_code() -> None:
    """It proves nothing that could go along with a code; the line names the form that needs none."""
    async with calling(signed_in=False) as caller, open_session() as session:
        credentials = make_credentials("", [managed_identity()], session=session, clock=caller.clock)
        attempt = attempt_of(caller, "code")
        with pytest.raises(ConsentRefused, match="exchanges no code; use the form admin"):
            await find_tenant(
                Redirect("", "x"), attempt, session, credentials=credentials, clock=caller.clock
            )


@guarantee(25)
@pytest.mark.parametrize("form", ["admin", "code"])
@in_loop
async def test_a_token_of_another_tenant_is_not_believed(form: str) -> None:
    """Neither what the browser brought nor what the token says is written then."""
    other = "0a1b2c3d-0000-4000-8000-00000000000a"
    async with calling(f"behaviour: {{token_tenant: {other}}}", signed_in=False) as caller:
        attempt = attempt_of(caller, form)
        said = await open_page(caller, attempt)
        with pytest.raises(ConsentRefused, match=f"and the token {other}"):
            await find(caller, attempt, Redirect(caller.identity.tenant_id, said.get("code", "")))


@in_loop
async def test_a_tenant_that_is_no_guid_is_not_believed() -> None:
    """It would go into a file."""
    async with calling("behaviour: {token_tenant: '../x'}", signed_in=False) as caller:
        attempt = attempt_of(caller, "code")
        code = (await open_page(caller, attempt))["code"]
        with pytest.raises(BadAnswer, match="names no tenant"):
            await find(caller, attempt, Redirect("", code))


WRONG: list[tuple[dict[str, str], int]] = [
    ({"code_verifier": ""}, 501481),
    ({"code_verifier": "x" * 43}, 501481),
    ({"redirect_uri": f"{BACK}/"}, 500112),
    ({"redirect_uri": ""}, 900144),
    ({"code": "1.unknown"}, 70000),
    ({"client_secret": "wrong"}, 7000215),
    ({"client_id": "0a1b2c3d-0000-4000-8000-00000000000a"}, 700016),
]


@pytest.mark.parametrize(("change", "code"), WRONG)
@in_loop
async def test_a_wrong_exchange_gets_its_code(change: dict[str, str], code: int) -> None:
    """And the code stays good for who asked for it."""
    async with calling(signed_in=False) as caller:
        attempt = attempt_of(caller, "code")
        brought = (await open_page(caller, attempt))["code"]
        refused = await redeem(caller, attempt, brought, **change)
        good = await redeem(caller, attempt, brought)
    assert refused.document["error_codes"] == [code]
    assert good.status == 200


@in_loop
async def test_a_code_is_good_once_and_for_a_while() -> None:
    """A second exchange, and a late one."""
    async with calling("behaviour: {code_life_s: 60}", signed_in=False) as caller:
        attempt = attempt_of(caller, "code")
        first, second = [(await open_page(caller, attempt))["code"] for _ in range(2)]
        codes = [(await redeem(caller, attempt, first)).document.get("error_codes") for _ in range(2)]
        await caller.clock.sleep(60)
        codes.append((await redeem(caller, attempt, second)).document["error_codes"])
    assert codes == [None, [54005], [70008]]


@in_loop
async def test_a_code_belongs_to_its_endpoint() -> None:
    """One of v2 is none at v1."""
    async with calling(signed_in=False) as caller:
        attempt = attempt_of(caller, "code")
        brought = (await open_page(caller, attempt))["code"]
        other = replace(attempt, form=ConsentForm.V1)
        assert (await redeem(caller, other, brought)).document["error_codes"] == [70000]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ("canceled", "permission_denied", "Cancel"),
        ("declined", "access_denied", "AADSTS65004"),
        ("no_admin", "access_denied", "AADSTS90094"),
    ],
)
@pytest.mark.parametrize("form", ["admin", "code", "v1"])
@in_loop
async def test_an_administrator_may_say_no(form: str, answer: str, error: str, words: str) -> None:
    """The error goes back with the state, and nothing has changed in the tenant."""
    async with calling(
        f"behaviour: {{consented: false, consent_answer: {answer}}}", signed_in=False
    ) as caller:
        attempt = attempt_of(caller, form)
        said = await open_page(caller, attempt)
        assert (await caller.ask_token()).status == 400
    assert (said["error"], said["state"]) == (error, attempt.state)
    assert words in said["error_description"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"redirect_uri": "https://evil.example/"}, 50011),
        ({"redirect_uri": f"{BACK}x"}, 50011),
        ({"client_id": "0a1b2c3d-0000-4000-8000-00000000000a"}, 700016),
        ({"tenant": "nowhere.example"}, 90002),
    ],
)
@in_loop
async def test_nobody_is_sent_to_an_address_that_is_not_registered(change: dict[str, Any], code: int) -> None:
    """The mistake is shown on the page itself."""
    async with calling(f"behaviour: {{redirect_uris: ['{BACK}']}}", signed_in=False) as caller:
        attempt = replace(attempt_of(caller, "admin"), **change)
        reply = await caller.send("GET", attempt.url)
    assert reply.status == 400
    assert f"AADSTS{code}" in reply.body.decode()


@in_loop
async def test_tenants_of_one_application_consent_one_after_the_other() -> None:
    """Under `common` the next one that lacks it, or the one that is hinted at."""
    first, second = derive_identities(5, 2)
    tenants = (first, replace(second, client_id=first.client_id, client_secret=first.client_secret))
    async with calling(UNKNOWN, signed_in=False, tenants=tenants) as caller:
        attempt = attempt_of(caller, "admin")
        hinted = await open_page(caller, attempt, url=f"{attempt.url}&domain_hint={second.domain}")
        then = await open_page(caller, attempt)
    assert [hinted["tenant"], then["tenant"]] == [second.tenant_id, first.tenant_id]


@in_loop
async def test_an_administrator_s_token_opens_no_feed() -> None:
    """It is delegated: no roles, AF10001."""
    async with calling(signed_in=False, subscribed=False) as caller:
        attempt = attempt_of(caller, "v1")
        code = (await open_page(caller, attempt))["code"]
        answer = (await redeem(caller, attempt, code)).document
        caller.bearer = answer["access_token"]
        reply = await caller.get("subscriptions/list")
    assert answer["scope"] == "ActivityFeed.Read"
    assert {"refresh_token", "id_token", "resource"} <= set(answer)
    assert (reply.status, reply.code) == (401, "AF10001")


@in_loop
async def test_a_consent_can_be_withdrawn_and_given_again() -> None:
    """As by an administrator who deletes the application from the tenant, and accepts once more."""
    async with calling(signed_in=False) as caller:
        [tenant] = caller.running.tenants
        tenant.tokens.consent.withdraw()
        codes = (await caller.ask_token()).document["error_codes"]
        tenant.tokens.consent.give(START)
        status = (await caller.ask_token()).status
    assert (codes, status) == ([700016], 200)
