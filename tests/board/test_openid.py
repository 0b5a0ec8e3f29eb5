"""Signing in with Entra: who comes in, with which rights, and who does not."""

from __future__ import annotations

import asyncio
import base64
import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from promises import guarantee
from pydantic import SecretStr
from structlog.testing import capture_logs

from asking import Answer, board_of
from m365watch.board.access.id_token import (
    Expected,
    TokenWrong,
    access_in,
    has_too_many_groups,
    judge,
    read_keys,
)
from m365watch.board.access.login_routes import Entrance
from m365watch.board.access.openid_connect import OpenIdSignIn, refusal_of
from m365watch.board.access.roles import Access, Role
from m365watch.board.query.data_sources import Sources
from m365watch.common.clock import SystemClock
from m365watch.config.models.listeners import EntraSection, GrantSection
from m365watch.http.client import open_session
from m365watch_simulator.entra.openid import OpenId
from m365watch_simulator.service.server import SimulationSettings, simulator_running
from signing import Browser, entrance_in

GROUP = "bbbbbbbb-0000-4000-8000-00000000000b"
TENANT = "cccccccc-0000-4000-8000-00000000000c"
GRANTS = (
    GrantSection(claim="Board.Analyst", role="analyst"),
    GrantSection(claim=GROUP, role="viewer", tenants=(TENANT,), contents=False),
)
ADDRESS = "http://127.0.0.1:8365"


class Provider:
    """A board whose people come from a simulated Entra."""

    def __init__(self, entrance: Entrance, openid: OpenId, browser: Browser) -> None:
        self.entrance = entrance
        self.openid = openid
        self.browser = browser

    async def sign_in(self, back: str = "/health") -> Answer:
        """All the way: to Entra, and back with what it answers."""
        return await self.browser.get(await self.callback(back))

    async def callback(self, back: str = "/health") -> str:
        """Where Entra sends the browser back to."""
        away = await self.browser.get(f"/sign-in/entra?next={back}")
        assert away.status == 303, away.text
        async with (
            aiohttp.ClientSession() as http,
            http.get(away.headers["location"], allow_redirects=False) as said,
        ):
            assert said.status == 302, await said.text()
            return said.headers["Location"].removeprefix(ADDRESS)

    async def access(self) -> Access | None:
        """Whose session the browser has."""
        now_s = self.entrance.clock.now().timestamp()
        return self.entrance.sessions.find(self.browser.cookies.get("m365watch", ""), now_s=now_s)


@asynccontextmanager
async def provider(folder: Path, sources: Sources) -> AsyncIterator[Provider]:
    settings = SimulationSettings(seed=5, days=0.01, users=12, records_per_day=10, live=False)
    async with simulator_running(settings, clock=SystemClock()) as running:
        identity = running.tenants[0].identity
        entrance, _ = entrance_in(folder)
        entrance.clock = SystemClock()
        session = open_session()
        entra = EntraSection(
            login_url=running.url,
            tenant_id=identity.tenant_id,
            client_id=identity.client_id,
            client_secret=SecretStr(identity.client_secret),
            grants=GRANTS,
        )
        entrance.openid = OpenIdSignIn(entra, session, address=ADDRESS, clock=entrance.clock)
        try:
            yield Provider(entrance, running.openid, Browser(board_of(sources, entrance=entrance)))
        finally:
            await session.close()


def with_provider(folder: Path, sources: Sources, act: Callable[[Provider], Awaitable[None]]) -> None:
    async def run() -> None:
        async with provider(folder, sources) as found:
            await act(found)

    asyncio.run(run())


def test_somebody_with_a_role_comes_in(tmp_path: Path, sources: Sources) -> None:
    """By code with a challenge, state and nonce; documents and keys are asked for once."""

    async def act(found: Provider) -> None:
        page = await found.browser.get("/sign-in?next=/health")
        assert 'href="/sign-in/entra?next=%2Fhealth"' in page.text
        answer = await found.sign_in()
        assert (answer.status, answer.headers["location"]) == (303, "/health")
        access = await found.access()
        assert access is not None
        assert (access.name, access.role, access.tenants) == ("ann@contoso.example", Role.ANALYST, None)
        found.openid.person["roles"] = []
        found.openid.person["groups"] = ["other", GROUP]
        await found.sign_in()
        access = await found.access()
        assert access is not None
        assert (access.role, access.tenants, access.sees_contents) == (
            Role.VIEWER,
            frozenset({TENANT}),
            False,
        )
        assert found.openid.asked.count("discovery") == found.openid.asked.count("keys") == 1

    with_provider(tmp_path, sources, act)


WRONG: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "another issuer": ({"iss": "https://evil.example/v2.0"}, {}),
    "another application": ({"aud": "11111111-1111-4111-8111-111111111111"}, {}),
    "several applications": ({"aud": ["x"]}, {}),
    "another tenant": ({"tid": TENANT}, {}),
    "another sign-in": ({"nonce": "x"}, {}),
    "over": ({"exp": 1_000}, {}),
    "no end": ({"exp": None}, {}),
    "old": ({"iat": 1_000}, {}),
    "not yet": ({"nbf": 9_999_999_999}, {}),
    "no algorithm": ({}, {"alg": "none"}),
    "another algorithm": ({}, {"alg": "HS256"}),
    "an extension": ({}, {"crit": ["x"]}),
    "another key": ({}, {"kid": "unknown"}),
}


@guarantee(42)
def test_a_token_that_is_not_right_lets_nobody_in(tmp_path: Path, sources: Sources) -> None:
    """Whatever is wrong with it: the page says no more than that it does not work."""

    async def act(found: Provider) -> None:
        for what, (changes, head) in WRONG.items():
            found.openid.changes, found.openid.head = dict(changes), dict(head)
            answer = await found.sign_in()
            assert answer.status == 403, what
            assert "does not work just now" in answer.text
            assert await found.access() is None

    with_provider(tmp_path, sources, act)


@guarantee(42)
def test_who_has_no_role_is_told_so(tmp_path: Path, sources: Sources) -> None:
    """An account of the tenant is not enough."""

    async def act(found: Provider) -> None:
        found.openid.person["roles"] = ["Other"]
        answer = await found.sign_in()
        assert (answer.status, await found.access()) == (403, None)
        assert "has no role here" in answer.text

    with_provider(tmp_path, sources, act)


@guarantee(42)
def test_what_comes_back_is_for_the_browser_that_went(tmp_path: Path, sources: Sources) -> None:
    """Not for another browser, not twice, not under another state, and not where Entra says no."""

    async def act(found: Provider) -> None:
        stolen = await found.callback()
        other = Browser(found.browser.board)
        assert (await other.get(stolen)).status == 403
        assert (await found.browser.get(stolen)).status == 403
        url = await found.callback()
        state = parse_qs(urlsplit(url).query)["state"][0]
        assert (await found.browser.get(url.replace(state, "x" * 43))).status == 403
        assert (await found.browser.get(url)).status == 303
        assert (await found.browser.get(url)).status == 403
        denied = await found.callback()
        state = parse_qs(urlsplit(denied).query)["state"][0]
        answer = await found.browser.get(f"/sign-in/entra/back?error=access_denied&state={state}")
        assert "Microsoft did not sign you in" in answer.text

    with_provider(tmp_path, sources, act)


def test_a_new_key_is_fetched_and_an_old_one_is_none(tmp_path: Path, sources: Sources) -> None:
    """Entra changes its keys without asking; an unknown one is looked for once a minute."""

    async def act(found: Provider) -> None:
        assert found.entrance.openid is not None
        assert (await found.sign_in()).status == 303
        found.openid.renew_key()
        assert (await found.sign_in()).status == 403
        found.entrance.openid._keys_at_s -= 100
        assert (await found.sign_in()).status == 303

    with_provider(tmp_path, sources, act)


@guarantee(42)
@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "jwks_uri", "authorization_endpoint"])
def test_discovery_leads_to_the_issuer_alone(tmp_path: Path, sources: Sources, name: str) -> None:
    """A document that names another host, or another issuer, is not gone by."""

    async def act(found: Provider) -> None:
        found.openid.document = {name: "http://127.0.0.2:1/x"}
        answer = await found.browser.get("/sign-in/entra")
        assert answer.status == 503
        assert found.openid.asked == ["discovery"]

    with_provider(tmp_path, sources, act)


@guarantee(26)
@pytest.mark.parametrize("place", ["https://[", "{url}/keys\r\nX-Other: y", "{url}/ keys"])
def test_an_address_that_is_none_is_not_gone_by(tmp_path: Path, sources: Sources, place: str) -> None:
    """Nor one that would write more into the request than an address."""

    async def act(found: Provider) -> None:
        assert found.entrance.openid is not None
        issuer = urlsplit(found.entrance.openid._settings.issuer)
        found.openid.document = {"jwks_uri": place.format(url=f"{issuer.scheme}://{issuer.netloc}")}
        answer = await found.browser.get("/sign-in/entra")
        assert answer.status == 503
        assert found.openid.asked == ["discovery"]

    with_provider(tmp_path, sources, act)


def test_the_first_grant_counts() -> None:
    """In the order of the configuration; groups that Entra left out are none."""
    both = {"roles": ["Board.Analyst"], "groups": [GROUP], "preferred_username": "a\nb"}
    access = access_in(both, GRANTS)

    assert access is not None
    assert (access.name, access.role) == ("ab", Role.ANALYST)
    assert access_in({"groups": GROUP}, GRANTS) is None
    assert has_too_many_groups({"_claim_names": {"groups": "src1"}})
    assert not has_too_many_groups(both)


def test_a_token_that_is_nested_too_deeply_is_none() -> None:
    """Found by the fuzzer: its decoder gives up in another way than over what is no JSON."""
    part = base64.urlsafe_b64encode(b"[" * 5_000 + b"]" * 5_000).decode()

    with pytest.raises(TokenWrong, match="it cannot be read"):
        judge(f"{part}.{part}.", {}, Expected("https://a.example", "app", "nonce"), now_s=0.0)


@guarantee(42)
@pytest.mark.parametrize(("bits", "kept"), [(1_024, []), (2_047, []), (2_048, ["a"]), (4_096, ["a"])])
def test_a_key_that_is_too_short_is_none(bits: int, kept: list[str]) -> None:
    """Whoever can factor it could sign in as anybody."""
    number = (1 << bits) - 1
    n = base64.urlsafe_b64encode(number.to_bytes((bits + 7) // 8)).decode().rstrip("=")

    assert [*read_keys({"keys": [{"kid": "a", "kty": "RSA", "n": n, "e": "AQAB"}]})] == kept


REFUSED = {
    ("token", 7000222): (
        503,
        "client secret at Microsoft has expired",
        "put its value where board.entra has it",
    ),
    ("token", 7000215): (503, "is not the one that Microsoft knows", "its value, not its id"),
    ("token", 50011): (503, "does not know this address", f"redirect URI (web) {ADDRESS}/sign-in/entra/back"),
    ("token", 65001): (403, "has not consented", "grant admin consent"),
    ("authorize", 50105): (403, "is not assigned to", "assign the person"),
    ("authorize", 50020): (403, "is of another organisation", "board.entra.tenant_id"),
    ("authorize", 99999): (403, "Microsoft did not sign you in", "error?code=99999"),
    ("discovery", 90002): (503, "a tenant that Microsoft does not have", "correct board.entra.tenant_id"),
}


def test_why_entra_signs_nobody_in_is_told_with_what_to_do(tmp_path: Path, sources: Sources) -> None:
    """On the page and in the board's log, by its code; nothing that was sent is in either."""

    async def act(found: Provider) -> None:
        for (page, code), (status, says, fix) in REFUSED.items():
            assert found.entrance.openid is not None
            found.entrance.openid._places = None
            found.openid.refuses = {page: code}
            with capture_logs() as told:
                away = await found.browser.get("/sign-in/entra")
                answer = away if page == "discovery" else await found.browser.get(await found.callback())
            lines = [one["event"] for one in told]

            assert (answer.status, says in answer.text, f"AADSTS{code}" in answer.text) == (
                status,
                True,
                True,
            )
            assert len(lines) == 1
            assert f"AADSTS{code}" in lines[0]
            assert fix in lines[0]
            assert "Trace ID" not in answer.text + lines[0]
            assert (
                found.entrance.openid._settings.client_secret.get_secret_value() not in answer.text + lines[0]
            )

    with_provider(tmp_path, sources, act)


def test_who_is_refused_may_choose_another_account(tmp_path: Path, sources: Sources) -> None:
    """Microsoft would send them back with the same one each time."""

    async def act(found: Provider) -> None:
        first = await found.browser.get("/sign-in/entra?next=/health")
        found.openid.person["roles"] = ["Other"]
        refused = await found.sign_in()
        [link] = re.findall(r'href="(/sign-in/entra[^"]*)"', refused.text)
        again = await found.browser.get(html.unescape(link))

        assert "next=%2Fhealth" in link
        assert "prompt" not in parse_qs(urlsplit(first.headers["location"]).query)
        assert "Sign in with another account" in refused.text
        assert parse_qs(urlsplit(again.headers["location"]).query)["prompt"] == ["select_account"]

    with_provider(tmp_path, sources, act)


def test_only_a_code_and_an_errors_name_are_told_on() -> None:
    """Whoever comes back with words of their own writes none into the log."""
    told = refusal_of({"error": "a b\nc", "error_description": "AADSTS50105: x\ny"}, redirect_uri=ADDRESS)

    assert told is not None
    assert told.told.startswith("AADSTS50105: the person is not assigned")
    assert refusal_of({"error": "<script>", "error_description": "ann"}, redirect_uri=ADDRESS) is None
