"""What Graph may answer where announcements are asked for, right and wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from multidict import CIMultiDict
from promises import guarantee

from m365watch.common.clock import system_random
from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    PermissionMissing,
    Throttled,
    TokenRefused,
    Unavailable,
    WindowRefused,
)
from m365watch.common.model import Feed, GraphContent, TenantId
from m365watch.http.client import Answer, Session
from m365watch.http.transport import RawAnswer
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.service_health.service_health_client import (
    ROLES,
    Announcements,
    AnnouncementUrls,
    Kind,
    parse_page,
    refusal,
)
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.recording import RecordingTransport, SentRequest, raw_answer

FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), GraphContent.SERVICE_HEALTH)
TOKEN = "eyJ-a-token-of-graph"


class OneToken:
    """Always the same, and another once it was refused."""

    async def current(self) -> str:
        return TOKEN

    async def renewed(self, refused: str) -> str:
        return f"{refused}-2"


def read(answer: Callable[[SentRequest], RawAnswer]) -> tuple[list[bytes], list[SentRequest]]:
    """All issues, and what was sent for them."""
    transport = RecordingTransport(answer)

    async def main() -> list[bytes]:
        clock = FakeClock()
        announcements = Announcements(
            Session(transport, body_bytes_max=1_000_000),
            AnnouncementUrls("https://graph.example/"),
            feed=FEED,
            tokens=OneToken(),
            budget=RequestBudget(None, clock),
            clock=clock,
            random=system_random(1),
        )
        return [one async for page in announcements.pages(Kind.ISSUES) for one in page]

    return asyncio.run(main()), transport.sent


def page(*announced: object, link: str = "") -> RawAnswer:
    document = {"value": list(announced)} | ({"@odata.nextLink": link} if link else {})
    return raw_answer(200, json.dumps(document).encode())


@guarantee(24)
def test_a_next_link_to_another_host_is_never_followed() -> None:
    """Only its query counts; the token goes to the configured host alone."""
    link = "https://evil.example/v1.0/me/messages?$skip=100&x=@evil.example/"
    found, sent = read(lambda request: page(2) if "skip" in str(request.url) else page(1, link=link))

    assert found == [b"1", b"2"]
    assert {request.place for request in sent} == {("https", "graph.example")}
    assert {request.url.path for request in sent} == {"/v1.0/admin/serviceAnnouncement/issues"}
    assert {request.headers["Authorization"] for request in sent} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("link", ["https://graph.example/nothing", "x" * 9_000, "https://[bad"])
def test_a_next_link_that_names_no_page_is_a_bad_answer(link: str) -> None:
    """It is asked again later; nothing is taken for the end."""
    with pytest.raises(BadAnswer):
        read(lambda _: page(1, link=link))


def test_pages_in_circles_end() -> None:
    """A page that names itself is no endless list."""
    with pytest.raises(WindowRefused, match="circles"):
        read(lambda _: page(1, link="https://graph.example/?$skip=1"))


def test_a_refused_token_is_renewed_once() -> None:
    """And the page asked for again with it."""

    def answer(request: SentRequest) -> RawAnswer:
        return page(1) if request.headers["Authorization"].endswith("-2") else raw_answer(401)

    assert read(answer)[0] == [b"1"]
    with pytest.raises(TokenRefused):
        read(lambda _: raw_answer(401))


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (403, {}, PermissionMissing),
        (400, {}, WindowRefused),
        (401, {}, TokenRefused),
        (404, {}, BadAnswer),
        (302, {"Location": "https://evil.example/"}, BadAnswer),
        (429, {"Retry-After": "7"}, Throttled),
        (503, {"Retry-After": "7"}, Throttled),
        (503, {}, Unavailable),
        (500, {}, Unavailable),
        (408, {}, Unavailable),
        (299, {}, None),
    ],
)
def test_a_status_has_one_meaning(
    status: int, headers: dict[str, str], kind: type[CollectorError] | None
) -> None:
    """Only a missing permission needs a person, and says which it is; no token is in any text."""
    body = json.dumps({"error": {"code": "X", "message": f"with {TOKEN}"}}).encode()
    answer = Answer(status, CIMultiDict(headers), body)
    error = refusal(answer, kind=Kind.POSTS, where="here", now=START, hide=(TOKEN,))

    assert (None if error is None else type(error)) is kind
    assert TOKEN not in str(error)
    if isinstance(error, Throttled):
        assert error.after_s == 7
    if isinstance(error, PermissionMissing):
        assert ROLES[Kind.POSTS] in error.what
        assert ROLES[Kind.POSTS] in error.fix


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"7",
        b'{"value":{}}',
        b'{"value":null}',
        b'{"values":[]}',
        b'{"value":[],',
        b'{"value":[],"@odata.nextLink":7}',
        b"[" * 100_000,
        b'{"value":' + b"[" * 100_000,
    ],
)
def test_what_is_no_page_is_a_bad_answer(body: bytes) -> None:
    """Whatever comes, one clear error."""
    with pytest.raises(BadAnswer):
        parse_page(body, where="here")


def test_a_page_that_fast_decoders_refuse_is_read_all_the_same() -> None:
    """NaN, a byte order mark, bytes that are no UTF-8."""
    odd = b'\xef\xbb\xbf{"value":[{"id":"A","n":NaN},{"id":"B\xff"}],"@odata.nextLink":"https://h/?q"}'
    found = parse_page(odd, where="here")

    assert [json.loads(one)["id"] for one in found.announced] == ["A", "B\ufffd"]
    assert found.next_link == "https://h/?q"
