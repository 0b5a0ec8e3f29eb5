"""One round of tries of one blob: handed on, lost, or left waiting in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from m365watch.common.clock import Clock, Random
from m365watch.common.error_boundary import defect_of
from m365watch.common.errors import (
    AccessRefused,
    AnswerTooLarge,
    BadAnswer,
    CollectorError,
    ContentLost,
    CredentialsRefused,
    Defect,
    NeedsOperator,
    NotSubscribed,
    RetryLater,
    Throttled,
    Unreachable,
)
from m365watch.common.model import Feed, KnownBlob
from m365watch.ledger.writer_thread import LedgerCalls
from m365watch.records.split import Fragment, SplitBlob, split_blob
from m365watch.registry.ports import Api, Ledger
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.management_api.in_flight_limit import BytesInFlight, SizeGuess
from m365watch.sources.management_api.responses import EXPIRED, loss_reason
from m365watch.sources.management_api.service_clock import ServiceClock
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper

_log = structlog.get_logger(__name__)

FETCHES_MAX = 24
"""Fetches of one tenant under way at once."""
QUICK_TRIES = 5
"""Tries of a blob's first round, before it has to wait."""
THROTTLED_TRIES = 20
"""Throttled tries of a round; being throttled says nothing about the blob."""
QUARANTINE_TRIES = 12
"""Tries after which a body that is still cut short, no array or an empty one is taken as it is."""
DOUBTED_MIN = 2
"""Bodies of one round that were doubted before one is taken as it is, however many tries went before:
after hours without any answer, a passing fault of the first one is still a passing fault."""
RETRY_WAITS_S = (60.0, 300.0, 900.0, 3600.0, 10_800.0)
"""How long a blob waits after its first round, its next try, and so on; the last for ever."""
REFUSED = (CredentialsRefused, AccessRefused)
"""What a tenant refuses a whole feed for: every other blob of it would only be refused as well."""
_OPERATOR_WAIT_S = 60.0
_QUICK_FIRST_S = 0.25


@dataclass(slots=True)
class FetchedBlob:
    """A blob that was fetched and split; holds `held_bytes` in flight until it is final."""

    known: KnownBlob
    split: SplitBlob
    received_at: datetime
    held_bytes: int


@dataclass(frozen=True, slots=True)
class TenantAccess:
    """How one tenant is reached."""

    api: Api
    keeper: SubscriptionKeeper
    clock: ServiceClock
    """The time as the tenant's service tells it."""
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES_MAX))
    """Its fetches under way at once; of its own, so that a tenant that hangs keeps nobody waiting."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every round of tries works with."""

    ledger: Ledger
    calls: LedgerCalls
    troubles: Troubles
    clock: Clock
    random: Random
    flight: BytesInFlight
    wide_headers: bool
    views: bool
    """Whether records may stay views into their blob."""
    on_fetched: Callable[[FetchedBlob], None]
    wake: asyncio.Event
    """Set whenever another fetch may begin."""
    on_refused: Callable[[Feed], None] = lambda _: None
    """Credentials or permissions do not do for the feed: nothing more of it is to be fetched just now."""
    on_unreached: Callable[[Feed], None] = lambda _: None
    """There is no way to the feed's host: none of its blobs is to be begun just now."""
    on_reached: Callable[[Feed], None] = lambda _: None
    """There is one again."""
    details: structlog.typing.FilteringBoundLogger = field(default_factory=_log.bind)
    """What every fetch tells; bound once, for to find out that nobody wants to know took 6 microseconds."""

    async def enter(self, access: TenantAccess, size_bytes: int) -> None:
        """Hold `size_bytes` in flight, and one of the tenant's places."""
        await self.flight.acquire(size_bytes)
        try:
            await access.places.acquire()
        except asyncio.CancelledError:
            self.flight.release(size_bytes)
            raise


class Round:
    """One round of tries of one blob."""

    def __init__(self, means: Means, known: KnownBlob, *, access: TenantAccess, guess: SizeGuess) -> None:
        """Begins with a place of its tenant's `access` and the guessed bytes in flight."""
        self._means = means
        # Its own: the feed may get another one meanwhile.
        self._access = access
        self._guess = guess
        self._known = known
        self._attempts = known.attempts
        self._throttled = 0
        self._unreached = 0
        self._doubted = 0
        self._has_place = True
        self.held_bytes = guess.size_bytes
        """What it holds in flight now."""

    async def run(self) -> bool:
        """Whether the blob was handed on; otherwise its lot stands in the ledger.

        Raises: LedgerUnusable, LedgerUnavailable: no blob can go on.
        """
        try:
            return await self._run()
        except CollectorError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect that one blob brings to light stops no other.
            await self._set_aside(defect_of(error, where=str(self._known.ref.feed)))
            return False

    async def _run(self) -> bool:
        while True:
            try:
                fetched = await self._try()
            except ContentLost as error:
                if await self._is_lost(error):
                    return False
                failure: CollectorError = error.with_traceback(None)
            except (RetryLater, NeedsOperator) as error:
                # Its traceback holds the frames it came through, the refused body in one of them and the
                # error itself in this one: only the collector of garbage would let go of them.
                failure = error.with_traceback(None)
            else:
                if self._unreached:
                    self._means.on_reached(self._known.ref.feed)
                self._means.on_fetched(fetched)
                return True
            if not await self._may_retry(failure):
                return False

    async def _try(self) -> FetchedBlob:
        means, ref = self._means, self._known.ref
        body = await self._access.api.fetch_blob(ref)
        received_at = self._access.clock.now()
        self.leave_place()
        self._hold(len(body))
        means.details.debug("%s: fetched blob %s: %d bytes", ref.feed, ref.content_id, len(body))
        split = split_blob(body, wide=means.wide_headers, views=means.views)
        if doubt := _doubt(split):
            self._doubted += 1
            is_whole = split.complete and bool(split.records or split.fragments)
            tries_min = QUICK_TRIES if is_whole else QUARANTINE_TRIES
            if self._attempts + 1 < tries_min or self._doubted < DOUBTED_MIN:
                raise _Doubted(doubt, where=str(ref.feed), is_last=self._attempts + 1 >= tries_min)
            if not split.records and not split.fragments:
                # Set aside by name, so that it is counted, and can be put back (`quarantine retry`).
                split.fragments.append(Fragment(body, doubt))
        return FetchedBlob(self._known, split, received_at, self.held_bytes)

    def _hold(self, size_bytes: int) -> None:
        self._means.flight.correct(guessed=self.held_bytes, actual=size_bytes)
        self.held_bytes = size_bytes
        self._guess.learn(size_bytes)

    async def _is_lost(self, error: ContentLost) -> bool:
        """Whether the content is gone for good: expired, or unknown and past its expiry.

        The service has been seen to deny content for a while and to serve it later.
        """
        if loss_reason(error) != EXPIRED and self._known.ref.expires_at > self._access.clock.now():
            return False
        means, ref = self._means, self._known.ref
        _log.error(f"{ref.feed}: blob {ref.content_id} is lost: {error.what}", code=error.code)
        await means.calls(means.ledger.commit_lost, self._known.key, error.what, at=means.clock.now())
        return True

    async def _may_retry(self, error: CollectorError) -> bool:
        """Pause before the next try of this round; False once the blob has been put off."""
        means, feed = self._means, self._known.ref.feed
        if isinstance(error, Unreachable):
            # No fault of the blob's: it does not wait longer for it. Whoever is under way finds out when
            # there is a way again; of those that wait, no one else has to.
            self._unreached += 1
            means.on_unreached(feed)
        if isinstance(error, NeedsOperator) or self._unreached >= QUICK_TRIES:
            if isinstance(error, REFUSED):
                means.on_refused(feed)
            await means.troubles.note(feed, error)
            await self._postpone(error, _OPERATOR_WAIT_S)
            return False
        if isinstance(error, Throttled) and self._throttled < THROTTLED_TRIES:
            self._throttled += 1
        elif not isinstance(error, Unreachable):
            self._attempts += 1
        if isinstance(error, NotSubscribed):
            await self._subscribe_again()
        if isinstance(error, AnswerTooLarge):
            self._attempts = max(self._attempts, QUICK_TRIES)  # it will not be smaller a second later
        goes_on = isinstance(error, Unreachable) or (isinstance(error, _Doubted) and error.is_last)
        if self._attempts >= QUICK_TRIES and not goes_on:
            await self._postpone(error, self._wait_s())
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
        guessed = self._guess.size_bytes
        await means.enter(self._access, guessed)
        self.held_bytes = guessed
        self._has_place = True

    async def _subscribe_again(self) -> None:
        feed = self._known.ref.feed
        try:
            await self._access.keeper.revive(feed.audit_type)
        except CollectorError as error:
            await self._means.troubles.note(feed, error)

    async def _set_aside(self, defect: Defect) -> None:
        self._attempts += 1
        await self._means.troubles.note(self._known.ref.feed, defect)
        await self._postpone(defect, self._wait_s())

    def _wait_s(self) -> float:
        """How long the blob waits for its next round."""
        place = max(0, self._attempts - QUICK_TRIES)
        return RETRY_WAITS_S[min(place, len(RETRY_WAITS_S) - 1)]

    async def _postpone(self, error: CollectorError, wait_s: float) -> None:
        means, ref = self._means, self._known.ref
        tries = "1 try" if self._attempts == 1 else f"{self._attempts} tries"
        # What needs a person or meets no host is the feed's trouble, told once, and not each of its blobs'.
        (_log.debug if isinstance(error, NeedsOperator | Unreachable) else _log.warning)(
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
        backoff_s = _QUICK_FIRST_S * 2.0 ** min(self._attempts + self._throttled + self._unreached, 6)
        return max(asked_s or 0.0, backoff_s * (0.5 + self._means.random.random()))

    def leave_place(self) -> None:
        """Let another fetch begin; twice does no harm."""
        if self._has_place:
            self._access.places.release()
            self._means.wake.set()
            self._has_place = False


class _Doubted(BadAnswer):
    """A body that should be fetched once more before it is believed."""

    def __init__(self, what: str, *, where: str, is_last: bool) -> None:
        super().__init__(what, where=where)
        self.is_last = is_last
        """Whether the next one is taken as it is; it is asked for in this round."""


def _doubt(split: SplitBlob) -> str | None:
    """Why the body should be fetched once more before it is believed; None if there is no reason.

    A blob is documented to hold one or more records, so an empty array is doubted as well.
    """
    if split.fragments:
        return split.fragments[0].reason
    if not split.complete:
        return "no array around its records"
    return None if split.records else "no record in it"
