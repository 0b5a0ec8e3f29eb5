"""A tenant's content as a script: what is listed when, what each fetch brings, what fails.

api = FakeApi(TENANT, clock)
api.publish(EXCHANGE, "blob1", b'[{"Id":"1"}]', created_at=clock.now())
api.fail(Ask.FETCH, Throttled("slow down"), about="blob1")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import NamedTuple

from m365watch.common.clock import Clock
from m365watch.common.errors import (
    CollectorError,
    ContentLost,
    ListingUnreadable,
    NotSubscribed,
    WindowRefused,
)
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.sources.management_api.service_clock import ServiceClock

WINDOW_MAX = timedelta(hours=24)
SERVED = timedelta(days=7)


class Ask(StrEnum):
    """The kinds of calls."""

    SUBSCRIPTIONS = "subscriptions"
    START = "start"
    PAGE = "page"
    """One page of a listing."""
    FETCH = "fetch"


class Asked(NamedTuple):
    """One call."""

    ask: Ask
    about: str
    """A content type, a window or a content id."""
    at: datetime


@dataclass(slots=True)
class _Content:
    ref: BlobRef
    bodies: list[bytes]
    listed_at: datetime


@dataclass(slots=True)
class _Failure:
    """An error that waits for its call."""

    ask: Ask
    about: str
    error: CollectorError
    skip: int
    times: int

    def meets(self, ask: Ask, about: str) -> bool:
        """Whether this call is the one; counts the calls that go before it."""
        if self.times == 0 or self.ask is not ask or self.about not in ("", about):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class FakeApi:
    """Implements `feed.port.Api`; keeps what it was asked, in order."""

    def __init__(self, tenant_id: TenantId, clock: Clock, *, page_blobs: int = 2) -> None:
        """Every subscription is enabled; pages hold `page_blobs` blobs."""
        self.tenant_id = tenant_id
        self.page_blobs = page_blobs
        self.enabled = set(ContentType)
        self.served = SERVED
        """How far back a window may start."""
        self.asked: list[Asked] = []
        self.windows: list[tuple[ContentType, Window]] = []
        """Each listing that was begun."""
        self.unreadable_at: list[datetime] = []
        """The contentCreated of elements that nobody can understand; a listing of one ends so."""
        self.fetching: list[str] = []
        """The content ids whose fetch is under way."""
        self.fetching_max = 0
        self.answer_s = 0.0
        """How long every answer takes."""
        self.clock = ServiceClock(clock)
        self.ahead = timedelta(0)
        """How far the machine's clock is ahead of this service's."""
        self._clock = clock
        self._contents: dict[ContentType, list[_Content]] = {one: [] for one in ContentType}
        self._failures: list[_Failure] = []
        self._gates: dict[str, asyncio.Event] = {}

    def publish(
        self,
        content_type: ContentType,
        content_id: str,
        *bodies: bytes,
        created_at: datetime,
        listed_at: datetime | None = None,
    ) -> BlobRef:
        """Serve a blob: a fetch brings the next of `bodies`, and the last one for ever.

        Listings show it from `listed_at` on; from the start where that is not given.
        """
        feed = Feed(self.tenant_id, content_type)
        ref = BlobRef(feed, content_id, created_at, created_at + SERVED)
        content = _Content(
            ref, list(bodies) or [b'[{"Id":"%s"}]' % content_id.encode()], listed_at or created_at
        )
        self._contents[content_type].append(content)
        return ref

    def fail(self, ask: Ask, error: CollectorError, *, about: str = "", at: int = 1, times: int = 1) -> None:
        """Answer with `error`, from the `at`th call of its kind on, `times` times (-1: for ever).

        With `about`, only calls about that content type, window or content id count.
        """
        self._failures.append(_Failure(ask, about, error, skip=at - 1, times=times))

    def recover(self) -> None:
        """From now on nothing fails."""
        self._failures.clear()

    def hold(self, content_id: str) -> asyncio.Event:
        """Let fetches of `content_id` wait until the event that comes back is set."""
        return self._gates.setdefault(content_id, asyncio.Event())

    def count(self, ask: Ask, about: str = "") -> int:
        """How often it was asked so."""
        return sum(asked.ask is ask and about in ("", asked.about) for asked in self.asked)

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """The content types whose subscription is enabled now."""
        await self._ask(Ask.SUBSCRIPTIONS, "")
        return frozenset(self.enabled)

    async def start_subscription(self, content_type: ContentType) -> None:
        """Enable the subscription."""
        await self._ask(Ask.START, content_type)
        self.enabled.add(content_type)

    async def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        """The blobs whose contentCreated lies in `window` and that are shown by now; at least one page."""
        self.windows.append((content_type, window))
        await self._ask(Ask.PAGE, str(window))
        self._check(content_type, window)
        shown = self._shown(content_type, window)
        yield shown[: self.page_blobs]
        for start in range(self.page_blobs, len(shown), self.page_blobs):
            await self._ask(Ask.PAGE, str(window))
            yield shown[start : start + self.page_blobs]
        if any(window.start <= at < window.end for at in self.unreadable_at):
            raise ListingUnreadable("1 element names no blob", where=content_type, fix="report it")

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The blob's next body."""
        content = self._content(blob)
        self.fetching.append(blob.content_id)
        self.fetching_max = max(self.fetching_max, len(self.fetching))
        try:
            await self._ask(Ask.FETCH, blob.content_id)
            if blob.content_id in self._gates:
                await self._gates[blob.content_id].wait()
        finally:
            self.fetching.remove(blob.content_id)
        return content.bodies.pop(0) if len(content.bodies) > 1 else content.bodies[0]

    async def _ask(self, ask: Ask, about: str) -> None:
        self.asked.append(Asked(ask, about, self._clock.now()))
        await asyncio.sleep(self.answer_s)
        for failure in self._failures:
            if failure.meets(ask, about):
                raise failure.error
        self.clock.compare(format_datetime(self._now(), usegmt=True), took_s=self.answer_s)

    def _now(self) -> datetime:
        return self._clock.now() - self.ahead

    def _check(self, content_type: ContentType, window: Window) -> None:
        if content_type not in self.enabled:
            raise NotSubscribed("there is no subscription (AF20022)", where=content_type)
        is_old = window.start < self._now() - self.served
        if is_old or not window.start < window.end <= window.start + WINDOW_MAX:
            raise WindowRefused("the window is refused (AF20055)", where=str(window))

    def _shown(self, content_type: ContentType, window: Window) -> list[BlobRef]:
        now = self._now()
        return [
            content.ref
            for content in self._contents[content_type]
            if window.start <= content.ref.created_at < window.end and content.listed_at <= now
        ]

    def _content(self, blob: BlobRef) -> _Content:
        for content in self._contents[blob.feed.audit_type]:
            if content.ref == blob:
                return content
        raise ContentLost("unknown: the content does not exist (AF20050)", where=blob.content_id)
