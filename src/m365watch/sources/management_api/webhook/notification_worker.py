"""Makes notified content known: what the listing names near a notification, and nothing else.

A notification is no more than a reason to look: the blobs, and their identities, come from the same listing
that polling asks for, of a few seconds around the notified ones. What has become known already costs no
request, and what the listing does not show yet is left to polling after a few tries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from m365watch.common.clock import Clock
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import CollectorError
from m365watch.common.model import LOOK_BACK_MAX, BlobRef, Feed, Window
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.ports import FeedSource, Ledger
from m365watch.sources.management_api.webhook.payloads import Notifications, Notified

_KNOWN = (
    "SELECT content_id FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = ? AND content_type = ? AND content_id IN (SELECT value FROM json_each(?))"
)


def known_contents(path: Path, feed: Feed, content_ids: Collection[str]) -> set[str]:
    """Those of `content_ids` that the ledger at `path` knows.

    Raises: LedgerUnusable.
    """
    with ledger_for_reading(path) as connection:
        asked = json.dumps(sorted(content_ids))
        rows = connection.execute(_KNOWN, (feed.tenant_id, str(feed.content_type), asked))
        return {str(content_id) for (content_id,) in rows}


_log = structlog.get_logger(__name__)

GATHER_S = 0.5
"""How long notifications of one feed are gathered, so that a burst is one look."""
PENDING_MAX = 1_000
"""Notifications of one feed that wait; what comes beyond is left to polling."""
TRIES_S = (0.0, 5.0, 30.0)
"""The pauses before each look for what the listing does not show yet."""
WINDOWS_MAX = 10
"""Looks for one burst; the rest of it is left to polling."""
JOINED = timedelta(minutes=5)
"""Notified content that is less far apart is looked for in one window."""
LOOK_MAX = timedelta(hours=1)
"""The longest window of one look."""
NEAR = timedelta(minutes=10)
"""How far before a notification its content may have been created, where the id does not say when."""
AHEAD = timedelta(minutes=5)
"""Content from further in the future is none."""


@dataclass(slots=True)
class DeskFigures:
    """What notifications have brought."""

    looks: int = 0
    made_known: int = 0
    """Blobs that no listing had shown before."""
    known: int = 0
    """Notifications of what was known already."""
    left: int = 0
    """Notifications that were left to polling."""


@dataclass(slots=True)
class _Waiting:
    """What one feed was notified of."""

    by_id: dict[str, Notified] = field(default_factory=dict)
    is_looking: bool = False


class NotificationDesk:
    """Takes notifications of all feeds of a run."""

    def __init__(
        self,
        feeds: Mapping[Feed, FeedSource],
        *,
        ledger: Ledger,
        calls: LedgerCalls,
        known: Callable[[Feed, Collection[str]], set[str]],
        clock: Clock,
        on_listed: Callable[[Feed], None],
    ) -> None:
        """`known` tells which content ids of a feed the ledger has; it is called by way of `calls`."""
        self._feeds = dict(feeds)
        self._ledger = ledger
        self._calls = calls
        self._known = known
        self._clock = clock
        self._on_listed = on_listed
        self._waiting = {feed: _Waiting() for feed in feeds}
        self._wake = asyncio.Event()
        self.figures = DeskFigures()

    def change(self, feeds: Mapping[Feed, FeedSource]) -> None:
        """Look for content of these feeds from now on; what is under way of others ends by itself."""
        self._feeds = dict(feeds)
        for feed in feeds:
            self._waiting.setdefault(feed, _Waiting())

    def take(self, found: Notifications) -> None:
        """Look soon; what is not collected is left alone."""
        for notified in found.notified:
            feed = Feed(found.tenant_id, notified.content_type)
            if feed not in self._feeds:
                continue
            waiting = self._waiting[feed]
            if len(waiting.by_id) >= PENDING_MAX:
                self.figures.left += 1
                continue
            waiting.by_id[notified.content_id] = notified
        self._wake.set()

    async def run(self) -> None:
        """Look for what was notified until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                self._wake.clear()
                for feed, waiting in self._waiting.items():
                    if waiting.by_id and not waiting.is_looking:
                        waiting.is_looking = True
                        tasks.create_task(self._attend(feed, waiting), name=f"notified {feed}")

    async def _attend(self, feed: Feed, waiting: _Waiting) -> None:
        try:
            while waiting.by_id:
                await self._clock.sleep(GATHER_S)
                taken, waiting.by_id = waiting.by_id, {}
                await self._resolve(feed, taken)
        except CollectorError as error:
            self.figures.left += 1
            _log.info(f"{feed}: notified content is left to polling: {error.what}", code=error.code)
        except Exception as error:  # noqa: BLE001 - polling goes on, whatever a notification brings to light.
            defect = defect_of(error, where=str(feed))
            _log.error(str(defect), code=defect.code)
        finally:
            waiting.is_looking = False
            if waiting.by_id:
                self._wake.set()

    async def _resolve(self, feed: Feed, notified: dict[str, Notified]) -> None:
        """Make known what the listing names around the notified ones, until all of them are known."""
        left = dict(notified)
        for pause_s in TRIES_S:
            await self._clock.sleep(pause_s)
            known = await self._calls(self._known, feed, frozenset(left))
            if not pause_s:
                self.figures.known += len(known)
            left = {name: one for name, one in left.items() if name not in known}
            if not left:
                return
            for window in plan_looks(left.values(), now=self._clock.now()):
                await self._look(feed, window)
            known = await self._calls(self._known, feed, frozenset(left))
            left = {name: one for name, one in left.items() if name not in known}
            if not left:
                return
        self.figures.left += len(left)

    async def _look(self, feed: Feed, window: Window) -> None:
        audited = self._feeds.get(feed)
        if audited is None:
            return
        self.figures.looks += 1
        async for page in audited.api.list_content(feed.audit_type, window):
            wanted = [ref for ref in page if audited.start_at is None or ref.created_at >= audited.start_at]
            await self._commit(feed, window, wanted)

    async def _commit(self, feed: Feed, window: Window, wanted: Sequence[BlobRef]) -> None:
        """Blobs are known; how far the feed was listed is for polling to say."""
        new = await self._calls(
            self._ledger.commit_listing, feed, window, wanted, complete=False, at=self._clock.now()
        )
        if new:
            self.figures.made_known += new
            self._on_listed(feed)


def plan_looks(notified: Collection[Notified], *, now: datetime) -> list[Window]:
    """Windows in whole seconds that hold what was notified and can be listed, the newest first."""
    spans = sorted(
        span
        for one in notified
        if (span := _span_of(one)).start >= now - LOOK_BACK_MAX + AHEAD and span.end <= now + AHEAD
    )
    looks: list[Window] = []
    for span in spans:
        if looks and span.start <= looks[-1].end + JOINED and span.end - looks[-1].start < LOOK_MAX:
            looks[-1] = Window(looks[-1].start, max(looks[-1].end, span.end))
        else:
            looks.append(span)
    return looks[: -WINDOWS_MAX - 1 : -1]


def _span_of(one: Notified) -> Window:
    """From the second in which the content was created to the one after it."""
    start = one.near.replace(microsecond=0)
    end = start + timedelta(seconds=1)
    return Window(start if one.is_exact else start - NEAR, end)
