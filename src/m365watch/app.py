"""The only place where things are built: a collector from its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import structlog

from m365watch import __version__
from m365watch.clock import Clock, Random, SystemClock
from m365watch.config.settings import (
    ConsoleSettings,
    FilesSettings,
    LakeSettings,
    OutputSettings,
    Settings,
)
from m365watch.entra.session import open_session
from m365watch.errors import CollectorError
from m365watch.feed.fetcher import BlobFetcher
from m365watch.feed.flight import BytesInFlight
from m365watch.feed.poller import FeedPoller
from m365watch.feed.tries import FetchedBlob
from m365watch.feed.troubles import Trouble, Troubles
from m365watch.ledger.port import WaitingBlob
from m365watch.ledger.reading import feed_progress, ledger_for_reading
from m365watch.ledger.reading import waiting_blobs as read_waiting_blobs
from m365watch.ledger.sqlite import LEDGER_FILE, SqliteLedger
from m365watch.ledger.thread import LedgerCalls, LedgerThread
from m365watch.model import Feed
from m365watch.monitor.board import NoticeBoard
from m365watch.monitor.secrets import list_secrets
from m365watch.monitor.speaker import speaker_of
from m365watch.monitor.takers import takers_among
from m365watch.outputs.port import Output
from m365watch.outputs.queue import BatchQueue, QueueThread
from m365watch.pipeline import Pipeline
from m365watch.progress import RunProgress
from m365watch.reach import ReachedFeed, find_refusals, reach_feeds

_log = structlog.get_logger(__name__)

QUEUES_FOLDER = "queues"
"""The folder of the outputs' queues, in the state directory."""
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
        self.board = NoticeBoard(speaker_of(settings), clock=clock, hide=list_secrets(settings))
        """A structlog processor: the lines that it gets go to the outputs that take notices."""
        self._durable: dict[str, int] = {}
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
            ledger = await self._open_ledger(calls, closing)
            outputs = [
                await self._open_output(settings, ledger, calls, closing)
                for settings in self._settings.outputs
            ]
            takers = takers_among(zip(self._settings.outputs, outputs, strict=True))
            await closing.enter_async_context(self.board.posting(takers))
            queues, kept = await self._open_queues(outputs, ledger, calls)
            session = await closing.enter_async_context(open_session())
            parts = self._parts(ledger, calls)
            feeds = reach_feeds(self._settings.tenants, session, clock=self._clock, random=self._random)
            self._run = _Run(
                parts,
                feeds,
                _Lanes(outputs, queues, partial(_queue_thread, closing)),
                started_at=self._started_at,
                patience_s=patience_s,
            )
            self._run.resume(kept)
            _log.info(
                f"m365watch {__version__}: started; tenants: {len(self._settings.tenants)}, "
                f"feeds: {len(feeds)}, outputs: {', '.join(sorted(one.name for one in outputs))}"
            )
            return await self._run.until_end(once=once, stop=stop)

    async def validate(self) -> tuple[CollectorError, ...]:
        """What would keep a run from working: each output is opened, each tenant's subscriptions are listed.

        Raises: LedgerHeld, LedgerUnusable: the state cannot be used.
        """
        problems: list[CollectorError] = []
        async with AsyncExitStack() as closing:
            calls = LedgerThread(self._clock, patience_s=PATIENCE_ONCE_S)
            closing.callback(calls.close)
            ledger = await self._open_ledger(calls, closing)
            for settings in self._settings.outputs:
                try:
                    await self._open_output(settings, ledger, calls, closing)
                except CollectorError as error:
                    problems.append(error)
            session = await closing.enter_async_context(open_session())
            feeds = reach_feeds(self._settings.tenants, session, clock=self._clock, random=self._random)
            problems += await find_refusals(feeds.values())
        return tuple(problems)

    def _parts(self, ledger: SqliteLedger, calls: LedgerThread) -> _Parts:
        troubles = Troubles(ledger, calls, self._clock, self._on_change)
        return _Parts(ledger, calls, troubles, clock=self._clock, random=self._random)

    async def _open_ledger(self, calls: LedgerThread, closing: AsyncExitStack) -> SqliteLedger:
        names = frozenset(output.name for output in self._settings.outputs)
        ledger = await calls(
            SqliteLedger, self._settings.state_directory, outputs=names, now=self._clock.now()
        )
        closing.push_async_callback(calls, ledger.close)
        return ledger

    async def _open_output(
        self, settings: OutputSettings, ledger: SqliteLedger, calls: LedgerThread, closing: AsyncExitStack
    ) -> Output:
        output = self._build_output(settings, self._clock, self._settings.collector_name)
        known = await calls(ledger.output_position, output.name)
        self._durable[output.name] = await output.open(last_batch=known.last_batch, position=known.position)
        closing.push_async_callback(output.close)
        return output

    async def _open_queues(
        self, outputs: Sequence[Output], ledger: SqliteLedger, calls: LedgerThread
    ) -> tuple[dict[str, BatchQueue], dict[str, list[int]]]:
        """Each output's queue on disk, and the batches in it that are still to be delivered."""
        folder = self._settings.state_directory / QUEUES_FOLDER
        queues = {
            output.name: BatchQueue(
                folder / output.name,
                output=output.name,
                bytes_max=self._settings.queue_bytes_max,
                wide_headers=output.needs_wide_headers,
            )
            for output in outputs
        }
        found = {name: await calls(queue.open) for name, queue in queues.items()}
        kept = await calls(ledger.settle_outputs, self._durable, queued=found, at=self._clock.now())
        for name, numbers in found.items():
            for number in set(numbers) - set(kept[name]):
                await calls(queues[name].remove, number)
        _warn_of_orphans(folder, queues)
        return queues, kept


@dataclass(frozen=True, slots=True)
class _Parts:
    """What everything in a run works with."""

    ledger: SqliteLedger
    calls: LedgerThread
    troubles: Troubles
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class _Lanes:
    """The outputs, and what lets their batches wait on disk."""

    outputs: Sequence[Output]
    queues: Mapping[str, BatchQueue]
    disk: Callable[[], LedgerCalls]
    """Makes what does the disk work of one queue."""


class _Run:
    """One run's moving parts, from the opened ledger and outputs to the outcome."""

    def __init__(
        self,
        parts: _Parts,
        feeds: Mapping[Feed, ReachedFeed],
        lanes: _Lanes,
        *,
        started_at: datetime,
        patience_s: float | None,
    ) -> None:
        self._started_at = started_at
        self._clock = parts.clock
        self._ledger = parts.ledger
        self._calls = parts.calls
        self._troubles = parts.troubles
        self._pipeline = Pipeline(
            lanes.outputs,
            {feed: reached.override_tag for feed, reached in feeds.items()},
            ledger=parts.ledger,
            calls=parts.calls,
            clock=parts.clock,
            queues=lanes.queues,
            disk=lanes.disk,
            on_held=self._settle,
            on_recalled=self._wake,
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
            wide_headers=any(output.needs_wide_headers for output in lanes.outputs),
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

    def resume(self, kept: Mapping[str, list[int]]) -> None:
        """Begin with what the outputs' queues have from the last run."""
        self._pipeline.resume(kept)

    def _settle(self, fetched: FetchedBlob) -> None:
        self._fetcher.settle(fetched)

    def _wake(self) -> None:
        for feed in self._pollers:
            self._fetcher.wake(feed)

    def progress(self) -> RunProgress:
        """The figures of the run's feeds."""
        feeds = [feed for feed in self._ledger.feed_progress() if feed.feed in self._pollers]
        for feed in feeds:
            feed.windows_planned = self._pollers[feed.feed].windows_planned
        caught_up = all(poller.caught_up for poller in self._pollers.values()) and self._fetcher.idle
        return RunProgress(started_at=self._started_at, feeds=feeds, caught_up=caught_up)

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
        if failure is not None:
            _log.error(str(failure), code=failure.code)
        return await self._outcome(failure, once=once and not stop.is_set())

    async def _poll(self, *, once: bool, stop: asyncio.Event) -> None:
        """All feeds; with `once`, also until every blob has had its round of tries."""
        async with asyncio.TaskGroup() as tasks:
            for poller in self._pollers.values():
                tasks.create_task(poller.run(once=once, stop=stop), name=f"poll {poller.feed}")
        if once and not stop.is_set():
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


def _queue_thread(closing: AsyncExitStack) -> QueueThread:
    """A thread for one queue's disk work, which ends with the run."""
    thread = QueueThread()
    closing.callback(thread.close)
    return thread


def _warn_of_orphans(folder: Path, queues: Mapping[str, BatchQueue]) -> None:
    """Name the queues of outputs that the configuration no longer has."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in queues and any(path.iterdir()):
            _log.warning(
                f"{path}: batches wait there for an output that the configuration no longer has; "
                "bring the output back under this name, or remove the folder"
            )


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
