"""The lake as a source: its slices become blobs, one after the other, in the order of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import msgspec
import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import ContentLost, OutputUnavailable
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.lake.record_scan import TooMany
from m365watch.sources.poll_loop import SourceMeans

_log = structlog.get_logger(__name__)
T = TypeVar("T")

COURSE = "replay/course"
"""Under which name the replay's ledger remembers how far it has come."""
PREFIX = "lake:"
READ_TRIES_MAX = 5
"""Tries of one read of the lake before the replay stops; the next start goes on."""
_READ_PAUSE_S = 2.0
_LIFE = timedelta(days=4_000)
"""Nothing in the lake expires for a replay."""
_TELL_S = 30.0


class Scan(Protocol):
    """What a replay reads; `lake.scan.LakeScan` says what each call raises."""

    def spans(self, start: datetime) -> Iterator[Window]:
        """Spans that have records, in the order of time."""
        ...

    def read(self, span: Window, *, bounded: bool) -> dict[Feed, list[bytes]]:
        """The records of a span by feed."""
        ...


class ReplayCourse(msgspec.Struct):
    """How far a replay has come."""

    began_s: int
    """The contentCreated of all its blobs."""
    next_us: int
    """From when on slices are not known yet."""
    is_done: bool = False
    """Whether all are known; they may still wait for the output."""


def parse_course(body: str | None) -> ReplayCourse | None:
    """The course that was remembered; None where there is none."""
    return None if body is None else msgspec.json.decode(body, type=ReplayCourse)


class LakeApi:
    """An `Api` whose blobs are slices of the lake; the source puts the slice that is on its way into it."""

    def __init__(self, tenant_id: TenantId, scan: Scan) -> None:
        """`scan` is asked for what the source did not put in: after a restart, or for another try."""
        self.tenant_id = tenant_id
        self._scan = scan
        self.ready: dict[BlobRef, list[bytes]] = {}

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """All: there are none to enable."""
        return frozenset(ContentType)

    async def start_subscription(self, content_type: ContentType) -> None:
        """Nothing to start."""

    async def list_content(
        self,
        content_type: ContentType,  # noqa: ARG002 - the port's
        window: Window,  # noqa: ARG002 - the port's
    ) -> AsyncIterator[list[BlobRef]]:
        """Nothing: the source lists."""
        nothing: tuple[list[BlobRef], ...] = ()
        for page in nothing:
            yield page

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The slice as a JSON array of its records, byte for byte.

        Raises: ContentLost: the lake has none of them any more; OutputUnavailable.
        """
        records = self.ready.pop(blob, None)
        if records is None:
            read = partial(self._scan.read, span_of(blob), bounded=False)
            records = (await asyncio.to_thread(read)).get(blob.feed)
        if not records:
            raise ContentLost("expired: the lake has its records no longer", where=str(blob.feed))
        return b"[" + b",".join(records) + b"]"


@dataclass(slots=True)
class LakeSource:
    """Implements `feed.source.Source` for one period of the lake."""

    period: Window
    scan: Scan
    apis: Mapping[TenantId, LakeApi]
    clock: Clock
    means: SourceMeans
    records: int = 0
    """Records of this start so far."""
    _told_s: float = field(default=0.0)

    async def run(self, *, stop: asyncio.Event) -> None:
        """Make slice after slice known, each when the one before is fetched."""
        course = await self._begin()
        spans = self.scan.spans(instant_of_us(course.next_us))
        while not course.is_done and not stop.is_set():
            span = await self._read(lambda: next(spans, None))
            if span is None:
                course.is_done = True
            else:
                await self._release(span, course)
                course.next_us = us_of(span.end)
                self._tell(span)
            await self.means.calls(self.means.ledger.remember, COURSE, msgspec.json.encode(course).decode())

    async def _begin(self) -> ReplayCourse:
        known = parse_course(await self.means.calls(self.means.ledger.remembered, COURSE))
        if known is not None:
            return known
        start_us = us_of(self.period.start)
        return ReplayCourse(int(self.clock.now().timestamp()), start_us)

    async def _release(self, span: Window, course: ReplayCourse) -> None:
        """The slice's parts are known, and fetched; one that is too large is halved first."""
        try:
            found = await self._read(partial(self.scan.read, span, bounded=True))
        except TooMany:
            middle = span.start + (span.end - span.start) / 2
            for half in (Window(span.start, middle), Window(middle, span.end)):
                await self._release(half, course)
            return
        created_at = datetime.fromtimestamp(course.began_s, UTC)
        for feed in sorted(found, key=str):
            ref = BlobRef(feed, content_id_of(span), created_at, created_at + _LIFE)
            self.apis[feed.tenant_id].ready[ref] = found[feed]
            now = self.clock.now()
            ledger = self.means.ledger
            await self.means.calls(ledger.commit_listing, feed, span, [ref], complete=False, at=now)
            self.means.wake(feed)
            self.records += len(found[feed])
        await self.means.wait_fetched()
        for api in self.apis.values():
            # What is left was delivered by an earlier start.
            api.ready.clear()

    async def _read(self, read: Callable[[], T]) -> T:
        """What `read` gives, in a thread; tried again while the lake cannot be read.

        Raises: OutputUnavailable: for too long.
        """
        for tries in range(1, READ_TRIES_MAX + 1):
            try:
                return await asyncio.to_thread(read)
            except OutputUnavailable as error:
                if tries == READ_TRIES_MAX:
                    raise
                _log.warning(str(error), code=error.code)
                await self.clock.sleep(_READ_PAUSE_S)
        raise AssertionError  # pragma: no cover - the last try returns or raises

    def _tell(self, span: Window) -> None:
        now_s = self.clock.monotonic_s()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            _log.info(f"replayed up to {span.end:%Y-%m-%dT%H:%M:%SZ}: {self.records:,} records so far")


def content_id_of(span: Window) -> str:
    """The content id of a slice: its bounds in microseconds."""
    start, end = us_of(span.start), us_of(span.end)
    return f"{PREFIX}{start}:{end}"


def span_of(blob: BlobRef) -> Window:
    """The span that a slice's content id names."""
    start, end = (instant_of_us(int(part)) for part in blob.content_id.removeprefix(PREFIX).split(":"))
    return Window(start, end)
