"""Fetches known blobs of all feeds: fair among feeds, bounded in bytes, patient with poison.

A blob that cannot be fetched is tried again quickly a few times without holding a place,
and then waits in the ledger for its turn (Devo's `uri_retry`); nobody waits behind it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from m365watch.common.clock import Clock, Random
from m365watch.common.model import BlobKey, Feed, KnownBlob
from m365watch.ledger.writer_thread import LedgerCalls, settled_later
from m365watch.registry.ports import Ledger
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.management_api.fetch_attempts import FetchedBlob, Means, Round, TenantAccess
from m365watch.sources.management_api.in_flight_limit import BytesInFlight, SizeGuess

BLOBS_IN_FLIGHT_MAX = 2_000
"""Blobs fetched or being fetched and not yet final."""
_REFILL_COUNT = 256
_LOOK_AGAIN_S = 30.0
HOLD_S = 60.0
"""How long a feed whose blobs are refused for its tenant's sake is left alone, unless a listing succeeds."""


@dataclass(slots=True)
class _FeedQueue:
    """One feed's blobs to fetch, refilled from the ledger."""

    feed: Feed
    access: TenantAccess
    """How its tenant is reached now."""
    blobs: deque[KnownBlob] = field(default_factory=deque)
    in_flight: set[BlobKey] = field(default_factory=set)
    more: bool = True
    """Whether the ledger may know due blobs beyond these."""
    refilling: bool = False
    """Whether the ledger is being asked for them."""
    guess: SizeGuess = field(default_factory=SizeGuess)
    rounds: set[asyncio.Task[bool]] = field(default_factory=set)
    held_until_s: float = -math.inf
    """Nothing is fetched before; `math.inf` of a feed that is not collected any more."""


class BlobFetcher:
    """Takes known blobs from the ledger, fetches and splits them, and hands them on."""

    def __init__(  # noqa: PLR0913 - one argument for each part of the run that it works with
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
        on_quiet: Callable[[], None],
        concerns: Callable[[KnownBlob], bool] = lambda _: True,
        once: bool = False,
        views: bool = False,
    ) -> None:
        """`on_fetched` takes a blob over; it calls `settle` once the blob is final.

        `on_quiet` hears whenever no fetch is under way and none is due. A due blob that does not
        `concern` the run is left to another one. With `once`, a host that is out of reach holds no feed:
        nobody would come back to it. With `views`, records may stay views into their blob.
        """
        self._concerns = concerns
        self._wake = asyncio.Event()
        self._means = Means(
            ledger=ledger,
            calls=calls,
            troubles=troubles,
            clock=clock,
            random=random,
            flight=flight,
            wide_headers=wide_headers,
            views=views,
            on_fetched=on_fetched,
            wake=self._wake,
            on_refused=self.hold,
            on_unreached=(lambda _: None) if once else self.hold,
            on_reached=(lambda _: None) if once else self.go_on,
        )
        self._queues = {feed: _FeedQueue(feed, access) for feed, access in feeds.items()}
        self._changed = asyncio.Event()
        self._in_flight_count = 0
        self._rounds = 0
        self._on_quiet = on_quiet
        self._look_at_s = -math.inf
        self._alarm: asyncio.TimerHandle | None = None

    def wake(self, feed: Feed) -> None:
        """The ledger may know new blobs of `feed`."""
        queue = self._queues.get(feed)
        # Of one that is held it is asked again when it goes on.
        if queue is not None and self._is_open(queue):
            queue.more = True
            self._wake.set()

    def hold(self, feed: Feed, *, seconds: float = HOLD_S) -> None:
        """Fetch nothing of `feed` for so long: its blobs wait in the ledger, and cost nobody anything."""
        queue = self._queues.get(feed)
        if queue is not None:
            queue.held_until_s = max(queue.held_until_s, self._means.clock.monotonic_s() + seconds)
            self._empty(queue)

    def go_on(self, feed: Feed) -> None:
        """What `feed` was held for is over."""
        queue = self._queues.get(feed)
        if queue is not None and -math.inf < queue.held_until_s < math.inf:
            queue.held_until_s = -math.inf
            self.wake(feed)

    def add(self, feed: Feed, access: TenantAccess) -> None:
        """Fetch what the ledger knows of `feed` from now on, or in another way than before."""
        # What is on its way to the outputs is still counted in its queue.
        queue = self._queues.setdefault(feed, _FeedQueue(feed, access))
        queue.access = access
        queue.held_until_s = -math.inf
        self.wake(feed)

    def stop(self, feed: Feed) -> None:
        """Fetch nothing of `feed` any more; what was not fetched yet waits in the ledger."""
        queue = self._queues[feed]
        queue.held_until_s = math.inf
        self._empty(queue)
        for task in queue.rounds:
            task.cancel()

    def _empty(self, queue: _FeedQueue) -> None:
        queue.blobs.clear()
        queue.more = False
        self._changed.set()

    def _is_open(self, queue: _FeedQueue) -> bool:
        """Whether the feed is neither held nor stopped."""
        return self._means.clock.monotonic_s() >= queue.held_until_s

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

    async def wait_fetched(self) -> None:
        """Return once every due blob was handed on, or put off; deliveries may still be under way."""
        while self._rounds or any(one.more or one.refilling or one.blobs for one in self._queues.values()):
            self._changed.clear()
            await self._changed.wait()

    def settle(self, fetched: FetchedBlob) -> None:
        """The blob is final, or left to a later round: give back what it held."""
        self._means.flight.release(fetched.held_bytes)
        self._leave(fetched.known)

    async def run(self) -> None:
        """Fetch until cancelled; what is under way is then cancelled too and stays known."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    self._wake.clear()
                    self._look_again()
                    if not await self._start_round(tasks) and not self._wake.is_set():
                        await self._rest()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    def _look_again(self) -> None:
        """Now and then ask the ledger for every feed: nobody calls when a blob's wait is over."""
        if self._means.clock.monotonic_s() >= self._look_at_s:
            self._look_at_s = self._means.clock.monotonic_s() + _LOOK_AGAIN_S
            for feed in self._queues:
                self.wake(feed)

    async def _start_round(self, tasks: asyncio.TaskGroup) -> bool:
        """Start at most one fetch for each feed; whether there was any."""
        started = False
        # A copy: feeds may come while the ledger is asked.
        for queue in tuple(self._queues.values()):
            if queue.more and not queue.blobs:
                await self._refill(queue)
            if self._may_start(queue):
                await self._start(queue, tasks)
                started = True
        return started

    def _may_start(self, queue: _FeedQueue) -> bool:
        """Whether a blob of the queue can be fetched now; a tenant without a free place is passed over."""
        if not queue.blobs or self._in_flight_count >= BLOBS_IN_FLIGHT_MAX:
            return False
        if queue.access.places.locked() or not self._is_open(queue):
            return False
        return self._means.flight.admits(queue.guess.size_bytes)

    async def _refill(self, queue: _FeedQueue) -> None:
        queue.more = False
        queue.refilling = True
        found = await self._means.calls(
            settled_later(self._means.ledger.due_blobs),
            queue.feed,
            now=self._means.clock.now(),
            count_max=_REFILL_COUNT,
            besides=frozenset(queue.in_flight),
        )
        queue.refilling = False
        if not self._is_open(queue):
            self._empty(queue)
            return
        concerned = [known for known in found if self._concerns(known)]
        queue.blobs.extend(concerned)
        # Where none of so many concerns the run, the same ones would only be found again.
        if len(found) == _REFILL_COUNT and concerned:
            queue.more = True
        self._changed.set()

    async def _start(self, queue: _FeedQueue, tasks: asyncio.TaskGroup) -> None:
        """Fetch the queue's first blob to its end: handed on, lost, or waiting in the ledger."""
        access, size_bytes = queue.access, queue.guess.size_bytes
        await self._means.enter(access, size_bytes)
        if not queue.blobs:
            # The feed was held or stopped meanwhile.
            access.places.release()
            self._means.flight.release(size_bytes)
            return
        known = queue.blobs.popleft()
        queue.in_flight.add(known.key)
        self._in_flight_count += 1
        round_ = Round(self._means, known, access=access, guess=queue.guess)
        self._rounds += 1
        task = tasks.create_task(round_.run(), name=f"fetch {known.key}")
        queue.rounds.add(task)
        task.add_done_callback(partial(self._end, known, round_))

    def _end(self, known: KnownBlob, round_: Round, task: asyncio.Task[bool]) -> None:
        """Give back what a round held, also where it was cancelled before its first step."""
        self._rounds -= 1
        self._queues[known.ref.feed].rounds.discard(task)
        round_.leave_place()
        handed_on = not task.cancelled() and task.exception() is None and task.result()
        if not handed_on:
            self._means.flight.release(round_.held_bytes)
            self._leave(known)
        if self._rounds == 0:
            self._changed.set()
            self._wake.set()

    async def _rest(self) -> None:
        """Wait until something has changed that lets a fetch begin, or for the next look."""
        # Blobs that are left then wait for room, which comes when what is under way has been delivered.
        if self._rounds == 0 and not any(queue.blobs for queue in self._queues.values()):
            self._on_quiet()
        if self._alarm is None:
            # One for many rests, of which each blob brings one or two.
            self._alarm = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._ring)
        await self._wake.wait()

    def _ring(self) -> None:
        self._alarm = None
        self._wake.set()

    def _leave(self, known: KnownBlob) -> None:
        self._queues[known.ref.feed].in_flight.discard(known.key)
        self._in_flight_count -= 1
        if self._in_flight_count == 0:
            self._changed.set()
        self._wake.set()
