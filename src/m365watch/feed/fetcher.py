"""Fetches known blobs of all feeds: fair among feeds, bounded in bytes, patient with poison.

A blob that can not be fetched is tried again quickly a few times without holding a place,
and then waits in the ledger for its turn (Devo's `uri_retry`); nobody waits behind it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import structlog

from m365watch.clock import Clock, Random
from m365watch.errors import (
    BadAnswer,
    CollectorError,
    ContentLost,
    NeedsOperator,
    NotSubscribed,
    RetryLater,
    Throttled,
)
from m365watch.feed.answers import loss_reason
from m365watch.feed.codes import EXPIRED
from m365watch.feed.flight import BytesInFlight
from m365watch.feed.port import Api
from m365watch.feed.subscriptions import SubscriptionKeeper
from m365watch.feed.troubles import Troubles
from m365watch.ledger.port import Ledger
from m365watch.ledger.thread import LedgerCalls
from m365watch.model import BlobKey, Feed, KnownBlob
from m365watch.records.split import SplitBlob, split_blob

_log = structlog.get_logger(__name__)

FETCHES_MAX = 24
"""Fetches under way at once, over all tenants."""
BLOBS_IN_FLIGHT_MAX = 2_000
"""Blobs fetched or being fetched and not yet final."""
QUICK_TRIES = 5
"""Tries of a blob's first round, before it has to wait."""
THROTTLED_TRIES = 100
"""Throttled tries of a round; being throttled says nothing about the blob."""
QUARANTINE_TRIES = 12
"""Tries after which a body that is still cut short or no array is taken as it is."""
UNKNOWN_TRIES = 8
"""Tries after which content that the service says it does not know is lost."""
RETRY_WAITS_S = (60.0, 300.0, 900.0, 3600.0, 10_800.0)
"""How long a blob waits after its first round, its next try, and so on; the last for ever."""
_OPERATOR_WAIT_S = 60.0
_QUICK_FIRST_S = 0.25
_REFILL_COUNT = 256
_LOOK_AGAIN_S = 30.0
_GUESS_FIRST_BYTES = 256 * 1024


@dataclass(slots=True)
class FetchedBlob:
    """A blob that was fetched and split; holds `held_bytes` in flight until it is final."""

    known: KnownBlob
    split: SplitBlob
    received_at: datetime
    held_bytes: int


@dataclass(slots=True)
class _FeedQueue:
    """One feed's blobs to fetch, refilled from the ledger."""

    feed: Feed
    blobs: deque[KnownBlob] = field(default_factory=deque)
    in_flight: set[BlobKey] = field(default_factory=set)
    more: bool = True
    """Whether the ledger may know due blobs beyond these."""
    refilling: bool = False
    """Whether the ledger is being asked for them."""
    guess_bytes: int = _GUESS_FIRST_BYTES


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """How one tenant is reached."""

    api: Api
    keeper: SubscriptionKeeper


@dataclass(frozen=True, slots=True)
class _Means:
    """What every round of tries works with."""

    access: Mapping[Feed, TenantAccess]
    ledger: Ledger
    calls: LedgerCalls
    troubles: Troubles
    clock: Clock
    random: Random
    flight: BytesInFlight
    wide_headers: bool
    on_fetched: Callable[[FetchedBlob], None]
    places: asyncio.Semaphore

    async def enter(self, size_bytes: int) -> None:
        """Hold `size_bytes` in flight, and one of the places."""
        await self.flight.acquire(size_bytes)
        try:
            await self.places.acquire()
        except asyncio.CancelledError:
            self.flight.release(size_bytes)
            raise


class BlobFetcher:
    """Takes known blobs from the ledger, fetches and splits them, and hands them on."""

    def __init__(
        self,
        feeds: Mapping[Feed, TenantAccess],
        *,
        ledger: Ledger,
        calls: LedgerCalls,
        troubles: Troubles,
        clock: Clock,
        random: Random,
        flight: BytesInFlight,
        wide_headers: bool,
        on_fetched: Callable[[FetchedBlob], None],
    ) -> None:
        """`on_fetched` takes a blob over; it calls `settle` once the blob is final."""
        self._means = _Means(
            access=feeds,
            ledger=ledger,
            calls=calls,
            troubles=troubles,
            clock=clock,
            random=random,
            flight=flight,
            wide_headers=wide_headers,
            on_fetched=on_fetched,
            places=asyncio.Semaphore(FETCHES_MAX),
        )
        self._queues = {feed: _FeedQueue(feed) for feed in feeds}
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._in_flight_count = 0
        self._look_at_s = -math.inf

    def wake(self, feed: Feed) -> None:
        """The ledger may know new blobs of `feed`."""
        self._queues[feed].more = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether no due blob is left and none is in flight."""
        return self._in_flight_count == 0 and not any(
            queue.more or queue.refilling or queue.blobs for queue in self._queues.values()
        )

    async def wait_idle(self) -> None:
        """Return once `idle` holds."""
        while not self.idle:
            self._changed.clear()
            await self._changed.wait()

    def settle(self, fetched: FetchedBlob) -> None:
        """The blob is final, or left to a later round: give back what it held."""
        self._means.flight.release(fetched.held_bytes)
        self._leave(fetched.known)

    async def run(self) -> None:
        """Fetch until cancelled; what is under way is then cancelled too and stays known."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look_again()
                if not await self._start_round(tasks):
                    await self._rest()

    def _look_again(self) -> None:
        """Now and then ask the ledger for every feed: nobody calls when a blob's wait is over."""
        if self._means.clock.monotonic_s() >= self._look_at_s:
            self._look_at_s = self._means.clock.monotonic_s() + _LOOK_AGAIN_S
            for queue in self._queues.values():
                queue.more = True

    async def _start_round(self, tasks: asyncio.TaskGroup) -> bool:
        """Start at most one fetch for each feed; whether there was any."""
        started = False
        for queue in self._queues.values():
            if queue.more and not queue.blobs:
                await self._refill(queue)
            if queue.blobs and self._in_flight_count < BLOBS_IN_FLIGHT_MAX:
                await self._start(queue, tasks)
                started = True
        return started

    async def _refill(self, queue: _FeedQueue) -> None:
        queue.more = False
        queue.refilling = True
        found = await self._means.calls(
            self._means.ledger.due_blobs,
            queue.feed,
            now=self._means.clock.now(),
            count_max=_REFILL_COUNT,
            besides=frozenset(queue.in_flight),
        )
        queue.refilling = False
        queue.blobs.extend(found)
        if len(found) == _REFILL_COUNT:
            queue.more = True
        self._changed.set()

    async def _start(self, queue: _FeedQueue, tasks: asyncio.TaskGroup) -> None:
        """Fetch the queue's first blob to its end: handed on, lost, or waiting in the ledger."""
        guessed = queue.guess_bytes
        await self._means.enter(guessed)
        known = queue.blobs.popleft()
        queue.in_flight.add(known.key)
        self._in_flight_count += 1
        round_ = _Round(self._means, queue, known, held_bytes=guessed)
        task = tasks.create_task(round_.run(), name=f"fetch {known.key}")
        task.add_done_callback(partial(self._end, known, round_))

    def _end(self, known: KnownBlob, round_: _Round, task: asyncio.Task[bool]) -> None:
        """Give back what a round held, also where it was cancelled before its first step."""
        round_.leave_place()
        handed_on = not task.cancelled() and task.exception() is None and task.result()
        if not handed_on:
            self._means.flight.release(round_.held_bytes)
            self._leave(known)

    async def _rest(self) -> None:
        self._wake.clear()
        startable = any(queue.more or queue.blobs for queue in self._queues.values())
        if startable and self._in_flight_count < BLOBS_IN_FLIGHT_MAX:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await self._wake.wait()

    def _leave(self, known: KnownBlob) -> None:
        self._queues[known.ref.feed].in_flight.discard(known.key)
        self._in_flight_count -= 1
        self._changed.set()
        self._wake.set()


class _Round:
    """One round of tries of one blob."""

    def __init__(self, means: _Means, queue: _FeedQueue, known: KnownBlob, *, held_bytes: int) -> None:
        self._means = means
        self._queue = queue
        self._known = known
        self._attempts = known.attempts
        self._throttled = 0
        self._has_place = True
        self.held_bytes = held_bytes

    async def run(self) -> bool:
        """Whether the blob was handed on; otherwise its lot stands in the ledger."""
        while True:
            try:
                fetched = await self._try()
            except ContentLost as error:
                if await self._is_lost(error):
                    return False
                failure: CollectorError = error
            except (RetryLater, NeedsOperator) as error:
                failure = error
            else:
                self._means.on_fetched(fetched)
                return True
            if not await self._may_retry(failure):
                return False

    async def _try(self) -> FetchedBlob:
        means, ref = self._means, self._known.ref
        body = await means.access[ref.feed].api.fetch_blob(ref)
        received_at = means.clock.now()
        self.leave_place()
        self._hold(len(body))
        split = split_blob(body, wide=means.wide_headers)
        doubt = _doubt(split)
        if doubt and self._attempts + 1 < (QUICK_TRIES if split.complete else QUARANTINE_TRIES):
            raise BadAnswer(f"blob {ref.content_id}: {doubt}", where=str(ref.feed))
        return FetchedBlob(self._known, split, received_at, self.held_bytes)

    def _hold(self, size_bytes: int) -> None:
        self._means.flight.correct(guessed=self.held_bytes, actual=size_bytes)
        self.held_bytes = size_bytes
        self._queue.guess_bytes = max(size_bytes, (self._queue.guess_bytes * 7 + size_bytes) // 8)

    async def _is_lost(self, error: ContentLost) -> bool:
        """Whether the content is gone for good: expired, or unknown however often it is asked for."""
        if loss_reason(error) != EXPIRED and self._attempts + 1 < UNKNOWN_TRIES:
            return False
        means, ref = self._means, self._known.ref
        _log.error(f"{ref.feed}: blob {ref.content_id} is lost: {error.what}", code=error.code)
        await means.calls(means.ledger.commit_lost, self._known.key, error.what, at=means.clock.now())
        return True

    async def _may_retry(self, error: CollectorError) -> bool:
        """Pause before the next try of this round; False once the blob has been put off."""
        means, feed = self._means, self._known.ref.feed
        if isinstance(error, NeedsOperator):
            await means.troubles.note(feed, error)
            await self._postpone(error, _OPERATOR_WAIT_S)
            return False
        if isinstance(error, Throttled) and self._throttled < THROTTLED_TRIES:
            self._throttled += 1
        else:
            self._attempts += 1
        if isinstance(error, NotSubscribed):
            await self._subscribe_again()
        if self._attempts >= QUICK_TRIES:
            place = min(self._attempts - QUICK_TRIES, len(RETRY_WAITS_S) - 1)
            await self._postpone(error, RETRY_WAITS_S[place])
            return False
        await self._pause(self._pause_s(error))
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait, and hold nothing meanwhile that another blob could use."""
        means = self._means
        self.leave_place()
        means.flight.release(self.held_bytes)
        self.held_bytes = 0
        await means.clock.sleep(seconds)
        guessed = self._queue.guess_bytes
        await means.enter(guessed)
        self.held_bytes = guessed
        self._has_place = True

    async def _subscribe_again(self) -> None:
        feed = self._known.ref.feed
        try:
            await self._means.access[feed].keeper.revive(feed.content_type)
        except CollectorError as error:
            await self._means.troubles.note(feed, error)

    async def _postpone(self, error: CollectorError, wait_s: float) -> None:
        means, ref = self._means, self._known.ref
        tries = "1 try" if self._attempts == 1 else f"{self._attempts} tries"
        _log.warning(
            f"{ref.feed}: blob {ref.content_id} waits {wait_s:g} s after {tries}: {error.what}",
            code=error.code,
        )
        await means.calls(
            means.ledger.postpone,
            self._known.key,
            attempts=max(1, self._attempts),
            next_try_at=means.clock.now() + timedelta(seconds=wait_s),
            error=error.what,
        )

    def _pause_s(self, error: CollectorError) -> float:
        asked_s = error.after_s if isinstance(error, RetryLater) else None
        backoff_s = _QUICK_FIRST_S * 2.0 ** min(self._attempts + self._throttled, 6)
        return max(asked_s or 0.0, backoff_s * (0.5 + self._means.random.random()))

    def leave_place(self) -> None:
        """Let another fetch begin; twice does no harm."""
        if self._has_place:
            self._means.places.release()
            self._has_place = False


def _doubt(split: SplitBlob) -> str | None:
    """Why the body should be fetched once more before it is believed; None if there is no reason.

    A blob is documented to hold one or more records, so an empty array is doubted as well.
    """
    if split.fragments:
        return split.fragments[0].reason
    return None if split.records else "no record in it"
