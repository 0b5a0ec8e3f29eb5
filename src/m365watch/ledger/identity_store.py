"""The store of identities: exact, on disk, bounded in memory.

New identities are kept twice: packed in the row of their batch (durable with it, a fifth of
a microsecond each) and in memory (`ledger/recent.py`). Where `merge_count` of them are there,
those of the oldest batches that every output has, or keeps in its queue on disk, are merged, sorted,
into the table's pages (`ledger/stored.py`): in such numbers many of them meet on one page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from math import ceil
from typing import cast

from m365watch.common.model import BatchPart, BlobKey, TenantId
from m365watch.ledger.bloom_filter import FilterSizes, FrontFilter
from m365watch.ledger.identity_pages import OWNER_BYTES, RecentIdentities, StoredIdentities
from m365watch.ledger.limits import IN_EARNEST, LedgerBounds
from m365watch.ledger.schema import IS_OPEN
from m365watch.records.identity import IDENTITY_BYTES
from m365watch.storage.database import Database


@dataclass(frozen=True, slots=True)
class Weighed:
    """What becomes of a part with duplicates of records that some output lacks."""

    outputs: frozenset[str]
    """Those that the part goes to now; what others lack of it is fetched again for them."""
    moved: dict[int, bytes]
    """The places of duplicates that are none for these outputs, with their identities."""


def weigh(
    part: BatchPart,
    duplicates: dict[int, BlobKey],
    lacking: dict[BlobKey, frozenset[str]],
) -> Weighed:
    """Decide on `part`, whose `duplicates` are places and the blobs that brought those records first.

    `lacking` are the outputs that such a blob is neither at nor on its way to. A part goes only to outputs
    that lack the same of them, to those that lack least first: so each record has one owner.
    """
    # A record whose first copy is missing where this part is not to go cannot be owned by it.
    relied = {one for one in duplicates.values() if lacking.get(one, frozenset()) <= part.missing_outputs}
    by_output = {
        output: {one for one in relied if output in lacking.get(one, ())} for output in part.missing_outputs
    }
    if not any(by_output.values()):
        return Weighed(part.missing_outputs, {})
    least = by_output[min(by_output, key=lambda output: (len(by_output[output]), output))]
    moved: dict[bytes, int] = {}
    for place in sorted(duplicates):
        identity = part.identities[place]
        if identity is not None and duplicates[place] in least:
            moved.setdefault(identity, place)
    now = frozenset(output for output, lacked in by_output.items() if lacked == least)
    return Weighed(now, {place: identity for identity, place in moved.items()})


class MovedIdentities:
    """Which blob owns a record in place of the one that brought it first; in the ledger's transactions."""

    def __init__(self, connection: Database) -> None:
        """None before `load`."""
        self._connection = connection
        self._owners: dict[bytes, BlobKey] = {}

    def load(self) -> None:
        """Read them, at the ledger's opening, after batches that nobody has were undone."""
        self._owners = dict(self._connection.execute("SELECT key, blob FROM moved ORDER BY batch"))

    def amend(self, owners: dict[bytes, BlobKey]) -> None:
        """Name the present owners in place of the first ones."""
        if self._owners:
            owners.update((one, self._owners[one]) for one in owners.keys() & self._owners.keys())

    def write(self, batch: int, parts: Sequence[BatchPart], moved: dict[int, list[bytes]]) -> None:
        """Make durable what `batch` has brought; the caller commits."""
        self._connection.executemany(
            "INSERT INTO moved VALUES (?, ?, ?)",
            [(one, batch, parts[number].blob) for number, some in moved.items() for one in some],
        )

    def remember(self, parts: Sequence[BatchPart], moved: dict[int, list[bytes]]) -> None:
        """The transaction with `write` is durable."""
        for number, some in moved.items():
            self._owners.update(dict.fromkeys(some, parts[number].blob))

    def evict(self, before: BlobKey) -> None:
        """Forget those of blobs older than `before`; the caller commits."""
        old = [one for one, blob in self._owners.items() if blob < before]
        for one in old:
            del self._owners[one]
        self._connection.executemany("DELETE FROM moved WHERE key = ?", [(one,) for one in old])


class Routes:
    """The outputs of each tenant."""

    def __init__(self, outputs: frozenset[str]) -> None:
        """All of `outputs` for every tenant."""
        self._all = outputs
        self._of: dict[TenantId, frozenset[str]] = {}

    def exclude(self, excluded: Mapping[TenantId, frozenset[str]]) -> None:
        """Bring the records of these tenants to all outputs but these from now on, those of others to all."""
        self._of = {tenant_id: self._all - some for tenant_id, some in excluded.items()}

    def of(self, tenant_id: TenantId) -> frozenset[str]:
        """The outputs that the tenant's records go to."""
        return self._of.get(tenant_id, self._all)


_UNMERGED = f"""
SELECT number, parts, length(identities) / {IDENTITY_BYTES}, rtrim(waiting_for) = queued
FROM batch ORDER BY number
"""  # noqa: S608 - our own number


@dataclass(slots=True)
class StoreFigures:
    """What a store has done since it was opened."""

    asked: int = 0
    """Identities that were asked for while the table had some."""
    looked_up: int = 0
    """Those that were looked up in the table: all, or where a filter answers those it did not spare."""
    found: int = 0
    """Those that the table had."""
    spared: int = 0
    """Those that a filter knew to be new."""
    false_hits: int = 0
    """Those that a filter did not spare, and that the table did not have."""
    merges: int = 0
    """Merges that came to their end."""
    forgotten: int = 0
    """Identities that were dropped from the table."""


@dataclass(slots=True)
class Findings:
    """What dedup found in the parts of a batch."""

    new: list[Sequence[bytes]] = field(default_factory=list)
    """Per part, the identities that were not known."""
    duplicates: dict[int, frozenset[int]] = field(default_factory=dict)
    """Per part that has any, the places of the records that are known already."""
    moved: dict[int, list[bytes]] = field(default_factory=dict)
    """Per part that has any, the known identities that it brings to outputs which lack their first copy."""
    outputs: dict[int, frozenset[str]] = field(default_factory=dict)
    """The outputs that a part goes to now, where those are not all that lack it."""
    grown: list[int] = field(default_factory=list)
    """The parts with records that their blob did not have when other outputs got it."""

    def receivers(self, number: int, part: BatchPart) -> frozenset[str]:
        """The outputs that part `number` goes to."""
        return self.outputs.get(number, part.missing_outputs)


Lacking = Callable[[Collection[BlobKey]], dict[BlobKey, frozenset[str]]]
"""Of some blobs, those that some outputs are without, with these outputs."""


class IdentityStore:
    """Which records are known, and the blob that brought each."""

    def __init__(
        self,
        connection: Database,
        sizes: FilterSizes | None = None,
        bounds: LedgerBounds = IN_EARNEST,
    ) -> None:
        """Works on the ledger's connection, inside its transactions; has no filter without `sizes`."""
        self._connection = connection
        self._bounds = bounds
        self._table = StoredIdentities(connection, page_count=bounds.page_count)
        buffer_size = sizes.buffer_size if sizes else None
        self._merge_count = max(buffer_size, bounds.merge_count_min) if buffer_size else bounds.merge_count
        # Whoever says how many are to be in memory gets as many.
        again = 1.0 if buffer_size else bounds.merge_again_share
        self._merge_count_again = ceil(self._merge_count * again)
        self._filter = FrontFilter(self._table, size=sizes.size, bounds=bounds) if sizes else None
        self.figures = StoreFigures()
        self._recent = RecentIdentities()
        self.moved = MovedIdentities(connection)
        self._merging: list[bytes] = []
        self._merging_batches: list[tuple[int]] = []
        self._merged = 0
        self._pause_calls = 0
        self._gone_before = BlobKey(0)
        """The table has nothing of blobs before this one."""
        self._round_from: BlobKey | None = None
        """What `_gone_before` is once the present round through the table is at its end; None between two."""

    def find(
        self, parts: Sequence[BatchPart], lacking: Lacking, *, routes: Routes, outputs: frozenset[str]
    ) -> Findings:
        """Tell new records from known ones; changes nothing.

        A record is a duplicate if another blob brought it, or the same blob before in the
        same part. A blob that is fetched again after a crash is not its own duplicate. Where an output
        is without the first copy, by `lacking`, a part may bring it there (`ledger/moved.py`).

        A blob of which some of the `outputs` that its tenant has, by `routes`, have records already may have
        grown: what is new in it would have an owner that those seem to have. It is left out like a duplicate,
        and the part named in `grown`.
        """
        served: list[Sequence[bytes]] = [_without_none(part.identities) for part in parts]
        distinct = set(chain.from_iterable(served))
        owners = self._recent.owners_among(distinct)
        stored = self._stored(distinct)
        wanted = [routes.of(part.feed.tenant_id) & outputs for part in parts]
        again = [not part.missing_outputs >= some for part, some in zip(parts, wanted, strict=True)]
        if not (owners or stored or any(again)) and len(distinct) == sum(map(len, served)):
            return Findings(served)
        known = {**stored, **{one: owners[one] for one in distinct & owners.keys()}}
        self.moved.amend(known)
        lacked = lacking(set(known.values()))
        return self._find_one_by_one(parts, known, lacked, again)

    def _find_one_by_one(
        self,
        parts: Sequence[BatchPart],
        known: dict[bytes, BlobKey],
        lacking: dict[BlobKey, frozenset[str]],
        again: Sequence[bool],
    ) -> Findings:
        """With the owner of each identity that is `known`, to which the new ones are added.

        `again` says of each part whether other outputs have its blob already, or what it was then.
        """
        findings = Findings()
        for number, (part, is_again) in enumerate(zip(parts, again, strict=True)):
            new: list[bytes] = []
            duplicates: set[int] = set()
            grown: set[int] = set()
            seen: set[bytes] = set()
            for place, identity in enumerate(part.identities):
                if identity is None:
                    continue
                owner = known.get(identity)
                if identity in seen or (owner is not None and owner != part.blob):
                    duplicates.add(place)
                    continue
                if owner is None and is_again:
                    grown.add(place)
                    continue
                seen.add(identity)
                if owner is None:
                    known[identity] = part.blob
                    new.append(identity)
            if lacking:
                duplicates -= _weighed(findings, number, part, duplicates, known=known, lacking=lacking)
            if grown:
                findings.grown.append(number)
                duplicates |= grown
            findings.new.append(new)
            if duplicates:
                findings.duplicates[number] = frozenset(duplicates)
        return findings

    def _stored(self, some: set[bytes]) -> dict[bytes, BlobKey]:
        """Those of `some` that are in the table; a first backfill need not ask an empty one."""
        if self._table.is_empty:
            return {}
        keys = sorted(some if self._filter is None else self._filter.may_be_known(some))
        owners = self._table.owners(keys)
        self._note(asked=len(some), looked_up=len(keys), found=len(owners))
        return {identity: BlobKey(int.from_bytes(owner, "big")) for identity, owner in owners.items()}

    def _note(self, *, asked: int, looked_up: int, found: int) -> None:
        figures = self.figures
        figures.asked += asked
        figures.looked_up += looked_up
        figures.found += found
        if self._filter is not None and self._filter.answers:
            figures.spared += asked - looked_up
            figures.false_hits += looked_up - found

    @property
    def filters_made(self) -> int:
        """How many filters were made since the opening."""
        return self._filter.made if self._filter is not None else 0

    @property
    def is_merging(self) -> bool:
        """Whether a merge has begun, and some of it is in the table."""
        return bool(self._merging) and self._merged > 0

    def remember(self, blob: BlobKey, identities: Sequence[bytes]) -> None:
        """Keep `identities` in memory; their durable copy is the row of their batch."""
        self._recent.add(blob, identities)

    def load(self) -> None:
        """Read into memory what is not merged yet, at the ledger's opening."""
        for parts, packed in self._connection.execute("SELECT parts, identities FROM batch ORDER BY number"):
            for blob, identities in unpack(parts, packed):
                self._recent.add(blob, identities)
        self.moved.load()

    def merge_step(self) -> bool:
        """Move some identities of batches that nothing undoes into the table; whether any is left.

        A merge goes in sorted slices over many calls, so that no other verb waits long for it.
        The batches' copies go with the last slice, so a merge that was cut short loses nothing.
        The caller commits, and then calls `merge_step_committed`.
        """
        if not self._merging:
            self._begin_merge_if_due()
            if not self._merging:
                return self._filter is not None and self._filter.fill_step()
        count = self._bounds.step_count
        some = self._merging[self._merged : self._merged + count]
        if self._filter is not None:
            self._filter.add([row[:IDENTITY_BYTES] for row in some])
        self._table.add(some)
        if self._merged + count >= len(self._merging):
            self._connection.executemany(
                "UPDATE batch SET identities = x'' WHERE number = ?", self._merging_batches
            )
            settled = f"DELETE FROM batch WHERE identities = x'' AND NOT {IS_OPEN}"  # noqa: S608 - our own words
            self._connection.execute(settled)
        return True

    def merge_step_committed(self) -> None:
        """Go on behind the slice that is durable now; after the last, drop all of them from memory."""
        self._merged += self._bounds.step_count
        if self._merging and self._merged >= len(self._merging):
            self.figures.merges += 1
            self._recent.end_merge()
            self._merging = []

    def _begin_merge_if_due(self) -> None:
        """Begin a merge if enough is in memory; seldom while most of it waits for an output that is late.

        Finding what can be merged reads the rows of all batches that are not merged.
        """
        limit = self._merge_count if self._table.is_empty else self._merge_count_again
        if len(self._recent) < limit:
            return
        if self._pause_calls:
            self._pause_calls -= 1
            return
        share = self._bounds.merge_share
        too_many = len(self._recent) - limit + ceil(limit * share)
        count_min = min(too_many, ceil(self._merge_count * share))
        self._begin_merge(count_min)
        if len(self._merging) < count_min / 2:
            self._pause_calls = self._bounds.merge_pause_calls

    def _begin_merge(self, count_min: int) -> None:
        """Choose what to merge: some `count_min` identities of the oldest batches that may be merged."""
        batches = [
            _Unmerged(number, {blob for blob, *_ in json.loads(parts)}, count, bool(is_held))
            for number, parts, count, is_held in self._connection.execute(_UNMERGED)
        ]
        held = [one for one in batches if one.is_held]
        self._merging_batches, waiting = _choose(_oldest(held, count_min), batches)
        if not self._merging_batches:
            self._merging_batches, waiting = _choose(held, batches)
        self._merging = self._recent.begin_merge(besides=waiting)
        self._merged = 0

    def evict(self, before: BlobKey) -> bool:
        """Drop, in one bounded step, identities that blobs older than `before` brought.

        Goes through the table from start to end over many calls; whether more remains of this round.
        """
        self.moved.evict(before)
        if self._round_from is None:
            self._round_from = self._recent.oldest(besides=before)
        gone, is_more = self._table.evict(
            before.to_bytes(OWNER_BYTES, "big"), count=self._bounds.identities_forgotten_max
        )
        self.figures.forgotten += gone
        if not is_more:
            self._gone_before, self._round_from = self._round_from, None
        return is_more

    def known_from(self) -> BlobKey:
        """The oldest blob of which an identity may still be known: of none before it there is any."""
        return self._recent.oldest(besides=self._gone_before)


@dataclass(frozen=True, slots=True)
class _Unmerged:
    """A batch whose row is there."""

    number: int
    blobs: set[BlobKey]
    count: int
    """The identities in its row; none where they are merged already."""
    is_held: bool
    """Whether every output has it or has it queued."""


def _oldest(held: Sequence[_Unmerged], count_min: int) -> list[_Unmerged]:
    """The first of `held` with so many identities; those without any cost nothing."""
    counts = accumulate((one.count for one in held), initial=0)
    return [one for one, before in zip(held, counts, strict=False) if before < count_min or not one.count]


def _choose(some: Sequence[_Unmerged], batches: Sequence[_Unmerged]) -> tuple[list[tuple[int]], set[BlobKey]]:
    """The numbers of those of `some` that can be merged whole, and the blobs that wait: those of the others.

    A batch that also has a blob which waits in another one stays: its row may be all that is durable
    of that blob's identities.
    """
    numbers = {one.number for one in some}
    waiting = set[BlobKey]().union(*(one.blobs for one in batches if one.number not in numbers))
    return [(one.number,) for one in some if one.blobs.isdisjoint(waiting)], waiting


def _weighed(
    findings: Findings,
    number: int,
    part: BatchPart,
    duplicates: Collection[int],
    *,
    known: dict[bytes, BlobKey],
    lacking: dict[BlobKey, frozenset[str]],
) -> set[int]:
    """The duplicates that part `number` brings all the same; `findings` says so, and where it goes."""
    owned = {place: known[cast("bytes", part.identities[place])] for place in duplicates}
    weighed = weigh(part, {place: one for place, one in owned.items() if one != part.blob}, lacking)
    if weighed.outputs != part.missing_outputs:
        findings.outputs[number] = weighed.outputs
    if weighed.moved:
        findings.moved[number] = list(weighed.moved.values())
        known.update(dict.fromkeys(weighed.moved.values(), part.blob))
    # For the parts that come after it in the batch.
    lacking[part.blob] = part.missing_outputs - weighed.outputs
    return set(weighed.moved)


def pack(parts: Sequence[BatchPart], findings: Findings, *, outputs: frozenset[str]) -> tuple[str, bytes]:
    """The columns `parts` and `identities` of the row of a batch for `outputs`."""
    rows = [
        [
            part.blob,
            len(new),
            len(part.records) - duplicate_count(findings, number),
            duplicate_count(findings, number),
            *(
                []
                if (receivers := findings.receivers(number, part)) >= outputs
                else [sorted(receivers & outputs)]
            ),
        ]
        for number, (part, new) in enumerate(zip(parts, findings.new, strict=True))
    ]
    return json.dumps(rows), b"".join(chain.from_iterable(findings.new))


def duplicate_count(findings: Findings, number: int) -> int:
    """How many records of part `number` are duplicates."""
    return len(findings.duplicates.get(number, ()))


def unpack(parts: str, packed: bytes) -> list[tuple[BlobKey, list[bytes]]]:
    """The identities of a batch's row by the blob that brought them; none where they were merged already."""
    found: list[tuple[BlobKey, list[bytes]]] = []
    if not packed:
        return found
    start = 0
    for blob, count, *_ in json.loads(parts):
        end = start + count * IDENTITY_BYTES
        found.append((blob, [packed[at : at + IDENTITY_BYTES] for at in range(start, end, IDENTITY_BYTES)]))
        start = end
    return found


def _without_none(identities: list[bytes | None]) -> list[bytes]:
    """The identities there are; the list itself where none is missing."""
    if None in identities:
        return [identity for identity in identities if identity is not None]
    return cast("list[bytes]", identities)
