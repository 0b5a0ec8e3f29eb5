"""A token goes to the configured host and nowhere else, whatever an answer names."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from promises import guarantee

from feed_tenant import FEED, PUBLISHER, TENANT, Tokens, tenant_at
from m365watch.auth.credentials.client_secret.spec import ClientSecret
from m365watch.auth.tokens import TokenSource
from m365watch.common.clock import Clock
from m365watch.common.errors import BadAnswer, CollectorError
from m365watch.config.models.clouds import Cloud
from m365watch.http.client import Session
from m365watch.http.transport import RawAnswer
from m365watch.sources.audit_search.audit_search_client import AuditQueries, GraphUrls
from m365watch.sources.management_api.fetch_attempts import TenantAccess
from m365watch.sources.management_api.management_api_client import ManagementApi
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper
from m365watch_testing.clock import FakeClock
from m365watch_testing.credentials import client_secret
from m365watch_testing.loop import run_jumping
from m365watch_testing.recording import RecordingTransport, SentRequest, raw_answer
from scripted import Even, House, house_in

MANAGE = "https://manage.office.com"
LOGIN = "https://login.microsoftonline.com"
GRAPH = "https://graph.microsoft.com"
ROOT = f"/api/v1.0/{TENANT}/activity/feed/"
BODY = b'[{"Id":"1","RecordType":2,"CreationTime":"2026-11-17T08:59:00","Operation":"Set"}]'

HOSTILE = [
    "https://evil.example/api/v1.0/x/activity/feed/audit/1",
    "https://manage.office.com.evil.example/audit/1",
    "https://evil-manage.office.com/audit/1",
    "https://office.com/audit/1",
    "https://manage.office.com@evil.example/audit/1",
    "https://manage.office.com:443@evil.example/audit/1",
    "https://evil.example\\@manage.office.com/audit/1",
    "https://manage.office.com\\.evil.example/audit/1",
    "https:\\\\evil.example\\audit\\1",
    "https://user:password@manage.office.com/audit/1",
    "http://manage.office.com/audit/1",
    "HTTP://MANAGE.OFFICE.COM/audit/1",
    "ftp://manage.office.com/audit/1",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//evil.example/audit/1",
    "///evil.example/audit/1",
    "https:/evil.example/audit/1",
    "https:evil.example/audit/1",
    "https://manage.office.com:8443/audit/1",
    "https://manage.office.com:0443/audit/1",
    "https://manage.office.com:80/audit/1",
    "https://manage.office.com:notaport/audit/1",
    "https://manage.office.com./audit/1",
    "https://manage。office。com/audit/1",
    "https://mаnage.office.com/audit/1",  # noqa: RUF001 - its second letter is Cyrillic
    "https://xn--mnage-3ve.office.com/audit/1",
    "https://manage.office.com\u200b.evil.example/audit/1",
    "https://127.0.0.1/audit/1",
    "https://2130706433/audit/1",
    "https://0x7f.1/audit/1",
    "https://[::1]/audit/1",
    "https://[::ffff:127.0.0.1]/audit/1",
    "https://[::1%25eth0]/audit/1",
    "https://[::1/audit/1",
    "https://169.254.169.254/metadata/identity/oauth2/token",
    "https://manage.office.com%2eevil.example/audit/1",
    "https://manage.office.com%2f@evil.example/audit/1",
    "https://manage.office.com%00.evil.example/audit/1",
    "https://manage.office.com#@evil.example/audit/1",
    "https://manage.office.com?@evil.example/audit/1",
    "https://manage.office.com;@evil.example/audit/1",
    "https://manage.office.com/../../evil/audit/1",
    "https://manage.office.com/api/v1.0/x/..%2f..%2f..%2fother/audit/1",
    "https://manage.office.com/%2e%2e/%2e%2e/audit/1",
    "/\\evil.example/audit/1",
    "../../../subscriptions/stop",
    "..\\..\\subscriptions\\stop",
    "@evil.example/audit/1",
    ":443/audit/1",
    "https://evil.example/\r\nHost: evil.example\r\n\r\nGET / HTTP/1.1",
    "https://manage.office.com/\r\nAuthorization: stolen",
    "https://manage.office.com\t.evil.example/audit/1",
    " https://evil.example/audit/1",
    "\x00https://evil.example/audit/1",
]
"""Addresses that somebody might name in place of the service's own."""

WITHOUT_QUERY = {"https://[::1/audit/1", "https://manage.office.com#@evil.example/audit/1"}
"""No next page can be read out of these, whatever is written behind them."""


class Service:
    """A service in whose answers every address is hostile: content, next page, redirect."""

    def __init__(self, hostile: str) -> None:
        self._hostile = hostile
        self._redirected: set[str] = set()

    def answer(self, request: SentRequest) -> RawAnswer:
        path = request.url.raw_path
        if path.endswith("/token"):
            return raw_answer(200, b'{"access_token":"t0ken","expires_in":3599}')
        if path.endswith("/list"):
            return raw_answer(200, b'[{"contentType":"Audit.Exchange","status":"enabled"}]')
        if request.line not in self._redirected:
            # The same is asked for again after that; who followed would never come back here.
            self._redirected.add(request.line)
            return raw_answer(302, b"", {"Location": self._hostile, "Content-Location": self._hostile})
        if path.endswith("/content"):
            return self._page(request)
        return raw_answer(200, BODY)

    def _page(self, request: SentRequest) -> RawAnswer:
        number = int(request.url.query.get("nextpage", "0"))
        created = request.url.query["startTime"] + "Z" if "startTime" in request.url.query else None
        named = [
            {"contentId": content_id, "contentUri": self._hostile, "contentCreated": created}
            for content_id in (f"good{number}", self._hostile)
        ]
        headers = {"NextPageUri": f"{self._hostile}?{next_query(request, number + 1)}"} if number < 2 else {}
        return raw_answer(200, json.dumps(named).encode(), headers)


def next_query(request: SentRequest, number: int) -> str:
    kept = "&".join(
        part
        for part in request.url.raw_query_string.split("&")
        if not part.startswith(("nextpage", "Publisher"))
    )
    return f"{kept}&nextpage={number}&PublisherIdentifier={quote('https://evil.example')}"


def collect_from(hostile: str, folder: Path) -> tuple[list[SentRequest], list[str]]:
    """What leaves the machine while a feed is polled and fetched, and which blobs arrive."""
    transport = RecordingTransport(Service(hostile).answer)

    async def main() -> list[str]:
        async with house_in(folder) as house:
            equip(house, transport)
            await house.poll_once(house.poller(FEED, start_at=house.ago(hours=1)))
            async with house.fetching(FEED) as fetching:
                await asyncio.sleep(3_600)
            return fetching.content_ids

    return transport.sent, run_jumping(main())


def tokens_over(session: Session, clock: Clock) -> TokenSource:
    """The tenant's own tokens, asked for with a secret."""
    cloud = Cloud("worldwide", LOGIN, MANAGE, MANAGE, GRAPH)
    credentials = [ClientSecret("app", client_secret("s3cr3t"))]
    return TokenSource(session, cloud, tenant_id=TENANT, credentials=credentials, clock=clock)


def equip(house: House, transport: RecordingTransport) -> None:
    """Let the house's tenant be reached by the real code over `transport`."""
    session = Session(transport, body_bytes_max=1_000_000)
    api = ManagementApi(
        session,
        tenant_at(MANAGE),
        tokens=tokens_over(session, house.clock),
        budget=RequestBudget(None, house.clock),
        clock=house.clock,
        random=Even(),
    )
    house.others[TENANT] = TenantAccess(api, SubscriptionKeeper(api, house.clock), api.clock)


@guarantee(24)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_hostile_address_ever_gets_a_token(hostile: str, tmp_path: Path) -> None:
    """Named as content, as its id, as the next page and as a redirect: all goes to our own host.

    And none of that stops the collector: what the service has is fetched all the same.
    """
    sent, arrived = collect_from(hostile, tmp_path)
    bearing = [request for request in sent if "Authorization" in request.headers]

    pages = 1 if hostile in WITHOUT_QUERY else 3
    assert {f"good{number}" for number in range(pages)} <= set(arrived)
    assert {request.place for request in bearing} == {("https", "manage.office.com")}
    assert {request.place for request in sent} - {("https", "manage.office.com")} == {
        ("https", "login.microsoftonline.com")
    }
    for request in bearing:
        assert request.headers == {"Authorization": "Bearer t0ken"}
        assert request.url.raw_path.startswith(ROOT)
        assert len(request.url.raw_path.removeprefix(ROOT).split("/")) == 2
        assert ".." not in request.url.raw_path.split("/")
        assert request.url.raw_fragment == ""
        assert str(request.url).isascii()
        assert str(request.url).isprintable()
        assert request.url.query.getall("PublisherIdentifier") == [PUBLISHER]


@guarantee(24)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_hostile_next_link_ever_gets_graph_s_token(hostile: str) -> None:
    """Of an @odata.nextLink the query alone is taken, and a redirect of Graph's is not followed."""

    def answer(request: SentRequest) -> RawAnswer:
        if "after" in request.url.query_string:
            return raw_answer(307, b"", {"Location": hostile})
        said = {"value": [], "@odata.nextLink": f"{hostile}?after=1"}
        return raw_answer(200, json.dumps(said).encode())

    transport = RecordingTransport(answer)

    async def main() -> None:
        queries = AuditQueries(
            Session(transport, body_bytes_max=1_000_000),
            GraphUrls(GRAPH),
            tenant_id=TENANT,
            tokens=Tokens(),
            clock=FakeClock(),
        )
        with suppress(BadAnswer):
            page = await queries.page("q1", "")
            with pytest.raises(CollectorError):
                await queries.page("q1", page.next_query)

    asyncio.run(main())

    assert len(transport.sent) == (1 if hostile in WITHOUT_QUERY else 2)
    for request in transport.sent:
        assert request.place == ("https", "graph.microsoft.com")
        assert request.url.raw_path == "/v1.0/security/auditLog/queries/q1/records"
        assert str(request.url).isascii()
        assert str(request.url).isprintable()


@guarantee(24)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_redirect_of_the_login_host_never_gets_the_secret(hostile: str) -> None:
    """307 would repeat the form, and with it the secret."""
    transport = RecordingTransport(lambda _: raw_answer(307, b"", {"Location": hostile}))

    async def main() -> None:
        session = Session(transport, body_bytes_max=1_000)
        with pytest.raises(CollectorError, match="HTTP 307"):
            await tokens_over(session, FakeClock()).current()

    asyncio.run(main())

    assert [request.line for request in transport.sent] == [
        f"POST {LOGIN}/{TENANT}/oauth2/v2.0/token",
        f"POST {LOGIN}/{TENANT}/oauth2/token",
    ]
