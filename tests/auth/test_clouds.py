"""Every address that is called in each of Microsoft's clouds, written out; the real code calls them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from promises import guarantee

from m365watch.auth.consent.authorization_request import ConsentAttempt, ConsentForm
from m365watch.common.clock import system_random
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.common.secret import Secret
from m365watch.config.loader import parse_settings
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import Session
from m365watch.http.transport import RawAnswer
from m365watch.registry.ports import Webhook
from m365watch.sources.factory import reach_queries, reach_tenant
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.service_health.service_health_client import Kind
from m365watch_testing.applications import ApplicationCertificate, write_private
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.recording import RecordingTransport, SentRequest, raw_answer

TENANT = TenantId("41463f53-8812-40f4-890f-865bf6e35190")
PUBLISHER = "46b472a7-c68e-4adf-8ade-3db49497518e"
APPLICATION = "99999999-8888-4777-8666-555555555555"
CONTENT = "2020$2021$audit_exchange$Audit_Exchange$na0036"
AT = "2026-11-17T09:00:00Z"
SECRET = {"client_secret": "made~up.secret"}
WINDOW = Window(START - timedelta(hours=1), START)

CLOUDS = [
    (
        "worldwide",
        "https://login.microsoftonline.com",
        "https://manage.office.com",
        "https://graph.microsoft.com",
    ),
    (
        "gcc",
        "https://login.microsoftonline.com",
        "https://manage-gcc.office.com",
        "https://graph.microsoft.com",
    ),
    (
        "gcc-high",
        "https://login.microsoftonline.us",
        "https://manage.office365.us",
        "https://graph.microsoft.us",
    ),
    (
        "dod",
        "https://login.microsoftonline.us",
        "https://manage.protection.apps.mil",
        "https://dod-graph.microsoft.us",
    ),
    (
        "china",
        "https://login.partner.microsoftonline.cn",
        "https://manage.office365.cn",
        "https://microsoftgraph.chinacloudapi.cn",
    ),
]


def tenant_in(cloud: object, proof: Mapping[str, str] = SECRET, **more: str) -> TenantSettings:
    """A tenant of that cloud, from a configuration file."""
    credentials = {"tenant_id": TENANT, "client_id": APPLICATION, **proof}
    inputs = {"credentials": credentials, "cloud": cloud, "publisher_identifier": PUBLISHER, **more}
    document = {"inputs": {"office365": inputs}}
    return parse_settings(document, path=Path("/somewhere/c.json"), environment={}).tenants[0]


def service(request: SentRequest) -> RawAnswer:
    """Answers whatever is asked, in the shape that the caller expects; a listing has two pages."""
    path = request.url.path
    if path.endswith("/token"):
        return raw_answer(200, json.dumps({"token_type": "Bearer", "access_token": "t"}).encode())
    if path.endswith("/content") and "nextpage" not in request.url.query_string:
        return raw_answer(200, b"[]", {"NextPageUri": f"{request.url}&nextpage=2020$2019"})
    if path.endswith("/queries"):
        return raw_answer(201, b'{"id":"q1","status":"notStarted"}')
    if path.endswith("/q1"):
        return raw_answer(200, b'{"id":"q1","status":"succeeded"}')
    if "/serviceAnnouncement/" in path and not request.url.query_string:
        link = f"https://elsewhere.example{path}?$skip=100"
        return raw_answer(200, json.dumps({"value": [], "@odata.nextLink": link}).encode())
    return raw_answer(200, b'{"value":[]}' if "/v1.0/" in path and "/activity/" not in path else b"[]")


def only_v1(request: SentRequest) -> RawAnswer:
    """The same where the login host has only the older token endpoint."""
    if request.url.path.endswith("/oauth2/v2.0/token"):
        return raw_answer(404, b"<html>no such page</html>")
    return service(request)


async def call_everything(tenant: TenantSettings, session: Session) -> None:
    """Have the collector's own code make every call that it can make for a tenant."""
    clock = FakeClock()
    reached = reach_tenant(
        tenant, session, budget=RequestBudget(None, clock), clock=clock, random=system_random(1)
    )
    await reached.api.enabled_subscriptions()
    await reached.api.start_subscription(ContentType.GENERAL)
    webhook = Webhook("https://hook.example/told", Secret("an-auth-id"), START)
    await reached.api.start_subscription(ContentType.GENERAL, webhook)
    async for _ in reached.api.list_content(ContentType.EXCHANGE, WINDOW):
        pass
    ref = BlobRef(Feed(TENANT, ContentType.EXCHANGE), CONTENT, START, START + timedelta(days=7))
    await reached.api.fetch_blob(ref)
    queries = reach_queries(tenant, session, clock=clock)
    await queries.make(WINDOW)
    await queries.look("q1")
    await queries.page("q1", "")
    await queries.page("q1", "$skiptoken=7")
    for kind in Kind:
        async for _ in reached.announcements.pages(kind):
            pass
    async for _ in reached.announcements.pages(Kind.ISSUES, since=START):
        pass


def requests_of(cloud: object) -> list[SentRequest]:
    """What leaves the machine for a tenant of that cloud."""
    transport = RecordingTransport(service)
    asyncio.run(call_everything(tenant_in(cloud), Session(transport, body_bytes_max=1_000)))
    return transport.sent


def form_of(request: SentRequest) -> dict[str, str]:
    """The fields of a form, but for the secret."""
    fields = {name: value for name, [value] in parse_qs((request.body or b"").decode()).items()}
    return {name: value for name, value in fields.items() if name != "client_secret"}


def pinned(login: str, manage: str, graph: str) -> list[str]:
    """Every call, in the order of `call_everything`."""
    feed = f"{manage}/api/v1.0/{TENANT}/activity/feed"
    by = f"PublisherIdentifier={PUBLISHER}"
    span = "startTime=2026-11-17T08:00:00&endTime=2026-11-17T09:00:00"
    listing = f"{feed}/subscriptions/content?contentType=Audit.Exchange&{span}"
    return [
        f"POST {login}/{TENANT}/oauth2/v2.0/token",
        f"GET {feed}/subscriptions/list?{by}",
        *[f"POST {feed}/subscriptions/start?contentType=Audit.General&{by}"] * 2,
        f"GET {listing}&{by}",
        f"GET {listing}&nextpage=2020$2019&{by}",
        f"GET {feed}/audit/{CONTENT}?{by}",
        f"POST {login}/{TENANT}/oauth2/v2.0/token",
        f"POST {graph}/v1.0/security/auditLog/queries",
        f"GET {graph}/v1.0/security/auditLog/queries/q1",
        f"GET {graph}/v1.0/security/auditLog/queries/q1/records",
        f"GET {graph}/v1.0/security/auditLog/queries/q1/records?$skiptoken=7",
        f"POST {login}/{TENANT}/oauth2/v2.0/token",
        *(
            f"GET {graph}/v1.0/admin/serviceAnnouncement/{kind}{page}"
            for kind in ("healthOverviews", "issues", "messages")
            for page in ("", "?$skip=100")
        ),
        f"GET {graph}/v1.0/admin/serviceAnnouncement/issues?$filter=lastModifiedDateTime%20ge%20{AT}",
    ]


@guarantee(23)
@pytest.mark.parametrize(("cloud", "login", "manage", "graph"), CLOUDS, ids=[one[0] for one in CLOUDS])
def test_each_cloud_is_called_at_its_own_addresses(cloud: str, login: str, manage: str, graph: str) -> None:
    """And nowhere else: these are all the requests that a tenant's calls come to."""
    sent = requests_of(cloud)

    assert [request.line for request in sent] == pinned(login, manage, graph)
    asked = {"grant_type": "client_credentials", "client_id": APPLICATION}
    tokens = [form_of(request) for request in sent if request.url.path.endswith("token")]
    assert tokens == [
        {**asked, "scope": f"{manage}/.default"},
        {**asked, "scope": f"{graph}/.default"},
        {**asked, "scope": f"{graph}/.default"},
    ]


@guarantee(23)
@pytest.mark.parametrize(("cloud", "login", "manage", "graph"), CLOUDS, ids=[one[0] for one in CLOUDS])
def test_each_cloud_s_older_token_endpoint_is_asked_with_a_resource(
    cloud: str, login: str, manage: str, graph: str
) -> None:
    """Where v2 is not there, v1 is, at the same host; it takes the audience as `resource`."""
    transport = RecordingTransport(only_v1)
    asyncio.run(call_everything(tenant_in(cloud), Session(transport, body_bytes_max=1_000)))
    tokens = [request for request in transport.sent if request.url.path.endswith("/oauth2/token")]

    assert [request.line for request in tokens] == [f"POST {login}/{TENANT}/oauth2/token"] * 3
    assert [form_of(request)["resource"] for request in tokens] == [manage, graph, graph]
    assert all("scope" not in form_of(request) for request in tokens)


def test_an_audience_apart_changes_the_token_and_no_address() -> None:
    """GCC: whether it wants its own host or the worldwide one as audience is disputed (api-contract 5.10)."""
    sent = requests_of({"name": "gcc", "audience": "https://manage.office.com"})

    assert [request.line for request in sent] == pinned(*CLOUDS[1][1:])
    assert form_of(sent[0])["scope"] == "https://manage.office.com/.default"


def test_the_product_page_s_login_host_can_be_used() -> None:
    """`login.windows.net`, as Microsoft's page of the API still prints it; all else stays as it is."""
    sent = requests_of({"name": "worldwide", "login_url": "https://login.windows.net"})

    assert [request.line for request in sent] == pinned("https://login.windows.net", *CLOUDS[0][2:])


@guarantee(23)
def test_the_product_page_s_whole_way_in_can_be_taken(tmp_path: Path) -> None:
    """Its token endpoint (v1 at login.windows.net) with a certificate, and its address of consent.

    Source: api-contract 1.5 and 1.8, after the product page.
    """
    login = "https://login.windows.net"
    own = ApplicationCertificate(START - timedelta(days=1))
    write_private(tmp_path / "own.pem", own.pem + own.key_pem())
    proof = {"certificate_file": str(tmp_path / "own.pem")}
    tenant = tenant_in({"name": "worldwide", "login_url": login}, proof, token_endpoint="v1")
    transport = RecordingTransport(service)
    asyncio.run(call_everything(tenant, Session(transport, body_bytes_max=1_000)))
    form = form_of(transport.sent[0])
    head, claims = (part_of(form["client_assertion"], place) for place in (0, 1))

    assert transport.sent[0].line == f"POST {login}/{TENANT}/oauth2/token"
    assert form["resource"] == "https://manage.office.com"
    assert "scope" not in form
    assert (head["alg"], set(head) & {"x5t", "x5t#S256"}) == ("RS256", {"x5t"})
    assert claims["aud"] == f"{login}/{TENANT}/oauth2/token"
    assert (claims["iss"], claims["sub"]) == (APPLICATION, APPLICATION)
    assert 0 < claims["exp"] - claims["nbf"] <= 900
    assert ConsentAttempt(ConsentForm("v1"), tenant.cloud, APPLICATION).url == (
        f"{login}/common/oauth2/authorize?response_type=code&resource=https%3A%2F%2Fmanage.office.com"
        f"&client_id={APPLICATION}&redirect_uri=http%3A%2F%2Flocalhost%3A8400%2Fconsent"
    )


def part_of(assertion: str, place: int) -> dict[str, Any]:
    """The header or the claims of a signed assertion."""
    part = assertion.split(".")[place]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
