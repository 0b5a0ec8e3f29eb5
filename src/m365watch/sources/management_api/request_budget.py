"""How many requests a tenant may still make, and whose turn it is."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping

from m365watch.common.clock import Clock

SPAN_S = 60.0
"""The budget counts over any span of this length."""

RESERVE = 0.1
"""The share of the budget that only live requests may use."""

FLOOR = 0.05
"""The share that is left however often the service throttles."""

RECOVERY = 0.1
"""The share that comes back in each minute after a halving."""

PAUSE_S = 0.1
PAUSE_S_MAX = 60.0
"""Without a Retry-After the tenant pauses this long, twice as long for each repeat, up to the maximum."""

_LIVE, _BACKGROUND = 0, 1


class RequestBudget:
    """The requests of one tenant, shared by its feeds: in turns, live ones before backfill.

    A request counts from its admission until 60 s after its answer, so that the service sees at
    most `per_minute` in any 60 s, however long an answer takes. Throttling halves that, and it comes
    back step by step. Without `per_minute` nothing is counted, and throttling only pauses.
    """

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        """`per_minute` requests in any 60 s, or None for no limit of our own."""
        self._per_minute = per_minute
        self._clock = clock
        self._open = 0
        self._answered_at_s: deque[float] = deque()
        self._paused_until_s = -math.inf
        self._pause_s = PAUSE_S
        self._share = 1.0
        self._share_at_s = clock.monotonic_s()
        self._queues = (_Turns(), _Turns())
        self._clerk: asyncio.Task[None] | None = None

    def change(self, per_minute: int | None) -> None:
        """Go on with another limit; what was made within the last minute still counts."""
        self._per_minute = per_minute

    async def admit(self, feed: str, *, background: bool = False) -> None:
        """Return when `feed` may send one request; `settle` has to follow, whatever becomes of it."""
        overtakes = not self._queues[_LIVE] and (not background or not self._queues[_BACKGROUND])
        if overtakes and self._wait_s(background=background) <= 0:
            self._open += 1
            return
        turn = self._queues[background].enter(feed)
        if self._clerk is None or (overtakes and not background):
            self._call_clerk()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._open -= 1
            raise

    def settle(self) -> None:
        """Take note that a request that was admitted has its answer, or will not get one."""
        self._open -= 1
        if self._per_minute is not None:
            self._answered_at_s.append(self._clock.monotonic_s())

    def relax(self) -> None:
        """Take note of a request that was not throttled."""
        self._pause_s = PAUSE_S

    def throttle(self, after_s: float | None) -> float:
        """Pause the whole tenant and halve its rate; the seconds of the pause from now.

        Requests that were under way when the pause began change nothing, unless they ask for a longer one.
        """
        now_s = self._clock.monotonic_s()
        asked_s = 0.0 if after_s is None else max(after_s, PAUSE_S)
        if now_s >= self._paused_until_s:
            self._share = max(self._share_at(now_s) / 2, FLOOR)
            self._share_at_s = now_s
            self._paused_until_s = now_s + (asked_s or self._pause_s)
            self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)
        self._paused_until_s = max(self._paused_until_s, now_s + asked_s)
        return self._paused_until_s - now_s

    def _share_at(self, now_s: float) -> float:
        return min(1.0, self._share + RECOVERY * (now_s - self._share_at_s) / 60.0)

    def _wait_s(self, *, background: bool) -> float:
        """Seconds until there may be room; 0 or less if there is."""
        now_s = self._clock.monotonic_s()
        if now_s < self._paused_until_s:
            return self._paused_until_s - now_s
        if self._per_minute is None:
            return 0.0
        answered_at_s = self._answered_at_s
        while answered_at_s and answered_at_s[0] <= now_s - SPAN_S:
            answered_at_s.popleft()
        room = max(1, int(self._per_minute * self._share_at(now_s)))
        if background:
            room = max(1, int(room * (1 - RESERVE)))
        excess = self._open + len(answered_at_s) - room
        if excess < 0:
            return 0.0
        if excess < len(answered_at_s):
            return answered_at_s[excess] + SPAN_S - now_s
        return SPAN_S

    def _call_clerk(self) -> None:
        """Have the queues served; a clerk that sleeps for backfill's sake would let a live request wait."""
        if self._clerk is not None:
            self._clerk.cancel()
        self._clerk = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        """Let those who wait in, one by one, until nobody waits."""
        while self._queues[_LIVE] or self._queues[_BACKGROUND]:
            background = not self._queues[_LIVE]
            wait_s = self._wait_s(background=background)
            if wait_s > 0:
                await self._clock.sleep(wait_s)
            elif self._queues[background].admit_next():
                self._open += 1
        self._clerk = None


class _Turns:
    """Who waits, feed by feed; the feeds take turns."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def enter(self, feed: str) -> asyncio.Future[None]:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(feed, deque()).append(turn)
        return turn

    def admit_next(self) -> bool:
        """Whether somebody was let in; those who went away are forgotten."""
        feed, turns = next(iter(self._waiting.items()))
        turn = turns.popleft()
        del self._waiting[feed]
        if turns:
            self._waiting[feed] = turns
        if turn.done():
            return False
        turn.set_result(None)
        return True


class LimitedBudget(RequestBudget):
    """The budget of one tenant; a feed with a limit makes at most so many of its requests in any 60 s.

    A feed waits for its own turn first, so that it takes no place of the tenant's that it cannot use.
    """

    def __init__(self, per_minute: int | None, clock: Clock, *, limits: Mapping[str, int]) -> None:
        """`limits` holds requests a minute by the feed's name, as `admit` gets it."""
        super().__init__(per_minute, clock)
        self._of_feeds = {feed: RequestBudget(limit, clock) for feed, limit in limits.items()}

    def change_all(self, per_minute: int | None, *, limits: Mapping[str, int]) -> None:
        """Go on with other limits; what was made within the last minute still counts."""
        self.change(per_minute)
        of_feeds = {}
        for feed, limit in limits.items():
            of_feeds[feed] = self._of_feeds.get(feed) or RequestBudget(limit, self._clock)
            of_feeds[feed].change(limit)
        self._of_feeds = of_feeds

    async def admit(self, feed: str, *, background: bool = False) -> None:
        """Return when the feed's own limit and the tenant's budget have room; `settle` has to follow."""
        own = self._of_feeds.get(feed)
        if own is not None:
            await own.admit(feed, background=background)
            # A limit of one's own counts requests by their sending, and has nothing to wait for.
            own.settle()
        await super().admit(feed, background=background)
