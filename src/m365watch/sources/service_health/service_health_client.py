"""What an answer of Graph's service announcements means: a page or one error. Pure.

Source: Microsoft Graph v1.0, service communications; its envelope of errors is Graph's usual one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote

import msgspec
from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import (
    BadAnswer,
    CollectorError,
    PermissionMissing,
    Throttled,
    Unavailable,
    WindowRefused,
)
from m365watch.common.model import Feed
from m365watch.http.client import Answer, Session
from m365watch.http.retry_after import retry_after_s
from m365watch.sources.audit_search.audit_search_client import PASSING, next_query_of, words_of
from m365watch.sources.management_api.management_api_client import PAGE_PAUSE_S, PAGE_TRIES, PAGE_WAIT_S_MAX
from m365watch.sources.management_api.request_budget import RequestBudget


class Kind(StrEnum):
    """The three kinds of announcements, as `announcements` in the settings names them."""

    OVERVIEWS = "overviews"
    """How each service stands now."""
    ISSUES = "issues"
    """Incidents and advisories."""
    POSTS = "messages"
    """What the message center says of changes to come."""


_PATHS = {Kind.OVERVIEWS: "healthOverviews", Kind.ISSUES: "issues", Kind.POSTS: "messages"}


class AnnouncementUrls:
    """The addresses of one cloud; pure."""

    def __init__(self, graph_url: str) -> None:
        """`graph_url` is the host, without `/v1.0`."""
        self._root = f"{graph_url.rstrip('/')}/v1.0/admin/serviceAnnouncement"

    def first_page(self, kind: Kind, *, since: datetime | None = None) -> URL:
        """The first page of a kind; with `since`, of those that were modified from then on."""
        if since is None:
            return self._url(kind, "")
        condition = f"lastModifiedDateTime ge {since:%Y-%m-%dT%H:%M:%SZ}"
        return self._url(kind, f"?$filter={quote(condition, safe=':')}")

    def next_page(self, kind: Kind, next_link: str, *, where: str) -> URL:
        """The page that an `@odata.nextLink` means: its query, at the kind's own path.

        Raises: BadAnswer where it has none or is too long.
        """
        return self._url(kind, f"?{next_query_of(next_link, where=where)}")

    def _url(self, kind: Kind, rest: str) -> URL:
        return URL(f"{self._root}/{_PATHS[kind]}{rest}", encoded=True)


ROLES = {
    Kind.OVERVIEWS: "ServiceHealth.Read.All",
    Kind.ISSUES: "ServiceHealth.Read.All",
    Kind.POSTS: "ServiceMessage.Read.All",
}
"""The application permission of Graph that each kind needs."""
_BOM = b"\xef\xbb\xbf"


class AnnouncedPage(NamedTuple):
    """One page of a kind."""

    announced: list[bytes]
    """Each announcement's own bytes, where a fast decoder can read the page."""
    next_link: str
    """Empty on the last page."""


class _Page(msgspec.Struct):
    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


def refusal(
    answer: Answer, *, kind: Kind, where: str, now: datetime, hide: Iterable[str] = ()
) -> CollectorError | None:
    """The error that `answer` amounts to; None if it may hold a page.

    A refused condition is a WindowRefused. Each of `hide` is blotted out of the words that the error quotes.
    """
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return None
    what = f"HTTP {answer.status}{words_of(answer.body, hide)}"
    if answer.status == HTTPStatus.FORBIDDEN:
        role = ROLES[kind]
        fix = (
            f"grant the application {role} of Microsoft Graph as application permission, with admin consent, "
            f"or take {_kinds_with(role)} out of the service's `announcements`"
        )
        return PermissionMissing(f"{role} is missing: {what}", fix=fix, where=where)
    if answer.status == HTTPStatus.BAD_REQUEST:
        return WindowRefused(what, where=where)
    after_s = retry_after_s(answer.headers, now=now)
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE and after_s is not None:
        return Throttled(what, where=where, after_s=after_s)
    other = Unavailable if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else BadAnswer
    return PASSING.get(answer.status, other)(what, where=where, after_s=after_s)


def _kinds_with(role: str) -> str:
    return " and ".join(kind for kind, needed in ROLES.items() if needed == role)


def parse_page(body: bytes, *, where: str) -> AnnouncedPage:
    """The announcements of one page, in its order, and where the next one is.

    Raises: BadAnswer where the body is no page.
    """
    body = body.removeprefix(_BOM)
    try:
        page = msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_tolerantly(body, where=where)
    return AnnouncedPage([bytes(one) for one in page.value], page.next_link or "")


def _read_tolerantly(body: bytes, *, where: str) -> AnnouncedPage:
    """A page that fast decoders refuse, for example over a lone surrogate: all of it is spelt anew."""
    try:
        page = json.loads(body.decode("utf-8", "replace"), strict=False)
        listed, next_link = page["value"], page.get("@odata.nextLink") or ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadAnswer("the body is no page of Graph's announcements", where=where) from None
    if not isinstance(listed, list) or not isinstance(next_link, str):
        raise BadAnswer("the body is no page of Graph's announcements", where=where)
    return AnnouncedPage([json.dumps(one, separators=(",", ":")).encode() for one in listed], next_link)


PAGES_MAX = 1_000
"""Pages of one kind; one that names more is going in circles."""
PAGE_ANNOUNCEMENTS = 500
"""What is asked for; Graph gives 100 by itself and 1,000 at most."""


class Announcements:
    """The service announcements of one tenant.

    Every call may raise `RetryLater` (Throttled, Unavailable, BadAnswer, TokenRefused) and
    `NeedsOperator` (CredentialsRefused, PermissionMissing).
    """

    def __init__(
        self,
        session: Session,
        urls: AnnouncementUrls,
        *,
        feed: Feed,
        tokens: Tokens,
        budget: RequestBudget,
        clock: Clock,
        random: Random,
        on_request: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`tokens` are for the host of `urls`, and for no other; `budget` is the feed's own."""
        self.feed = feed
        self._session = session
        self._urls = urls
        self.tokens = tokens
        self._budget = budget
        self._clock = clock
        self._random = random
        self._on_request = on_request

    async def pages(self, kind: Kind, *, since: datetime | None = None) -> AsyncIterator[list[bytes]]:
        """The announcements of a kind, page by page; with `since`, those modified from then on.

        Raises: WindowRefused: Graph takes no such condition, or the pages go in circles.
        """
        where = f"{self.feed} {kind}"
        url = self._urls.first_page(kind, since=since)
        seen = {url}
        while True:
            page = await self._page(url, kind, where=where)
            yield page.announced
            if not page.next_link:
                return
            url = self._urls.next_page(kind, page.next_link, where=where)
            if url in seen or len(seen) >= PAGES_MAX:
                raise WindowRefused(f"the pages go in circles after {len(seen)}", where=where)
            seen.add(url)

    async def _page(self, url: URL, kind: Kind, *, where: str) -> AnnouncedPage:
        """One page; what fails for a passing reason is asked for again from here, not from the first page."""
        tries = 0
        while True:
            try:
                return await self._ask(url, kind, where=where)
            except (Throttled, Unavailable, BadAnswer) as error:
                tries += 1
                if tries >= PAGE_TRIES or (error.after_s or 0.0) > PAGE_WAIT_S_MAX:
                    raise
                pause_s = PAGE_PAUSE_S * 2.0**tries * (0.5 + self._random.random())
                await self._clock.sleep(max(error.after_s or 0.0, pause_s))

    async def _ask(self, url: URL, kind: Kind, *, where: str) -> AnnouncedPage:
        token = await self.tokens.current()
        answer = await self._send(url, where=where, token=token)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            token = await self.tokens.renewed(token)
            answer = await self._send(url, where=where, token=token)
        error = refusal(answer, kind=kind, where=where, now=self._clock.now(), hide=(token,))
        if error is not None:
            raise error
        return parse_page(answer.body, where=where)

    async def _send(self, url: URL, *, where: str, token: str) -> Answer:
        headers = {
            "Authorization": f"Bearer {token}",
            "Prefer": f"odata.maxpagesize={PAGE_ANNOUNCEMENTS}",
        }
        await self._budget.admit(str(self.feed))
        self._on_request(str(self.feed))
        try:
            return await self._session.send("GET", url, headers=headers, where=where)
        finally:
            self._budget.settle()
