"""One target's turns: what is next, the try, and what comes of it. Who fails waits longer and longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import GoingOn, defect_of
from m365watch.common.errors import CollectorError, NeedsOperator, RetryLater, Unavailable, Unreachable
from m365watch.common.timestamps import ms_of
from m365watch.config.models.notifications import ChannelSection
from m365watch.notifications.notification_database import Outgoing
from m365watch.notifications.notification_policy import GATHER_MS, Move, choose
from m365watch.notifications.outbox import NotificationStore
from m365watch.registry.channel_specs import Channel, Sender, Sent

_T = TypeVar("_T")

WAIT_FIRST_S = 5.0
WAIT_MAX_S = 900.0
"""The first wait after a failed try, and the longest; each is twice as long as the one before."""
SEND_S = 120.0
"""How long one try may take."""
REFUSALS_MAX = 3
"""How often a notification is tried that the target refuses, before it is kept aside."""
FIRST_REFUSALS_MAX = 6
"""The same where the target has taken none yet: then it may be the target that is wrong."""
LOOK_S = 30.0
"""Between two looks where nothing is due."""
FILE_AGAIN_S = 5.0
"""Between two tries at what the file of notifications would not do."""

_log = structlog.get_logger(__name__)


class InThread(Protocol):
    """Runs what works with the files in the one thread that may."""

    async def __call__(self, work: Callable[[], _T], /) -> _T:
        """What `work` answers."""
        ...


class ChannelWorker:
    """Tells one target what waits for it, in its order and at its pace, until cancelled."""

    def __init__(
        self,
        channel: Channel[ChannelSection],
        sender: Sender,
        *,
        store: NotificationStore,
        in_thread: InThread,
        clock: Clock,
        random: Random,
    ) -> None:
        """`store` is used by what `in_thread` runs alone."""
        self.name = channel.name
        self.idle = asyncio.Event()
        """Set while nothing can be told just now."""
        self._section = channel.section
        self._sender = sender
        self._store = store
        self._in_thread = in_thread
        self._clock = clock
        self._random = random
        self._woken = asyncio.Event()
        self._where = f"notifications {channel.name}"
        self._going_on = GoingOn(self._where)
        self._told_trouble = ""
        self._is_failing = False

    def wake(self) -> None:
        """There may be something new to tell; a target that has just failed is tried no sooner for it."""
        if not self._is_failing:
            self.idle.clear()
        self._woken.set()

    async def run(self) -> None:
        """Open the way to the target, and take turns; comes to an end by being cancelled only."""
        while not await self._opens():
            await self._wait_after_failure()
        while True:
            outgoing, until_ms = await self._with_file(self._next)
            if outgoing is None:
                await self._rest(until_ms)
            elif not await self._tell(outgoing):
                await self._wait_after_failure()

    async def close(self) -> None:
        """Leave the target in order."""
        with suppress(CollectorError):
            await self._sender.close()

    async def _opens(self) -> bool:
        """Whether the sender is ready; what the target has already is settled then."""
        last, position, newest = await self._with_file(lambda: self._store.progress(self.name))
        try:
            durable = await self._sender.open(last=last, position=position, newest=newest)
        except CollectorError as error:
            return await self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever one target fails with, the others go on
            return await self._fail(defect_of(error, where=self._where))
        outgoing = await self._with_file(lambda: self._store.outgoing(self.name))
        if outgoing is not None and durable >= outgoing.number:
            await self._settle(outgoing, Sent(position=position))
        await self._with_file(lambda: self._store.count_from(self.name, durable))
        return True

    async def _with_file(self, work: Callable[[], _T]) -> _T:
        """What `work` answers, as soon as it can be done.

        What fails is told, and tried again by itself: a target that has taken something is not told it anew
        only because that could not be written down.
        """
        while True:
            with self._going_on("file"):
                return await self._in_thread(work)
            self.idle.set()
            await self._clock.sleep(FILE_AGAIN_S)

    def _next(self) -> tuple[Outgoing | None, int]:
        """What is told now, or when there may be something (0: nobody knows)."""
        store, now_ms = self._store, self._now_ms()
        begun = store.outgoing(self.name)
        if begun is not None:
            return begun, 0
        waiting, sent_ms, later_ms = store.waiting(self.name, now_ms=now_ms)
        move, until_ms = choose(waiting, sent_ms, self._section, now_ms=now_ms)
        if move is Move.ALONE:
            return store.begin_alone(self.name, most=self._at_once(len(sent_ms)), now_ms=now_ms), 0
        if move is Move.DIGEST:
            return store.begin_digest(self.name, now_ms=now_ms), 0
        return None, until_ms or later_ms

    def _at_once(self, sent: int) -> int:
        rate = self._section.rate_limit_per_minute
        most = self._sender.at_once_max
        return most if rate is None else max(1, min(most, rate - sent))

    async def _tell(self, outgoing: Outgoing) -> bool:
        """Whether the target has it now, or has refused it for good."""
        self.idle.clear()
        try:
            async with asyncio.timeout(SEND_S):
                sent = await self._sender.send(outgoing.number, outgoing.notifications)
        except TimeoutError:
            return await self._fail(Unavailable("no answer in time", where=self._where))
        except CollectorError as error:
            return await self._fail(error)
        except Exception as error:  # noqa: BLE001 - whatever one target fails with, the others go on
            return await self._fail(defect_of(error, where=self._where))
        if sent.refused and len(outgoing.notifications) == 1 and not await self._is_final():
            reason = next(iter(sent.refused.values()))
            return await self._fail(
                Unavailable(f"the target refuses a notification: {reason}", where=self._where)
            )
        await self._settle(outgoing, sent)
        return True

    async def _is_final(self) -> bool:
        """Whether a notification that is refused was tried often enough."""
        tries, _, sent = await self._with_file(lambda: self._store.tries(self.name))
        return tries + 1 >= (REFUSALS_MAX if sent else FIRST_REFUSALS_MAX)

    async def _settle(self, outgoing: Outgoing, sent: Sent) -> None:
        await self._with_file(
            lambda: self._store.settle(
                self.name,
                outgoing,
                self._section,
                now_ms=self._now_ms(),
                position=sent.position,
                refused=sent.refused,
            )
        )
        for reason in sent.refused.values():
            _log.error(
                f"{self._where}: a notification was refused and is kept aside: {reason}; "
                f"`m365watch alerts notify` shows it, and tries it again with --again {self.name}"
            )
        if self._told_trouble and len(sent.refused) < len(outgoing.notifications):
            _log.info(f"{self._where}: the target takes notifications again")
            self._told_trouble = ""

    async def _fail(self, error: CollectorError) -> bool:
        """Have it tried again later, and tell what is new about it; always False."""
        tries, _, _ = await self._with_file(lambda: self._store.tries(self.name))
        wait_s = min(WAIT_FIRST_S * 2 ** min(tries, 16), WAIT_MAX_S) * (0.8 + 0.4 * self._random.random())
        if isinstance(error, RetryLater) and error.after_s is not None:
            wait_s = max(wait_s, error.after_s)
        now_ms = self._now_ms()
        next_ms, trouble = now_ms + round(wait_s * 1000), _trouble_of(error)
        await self._with_file(lambda: self._store.fail(self.name, trouble, next_ms=next_ms, now_ms=now_ms))
        if isinstance(error, Unreachable):
            await self._with_file(lambda: self._store.take_back(self.name, self._section, now_ms=now_ms))
        if trouble != self._told_trouble:
            self._told_trouble = trouble
            line = f"{self._where}: {trouble}; what waits for it is kept"
            if isinstance(error, NeedsOperator):
                _log.error(line, code=error.code)
            else:
                # Without a code: those of the service's own hosts would be named as trouble with it.
                _log.warning(line)
        return False

    async def _wait_after_failure(self) -> None:
        _, next_ms, _ = await self._with_file(lambda: self._store.tries(self.name))
        self._is_failing = True
        self.idle.set()
        until_s = self._clock.monotonic_s() + (next_ms - self._now_ms()) / 1000
        # Where the clock is set back meanwhile, the time of the next try is far off by it.
        while (left_s := min((next_ms - self._now_ms()) / 1000, until_s - self._clock.monotonic_s())) > 0:
            # Somebody may have it tried at once meanwhile, from another process.
            await self._clock.sleep(min(left_s, LOOK_S))
            _, next_ms, _ = await self._with_file(lambda: self._store.tries(self.name))
        self._is_failing = False

    async def _rest(self, until_ms: int) -> None:
        """Wait until something may be due, or somebody says so."""
        seconds = LOOK_S if not until_ms else min(max(0.0, (until_ms - self._now_ms()) / 1000), LOOK_S)
        is_gathering = 0 < until_ms - self._now_ms() <= GATHER_MS
        if not self._woken.is_set() and not is_gathering:
            self.idle.set()
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waking = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait([sleeping, waking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
            await asyncio.gather(sleeping, waking, return_exceptions=True)
        self._woken.clear()

    def _now_ms(self) -> int:
        return ms_of(self._clock.now())


def _trouble_of(error: CollectorError) -> str:
    """What is in the way and what to do, without the place, which is the target's own."""
    return f"{error.what}; {error.fix}" if isinstance(error, NeedsOperator) else error.what
