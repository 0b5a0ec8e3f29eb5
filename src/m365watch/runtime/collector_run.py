"""One run of the collector: its moving parts, and how it comes to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.errors import ClockWrong, CollectorError
from m365watch.common.model import Feed
from m365watch.common.progress import FeedProgress, RunProgress
from m365watch.health.completeness.audit_scheduler import AuditDesk, AuditProgress
from m365watch.health.completeness.auditor import AuditOrder
from m365watch.health.completeness.feed_audit import FeedAudit
from m365watch.health.completeness.missing_files import MissingFilesWatch
from m365watch.health.completeness.silence_monitor import SilenceWatch
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch.ledger.writer_thread import LedgerCalls, settled_later
from m365watch.pipeline.batcher import BatchBounds, Pipeline, pacing
from m365watch.pipeline.output_lane import QueuedOutput
from m365watch.pipeline.run_observer import RunObserver
from m365watch.registry.outputs import Output, Prepares, TakesViews
from m365watch.registry.ports import FeedSource, WaitingBlob
from m365watch.sources.factory import ReachedFeed
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.management_api.blob_fetcher import BlobFetcher
from m365watch.sources.management_api.feed_poller import FeedPoller
from m365watch.sources.management_api.fetch_attempts import REFUSED, FetchedBlob
from m365watch.sources.management_api.in_flight_limit import BytesInFlight
from m365watch.sources.poll_loop import OPERATOR_WAIT_S, OtherSources, Poller, PollMeans, SourceMeans
from m365watch.sources.pull_cycles import PullCycles
from m365watch.sources.service_health.health_poller import HealthPoller

_log = structlog.get_logger(__name__)

BYTES_IN_FLIGHT_MAX = 32 * 1024 * 1024
"""Bytes of blobs that are fetched and in memory alone."""
BYTES_PREPARED_MAX = 16 * 1024 * 1024
"""As many more where an output writes one batch while it commits another: without them a lake took 5 % fewer
records a second, while files alone would only leave the processor's cache."""
LARGE_BATCHES = BatchBounds(records=14_000, size_bytes=18 * 1024 * 1024)
"""Those of a run that fills nothing but lakes: each is a commit, and a row group of each of its days."""
BYTES_LARGE_MAX = 32 * 1024 * 1024
"""What more may be in flight then, in place of `BYTES_PREPARED_MAX`."""
STOP_S = 8.0
"""How long a stopped collector goes on with what it has fetched already."""
REMEMBER_S = 2.0
"""How long the end of a run waits for the ledger to take what was learned."""
UPKEEP_S = 0.25
"""Between two looks at what the ledger has to tidy up."""
EVICT_EVERY_S = 3600.0
"""Between two looks at what the ledger may forget."""
_DONE, _FAILED, _WAITING = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    """0 done, 1 failed, 3 caught up but some blob waits for a retry."""
    waiting: tuple[WaitingBlob, ...]
    problems: tuple[str, ...]
    """One sentence for each feed or output that could not go on, with what to do about it."""
    progress: RunProgress
    has_started: bool = True
    """Whether start-up was complete before it was told to stop."""


@dataclass(slots=True)
class AuditRun:
    """An audit in place of polling: what is asked, who hears how far it is, and what came of it."""

    order: AuditOrder
    on_progress: Callable[[AuditProgress], Awaitable[None]]
    audits: list[FeedAudit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunParts:
    """What everything in a run works with."""

    ledger: SqliteLedger
    calls: LedgerCalls
    troubles: Troubles
    cycles: PullCycles
    clock: Clock
    random: Random
    flight: BytesInFlight = field(default_factory=lambda: BytesInFlight(BYTES_IN_FLIGHT_MAX))
    upkeep_s: float = UPKEEP_S
    evict_every_s: float = EVICT_EVERY_S


def flight_for(outputs: Sequence[Output]) -> BytesInFlight:
    """The bound on what is in flight to these outputs, those that stand aside left out."""
    if takes_large_batches(outputs):
        return BytesInFlight(BYTES_IN_FLIGHT_MAX + BYTES_LARGE_MAX)
    more = BYTES_PREPARED_MAX if any(isinstance(one, Prepares) for one in outputs) else 0
    return BytesInFlight(BYTES_IN_FLIGHT_MAX + more)


def takes_views(outputs: Sequence[Output]) -> bool:
    """Whether records stay views into their blobs; of several outputs one may want more of them."""
    return len(outputs) == 1 and isinstance(outputs[0], TakesViews)


def takes_large_batches(outputs: Sequence[Output]) -> bool:
    """Whether a run into these outputs, those that stand aside left out, has `LARGE_BATCHES`."""
    return bool(outputs) and all(isinstance(one, Prepares) for one in outputs)


class CollectorRun:
    """One run's moving parts, from the opened ledger and outputs to the outcome."""

    def __init__(
        self,
        parts: RunParts,
        feeds: Mapping[Feed, ReachedFeed],
        outputs: Sequence[QueuedOutput],
        *,
        started_at: datetime,
        patience_s: float | None,
        instead: OtherSources | None = None,
        before: dict[Feed, FeedProgress] | None = None,
    ) -> None:
        """With `instead`, nothing is polled: the blobs come from these sources.

        `before` is how each feed stood when it began to be collected; those it lacks are put there.
        """
        self._parts = parts
        self._feeds = dict(feeds)
        self._started_at = started_at
        self._before = {} if before is None else before
        self._clock = parts.clock
        self._upkeep_s = parts.upkeep_s
        self._evict_every_s = parts.evict_every_s
        self._ledger = parts.ledger
        self._note_before()
        self._calls = parts.calls
        self._troubles = parts.troubles
        self._cycles = parts.cycles
        self._observer = RunObserver(parts.ledger, parts.calls, parts.clock, parts.cycles)
        self._pipeline = Pipeline(
            outputs,
            {feed: reached.treatment for feed, reached in feeds.items()},
            cycles=parts.cycles,
            ledger=parts.ledger,
            calls=parts.calls,
            clock=parts.clock,
            on_held=self._settle,
            on_recalled=self._wake,
            patience_s=patience_s,
            bounds=LARGE_BATCHES if takes_large_batches(pacing(outputs)) else None,
            # What was fetched again after weeks says nothing of how long records take.
            observer=None if instead else self._observer,
        )
        self._fetcher = self._make_fetcher(feeds, outputs, instead, once=patience_s is not None)
        self._desk = AuditDesk(
            audited_feeds(feeds),
            ledger=parts.ledger,
            calls=parts.calls,
            clock=parts.clock,
            on_listed=self._fetcher.wake,
        )
        self._watch = SilenceWatch(
            audited_feeds(feeds), ledger=parts.ledger, calls=parts.calls, clock=parts.clock
        )
        self._missing_files = self._watch_files(outputs)
        polled = {} if instead else feeds
        self._pollers = {feed: self._poller(feed, reached) for feed, reached in polled.items()}
        self._polling: dict[Feed, asyncio.Task[None]] = {}
        self._begin_poll: Callable[[Poller], None] | None = None
        """Begins the polls of one feed; None while nothing is polled."""
        self._sources = instead.start(self._source_means()) if instead else ()

    def _watch_files(self, outputs: Sequence[QueuedOutput]) -> MissingFilesWatch:
        parts = self._parts
        some = [one.output for one in outputs]
        return MissingFilesWatch(some, ledger=parts.ledger, calls=parts.calls, clock=parts.clock)

    def _make_fetcher(
        self,
        feeds: Mapping[Feed, ReachedFeed],
        outputs: Sequence[QueuedOutput],
        instead: OtherSources | None,
        *,
        once: bool,
    ) -> BlobFetcher:
        parts = self._parts
        return BlobFetcher(
            {feed: reached.access for feed, reached in feeds.items()},
            ledger=parts.ledger,
            calls=parts.calls,
            troubles=parts.troubles,
            clock=parts.clock,
            random=parts.random,
            flight=parts.flight,
            wide_headers=any(one.output.needs_wide_headers for one in outputs),
            views=takes_views([one.output for one in outputs]),
            on_fetched=self._pipeline.take,
            on_quiet=self._pipeline.flush,
            concerns=instead.concerns if instead else lambda _: True,
            once=once,
        )

    def _source_means(self) -> SourceMeans:
        fetcher = self._fetcher
        return SourceMeans(self._ledger, self._calls, fetcher.wake, fetcher.wait_idle, fetcher.wait_fetched)

    def _poller(self, feed: Feed, reached: ReachedFeed) -> Poller:
        if reached.health is not None:
            return HealthPoller(feed, reached.health, settings=reached.polling, means=self._poll_means())
        poller = FeedPoller(feed, reached.access, settings=reached.polling, means=self._poll_means())
        poller.watch, poller.on_polled = self._desk.daily(feed), self._hear
        return poller

    def _poll_means(self) -> PollMeans:
        parts = self._parts
        return PollMeans(
            ledger=parts.ledger,
            calls=parts.calls,
            troubles=parts.troubles,
            cycles=parts.cycles,
            clock=parts.clock,
            random=parts.random,
            on_listed=self._fetcher.wake,
        )

    def _hear(self, feed: Feed, error: CollectorError | None) -> None:
        """How a poll of the feed ended: what its tenant refuses a poll, it refuses its blobs as well."""
        if error is None:
            self._fetcher.go_on(feed)
        elif isinstance(error, REFUSED):
            self._fetcher.hold(feed, seconds=OPERATOR_WAIT_S)

    async def change(self, feeds: Mapping[Feed, ReachedFeed]) -> None:
        """Collect `feeds` from now on; those that are the very same as before notice nothing.

        Feeds that go, or are reached or polled otherwise, stop first: what of them was not fetched waits in
        the ledger, and what was fetched goes to its end.
        """
        gone = [feed for feed in self._feeds if feed not in feeds]
        new = {feed: one for feed, one in feeds.items() if one is not self._feeds.get(feed)}
        await self._stop([*gone, *(feed for feed in new if feed in self._feeds)])
        for feed in gone:
            await self._troubles.forget(feed)
        self._feeds = dict(feeds)
        self._note_before()
        self._pipeline.treat({feed: reached.treatment for feed, reached in new.items()})
        self._desk.change(audited_feeds(feeds))
        self._watch.change(audited_feeds(feeds))
        await self._observer.watch(feed.tenant_id for feed in new)
        for feed, reached in new.items():
            self._fetcher.add(feed, reached.access)
            poller = self._pollers[feed] = self._poller(feed, reached)
            if self._begin_poll is not None:
                self._begin_poll(poller)

    def _note_before(self) -> None:
        known = {row.feed: row for row in self._ledger.feed_progress()}
        for feed in self._feeds.keys() - self._before.keys():
            # A copy: the ledger's own goes on counting.
            self._before[feed] = replace(known.get(feed, FeedProgress(feed)))

    async def _stop(self, feeds: Sequence[Feed]) -> None:
        """Nothing is listed and fetched of `feeds` any more."""
        polls = [task for feed in feeds if (task := self._polling.pop(feed, None)) is not None]
        for task in polls:
            task.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        for feed in feeds:
            self._fetcher.stop(feed)
            self._cycles.close(feed)
            self._pollers.pop(feed, None)

    def wake(self, feed: Feed) -> None:
        """The ledger may know new blobs of `feed`."""
        self._fetcher.wake(feed)

    def resume(self, kept: Mapping[str, list[int]]) -> None:
        """Begin with what the outputs' queues have from the last run."""
        self._pipeline.resume(kept)

    def _settle(self, fetched: FetchedBlob) -> None:
        self._fetcher.settle(fetched)

    def _wake(self) -> None:
        for feed in self._feeds:
            self._fetcher.wake(feed)

    def progress(self) -> RunProgress:
        """The figures of the run's feeds."""
        feeds = [feed for feed in self._ledger.feed_progress() if feed.feed in self._feeds]
        for feed in feeds:
            if feed.feed in self._pollers:
                feed.windows_planned = self._pollers[feed.feed].windows_planned
        before = [row for feed, row in self._before.items() if feed in self._feeds]
        caught_up = all(poller.caught_up for poller in self._pollers.values()) and self._fetcher.idle
        return RunProgress(started_at=self._started_at, feeds=feeds, caught_up=caught_up, before=before)

    async def until_end(self, *, once: bool, stop: asyncio.Event, audit: AuditRun | None = None) -> Outcome:
        """Run all parts; what ends the run is `stop`, the end of `once`, or a part that failed.

        With `audit`, which goes with `once`, that is made, and what it finds is fetched; nothing is polled.
        """
        await self._observer.begin(feed.tenant_id for feed in self._feeds)
        await self._missing_files.look()
        first = self._poll(once=once, stop=stop) if audit is None else self._audit(audit)
        polling = asyncio.create_task(first, name="polling")
        fetching = asyncio.create_task(self._fetcher.run(), name="fetching")
        delivering = asyncio.create_task(self._pipeline.run(), name="delivering")
        upkeep = asyncio.create_task(self._keep_up(), name="upkeep")
        answering = asyncio.create_task(self._desk.run(), name="answering")
        watching = asyncio.create_task(self._watch.run(), name="watching")
        looking = asyncio.create_task(self._missing_files.run(), name="looking for missing files")
        tasks = (polling, fetching, delivering, upkeep, answering, watching, looking)
        failure: CollectorError | None = None
        try:
            failure = await self._wait_end(polling, tasks[1:], stop)
            self._begin_poll = None
            polling.cancel()
            fetching.cancel()
            await asyncio.gather(polling, fetching, return_exceptions=True)
            if failure is None and once:
                draining = self._draining(leaving=False)
                failure = await self._wait_end(draining, (delivering,), stop)
                draining.cancel()
            if failure is None:
                failure = await self._drain(delivering)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for feed in self._pollers:
                self._cycles.close(feed)
        if failure is not None:
            _log.error(str(failure), code=failure.code)
        # Statistics: they keep no run from ending.
        with suppress(CollectorError, TimeoutError):
            async with asyncio.timeout(REMEMBER_S):
                await self._observer.remember(at_once=True)
        return await self._outcome(failure, once=once and not stop.is_set())

    async def _poll(self, *, once: bool, stop: asyncio.Event) -> None:
        """All feeds; with `once`, also until every blob has had its round of tries."""
        async with asyncio.TaskGroup() as tasks:

            def begin(poller: Poller) -> None:
                poll = poller.run(once=once, stop=stop)
                self._polling[poller.feed] = tasks.create_task(poll, name=f"poll {poller.feed}")

            for poller in self._pollers.values():
                begin(poller)
            if not once and not self._sources:
                # While feeds may still come, the group does not end for want of one.
                self._begin_poll = begin
                tasks.create_task(stop.wait(), name="stop of polls")
            for source in self._sources:
                tasks.create_task(source.run(stop=stop), name="source")
        if once and not stop.is_set():
            await self._fetcher.wait_idle()

    async def _audit(self, audit: AuditRun) -> None:
        audit.audits += await self._desk.audit(audit.order, on_progress=audit.on_progress)
        await self._fetcher.wait_idle()

    async def _wait_end(
        self, first: asyncio.Task[None], others: Sequence[asyncio.Task[None]], stop: asyncio.Event
    ) -> CollectorError | None:
        """Wait until `first` is over or told to stop; the error of a part that failed before that."""
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait([first, stopping, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        return _failure_of([first, *others])

    def _draining(self, *, leaving: bool) -> asyncio.Task[None]:
        return asyncio.create_task(self._pipeline.drain(leaving=leaving), name="draining")

    async def _drain(self, delivering: asyncio.Task[None]) -> CollectorError | None:
        """Let what was fetched reach the outputs, or their queues, for a bounded time.

        The rest is fetched again.
        """
        draining = self._draining(leaving=True)
        try:
            await asyncio.wait([draining, delivering], timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
        return _failure_of([delivering])

    async def _keep_up(self) -> None:
        """The ledger's upkeep, in small steps between its other work."""
        evicted_at_s = self._clock.monotonic_s()
        while True:
            await self._clock.sleep(self._upkeep_s)
            while await self._calls(settled_later(self._ledger.merge_identities)):
                pass
            await self._observer.remember()
            if self._clock.monotonic_s() - evicted_at_s >= self._evict_every_s:
                while await self._calls(self._ledger.evict, now=self._clock.now()):
                    await self._clock.sleep(0.1)
                evicted_at_s = self._clock.monotonic_s()

    async def _outcome(self, failure: CollectorError | None, *, once: bool) -> Outcome:
        known = await self._calls(self._ledger.waiting_blobs)
        waiting = tuple(blob for blob in known if blob.feed in self._feeds)
        troubles, output_errors = self._troubles.present(), self._pipeline.output_errors
        problems = [*(trouble.text for trouble in troubles), *output_errors.values()]
        # A wrong clock is told, and costs nothing.
        is_stopped = bool(output_errors) or any(one.code != ClockWrong.code for one in troubles)
        if failure is not None and str(failure) not in problems:
            problems.append(str(failure))
        failed = failure is not None or (once and is_stopped)
        unfinished = waiting or any(feed.blobs_waiting for feed in self.progress().feeds)
        exit_code = _FAILED if failed else _WAITING if once and unfinished else _DONE
        progress = self.progress()
        progress.outputs = await self._calls(self._ledger.output_progress)
        return Outcome(exit_code, waiting, tuple(problems), progress)


def audited_feeds(feeds: Mapping[Feed, ReachedFeed]) -> dict[Feed, FeedSource]:
    """How an audit reaches each of the feeds that the service lists; announcements have no listing."""
    return {
        feed: FeedSource(reached.access.api, reached.polling.start_at)
        for feed, reached in feeds.items()
        if reached.health is None
    }


def _failure_of(tasks: Sequence[asyncio.Task[None]]) -> CollectorError | None:
    """What the first of `tasks` that failed failed with; None if none did."""
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            return _known(error)
    return None


def _known(error: BaseException) -> CollectorError:
    """The project's own error inside `error`; anything else is a defect and goes up as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CollectorError):
        return error
    raise error
