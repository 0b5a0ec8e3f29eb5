"""How far a tenant's recovery has come, as the ledger keeps it; pure."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import msgspec
import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import CollectorError, QueryGone, RetryLater, Unavailable
from m365watch.common.model import BlobRef, ContentType, Feed, Header, TenantId, Window
from m365watch.records.headers import headers_of
from m365watch.sources.audit_search.audit_search_client import FoundPage, QueryStanding, QueryStatus
from m365watch.sources.page_spool import KeptPages, recovered_ref
from m365watch.sources.poll_loop import SourceMeans

_BY_RECORD_TYPE = {
    **dict.fromkeys((11, 13, 33, 63, 107), ContentType.DLP),
    **dict.fromkeys((8, 9, 15), ContentType.AZURE_ACTIVE_DIRECTORY),
    **dict.fromkeys((1, 2, 3, 19, 50), ContentType.EXCHANGE),
    **dict.fromkeys((4, 6, 14, 36, 37, 54, 55, 56), ContentType.SHAREPOINT),
    **dict.fromkeys((18, 20, 22, 23, 24, 25, 28, 40, 41, 47, 52, 64, 66, 84, 98), ContentType.GENERAL),
}
_BY_WORKLOAD = {
    "azureactivedirectory": ContentType.AZURE_ACTIVE_DIRECTORY,
    "exchange": ContentType.EXCHANGE,
    "sharepoint": ContentType.SHAREPOINT,
    "onedrive": ContentType.SHAREPOINT,
}


def content_type_of(header: Header) -> ContentType:
    """The content type by RecordType, else by Workload; Audit.General is for everything else."""
    try:
        known = _BY_RECORD_TYPE.get(int(header.RecordType or 0))
    except ValueError:
        known = None
    return known or _BY_WORKLOAD.get((header.Workload or "").lower(), ContentType.GENERAL)


SLICE = timedelta(hours=24)
"""The span of one query."""
SLICE_MIN = timedelta(seconds=60)
"""A query that finds too much is halved until it is this short."""


class Tally(msgspec.Struct):
    """What the pages of one slice had, for one content type."""

    found: int = 0
    had: int = 0
    """Those of them that the lake already has."""


class Slice(msgspec.Struct):
    """One query's span and how far it has come."""

    start_s: int
    end_s: int
    query: str = ""
    """The id at Graph; empty before it was made."""
    queries: list[str] = []
    """All ids that the slice has had, the present one last; pages of each may have been delivered."""
    reading: int = 1
    """Grows when the pages have to be read from the first again."""
    pages: int = 0
    next_query: str = ""
    tallies: dict[str, Tally] = {}
    other: int = 0
    """Records of services that were not asked for."""
    is_done: bool = False

    @property
    def span(self) -> Window:
        """The half-open span of CreationTime."""
        return Window(datetime.fromtimestamp(self.start_s, UTC), datetime.fromtimestamp(self.end_s, UTC))

    def forget_pages(self) -> None:
        """Read from the first page again, under other names."""
        self.reading += 1
        self.pages, self.next_query, self.other, self.tallies = 0, "", 0, {}


class Course(msgspec.Struct):
    """A tenant's recovery of one period."""

    start_s: int
    end_s: int
    content_types: list[str]
    created_s: int
    """When it began: the contentCreated of every blob of it."""
    slices: list[Slice]

    @property
    def is_done(self) -> bool:
        """Whether every page was read."""
        return all(one.is_done for one in self.slices)

    @property
    def queries(self) -> list[str]:
        """Every query's id."""
        return [query for one in self.slices for query in one.queries]

    def is_about(self, period: Window, content_types: Iterable[ContentType]) -> bool:
        """Whether it is the recovery of just this."""
        asked = (int(period.start.timestamp()), int(period.end.timestamp()), sorted(map(str, content_types)))
        return (self.start_s, self.end_s, self.content_types) == asked


def plan_course(period: Window, content_types: Iterable[ContentType], *, now: datetime) -> Course:
    """The slices of `period`, oldest first, without gaps."""
    slices, start = [], period.start
    while start < period.end:
        end = min(start + SLICE, period.end)
        slices.append(Slice(int(start.timestamp()), int(end.timestamp())))
        start = end
    return Course(
        int(period.start.timestamp()),
        int(period.end.timestamp()),
        sorted(map(str, content_types)),
        int(now.timestamp()),
        slices,
    )


def halves_of(one: Slice) -> list[Slice]:
    """The slice in two, which have everything before them."""
    middle_s = (one.start_s + one.end_s) // 2
    return [Slice(one.start_s, middle_s), Slice(middle_s, one.end_s)]


_log = structlog.get_logger(__name__)
T = TypeVar("T")

QUERIES_AT_ONCE = 3
"""Queries of one tenant that run at once; the service slows down whoever makes many."""
QUERY_TRIES_MAX = 3
"""Queries for one span that may fail or be cancelled before a person has to look."""
TRIES_MAX = 30
"""Failed tries of one request in a row before the recovery stops; the next start goes on."""
LOOK_FIRST_S, LOOK_MAX_S = 0.5, 60.0
"""The pause before a query is first asked how it stands; each next one is half as long again."""
QUERY_WAIT_MAX_S = 24 * 3600.0
"""A query that runs longer counts as failed."""
PAGES_AHEAD_MAX = 16
"""Pages that are kept on disk before the recovery waits for their delivery."""
PAGES_MAX = 100_000
"""Pages of one query; one that names more is going in circles."""
READINGS_MAX = 5
"""How often the pages of a slice are read from the first again, because a page's token has expired."""
_PAUSE_FIRST_S, _PAUSE_MAX_S = 1.0, 60.0
_TELL_S = 30.0


class Queries(Protocol):
    """What a recovery asks of Graph; `queries.AuditQueries` says what each call raises."""

    async def make(self, span: Window) -> str:
        """A new query's id."""
        ...

    async def look(self, query: str) -> QueryStanding:
        """How the query stands."""
        ...

    async def page(self, query: str, next_query: str) -> FoundPage:
        """A page of what it found."""
        ...


class Witness(Protocol):
    """Who knows records that the ledger may have forgotten."""

    def places_known(
        self, tenant_id: TenantId, records: Sequence[bytes], headers: Sequence[Header]
    ) -> set[int]:
        """The places of the records that are known."""
        ...


@dataclass(frozen=True, slots=True)
class RecoveryMeans:
    """What a tenant's recovery works with, beside the means of the run."""

    queries: Queries
    pages: KeptPages
    witness: Witness | None
    sweep: Callable[[], None]
    """Removes the bodies of the tenant's blobs that are final."""
    clock: Clock
    random: Random


@dataclass(slots=True)
class TenantRecovery:
    """Implements `feed.source.Source` for one tenant and one period."""

    tenant_id: TenantId
    period: Window
    feeds: Mapping[ContentType, Feed]
    means: RecoveryMeans
    run_means: SourceMeans
    course: Course | None = None
    problem: CollectorError | None = None
    """Why it stopped before the end."""
    went_on: bool = False
    """Whether an earlier start had begun."""
    _moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a body's writing until the ledger knows it, so that none is swept in between."""
    _told_s: float = -math.inf
    _ahead: int = 0

    async def run(self, *, stop: asyncio.Event) -> None:  # noqa: ARG002 - the run cancels it at a stop
        """Read every page of every query; what keeps it from that is `problem`."""
        self.course = await self._begin()
        await self._sweep()
        waiting = [one for one in self.course.slices if not one.is_done]
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(QUERIES_AT_ONCE, len(waiting))):
                    tasks.create_task(self._work(waiting))
        except BaseExceptionGroup as group:
            error = _first(group)
            if not isinstance(error, CollectorError):
                raise
            self.problem = error
            _log.error(str(error), code=error.code)
        await self.run_means.wait_idle()
        await self._sweep()

    async def _begin(self) -> Course:
        """The course that an earlier start left unfinished, or a new one."""
        ledger, name = self.run_means.ledger, course_name(self.tenant_id)
        known = parse_course(await self.run_means.calls(ledger.remembered, name))
        if known is not None and not known.is_done and known.is_about(self.period, self.feeds):
            self.went_on = True
            return known
        return plan_course(self.period, self.feeds, now=self.means.clock.now())

    async def _work(self, waiting: list[Slice]) -> None:
        while waiting:
            one = waiting.pop(0)
            halves = await self._recover(one)
            waiting[:0] = halves

    async def _recover(self, one: Slice) -> list[Slice]:
        """Read all that `one` has; its halves instead where a query finds more than it hands out."""
        failures = 0
        while not one.is_done:
            try:
                standing = await self._ended(one)
                if standing.is_cut and one.end_s - one.start_s > SLICE_MIN.total_seconds():
                    return await self._halve(one)
                await self._read(one, is_cut=standing.is_cut)
            except (QueryGone, Unavailable) as error:
                failures += 1
                if failures >= QUERY_TRIES_MAX:
                    raise
                _log.warning(f"{error.where}: {error.what}; asked anew", code=error.code)
                one.query = ""
                one.forget_pages()
                await self._save()
        return []

    async def _halve(self, one: Slice) -> list[Slice]:
        course, halves = self._course(), halves_of(one)
        place = course.slices.index(one)
        course.slices[place : place + 1] = halves
        await self._save()
        _log.info(f"{self.tenant_id}: {one.span} has too many records for one query; asked in halves")
        return halves

    async def _ended(self, one: Slice) -> QueryStanding:
        """How the slice's query ended; it is made where there is none yet.

        Raises: QueryGone; Unavailable: it failed, was cancelled, or ran for too long.
        """
        if not one.query:
            one.query = await self._patiently(partial(self.means.queries.make, one.span))
            one.queries = [*one.queries, one.query]
            await self._save()
        began_s, pause_s = self.means.clock.monotonic_s(), LOOK_FIRST_S
        while True:
            standing = await self._patiently(partial(self.means.queries.look, one.query))
            if standing.status is QueryStatus.SUCCEEDED:
                return standing
            waited_s = self.means.clock.monotonic_s() - began_s
            is_over = standing.status in {QueryStatus.FAILED, QueryStatus.CANCELLED}
            if is_over or waited_s > QUERY_WAIT_MAX_S:
                ended = standing.status.value if is_over else "did not end"
                where = f"{self.tenant_id}/Graph query {one.query}"
                raise Unavailable(f"the query for {one.span} {ended}", where=where)
            self._tell(f"the query for {one.span} has run for {waited_s:.0f} s")
            await self.means.clock.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LOOK_MAX_S)

    async def _read(self, one: Slice, *, is_cut: bool) -> None:
        """Read the pages that are left; `is_cut` says that even the shortest span has too many records."""
        if is_cut:
            _log.error(
                f"{self.tenant_id}: Graph hands out only a part of {one.span}; export the rest from Purview",
                code="content_lost",
            )
        while not one.is_done:
            try:
                page = await self._patiently(partial(self.means.queries.page, one.query, one.next_query))
            except QueryGone:
                if not one.next_query or one.reading >= READINGS_MAX:
                    raise
                # The page's token has expired, while the query may still be there.
                one.forget_pages()
                await self._save()
                continue
            await self._keep(one, page)
            if self._ahead >= PAGES_AHEAD_MAX:
                await self.run_means.wait_idle()
                await self._sweep()
            if one.pages > PAGES_MAX:
                raise QueryGone("its pages go in circles", where=f"{self.tenant_id}/Graph query {one.query}")

    async def _keep(self, one: Slice, page: FoundPage) -> None:
        """Each part of the page is on disk and known to the ledger; then the page counts as read."""
        async with self._moving:
            parts, other = cut_page(page.records, self.feeds)
            refs = {content_type: self._ref(one, content_type) for content_type in parts}
            kept = {
                content_type: await asyncio.to_thread(self.means.pages.count, ref)
                for content_type, ref in refs.items()
            }
            known: set[int] = set()
            if None in kept.values():
                known = await self._patiently(partial(asyncio.to_thread, self._places_known, page.records))
            for content_type, places in parts.items():
                new = [page.records[place] for place in places if place not in known]
                kept_count = kept[content_type]
                if kept_count is None:
                    kept_count = len(new)
                    await self._put(refs[content_type], new)
                if kept_count:
                    await self._list(one, refs[content_type])
                tally = one.tallies.setdefault(str(content_type), Tally())
                tally.found += len(places)
                tally.had += max(0, len(places) - kept_count)
            one.other += other
            one.pages += 1
            one.next_query = page.next_query
            one.is_done = not page.next_query
            await self._save()
        self._ahead += 1
        self._tell(f"{one.pages:,} {'page' if one.pages == 1 else 'pages'} of {one.span} read")

    def _ref(self, one: Slice, content_type: ContentType) -> BlobRef:
        """The blob of the next page's part of that type."""
        created_at = datetime.fromtimestamp(self._course().created_s, UTC)
        place = f"{one.reading}:{one.pages + 1}"
        return recovered_ref(self.feeds[content_type], query=one.query, place=place, created_at=created_at)

    async def _put(self, ref: BlobRef, records: list[bytes]) -> None:
        """A body that an earlier start has kept stays as it is: part of it may be delivered."""
        if records:
            await self._patiently(partial(asyncio.to_thread, self.means.pages.put, ref, records))

    async def _list(self, one: Slice, ref: BlobRef) -> None:
        means, now = self.run_means, self.means.clock.now()
        await means.calls(means.ledger.commit_listing, ref.feed, one.span, [ref], complete=False, at=now)
        means.wake(ref.feed)

    def _places_known(self, records: list[bytes]) -> set[int]:
        """The places of the records that the lake has."""
        if self.means.witness is None or not records:
            return set()
        return self.means.witness.places_known(self.tenant_id, records, headers_of(records))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns, tried again for as long as it fails for a passing reason.

        Raises: QueryGone, NeedsOperator; RetryLater after `TRIES_MAX` tries.
        """
        tries, pause_s = 0, _PAUSE_FIRST_S
        while True:
            try:
                return await call()
            except QueryGone:
                raise
            except RetryLater as error:
                tries += 1
                if tries >= TRIES_MAX:
                    raise
                _log.warning(f"{error.where}: {error.what}; tried again", code=error.code)
                wait_s = max(error.after_s or 0.0, pause_s * (0.5 + self.means.random.random()))
                await self.means.clock.sleep(wait_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    async def _sweep(self) -> None:
        async with self._moving:
            await asyncio.to_thread(self.means.sweep)
            self._ahead = 0

    async def _save(self) -> None:
        body = msgspec.json.encode(self._course()).decode()
        means = self.run_means
        await means.calls(means.ledger.remember, course_name(self.tenant_id), body)

    def _course(self) -> Course:
        assert self.course is not None  # noqa: S101 - run() has made it
        return self.course

    def _tell(self, what: str) -> None:
        """How it stands, at most once in `_TELL_S`."""
        now_s = self.means.clock.monotonic_s()
        if now_s - self._told_s >= _TELL_S:
            self._told_s = now_s
            slices = self._course().slices
            done = sum(one.is_done for one in slices)
            found = sum(tally.found for one in slices for tally in one.tallies.values())
            _log.info(
                f"{self.tenant_id}: {done} of {len(slices)} queries read, {found:,} records found; {what}"
            )


def course_name(tenant_id: TenantId) -> str:
    """Under which name the ledger remembers the tenant's recovery."""
    return f"recover/{tenant_id}"


def parse_course(body: str | None) -> Course | None:
    """The course that was remembered; None where there is none that can be read."""
    try:
        return None if body is None else msgspec.json.decode(body, type=Course)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def cut_page(
    records: Sequence[bytes], wanted: Mapping[ContentType, Feed]
) -> tuple[dict[ContentType, list[int]], int]:
    """The places of the records by content type, and how many are of types that are not wanted.

    What is no record goes with the first type, and from there into quarantine.
    """
    parts: dict[ContentType, list[int]] = {}
    other = 0
    for place, header in enumerate(headers_of(records)):
        is_record = records[place][:1] == b"{"
        content_type = content_type_of(header) if is_record else next(iter(wanted))
        if content_type in wanted:
            parts.setdefault(content_type, []).append(place)
        else:
            other += 1
    return parts, other


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
