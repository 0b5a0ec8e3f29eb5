"""The ledger's promises once more, in dicts and sets: what the real one is compared with.

Nothing here knows of files, transactions or memory; a crash is what `settle` says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from m365watch.common.model import BlobKey, BlobRef, BlobState, Feed, Window
from m365watch.ledger.limits import HORIZON

HOUR = timedelta(hours=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
Body = tuple[int | None, ...]
"""A blob's records, each by its identity's number; None for a record without Id."""


@dataclass(slots=True)
class PlainBlob:
    """A blob that was listed."""

    key: BlobKey
    ref: BlobRef
    body: Body
    final: BlobState | None = None
    lacking: set[str] | None = None
    """The outputs that have not acknowledged its records; None until it was in a batch."""
    queued: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    attempts: int = 0
    next_try_at: datetime = LONG_AGO
    promised: set[str] = field(default_factory=set)
    """The outputs that are to have its records, whatever happens to it before."""

    def lacked_by(self, outputs: Collection[str]) -> set[str]:
        """The outputs of the run that it is to be fetched for."""
        lacking = set(outputs) if self.lacking is None else self.lacking & set(outputs)
        return lacking - self.queued

    @property
    def state(self) -> BlobState:
        """Its one state."""
        if self.final is not None:
            return self.final
        if self.lacking is None or not self.lacking <= self.queued | self.left_out:
            return BlobState.WAITING
        return BlobState.QUEUED if self.lacking <= self.queued else BlobState.LEFT_OUT


@dataclass(frozen=True, slots=True)
class PlainPart:
    """A blob in a batch: the outputs it is for, and the places of the records that go on."""

    blob: BlobKey
    outputs: frozenset[str]
    kept: tuple[int, ...]


@dataclass(slots=True)
class PlainBatch:
    """A batch that was opened."""

    parts: list[PlainPart]
    waiting: set[str]
    new: list[tuple[int, BlobKey, BlobKey | None]]
    """The identities that it brought, each with its blob, and with the one that had brought it before."""
    is_committed: bool = False
    """Whether an output or a queue has it."""


class PlainLedger:
    """What a ledger has to know, and nothing of how."""

    def __init__(self) -> None:
        """Knows nothing yet."""
        self.blobs: dict[BlobKey, PlainBlob] = {}
        self.forgotten: dict[BlobKey, PlainBlob] = {}
        self.batches: dict[int, PlainBatch] = {}
        self.owners: dict[int, BlobKey] = {}
        self.forgettable: set[int] = set()
        """Identities whose blob is so old that the ledger may have forgotten them, or not."""
        self.uncertain: set[int] = set()
        """Identities that no output has, all having been left out: known or not, it is the same."""
        self.positions: dict[str, tuple[int, str]] = {}
        self.hours: dict[Feed, set[datetime]] = {}
        self.gaps: dict[tuple[Feed, datetime], datetime] = {}
        self.pieces: set[tuple[BlobKey, str, bytes]] = set()
        self.relisted: dict[Feed, datetime] = {}
        self.memory: dict[str, str] = {}
        self.numbers_given = 0

    # Listing.

    def list_blobs(
        self,
        window: Window,
        refs: Iterable[tuple[BlobRef, Body]],
        key_of: Callable[[BlobRef], BlobKey],
        *,
        feed: Feed,
        complete: bool,
        at: datetime,
    ) -> int:
        """How many of `refs` are new; their keys are the ledger's own, and none comes twice."""
        new = 0
        known = {blob.ref for blob in self.blobs.values()}
        for ref, body in refs:
            if ref not in known:
                known.add(ref)
                new += 1
                key = key_of(ref)
                assert key not in self.blobs
                assert key not in self.forgotten
                self.blobs[key] = PlainBlob(key, ref, body)
        if complete:
            hours = self.hours.setdefault(feed, set())
            hours |= {window.start + n * HOUR for n in range((window.end - window.start) // HOUR)}
            self.hours[feed] = {hour for hour in hours if at - HORIZON <= hour < at}
        return new

    def take_back(self, feed: Feed, *, since: datetime, now: datetime) -> timedelta:
        """What lies ahead is not listed, and what can still be listed is not lost."""
        hours = self.hours.get(feed, set())
        if any(hour >= now for hour in hours):
            self.hours[feed] = {hour for hour in hours if hour < now}
            self.relisted.pop(feed, None)
        back = timedelta(0)
        for (of, start), end in list(self.gaps.items()):
            if of == feed and end > since:
                back += end - max(start, since)
                del self.gaps[of, start]
                if start < since:
                    self.gaps[of, start] = since
        return back

    def coverage(self, feed: Feed) -> list[Window]:
        """The listed hours in spans, oldest first."""
        spans: list[Window] = []
        for hour in sorted(self.hours.get(feed, ())):
            if spans and spans[-1].end == hour:
                spans[-1] = Window(spans[-1].start, hour + HOUR)
            else:
                spans.append(Window(hour, hour + HOUR))
        return spans

    def due(self, feed: Feed, *, now: datetime) -> list[PlainBlob]:
        """The blobs to be fetched, newest first."""
        found = [
            blob
            for blob in self.blobs.values()
            if blob.ref.feed == feed and blob.state is BlobState.WAITING and blob.next_try_at <= now
        ]
        return sorted(found, key=lambda blob: blob.ref.created_at, reverse=True)

    # Batches.

    def on_way(self, key: BlobKey) -> set[str]:
        """The outputs that a batch brings the blob to."""
        return {
            output
            for batch in self.batches.values()
            for part in batch.parts
            if part.blob == key
            for output in part.outputs & batch.waiting
        }

    def without(self, key: BlobKey, outputs: frozenset[str]) -> set[str]:
        """The outputs that neither have the blob's records nor are to get them by a batch."""
        blob = self.blobs.get(key)
        if blob is None or blob.final is BlobState.DELIVERED or (blob.final and blob.lacking is None):
            return set()
        lacking = set(outputs) if blob.lacking is None else blob.lacking & outputs
        return lacking - self.on_way(key)

    def duplicates(
        self, keys: Sequence[BlobKey], outputs: frozenset[str]
    ) -> tuple[dict[int, frozenset[int]], dict[int, frozenset[str]]]:
        """Per part that has any, the places of records that another blob brought, or this one before.

        And the outputs that a part goes to now, where those are not all that lack it: an output that is
        without the first copies gets them by this part, and others do not.
        """
        owners = dict(self.owners)
        found: dict[int, frozenset[int]] = {}
        now: dict[int, frozenset[str]] = {}
        here: dict[BlobKey, set[str]] = {}
        for number, key in enumerate(keys):
            places = set()
            seen: set[int] = set()
            for place, identity in enumerate(self.blobs[key].body):
                if identity is None:
                    continue
                if identity in seen or owners.setdefault(identity, key) != key:
                    places.add(place)
                seen.add(identity)
            body, missing = self.blobs[key].body, self.blobs[key].lacked_by(outputs)
            holes = {
                owner: hole
                for owner in {owners[identity] for identity in body if identity is not None} - {key}
                if (hole := here.get(owner, self.without(owner, outputs))) and hole <= missing
            }
            least = min(
                sorted(missing), key=lambda one: sum(one in hole for hole in holes.values()), default=""
            )
            filled = {owner for owner, hole in holes.items() if least in hole}
            goes_to = {one for one in missing if {owner for owner in holes if one in holes[owner]} == filled}
            if goes_to != missing:
                now[number] = frozenset(goes_to)
            for place, identity in enumerate(body):
                if identity is not None and owners[identity] in filled:
                    owners[identity] = key
                    places.discard(place)
            here[key] = missing - goes_to
            if places:
                found[number] = frozenset(places)
        return found, now

    def open_batch(
        self,
        number: int,
        keys: Sequence[BlobKey],
        duplicates: Mapping[int, frozenset[int]],
        *,
        outputs: frozenset[str],
        now: Mapping[int, frozenset[str]],
    ) -> PlainBatch:
        """Batch `number` of the blobs `keys` is on its way to `outputs`."""
        self.numbers_given = number
        batch = self.batches[number] = PlainBatch([], set(outputs), [])
        for part, key in enumerate(keys):
            blob = self.blobs[key]
            dropped = duplicates.get(part, frozenset())
            kept = tuple(place for place in range(len(blob.body)) if place not in dropped)
            for_outputs = now.get(part, frozenset(blob.lacked_by(outputs)))
            batch.parts.append(PlainPart(key, for_outputs, kept))
            if blob.lacking is None:
                blob.lacking = set(outputs)
                blob.promised = set(outputs)
            blob.left_out -= for_outputs
            for place in kept:
                identity = blob.body[place]
                if identity is not None and self.owners.get(identity) != key:
                    batch.new.append((identity, key, self.owners.get(identity)))
                    self.owners[identity] = key
                    self.uncertain.discard(identity)
        return batch

    def _blobs_for(self, number: int, output: str) -> list[PlainBlob]:
        """The unfinished blobs that batch `number` carries for `output`."""
        keys = [part.blob for part in self.batches[number].parts if output in part.outputs]
        return [self.blobs[key] for key in keys if key in self.blobs and self.blobs[key].final is None]

    def acknowledge(self, number: int, output: str, position: str | None) -> None:
        """`output` has the batch; a position of None says that nothing of it was for it."""
        if position is not None:
            self.positions[output] = (number, position)
        for blob in self._blobs_for(number, output):
            assert blob.lacking is not None
            for outputs in (blob.lacking, blob.queued, blob.left_out):
                outputs.discard(output)
            if not blob.lacking:
                blob.final = BlobState.DELIVERED
        batch = self.batches[number]
        batch.waiting.discard(output)
        batch.is_committed = True

    def queue(self, number: int, output: str) -> None:
        """The queue on disk of `output` has the batch."""
        for blob in self._blobs_for(number, output):
            blob.queued.add(output)
            blob.left_out.discard(output)
        self.batches[number].is_committed = True

    def leave_out(self, number: int, output: str) -> None:
        """`output` is owed what the batch carries for it."""
        for blob in self._blobs_for(number, output):
            blob.queued.discard(output)
            blob.left_out.add(output)
        self.batches[number].waiting.discard(output)

    def recall(self) -> bool:
        """What is owed is due again; whether any blob waited for that."""
        any_left = any(blob.state is BlobState.LEFT_OUT for blob in self.blobs.values())
        for blob in self.blobs.values():
            blob.left_out.clear()
        return any_left

    # Other ends, and waiting.

    def finish(self, key: BlobKey, state: BlobState) -> None:
        """The blob ends without being delivered: nobody is owed it."""
        blob = self.blobs[key]
        if blob.lacking is not None:
            blob.lacking -= self.on_way(key)
        blob.final = state
        blob.queued.clear()
        blob.left_out.clear()

    def settle(
        self, durable: Mapping[str, int], queued: Mapping[str, Collection[int]], outputs: frozenset[str]
    ) -> dict[str, list[int]]:
        """What is left of the last run after a crash; the batches that queues still have to deliver."""
        for number, batch in sorted(self.batches.items()):
            for output in sorted(batch.waiting):
                if self.positions.get(output, (0, ""))[0] < number <= durable.get(output, 0):
                    self.acknowledge(number, output, "")
        for blob in self.blobs.values():
            blob.queued.clear()
            blob.left_out.clear()
            blob.next_try_at = LONG_AGO
        kept: dict[str, list[int]] = {output: [] for output in queued}
        waited = {number for number, batch in self.batches.items() if batch.waiting}
        for number, batch in sorted(self.batches.items()):
            batch.waiting = {one for one in batch.waiting if number in queued.get(one, ())}
            for output in batch.waiting:
                kept[output].append(number)
                self.queue(number, output)
        for number, batch in sorted(self.batches.items(), reverse=True):
            if not batch.is_committed:
                self._undo(batch, was_waiting=number in waited)
        for blob in self.blobs.values():
            self._drop_debts(blob, outputs)
        return kept

    def _undo(self, batch: PlainBatch, *, was_waiting: bool) -> None:
        """Nobody has the batch: its records are new again, or the blob's that had brought them before."""
        for identity, key, before in batch.new:
            if self.owners.get(identity) == key and was_waiting:
                del self.owners[identity]
                if before is not None:
                    self.owners[identity] = before
            elif self.owners.get(identity) == key:
                self.uncertain.add(identity)
        batch.new.clear()

    def _drop_debts(self, blob: PlainBlob, outputs: frozenset[str]) -> None:
        """Outputs that the configuration no longer has are owed what their queues have, and no more."""
        if blob.final is not None or blob.lacking is None:
            return
        dropped = blob.lacking - outputs - blob.queued
        blob.lacking -= dropped
        blob.promised -= dropped
        if not blob.lacking:
            blob.final = BlobState.DELIVERED

    # Forgetting.

    def evict(self, now: datetime) -> None:
        """Forget finished blobs beyond the horizon, but for those of which something is in quarantine."""
        newest = max((blob.ref.created_at for blob in self.blobs.values()), default=LONG_AGO)
        before = min(now, newest + 24 * HOUR) - HORIZON
        old = {
            key for key, blob in self.blobs.items() if blob.ref.created_at < before and blob.final is not None
        }
        kept = {piece[0] for piece in self.pieces}
        for key in old - kept:
            self.forgotten[key] = self.blobs.pop(key)
        needed = min((key for key in self.blobs if key not in old), default=BlobKey(0))
        self.forgettable |= {identity for identity, key in self.owners.items() if key < needed}
