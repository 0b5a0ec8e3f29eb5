"""What every poll of a feed has in common: again and again, with pauses as what went wrong asks for."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import (
    CollectorError,
    LedgerUnavailable,
    LedgerUnusable,
    ListingUnreadable,
    NeedsOperator,
    RetryLater,
    Throttled,
    Unreachable,
)
from m365watch.common.model import Feed, KnownBlob
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.registry.ports import Ledger
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.pull_cycles import PullCycles


class Source(Protocol):
    """Makes blobs known to the ledger until there are no more."""

    async def run(self, *, stop: asyncio.Event) -> None:
        """Return once every blob of the source is known; each is fetched meanwhile.

        Raises: CollectorError: the run cannot go on.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceMeans:
    """What a source works with."""

    ledger: Ledger
    calls: LedgerCalls
    wake: Callable[[Feed], None]
    """To be called once the ledger knows new blobs of a feed."""
    wait_idle: Callable[[], Awaitable[None]]
    """Returns once everything known is delivered, queued or put off."""
    wait_fetched: Callable[[], Awaitable[None]]
    """Returns once everything known is fetched or put off; deliveries may still be under way."""


@dataclass(frozen=True, slots=True)
class OtherSources:
    """What a run collects from in place of Microsoft's listings."""

    start: Callable[[SourceMeans], Sequence[Source]]
    concerns: Callable[[KnownBlob], bool]
    """Which due blobs belong to the run; the others are left to `m365watch run`."""


TRIES_ONCE = 6
"""Failed tries in a row after which `--once` gives a feed up."""
THROTTLED_ONCE = 60
"""The same for tries that were throttled."""
REACH_ONCE_S = 60.0
"""How long `--once` tries to reach a host at all, which may take half a minute a try."""
REACH_TRIES_MIN = 3
"""Fewer tries than these say nothing of whether there is a way to the host."""
_BACKOFF_FIRST_S = 0.5
BACKOFF_S_MAX = 60.0
OPERATOR_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How a feed is polled."""

    start_at: datetime | None
    lookback: timedelta
    period_s: float


@dataclass(frozen=True, slots=True)
class PollMeans:
    """What every feed's polls work with."""

    ledger: Ledger
    calls: LedgerCalls
    troubles: Troubles
    cycles: PullCycles
    clock: Clock
    random: Random
    on_listed: Callable[[Feed], None]
    """Hears whenever the ledger may know new blobs of the feed."""


class Poller(ABC):
    """Polls one feed for ever, or once; what a poll is, its kinds say."""

    def __init__(self, feed: Feed, settings: PollSettings, means: PollMeans) -> None:
        """Nothing is asked before `run`."""
        self.feed = feed
        self.windows_planned = 0
        self.caught_up = False
        self.on_polled: Callable[[Feed, CollectorError | None], None] = _hear_nothing
        """Hears how each poll ended: with what it failed, or None."""
        self._settings = settings
        self._ledger = means.ledger
        self._calls = means.calls
        self._troubles = means.troubles
        self._cycles = means.cycles
        self._clock = means.clock
        self._random = means.random
        self._on_listed = means.on_listed
        self._failures = 0
        """Polls in a row that failed."""
        self._failing_since_s = 0.0

    @abstractmethod
    async def _poll(self) -> None:
        """One poll.

        Raises: CollectorError: what is in its way; whatever else could be done has been.
        """

    async def run(self, *, once: bool, stop: asyncio.Event) -> None:
        """Poll until `stop`; with `once`, until a poll succeeded or has to be given up.

        Whether it caught up stands in `caught_up`; what is in its way, in the troubles.

        Raises: LedgerUnusable, LedgerUnavailable: no feed can go on.
        """
        while not stop.is_set():
            self._cycles.begin(self.feed, period_s=self._settings.period_s)
            error = await self._failure_of_poll()
            self.on_polled(self.feed, error)
            if error is not None:
                if not self._failures:
                    self._failing_since_s = self._clock.monotonic_s()
                self._failures += 1
                self._cycles.fall_behind(self.feed)
                await self._troubles.note(self.feed, error)
                if once and self._is_hopeless(error):
                    return
                await wait_at_most(stop, self._pause_s(error))
                continue
            self._failures = 0
            await self._note_warning()
            self._cycles.complete(self.feed)
            self.caught_up = True
            if once:
                return
            await wait_at_most(stop, self._settings.period_s)

    async def _failure_of_poll(self) -> CollectorError | None:
        """What went wrong with one poll; None if nothing did."""
        try:
            await self._poll()
        except (LedgerUnavailable, LedgerUnusable):
            raise  # Not the feed's failure: nothing of it could even be noted.
        except CollectorError as error:
            # Without the frames that have it among their failures; only a search for garbage would free them.
            return error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - a defect that one feed brings to light stops no other.
            return defect_of(error, where=str(self.feed))
        return None

    async def _note_warning(self) -> None:
        """The feed is collected; note what is wrong all the same, or that nothing is."""
        if (warning := self._warning()) is None:
            await self._troubles.passed(self.feed)
        else:
            await self._troubles.note(self.feed, warning)

    def _warning(self) -> CollectorError | None:
        """What a person should see to although the feed is collected."""
        return None

    def _is_hopeless(self, error: CollectorError) -> bool:
        """Whether `--once` stops trying: being throttled is no failure of its own, only slow."""
        if isinstance(error, NeedsOperator) and not isinstance(error, ListingUnreadable):
            return True
        if isinstance(error, Unreachable) and self._failures >= REACH_TRIES_MIN:
            failing_s = self._clock.monotonic_s() - self._failing_since_s
            return self._failures >= TRIES_ONCE or failing_s >= REACH_ONCE_S
        return self._failures >= (THROTTLED_ONCE if isinstance(error, Throttled) else TRIES_ONCE)

    def _pause_s(self, error: CollectorError) -> float:
        longest_s = BACKOFF_S_MAX
        if isinstance(error, ListingUnreadable):
            longest_s = self._settings.period_s  # All the rest was listed: it may become an ordinary poll.
        elif isinstance(error, NeedsOperator):
            return OPERATOR_WAIT_S
        asked = error.after_s if isinstance(error, RetryLater) else None
        backoff_s = min(longest_s, _BACKOFF_FIRST_S * 2.0 ** min(self._failures - 1, 12))
        return max(asked or 0.0, backoff_s * (0.5 + self._random.random()))


def _hear_nothing(_feed: Feed, _error: CollectorError | None) -> None:
    """Nobody wants to know."""


async def wait_at_most(stop: asyncio.Event, seconds: float) -> None:
    """Return after `seconds`, or as soon as `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
