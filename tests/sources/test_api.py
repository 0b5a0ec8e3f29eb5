from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import TypeVar

import pytest
from promises import guarantee

from feed_tenant import FEED, PUBLISHER, TENANT, Tokens, tenant_at
from m365watch.common.clock import system_random
from m365watch.common.errors import (
    AccessRefused,
    AnswerTooLarge,
    BadAnswer,
    CollectorError,
    ConnectionClosed,
    ContentLost,
    ListingUnreadable,
    NotSubscribed,
    Throttled,
    TokenRefused,
    Unavailable,
    WindowRefused,
)
from m365watch.common.model import BlobRef, ContentType, Window
from m365watch.http.client import BODY_BYTES_MAX, Session, open_session
from m365watch.http.transport import RawAnswer
from m365watch.registry.ports import Api
from m365watch.sources.management_api.management_api_client import (
    JITTER,
    NAMED_MAX,
    PAGE_TRIES,
    PAGE_WAIT_S_MAX,
    ManagementApi,
)
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch_testing.clock import START, FakeClock
from m365watch_testing.loopback import Fault, LoopbackServer, Received, Reply

Result = TypeVar("Result")

ROOT = f"/api/v1.0/{TENANT}/activity/feed"
WINDOW = Window(START - timedelta(hours=1), START)
SPAN = "&startTime=2026-11-17T08:00:00&endTime=2026-11-17T09:00:00"
BLOB = BlobRef(FEED, "2020$2021$audit_exchange$Audit_Exchange$emea0036", START, START + timedelta(days=7))
RECORDS = b'[{"Id":"1"}, {"Id":"2"}]'


class HurriedClock(FakeClock):
    """Nobody waits, but time passes."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


def run(
    answer: Callable[[Received], Reply],
    use: Callable[[ManagementApi, RequestBudget], Awaitable[Result]],
    *,
    clock: FakeClock | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> tuple[Result, list[Received]]:
    """What `use` gives, and what the service was asked."""

    async def main() -> tuple[Result, list[Received]]:
        now = clock or FakeClock()
        budget = RequestBudget(None, now)
        async with (
            LoopbackServer(answer) as server,
            open_session(stall_s=2, body_bytes_max=body_bytes_max) as session,
        ):
            api = ManagementApi(
                session,
                tenant_at(server.url),
                tokens=Tokens(),
                budget=budget,
                clock=now,
                random=system_random(1),
            )
            return await use(api, budget), server.received

    return asyncio.run(main())


async def list_into(seen: list[str], api: Api) -> None:
    async for blobs in api.list_content(ContentType.EXCHANGE, WINDOW):
        seen += [blob.content_id for blob in blobs]


async def list_blobs(api: Api, _: RequestBudget) -> list[str]:
    seen: list[str] = []
    await list_into(seen, api)
    return seen


async def fetch(api: Api, _: RequestBudget) -> bytes:
    return await api.fetch_blob(BLOB)


async def start(api: Api, _: RequestBudget) -> None:
    await api.start_subscription(ContentType.EXCHANGE)


def error_reply(status: int, code: str, **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"code": code, "message": "No."}}).encode(), headers)


def page(*content_ids: str, next_page_uri: str = "") -> Reply:
    blobs = [{"contentId": each, "contentCreated": "2026-11-17T08:30:00Z"} for each in content_ids]
    return Reply(200, json.dumps(blobs).encode(), {"nextpageuri": next_page_uri} if next_page_uri else {})


def failure_of(
    reply: Reply, use: Callable[[ManagementApi, RequestBudget], Awaitable[object]]
) -> CollectorError:
    with pytest.raises(CollectorError) as caught:
        run(lambda _: reply, use)
    return caught.value


def test_a_listing_follows_every_page_on_the_configured_host() -> None:
    """Wherever the service points to, with token and publisher on each page."""

    def answer(received: Received) -> Reply:
        if "nextpage=2" in received.target:
            return page("c", "a")
        return page("a", "b", next_page_uri="https://evil.example/x?contenttype=Audit.Exchange&nextpage=2$x")

    content_ids, received = run(answer, list_blobs)

    assert content_ids == ["a", "b", "c", "a"]
    assert [asked.target.removeprefix(f"{ROOT}/subscriptions/content") for asked in received] == [
        f"?contentType=Audit.Exchange{SPAN}&PublisherIdentifier={PUBLISHER}",
        f"?contenttype=Audit.Exchange&nextpage=2$x&PublisherIdentifier={PUBLISHER}",
    ]
    assert {asked.headers["Authorization"] for asked in received} == {"Bearer token1"}


def test_a_page_that_fails_is_asked_for_again_from_there() -> None:
    """A listing of many pages would hardly ever end if each failure began it anew."""
    failing = iter([Reply(503, b""), Reply(200, b"<html>"), error_reply(403, "AF429")])

    def answer(received: Received) -> Reply:
        if "nextpage=2" in received.target:
            return next(failing, page("b"))
        return page("a", next_page_uri="?contenttype=Audit.Exchange&nextpage=2")

    content_ids, received = run(answer, list_blobs, clock=HurriedClock())

    assert content_ids == ["a", "b"]
    assert len(received) == 5


def test_a_page_that_goes_on_failing_ends_the_listing() -> None:
    """The window is put off, and never taken for listed."""

    async def fail(api: Api, budget: RequestBudget) -> None:
        with pytest.raises(Unavailable):
            await list_blobs(api, budget)

    _, received = run(lambda _: Reply(503, b""), fail, clock=HurriedClock())

    assert len(received) == PAGE_TRIES


def answer_page(*elements: object, next_page_uri: str = "") -> Reply:
    headers = {"nextpageuri": next_page_uri} if next_page_uri else {}
    return Reply(200, json.dumps(elements).encode(), headers)


GOOD = {"contentId": "good", "contentCreated": "2026-11-17T08:30:00Z"}


@guarantee(2)
def test_an_element_that_names_no_blob_costs_no_other_and_ends_the_listing() -> None:
    """The pages behind it are read first; the error names page, place and fault."""
    bad = {"contentId": "a$b", "contentCreated": "soon"}

    def answer(received: Received) -> Reply:
        if "nextpage=2" in received.target:
            return page("last")
        return answer_page(GOOD, bad, GOOD | {"contentId": "better"}, next_page_uri="?nextpage=2")

    async def list_until_error(api: Api, _: RequestBudget) -> tuple[list[str], ListingUnreadable]:
        seen: list[str] = []
        with pytest.raises(ListingUnreadable) as caught:
            await list_into(seen, api)
        return seen, caught.value

    (content_ids, error), received = run(answer, list_until_error, clock=HurriedClock())

    assert content_ids == ["good", "better", "last"]
    assert error.where == f"{FEED} listing from 2026-11-17T08:00:00Z"
    assert error.what == "1 element names no blob: page 1 [1] a$b: its contentCreated is no instant: 'soon'"
    assert len(received) == 2


def test_of_many_elements_that_name_no_blob_the_first_are_named() -> None:
    """An error is one line of bounded length; all are counted."""

    async def list_and_fail(api: Api, budget: RequestBudget) -> ListingUnreadable:
        with pytest.raises(ListingUnreadable) as caught:
            await list_blobs(api, budget)
        return caught.value

    error, _ = run(lambda _: answer_page(*[5] * 1_000), list_and_fail, clock=HurriedClock())

    assert error.what.startswith("1000 elements name no blob: page 1 [0] is not an object, page 1 [1]")
    assert error.what.count("not an object") == NAMED_MAX


@pytest.mark.parametrize(("after_s", "asked"), [(PAGE_WAIT_S_MAX / 2, 2), (PAGE_WAIT_S_MAX + 1, 1)])
def test_a_page_is_waited_for_only_so_long(after_s: float, asked: int) -> None:
    """A longer wait that the service asks for is the whole feed's, which says that it waits."""
    replies = iter([Reply(503, b"<html>", {"Retry-After": f"{after_s:g}"})])

    async def list_or_fail(api: Api, budget: RequestBudget) -> bool:
        try:
            return await list_blobs(api, budget) == ["a"]
        except Throttled as error:
            return error.after_s is not None and error.after_s >= after_s

    clock = HurriedClock()
    is_right, received = run(lambda _: next(replies, page("a")), list_or_fail, clock=clock)

    assert (is_right, len(received)) == (True, asked)
    assert (clock.monotonic_s() >= after_s) == (asked == 2)


def test_an_empty_window_has_one_empty_page() -> None:
    """It is no error."""
    assert run(lambda _: page(), list_blobs)[0] == []


def test_pages_in_a_circle_are_given_up() -> None:
    """Never endless, and never taken for the whole."""
    error = failure_of(page("a", next_page_uri="?nextpage=1"), list_blobs)

    assert type(error) is WindowRefused
    assert "circles" in str(error)


def test_a_circle_of_many_pages_is_given_up() -> None:
    """Page 3 leads back to page 1."""
    numbers = iter(range(1_000))
    pages = lambda _: page("a", next_page_uri=f"?nextpage={next(numbers) % 3}")  # noqa: E731

    with pytest.raises(WindowRefused, match="after 4"):
        run(pages, list_blobs)


class Endless:
    """A transport at whose other end there is always one more page."""

    def __init__(self) -> None:
        self.asked = 0

    async def exchange(self, *_: object, **__: object) -> RawAnswer:
        self.asked += 1
        assert self.asked <= 10_000, "it asks without end"
        return RawAnswer(200, {"NextPageUri": f"?nextpage={self.asked}"}, b"[]")

    async def close(self) -> None:
        """Nothing is open."""


@guarantee(26)
def test_ever_new_pages_are_given_up_too() -> None:
    """Each has another name: what was seen is remembered, and that is bounded."""

    async def main() -> None:
        clock = FakeClock()
        api = ManagementApi(
            Session(Endless(), body_bytes_max=1_000),
            tenant_at("https://manage.example"),
            tokens=Tokens(),
            budget=RequestBudget(None, clock),
            clock=clock,
            random=system_random(1),
        )
        await list_into([], api)

    with pytest.raises(WindowRefused, match="after 10000"):
        asyncio.run(main())


def test_a_blob_comes_back_inflated_and_untouched() -> None:
    """Whatever its media type says."""
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}
    body, received = run(lambda _: Reply(200, gzip.compress(RECORDS), headers), fetch)

    assert body == RECORDS
    assert received[0].target == f"{ROOT}/audit/{BLOB.content_id}?PublisherIdentifier={PUBLISHER}"
    assert "gzip" in received[0].headers["Accept-Encoding"]


@pytest.mark.parametrize(
    "body", [RECORDS[:-1], RECORDS + b" and more", RECORDS + RECORDS, b'{"Id":"1"}', b"odd"]
)
def test_a_body_that_is_no_whole_array_comes_back_as_it_is(body: bytes) -> None:
    """What of it is a record is for the splitter to say, which loses nothing."""
    assert run(lambda _: Reply(200, body), fetch)[0] == body


def test_a_start_is_an_empty_post() -> None:
    """With its length, and the publisher."""
    _, received = run(lambda _: Reply(200, b'{"status":"enabled"}'), start)

    assert (received[0].method, received[0].target) == (
        "POST",
        f"{ROOT}/subscriptions/start?contentType=Audit.Exchange&PublisherIdentifier={PUBLISHER}",
    )
    assert received[0].headers["Content-Length"] == "0"


def test_a_start_of_an_enabled_subscription_is_success() -> None:
    """AF20024 comes as an error."""
    run(lambda _: error_reply(400, "AF20024"), start)


def test_enabled_subscriptions_are_listed() -> None:
    """With the publisher."""

    async def list_enabled(api: Api, _: RequestBudget) -> frozenset[ContentType]:
        return await api.enabled_subscriptions()

    reply = Reply(200, b'[{"contentType":"DLP.All","status":"enabled"}]')
    enabled, received = run(lambda _: reply, list_enabled)

    assert enabled == {ContentType.DLP}
    assert received[0].target == f"{ROOT}/subscriptions/list?PublisherIdentifier={PUBLISHER}"


def test_a_refused_token_is_renewed_once() -> None:
    """The call goes on with the new one."""

    def answer(received: Received) -> Reply:
        if received.headers["Authorization"] == "Bearer token1":
            return Reply(401, b'{"Message":"Authorization has been denied for this request."}')
        return Reply(200, RECORDS)

    body, received = run(answer, fetch)

    assert (body, len(received)) == (RECORDS, 2)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(Reply(401, b"{}"), TokenRefused), (error_reply(401, "AF10001"), AccessRefused)],
)
def test_a_fresh_token_that_is_refused_is_an_error(reply: Reply, kind: type[CollectorError]) -> None:
    """A permission that was granted a moment ago is in the fresh one; else a person has to grant it."""

    async def fail(api: Api, _: RequestBudget) -> None:
        with pytest.raises(kind):
            await api.fetch_blob(BLOB)

    _, received = run(lambda _: reply, fail)

    assert [asked.headers["Authorization"] for asked in received] == ["Bearer token1", "Bearer token2"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, b""), ContentLost),
        (Reply(200, RECORDS, fault=Fault.CUT), BadAnswer),
        (Reply(200, gzip.compress(RECORDS)[:-1], {"Content-Encoding": "gzip"}), BadAnswer),
        (Reply(200, b"<html>"), BadAnswer),
        (error_reply(200, "AF50000"), Unavailable),
        (error_reply(400, "AF20022"), NotSubscribed),
        (error_reply(400, "AF20051"), ContentLost),
        (Reply(404, b"<html>"), ContentLost),
        (Reply(302, b"", {"Location": "https://evil.example"}), BadAnswer),
        (Reply(503, b"<html>"), Unavailable),
        (Reply(fault=Fault.RESET), ConnectionClosed),
    ],
)
def test_what_is_not_a_blob_is_an_error(reply: Reply, kind: type[CollectorError]) -> None:
    """It says where, and shows no token."""
    error = failure_of(reply, fetch)

    assert type(error) is kind
    assert error.where == f"{FEED} blob {BLOB.content_id}"
    assert "token" not in str(error) + repr(error)


@guarantee(24)
def test_a_token_that_the_service_says_back_is_not_shown() -> None:
    """No error text holds one."""
    said = {"error": {"code": "AF99999", "message": "Bearer token1 is odd"}}

    assert "(AF99999: Bearer *** is odd)" in str(failure_of(Reply(400, json.dumps(said).encode()), fetch))


@guarantee(5)
def test_a_throttled_call_pauses_the_whole_tenant() -> None:
    """And the retries are spread behind the pause."""

    async def fail(api: Api, budget: RequestBudget) -> float | None:
        with pytest.raises(Throttled) as caught:
            await api.fetch_blob(BLOB)
        waiting = asyncio.create_task(budget.admit("other"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()
        return caught.value.after_s

    after_s, _ = run(lambda _: error_reply(403, "AF429", **{"Retry-After": "20"}), fail)

    assert after_s is not None
    assert 20 <= after_s <= 20 * (1 + JITTER)


def test_a_hostile_content_id_stays_below_audit() -> None:
    """It cannot name another operation."""
    blob = BlobRef(FEED, "../subscriptions/stop?contentType=x#\n", START, START)

    async def fetch_hostile(api: Api, _: RequestBudget) -> bytes:
        return await api.fetch_blob(blob)

    _, received = run(lambda _: Reply(200, RECORDS), fetch_hostile)

    assert received[0].target == (
        f"{ROOT}/audit/..%2Fsubscriptions%2Fstop%3FcontentType%3Dx%23%0A?PublisherIdentifier={PUBLISHER}"
    )


@pytest.mark.parametrize(
    ("age", "given", "background"),
    [
        (timedelta(0), None, False),
        (timedelta(days=2), None, True),
        (timedelta(days=2), False, False),
        (timedelta(0), True, True),
    ],
)
def test_old_content_stands_behind_live_content(age: timedelta, given: bool | None, background: bool) -> None:
    """Unless the caller knows better."""
    asked: list[bool] = []

    class Budget(RequestBudget):
        async def admit(self, feed: str, *, background: bool = False) -> None:
            asked.append(background)
            await super().admit(feed, background=background)

    async def main() -> None:
        clock = FakeClock()
        reply = Reply(200, b"[]", {"Date": format_datetime(START, usegmt=True)})
        async with LoopbackServer(lambda _: reply) as server, open_session() as session:
            api = ManagementApi(
                session,
                tenant_at(server.url),
                tokens=Tokens(),
                budget=Budget(None, clock),
                clock=clock,
                random=system_random(1),
            )
            blob = BlobRef(FEED, "a", START - age, START)
            await api.fetch_blob(blob, background=given)
            window = Window(START - age - timedelta(hours=1), START - age)
            async for _ in api.list_content(ContentType.EXCHANGE, window, background=given):
                pass

    asyncio.run(main())

    assert asked == [background, background]


def test_a_blob_that_is_too_large_names_the_setting_to_raise() -> None:
    """Compressed it is small: what counts is what it becomes."""
    reply = Reply(body=gzip.compress(b"[" + b" " * 5_000 + b"]"), headers={"Content-Encoding": "gzip"})

    with pytest.raises(AnswerTooLarge, match=r"larger than 4,096 bytes; raise globals\.answer_megabytes_max"):
        run(lambda _: reply, fetch, body_bytes_max=4_096)
