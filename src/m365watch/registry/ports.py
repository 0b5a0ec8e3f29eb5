"""What the collector asks of one tenant at Microsoft; the real answers come from `feed.api`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from m365watch.common.errors import CollectorError
from m365watch.common.model import (
    BatchPart,
    BlobKey,
    BlobRef,
    ContentType,
    Feed,
    KnownBlob,
    Receipt,
    TenantId,
    Window,
)
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.common.secret import Secret


@dataclass(frozen=True, slots=True)
class OutputPosition:
    """The last batch that an output acknowledged and the ledger committed."""

    last_batch: int = 0
    position: str = ""


@dataclass(frozen=True, slots=True)
class WaitingBlob:
    """A blob whose fetch failed and that waits for its next try."""

    feed: Feed
    content_id: str
    attempts: int
    next_try_at: datetime
    last_error: str


@dataclass(frozen=True, slots=True)
class OpenedBatch:
    """A batch whose composition is durable, and what dedup found in it."""

    number: int
    duplicates: Mapping[int, frozenset[int]]
    """Per part (its place in the batch), the places of the records that are known already."""
    held: Mapping[str, Mapping[int, frozenset[int]]] = field(default_factory=dict)
    """The same for records that are new here, and that an output was found to hold: by the output's name."""
    outputs: Mapping[int, frozenset[str]] = field(default_factory=dict)
    """The outputs that a part goes to now, where others lack it too: it is fetched again for those."""
    has_rests: bool = False
    """Whether blobs have grown since other outputs got them: they are due once more, for the rest."""


class Ledger(Protocol):
    """Synchronous, one caller at a time; every method is one transaction, and durable on return.

    Where syncs are shared (`ledger/thread.py`) it is durable when the call is answered; what a poll lists,
    with the next such call: a power cut takes away the last transactions and none from among them.

    Raises: LedgerUnavailable (disk full, locked): nothing happened, repeat the call.
    """

    identity_seed: int
    """The secret seed of `records.identity.IdentityMaker`."""

    # The four verbs that move progress.

    def commit_listing(
        self, feed: Feed, window: Window, blobs: Sequence[BlobRef], *, complete: bool, at: datetime
    ) -> int:
        """Know `blobs`; with `complete` (the last page), know `window` as listed. How many were new."""
        ...

    def commit_delivered(self, number: int, output: str, receipt: Receipt | None, *, at: datetime) -> None:
        """Batch `number` is durable at `output`; blobs that every output has become delivered.

        A receipt of None says that nothing of the batch was for `output`: its position stays.
        What the receipt names as refused is quarantined in the same transaction.
        """
        ...

    def quarantine(
        self,
        blob: BlobKey,
        body: bytes,
        reason: str,
        *,
        output: str = "",
        whole: bool = False,
        at: datetime,
    ) -> None:
        """Keep what cannot go on, by name and verbatim; the same body of one blob is kept once.

        With `whole`, `body` is all there is of the blob, whose final state is quarantined.
        """
        ...

    def commit_lost(self, blob: BlobKey, reason: str, *, at: datetime) -> None:
        """The service no longer serves the blob: its final state is lost, counted in plain sight."""
        ...

    def commit_gap(self, feed: Feed, span: Window, *, at: datetime) -> bool:
        """`span` was never listed and cannot be listed any more: counted in plain sight.

        Whether it was news.
        """
        ...

    def take_back(self, feed: Feed, *, since: datetime, now: datetime) -> timedelta:
        """Believe no coverage of the future, and count nothing as lost that can be listed, from `since` on.

        A clock that was ahead may have left both. The whole 7 days are then due to be listed again. How much
        no longer counts as lost.
        """
        ...

    # What goes before a delivery.

    def commit_queued(self, number: int, output: str) -> None:
        """Batch `number` is durable in the queue on disk of `output`, which delivers it from there.

        Nothing is delivered by that; but a crash does not undo it, and nothing is fetched again for it.
        """
        ...

    def leave_out(self, number: int, output: str) -> None:
        """`output` cannot take batch `number`, its queue is full: its blobs are owed to it until `recall`."""
        ...

    def recall(self) -> bool:
        """What outputs were left out of is due again; whether there is any."""
        ...

    def open_batch(self, parts: Sequence[BatchPart], outputs: frozenset[str]) -> OpenedBatch:
        """Number a batch, find its duplicates and make its composition durable."""
        ...

    def postpone(self, blob: BlobKey, *, attempts: int, next_try_at: datetime, error: str) -> None:
        """The blob waits; it stays known and in nobody's way."""
        ...

    # What is asked.

    def settle_outputs(
        self, durable: Mapping[str, int], *, queued: Mapping[str, Collection[int]], at: datetime
    ) -> dict[str, list[int]]:
        """At start: what outputs hold beyond the last commit counts; what nobody holds is undone.

        `durable` is each output's last durable batch, `queued` the batches in its queue on disk; the
        answer, those of them that it has still to deliver, in order. What else a queue has is of no use.
        """
        ...

    def output_position(self, output: str) -> OutputPosition:
        """The last receipt of `output`."""
        ...

    def newest_batch(self) -> int:
        """The highest number that `open_batch` has ever given; 0 before the first."""
        ...

    def coverage(self, feed: Feed) -> list[Window]:
        """The listed spans of contentCreated, disjoint, oldest first; they may exceed 24 h."""
        ...

    def relisted_at(self, feed: Feed) -> datetime | None:
        """When the whole 7 days were last listed in full; None if never."""
        ...

    def commit_relisting(self, feed: Feed, *, at: datetime) -> None:
        """The whole 7 days have been listed again."""
        ...

    def due_blobs(
        self, feed: Feed, *, now: datetime, count_max: int, besides: frozenset[BlobKey]
    ) -> list[KnownBlob]:
        """Known blobs whose time has come, newest first, without those in `besides`."""
        ...

    def waiting_blobs(self) -> list[WaitingBlob]:
        """The blobs that wait after at least one failed round of tries."""
        ...

    def note_error(self, feed: Feed, error: CollectorError | None, *, at: datetime) -> None:
        """Keep the feed's last error for `status`; None says that it has passed."""
        ...

    def note_output_error(self, output: str, error: CollectorError | None, *, at: datetime) -> None:
        """Keep the output's last error for `status`; None says that it has passed."""
        ...

    def feed_progress(self) -> list[FeedProgress]:
        """Every feed's figures, as committed."""
        ...

    def output_progress(self) -> list[OutputProgress]:
        """The outputs that have an error, or lack blobs which were fetched."""
        ...

    def remember(self, name: str, body: str) -> None:
        """Keep what a part of the collector has learned, as JSON, in place of what `name` had before."""
        ...

    def remembered(self, name: str) -> str | None:
        """What `remember` was last given for `name`; None if nothing was."""
        ...

    def merge_identities(self) -> bool:
        """Do a bounded piece of upkeep on the store of identities; whether there is more to do."""
        ...

    def evict(self, *, now: datetime) -> bool:
        """Forget, in one bounded step, what cannot come again; whether more remains."""
        ...

    def close(self) -> None:
        """Release the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Microsoft is to send the notifications of one subscription, and until when."""

    address: str
    auth_id: Secret
    """What it shows with each of them."""
    expires_at: datetime


class Api(Protocol):
    """The Management Activity API of one tenant.

    Every call may raise `RetryLater` (Throttled, Unavailable, BadAnswer, TokenRefused),
    `NeedsOperator` (CredentialsRefused, AccessRefused); what else it may raise is said there.
    """

    tenant_id: TenantId

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        """The content types whose subscription is enabled now."""
        ...

    async def start_subscription(self, content_type: ContentType) -> None:
        """Enable the subscription; one that is enabled already (AF20024) is success."""
        ...

    def list_content(self, content_type: ContentType, window: Window) -> AsyncIterator[list[BlobRef]]:
        """The blobs whose contentCreated lies in `window`, page by page, until the last page.

        Raises: NotSubscribed; WindowRefused (the window, or a page token that expired);
        ListingUnreadable, after the last page, where some of it could not be understood.
        """
        ...

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        """The body of `blob`, decompressed, not yet parsed; it may be cut short.

        Raises: ContentLost (expired, unknown, invalid or empty content); NotSubscribed; BadAnswer
        also where the body is a web page, larger than the bound, or an error object.
        """
        ...


@dataclass(frozen=True, slots=True)
class FeedSource:
    """How a feed is reached, and from when on its content counts."""

    api: Api
    start_at: datetime | None
