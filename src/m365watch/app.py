"""The only place where things are built: a collector from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from m365watch import __version__
from m365watch.clock import Clock, Random, SystemClock
from m365watch.config.settings import (
    ConsoleSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    Settings,
    TenantSettings,
)
from m365watch.entra.credentials import ClientSecret
from m365watch.entra.session import Session, open_session
from m365watch.entra.tokens import TokenSource
from m365watch.errors import CollectorError
from m365watch.feed.api import ManagementApi
from m365watch.feed.budget import RequestBudget
from m365watch.feed.fetcher import BlobFetcher
from m365watch.feed.flight import BytesInFlight
from m365watch.feed.poller import FeedPoller, PollSettings
from m365watch.feed.subscriptions import SubscriptionKeeper
from m365watch.feed.tries import FetchedBlob, TenantAccess
from m365watch.feed.troubles import Trouble, Troubles
from m365watch.ledger.account import (
    BlobsAsked,
    BlobsFound,
    PiecesFound,
    kept_pieces,
    named_blobs,
    piece_body,
)
from m365watch.ledger.port import WaitingBlob
from m365watch.ledger.reading import feed_progress, ledger_for_reading
from m365watch.ledger.reading import waiting_blobs as read_waiting_blobs
from m365watch.ledger.retrying import PutBack, put_back
from m365watch.ledger.sqlite import LEDGER_FILE, SqliteLedger
from m365watch.ledger.thread import LedgerThread
from m365watch.model import Feed, TenantId
from m365watch.outputs.port import Output
from m365watch.pipeline import Pipeline
from m365watch.progress import RunProgress

_log = structlog.get_logger(__name__)

BYTES_IN_FLIGHT_MAX = 32 * 1024 * 1024
"""Bytes of blobs that are fetched and not yet durable at every output."""
STOP_S = 8.0
"""How long a stopped collector goes on with what it has fetched already."""
PATIENCE_ONCE_S = 15.0
"""How long `--once` tries an output or a ledger that cannot write."""
_UPKEEP_S = 0.25
_EVICT_EVERY_S = 3600.0
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


class Collector:
    """Collects every feed of the settings into every output of the settings."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        random: Random,
        on_change: Callable[[Trouble], None] | None = None,
        build_output: Callable[[OutputSettings, Clock, str], Output] | None = None,
    ) -> None:
        """`build_output` makes an output from its settings, the clock and the collector's name."""
        self._settings = settings
        self._clock = clock
        self._random = random
        self._on_change = on_change
        self._build_output = build_output or _output
        self._started_at = clock.now()
        self._run: _Run | None = None

    def progress(self) -> RunProgress:
        """The figures of all feeds, as committed; cheap enough to ask for many times a second."""
        if self._run is None:
            return RunProgress(started_at=self._started_at)
        return self._run.progress()

    async def run(self, *, once: bool, stop: asyncio.Event) -> Outcome:
        """Collect until `stop`; with `once`, until every feed is caught up and no blob is left to try.

        Raises: LedgerHeld, LedgerUnusable, OutputUnusable: nothing was started.
        """
        patience_s = PATIENCE_ONCE_S if once else None
        async with AsyncExitStack() as closing:
            calls = LedgerThread(self._clock, patience_s=patience_s)
            closing.callback(calls.close)
            names = frozenset(output.name for output in self._settings.outputs)
            ledger = await calls(
                SqliteLedger, self._settings.state_directory, outputs=names, now=self._clock.now()
            )
            closing.push_async_callback(calls, ledger.close)
            outputs = await self._open_outputs(ledger, calls, closing)
            session = await closing.enter_async_context(open_session())
            parts = _Parts(
                ledger=ledger,
                calls=calls,
                troubles=Troubles(ledger, calls, self._clock, self._on_change),
                clock=self._clock,
                random=self._random,
            )
            feeds = _reach_feeds(self._settings.tenants, session, parts)
            self._run = _Run(parts, feeds, outputs, started_at=self._started_at, patience_s=patience_s)
            _log.info(
                f"m365watch {__version__}: started; tenants: {len(self._settings.tenants)}, "
                f"feeds: {len(feeds)}, outputs: {', '.join(sorted(names))}"
            )
            return await self._run.until_end(once=once, stop=stop)

    async def _open_outputs(
        self, ledger: SqliteLedger, calls: LedgerThread, closing: AsyncExitStack
    ) -> list[Output]:
        outputs = []
        durable = {}
        for settings in self._settings.outputs:
            output = self._build_output(settings, self._clock, self._settings.collector_name)
            known = await calls(ledger.output_position, output.name)
            durable[output.name] = await output.open(last_batch=known.last_batch, position=known.position)
            closing.push_async_callback(output.close)
            outputs.append(output)
        await calls(ledger.settle_outputs, durable, at=self._clock.now())
        return outputs


@dataclass(frozen=True, slots=True)
class _Parts:
    """What everything in a run works with."""

    ledger: SqliteLedger
    calls: LedgerThread
    troubles: Troubles
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class _ReachedFeed:
    """A feed, how its tenant is reached, and how it is polled."""

    access: TenantAccess
    polling: PollSettings
    override_tag: str | None


def _reach_feeds(
    tenants: Sequence[TenantSettings], session: Session, parts: _Parts
) -> dict[Feed, _ReachedFeed]:
    """Every feed of the settings."""
    budgets: dict[TenantId, RequestBudget] = {}
    feeds = {}
    for tenant in tenants:
        # Two inputs may share a tenant, and the service counts per tenant.
        budget = budgets.setdefault(tenant.tenant_id, RequestBudget(tenant.requests_per_minute, parts.clock))
        access = _access(tenant, session, budget, parts)
        for service in tenant.services:
            if (content_type := service.service.content_type) is not None:
                feeds[Feed(tenant.tenant_id, content_type)] = _ReachedFeed(
                    access,
                    PollSettings(
                        service.start_at, timedelta(seconds=tenant.lookback_s), service.request_period_s
                    ),
                    service.override_tag,
                )
    return feeds


def _access(tenant: TenantSettings, session: Session, budget: RequestBudget, parts: _Parts) -> TenantAccess:
    tokens = TokenSource(
        session,
        tenant.cloud,
        tenant_id=tenant.tenant_id,
        credential=ClientSecret(tenant.client_id, tenant.client_secret),
        clock=parts.clock,
    )
    api = ManagementApi(session, tenant, tokens=tokens, budget=budget, clock=parts.clock, random=parts.random)
    return TenantAccess(api, SubscriptionKeeper(api, parts.clock))


class _Run:
    """One run's moving parts, from the opened ledger and outputs to the outcome."""

    def __init__(
        self,
        parts: _Parts,
        feeds: Mapping[Feed, _ReachedFeed],
        outputs: Sequence[Output],
        *,
        started_at: datetime,
        patience_s: float | None,
    ) -> None:
        self._started_at = started_at
        # Copies: the ledger's own go on counting.
        self._before = [replace(row) for row in parts.ledger.feed_progress() if row.feed in feeds]
        self._clock = parts.clock
        self._ledger = parts.ledger
        self._calls = parts.calls
        self._troubles = parts.troubles
        self._pipeline = Pipeline(
            outputs,
            {feed: reached.override_tag for feed, reached in feeds.items()},
            ledger=parts.ledger,
            calls=parts.calls,
            clock=parts.clock,
            on_final=self._settle,
            patience_s=patience_s,
        )
        self._fetcher = BlobFetcher(
            {feed: reached.access for feed, reached in feeds.items()},
            ledger=parts.ledger,
            calls=parts.calls,
            troubles=parts.troubles,
            clock=parts.clock,
            random=parts.random,
            flight=BytesInFlight(BYTES_IN_FLIGHT_MAX),
            wide_headers=any(output.needs_wide_headers for output in outputs),
            on_fetched=self._pipeline.take,
            on_quiet=self._pipeline.flush,
        )
        self._pollers = {
            feed: FeedPoller(
                feed,
                reached.access.api,
                reached.access.keeper,
                settings=reached.polling,
                ledger=parts.ledger,
                calls=parts.calls,
                troubles=parts.troubles,
                clock=parts.clock,
                random=parts.random,
                on_listed=self._fetcher.wake,
            )
            for feed, reached in feeds.items()
        }

    def _settle(self, fetched: FetchedBlob) -> None:
        self._fetcher.settle(fetched)

    def progress(self) -> RunProgress:
        """The figures of the run's feeds."""
        feeds = [feed for feed in self._ledger.feed_progress() if feed.feed in self._pollers]
        for feed in feeds:
            feed.windows_planned = self._pollers[feed.feed].windows_planned
        caught_up = all(poller.caught_up for poller in self._pollers.values()) and self._fetcher.idle
        return RunProgress(started_at=self._started_at, feeds=feeds, caught_up=caught_up, before=self._before)

    async def until_end(self, *, once: bool, stop: asyncio.Event) -> Outcome:
        """Run all parts; what ends the run is `stop`, the end of `once`, or a part that failed."""
        polling = asyncio.create_task(self._poll(once=once, stop=stop), name="polling")
        fetching = asyncio.create_task(self._fetcher.run(), name="fetching")
        delivering = asyncio.create_task(self._pipeline.run(), name="delivering")
        upkeep = asyncio.create_task(self._keep_up(), name="upkeep")
        tasks = (polling, fetching, delivering, upkeep)
        failure: CollectorError | None = None
        try:
            failure = await self._wait_end(polling, (fetching, delivering, upkeep), stop)
            polling.cancel()
            fetching.cancel()
            await asyncio.gather(polling, fetching, return_exceptions=True)
            if failure is None:
                failure = await self._drain(delivering)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await self._outcome(failure, once=once and not stop.is_set())

    async def _poll(self, *, once: bool, stop: asyncio.Event) -> None:
        """All feeds; with `once`, also until every blob has had its round of tries."""
        async with asyncio.TaskGroup() as tasks:
            for poller in self._pollers.values():
                tasks.create_task(poller.run(once=once, stop=stop), name=f"poll {poller.feed}")
        if once and not stop.is_set():
            await self._fetcher.wait_idle()

    async def _wait_end(
        self, polling: asyncio.Task[None], others: Sequence[asyncio.Task[None]], stop: asyncio.Event
    ) -> CollectorError | None:
        """Wait until polling is over or told to stop; the error of a part that failed before that."""
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait([polling, stopping, *others], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        return _failure_of([polling, *others])

    async def _drain(self, delivering: asyncio.Task[None]) -> CollectorError | None:
        """Let what was fetched reach the outputs, for a bounded time; the rest is fetched again."""
        draining = asyncio.create_task(self._pipeline.drain(), name="draining")
        try:
            await asyncio.wait([draining, delivering], timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            draining.cancel()
        return _failure_of([delivering])

    async def _keep_up(self) -> None:
        """The ledger's upkeep, in small steps between its other work."""
        evicted_at_s = self._clock.monotonic_s()
        while True:
            await self._clock.sleep(_UPKEEP_S)
            while await self._calls(self._ledger.merge_identities):
                pass
            if self._clock.monotonic_s() - evicted_at_s >= _EVICT_EVERY_S:
                while await self._calls(self._ledger.evict, now=self._clock.now()):
                    await self._clock.sleep(0.1)
                evicted_at_s = self._clock.monotonic_s()

    async def _outcome(self, failure: CollectorError | None, *, once: bool) -> Outcome:
        known = await self._calls(self._ledger.waiting_blobs)
        waiting = tuple(blob for blob in known if blob.feed in self._pollers)
        problems = [trouble.text for trouble in self._troubles.present()]
        problems += self._pipeline.output_errors.values()
        if failure is not None and str(failure) not in problems:
            problems.append(str(failure))
        failed = failure is not None or (once and bool(problems))
        unfinished = waiting or any(feed.blobs_waiting for feed in self.progress().feeds)
        exit_code = _FAILED if failed else _WAITING if once and unfinished else _DONE
        return Outcome(exit_code, waiting, tuple(problems), self.progress())


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


def _output(settings: OutputSettings, clock: Clock, collector_name: str) -> Output:
    """The output that `settings` describe; its libraries are imported only now."""
    match settings:
        case LakeSettings():
            from m365watch.outputs.lake import LakeOutput

            return LakeOutput(settings.name, settings.directory, writer_id=collector_name, clock=clock)
        case FilesSettings():
            from m365watch.outputs.files.output import FilesOutput

            return FilesOutput(settings, clock=clock)
        case ConsoleSettings():
            from m365watch.outputs.console import ConsoleOutput

            return ConsoleOutput(settings)


def read_status(settings: Settings) -> RunProgress:
    """The figures of every feed, from the ledger alone; works beside a running collector.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    now = SystemClock().now()
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return RunProgress(started_at=now, feeds=feed_progress(connection, now))


def waiting_blobs(settings: Settings) -> list[WaitingBlob]:
    """The blobs that wait for a retry, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return read_waiting_blobs(connection)


def find_blobs(settings: Settings, asked: BlobsAsked) -> BlobsFound:
    """The blobs that are `asked` for, by name, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return named_blobs(connection, asked)


def find_pieces(settings: Settings, *, feed_part: str, count_max: int) -> PiecesFound:
    """What is in quarantine, without its bytes, from the ledger alone.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return kept_pieces(connection, feed_part=feed_part, count_max=count_max)


def read_piece(settings: Settings, number: int) -> bytes | None:
    """The bytes of one piece in quarantine, as they came; None where there is no such piece.

    Raises: LedgerUnusable: there is no ledger yet.
    """
    with ledger_for_reading(settings.state_directory / LEDGER_FILE) as connection:
        return piece_body(connection, number)


def retry_quarantined(settings: Settings, *, feed_part: str) -> PutBack:
    """Let quarantined blobs wait again, so that the next run fetches them.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: there is no ledger yet; LedgerUnavailable.
    """
    return put_back(settings.state_directory / LEDGER_FILE, feed_part=feed_part, now=SystemClock().now())
