"""The Management Activity API of one tenant: addresses and meanings live next door, effects here.

Every call takes its turn in the tenant's budget, carries the publisher and a token, and goes to
the configured host only. A token that is refused is renewed once; nothing else is tried again here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec
from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import (
    AnswerTooLarge,
    BadAnswer,
    CollectorError,
    ContentLost,
    ListingUnreadable,
    Throttled,
    Unavailable,
    WindowRefused,
)
from m365watch.common.model import BlobRef, ContentType, Feed, Window
from m365watch.common.text import one_line
from m365watch.common.urls import query_of
from m365watch.config.models.settings import TenantSettings
from m365watch.http.client import Answer, Session
from m365watch.registry.ports import Webhook
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.management_api.responses import (
    Call,
    ListedPage,
    ListedSubscription,
    check_blob,
    check_start,
    parse_listing,
    parse_subscription_list,
    refusal,
)
from m365watch.sources.management_api.service_clock import ServiceClock

NAMED_MAX = 3
"""Elements that the error names; of any more it gives the number."""


class Unreadable:
    """Counts the elements that name no blob; the pages go on meanwhile."""

    def __init__(self) -> None:
        """Nothing so far."""
        self._count = 0
        self._named: list[str] = []

    def note(self, page: ListedPage, *, number: int) -> None:
        """Remember what page `number` (from 1) holds of them."""
        self._count += len(page.unreadable)
        free = NAMED_MAX - len(self._named)
        self._named += [f"page {number} {words}" for words in page.unreadable[:free]]

    def check(self, feed: Feed, window: Window) -> None:
        """Nothing if every element named a blob.

        Raises: ListingUnreadable naming the first ones; its words stay the same from try to try,
        as long as the listing does.
        """
        if not self._count:
            return
        count = "1 element names no blob" if self._count == 1 else f"{self._count} elements name no blob"
        more = ", ..." if self._count > len(self._named) else ""
        raise ListingUnreadable(
            f"{count}: {', '.join(self._named)}{more}",
            where=f"{feed} listing from {window.start:%Y-%m-%dT%H:%M:%SZ}",
            fix=f"report the listing of {feed.content_type} to Microsoft if it stays so; "
            "all the rest is collected, and it is listed again at every poll",
        )


CONTENT_ID_LENGTH_MAX = 2_048
NEXT_PAGE_LENGTH_MAX = 8_192
"""Characters; real ones have about 100 and 400."""

_LAST_INSTANT_OF_SECOND = timedelta(microseconds=999_999)
_QUERY_AS_SENT = "!$%&'()*+,-./:;=?@_~"


class Urls:
    """The addresses of one tenant; pure."""

    def __init__(self, tenant: TenantSettings) -> None:
        """`tenant` names host, tenant and publisher."""
        management_url = tenant.cloud.management_url.rstrip("/")
        self._root = f"{management_url}/api/v1.0/{quote(tenant.tenant_id, safe='')}/activity/feed"
        self._publisher = f"PublisherIdentifier={quote(tenant.publisher_id, safe='')}"

    def subscriptions(self) -> URL:
        """Where the subscriptions are listed."""
        return self._url(f"subscriptions/list?{self._publisher}")

    def start(self, content_type: ContentType) -> URL:
        """Where a subscription is started."""
        return self._url(f"subscriptions/start?contentType={content_type.value}&{self._publisher}")

    def listing(self, content_type: ContentType, window: Window) -> URL:
        """The first page of a listing; a window that is not of whole seconds is widened to them."""
        start, end = _whole_seconds(window.start), _whole_seconds(window.end + _LAST_INSTANT_OF_SECOND)
        span = f"startTime={start}&endTime={end}"
        return self._url(f"subscriptions/content?contentType={content_type.value}&{span}&{self._publisher}")

    def next_page(self, next_page_uri: str, *, where: str) -> URL:
        """The page that `next_page_uri` means: its query on the configured host, publisher added again.

        Raises: BadAnswer where it has no query or is longer than `NEXT_PAGE_LENGTH_MAX`.
        """
        if len(next_page_uri) > NEXT_PAGE_LENGTH_MAX:
            raise BadAnswer("NextPageUri is too long", where=where)
        query = query_of(next_page_uri.strip())
        kept = [part for part in query.split("&") if part and not _names_publisher(part)]
        if not kept:
            raise BadAnswer("NextPageUri names no next page", where=where)
        asked = quote("&".join(kept), safe=_QUERY_AS_SENT, errors="surrogatepass")
        return self._url(f"subscriptions/content?{asked}&{self._publisher}")

    def blob(self, content_id: str, *, where: str) -> URL:
        """Where the content is; made of its id alone, as a listing's contentUri has been seen to be garbage.

        Raises: ContentLost where the id cannot be one.
        """
        if not 0 < len(content_id) <= CONTENT_ID_LENGTH_MAX:
            raise ContentLost(f"invalid: a content id of {len(content_id)} characters", where=where)
        segment = quote(content_id, safe="$", errors="surrogatepass")
        if not segment.strip("."):
            segment = segment.replace(".", "%2E")
        return self._url(f"audit/{segment}?{self._publisher}")

    def _url(self, rest: str) -> URL:
        return URL(f"{self._root}/{rest}", encoded=True)


def _whole_seconds(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}"


def _names_publisher(part: str) -> bool:
    return unquote(part.partition("=")[0]).strip().lower() == "publisheridentifier"


PAGES_MAX = 10_000
"""Pages of one listing; a service that names more is going in circles."""

PAGE_TRIES = 4
"""Tries of one page in a row before its whole window is put off."""

THROTTLED_PAGE_TRIES = 20
"""The same for tries that were throttled."""

PAGE_PAUSE_S = 0.1
"""The first pause between them is about twice this, and each next one twice the last."""

PAGE_WAIT_S_MAX = 10.0
"""A longer wait is for the whole feed, which says so."""

LIVE_S = 3 * 3_600.0
"""Content younger than this is live: it comes before backfill."""

JITTER = 0.25
"""The share by which retries after throttling are spread."""


class _Request(NamedTuple):
    """What is asked, on whose behalf, and how errors name it."""

    call: Call
    feed: str
    where: str
    background: bool = False
    body: bytes | None = None
    """JSON, of a start."""


class ManagementApi:
    """The API of one tenant; implements `feed.port.Api`."""

    def __init__(
        self,
        session: Session,
        tenant: TenantSettings,
        *,
        tokens: Tokens,
        budget: RequestBudget,
        clock: Clock,
        random: Random,
        on_request: Callable[[str], None] = lambda _: None,
        on_throttled: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`session` is shared by all tenants; `tokens` and `budget` are the tenant's own.

        `on_request` hears the name of the feed on whose behalf each request is made, `on_throttled` that of
        each whose answer was the wish for fewer.
        """
        self.tenant_id = tenant.tenant_id
        self._session = session
        self._urls = Urls(tenant)
        self._tokens = tokens
        self._budget = budget
        self.clock = ServiceClock(clock)
        self._random = random
        self._on_request = on_request
        self._on_throttled = on_throttled

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """The content types whose subscription is enabled now."""
        return frozenset(one.content_type for one in await self.list_subscriptions() if one.is_enabled)

    async def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription as the service lists it, those that are disabled too."""
        where = f"{self.tenant_id}/subscriptions"
        answer = await self._ask(self._urls.subscriptions(), _Request(Call.SUBSCRIPTIONS, where, where))
        return parse_subscription_list(answer.body, where=where)

    async def start_subscription(self, content_type: ContentType, webhook: Webhook | None = None) -> None:
        """Enable the subscription; one that is enabled already (AF20024) is success.

        With `webhook`, that becomes its webhook; without, it has none afterwards.
        Raises: WebhookRefused: Microsoft could not validate it; the subscription is as it was.
        """
        feed = str(Feed(self.tenant_id, content_type))
        request = _Request(Call.START, feed, f"{feed} start", body=webhook_body(webhook))
        where = request.where
        answer = await self._ask(self._urls.start(content_type), request)
        check_start(answer.body, where=where)

    async def list_content(
        self, content_type: ContentType, window: Window, *, background: bool | None = None
    ) -> AsyncIterator[list[BlobRef]]:
        """The blobs whose contentCreated lies in `window`, page by page, until the last page.

        `background` gives live requests precedence; by default the window's age decides.
        Raises: NotSubscribed; WindowRefused (also where the pages go in circles);
        ListingUnreadable after the last page, if some element of some page named no blob.
        """
        feed = Feed(self.tenant_id, content_type)
        where = f"{feed} {window}"
        behind = self._is_old(window.end) if background is None else background
        request = _Request(Call.LISTING, str(feed), where, behind)
        url = self._urls.listing(content_type, window)
        seen = {url}
        unreadable = Unreadable()
        while True:
            page, next_page_uri = await self._page(url, request, feed)
            unreadable.note(page, number=len(seen))
            yield page.blobs
            if not next_page_uri:
                break
            url = self._urls.next_page(next_page_uri, where=where)
            if url in seen or len(seen) >= PAGES_MAX:
                raise WindowRefused(f"the pages go in circles after {len(seen)}", where=where)
            seen.add(url)
        unreadable.check(feed, window)

    async def _page(self, url: URL, request: _Request, feed: Feed) -> tuple[ListedPage, str | None]:
        """One page and where the next one is.

        A page that fails for a passing reason is asked for again from here: to begin its window
        anew would hardly ever reach the end of a listing of many pages.
        """
        tries = 0
        while True:
            try:
                answer = await self._ask(url, request)
                return parse_listing(answer.body, feed, where=request.where), answer.headers.get(
                    "NextPageUri"
                )
            except (Throttled, Unavailable, BadAnswer) as error:
                tries += 1
                tries_max = THROTTLED_PAGE_TRIES if isinstance(error, Throttled) else PAGE_TRIES
                if tries >= tries_max or (error.after_s or 0.0) > PAGE_WAIT_S_MAX:
                    raise
                pause_s = PAGE_PAUSE_S * 2.0 ** min(tries, 5) * (0.5 + self._random.random())
                await self.clock.sleep(max(error.after_s or 0.0, pause_s))

    async def fetch_blob(self, blob: BlobRef, *, background: bool | None = None) -> bytes:
        """The body of `blob`, decompressed, not yet parsed; it may be cut short.

        `background` gives live requests precedence; by default the blob's age decides.
        Raises: ContentLost (`answers.loss_reason` says why); NotSubscribed; BadAnswer also where
        the body is a web page, larger than the bound, or an error object.
        """
        feed = str(blob.feed)
        where = f"{feed} blob {one_line(blob.content_id)}"
        url = self._urls.blob(blob.content_id, where=where)
        behind = self._is_old(blob.created_at) if background is None else background
        try:
            answer = await self._ask(url, _Request(Call.BLOB, feed, where, behind))
        except AnswerTooLarge as error:
            what = f"{error.what}; raise globals.answer_megabytes_max to fetch it"
            raise AnswerTooLarge(what, where=where) from None
        check_blob(answer.body, where=where)
        return answer.body

    def _is_old(self, instant: datetime) -> bool:
        return (self.clock.now() - instant).total_seconds() > LIVE_S

    async def _ask(self, url: URL, request: _Request) -> Answer:
        """An answer that may hold what was asked for; a refused token is renewed once."""
        token = await self._tokens.current()
        answer = await self._send(url, request, token=token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            token = await self._tokens.renewed(token)
            answer = await self._send(url, request, token=token)
        now = self.clock.now()
        error = refusal(answer, call=request.call, where=request.where, now=now, hide=(token,))
        if error is not None:
            raise self._paced(error, request.feed)
        self._budget.relax()
        return answer

    async def _send(self, url: URL, request: _Request, *, token: str) -> Answer:
        method = "POST" if request.call is Call.START else "GET"
        headers = {"Authorization": f"Bearer {token}"}
        await self._budget.admit(request.feed, background=request.background)
        self._on_request(request.feed)
        try:
            if request.body is not None:
                headers["Content-Type"] = "application/json"
            sent_s = self.clock.monotonic_s()
            answer = await self._session.send(
                method, url, headers=headers, where=request.where, form=request.body
            )
        finally:
            self._budget.settle()
        # What fails may come from a proxy in the service's place.
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.clock.compare(answer.headers.get("Date"), took_s=self.clock.monotonic_s() - sent_s)
        return answer

    def _paced(self, error: CollectorError, feed: str) -> CollectorError:
        """`error`; throttling is taken to heart by the whole tenant, and its retries are spread."""
        if isinstance(error, Throttled):
            self._on_throttled(feed)
            pause_s = self._budget.throttle(error.after_s)
            error.after_s = round(pause_s * (1 + JITTER * self._random.random()), 1)
        return error


def webhook_body(webhook: Webhook | None) -> bytes | None:
    """What a start says of the webhook; None, and so no body, where there is to be none."""
    if webhook is None:
        return None
    said = {
        "address": webhook.address,
        "authId": webhook.auth_id.reveal(),
        "expiration": f"{webhook.expires_at:%Y-%m-%dT%H:%M:%SZ}",
    }
    return msgspec.json.encode({"webhook": said})
