"""One tenant's service announcements over HTTP.

Every request carries a token for the configured Graph host and goes to that host only. A token that is
refused is renewed once; a page that fails for a passing reason is asked for a few times.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from http import HTTPStatus

from yarl import URL

from m365watch.auth.tokens import Tokens
from m365watch.common.clock import Clock, Random
from m365watch.common.errors import BadAnswer, Throttled, Unavailable, WindowRefused
from m365watch.common.model import Feed
from m365watch.http.session import Answer, Session
from m365watch.sources.management_api.management_api_client import PAGE_PAUSE_S, PAGE_TRIES, PAGE_WAIT_S_MAX
from m365watch.sources.management_api.request_budget import RequestBudget
from m365watch.sources.service_health.service_health_client import AnnouncedPage, parse_page, refusal
from m365watch.sources.service_health.urls import AnnouncementUrls, Kind

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
