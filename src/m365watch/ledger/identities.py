"""The store of identities: exact, on disk, bounded in memory.

New identities are kept twice: packed in the row of their batch (durable with it, a fifth of
a microsecond each) and in memory. Every `MERGE_COUNT` of them, those of batches that every
output has, or keeps in its queue on disk, are merged, sorted, into one table: in such numbers
the inserts meet on warm pages.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from m365watch.ledger.front_filter import FilterSizes, FrontFilter
from m365watch.ledger.schema import NUMBERS
from m365watch.model import BatchPart, BlobKey
from m365watch.records.identity import IDENTITY_BYTES

MERGE_COUNT = 200_000
"""Identities in memory from which on batches are merged; each takes about 110 bytes there."""
MERGE_COUNT_MIN = 10_000
"""The least that a configuration can make of it: a full batch, which would otherwise be a merge by itself."""
OWNER_BYTES = 6
"""How the table writes the key of the blob that brought an identity: big-endian, so that they compare."""
_EVICT_COUNT = 20_000
_PAUSE_CALLS = 20
"""How often a merge is not looked for after one look that found little: with the collector's upkeep, 5 s."""
_LAST_KEY = b"\xff" * (IDENTITY_BYTES + 1)
# One statement for thousands of rows: a fifth of the time of `executemany`, which binds row by row.
_LOOK_UP = """
SELECT identity.key, identity.blob
FROM number CROSS JOIN identity ON identity.key = substr(?1, n * 16 + 1, 16)
WHERE n < ?2
"""
_INSERT = """
INSERT OR IGNORE INTO identity
SELECT substr(?1, n * 16 + 1, 16), substr(?2, n * 6 + 1, 6) FROM number WHERE n < ?3 ORDER BY n
"""


@dataclass(slots=True)
class Findings:
    """What dedup found in the parts of a batch."""

    new: list[list[bytes]] = field(default_factory=list)
    """Per part, the identities that were not known."""
    duplicates: dict[int, frozenset[int]] = field(default_factory=dict)
    """Per part that has any, the places of the records that are known already."""


class IdentityStore:
    """Which records are known, and the blob that brought each."""

    def __init__(self, connection: sqlite3.Connection, sizes: FilterSizes | None = None) -> None:
        """Works on the ledger's connection, inside the ledger's transactions; has a filter if `sizes` do."""
        self._connection = connection
        buffer_size = sizes.buffer_size if sizes else None
        self._buffer_size = max(buffer_size, MERGE_COUNT_MIN) if buffer_size else None
        self._filter = FrontFilter(connection, size=sizes.size) if sizes and sizes.size else None
        self._recent: dict[bytes, BlobKey] = {}
        self._merging: list[bytes] = []
        self._merging_batches: list[tuple[int]] = []
        self._merged = 0
        self._pause_calls = 0
        self._evicted_to = b""
        self._table_is_empty = not connection.execute("SELECT 1 FROM identity LIMIT 1").fetchall()

    def find(self, parts: Sequence[BatchPart]) -> Findings:
        """Tell new records from known ones; changes nothing.

        A record is a duplicate if another blob brought it, or the same blob before in the
        same part. A blob that is fetched again after a crash is not its own duplicate.
        """
        places = [identity for part in parts for identity in part.identities if identity is not None]
        distinct = set(places)
        stored = self._stored(list(distinct))
        if len(distinct) == len(places) and not stored and distinct.isdisjoint(self._recent):
            return Findings([[i for i in part.identities if i is not None] for part in parts])
        return self._find_one_by_one(parts, stored)

    def _find_one_by_one(self, parts: Sequence[BatchPart], stored: Mapping[bytes, BlobKey]) -> Findings:
        findings = Findings()
        owners: dict[bytes, BlobKey] = {}
        for number, part in enumerate(parts):
            new: list[bytes] = []
            duplicates: set[int] = set()
            seen: set[bytes] = set()
            for place, identity in enumerate(part.identities):
                if identity is None:
                    continue
                owner = owners.get(identity) or self._recent.get(identity) or stored.get(identity)
                if identity in seen or (owner is not None and owner != part.blob):
                    duplicates.add(place)
                    continue
                seen.add(identity)
                if owner is None:
                    owners[identity] = part.blob
                    new.append(identity)
            findings.new.append(new)
            if duplicates:
                findings.duplicates[number] = frozenset(duplicates)
        return findings

    def _stored(self, keys: list[bytes]) -> dict[bytes, BlobKey]:
        """Those of `keys` that are in the table; a first backfill need not ask an empty one."""
        found: dict[bytes, BlobKey] = {}
        if self._table_is_empty:
            return found
        if self._filter is not None:
            keys = self._filter.may_be_known(keys)
        # Sorted, they meet on warm pages.
        keys.sort()
        for start in range(0, len(keys), NUMBERS):
            some = keys[start : start + NUMBERS]
            for identity, owner in self._connection.execute(_LOOK_UP, (b"".join(some), len(some))):
                found[identity] = BlobKey(int.from_bytes(owner, "big"))
        return found

    def remember(self, blob: BlobKey, identities: Sequence[bytes]) -> None:
        """Keep `identities` in memory; their durable copy is the row of their batch."""
        self._recent.update(dict.fromkeys(identities, blob))

    def load(self) -> None:
        """Read into memory what is not merged yet, at the ledger's opening."""
        for parts, packed in self._connection.execute("SELECT parts, identities FROM batch ORDER BY number"):
            self._recent.update(unpack(parts, packed))

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
        self._table_is_empty = False
        some = self._merging[self._merged : self._merged + NUMBERS]
        owners = [self._recent[identity].to_bytes(OWNER_BYTES, "big") for identity in some]
        if self._filter is not None:
            self._filter.add(some)
        self._connection.execute(_INSERT, (b"".join(some), b"".join(owners), len(some)))
        if self._merged + NUMBERS >= len(self._merging):
            self._connection.executemany(
                "UPDATE batch SET identities = x'' WHERE number = ?", self._merging_batches
            )
            self._connection.execute("DELETE FROM batch WHERE identities = x'' AND waiting_for = '[]'")
        return True

    def merge_step_committed(self) -> None:
        """Go on behind the slice that is durable now; after the last, drop all of them from memory."""
        self._merged += NUMBERS
        if self._merging and self._merged >= len(self._merging):
            for identity in self._merging:
                del self._recent[identity]
            self._merging = []

    def _begin_merge_if_due(self) -> None:
        """Begin a merge if enough is in memory; seldom while most of it waits for an output that is late.

        Finding what can be merged goes through all that is in memory: 0.1 s for a million.
        """
        merge_count = self._buffer_size or MERGE_COUNT
        if len(self._recent) < merge_count:
            return
        if self._pause_calls:
            self._pause_calls -= 1
            return
        self._begin_merge()
        if len(self._merging) < merge_count / 2:
            self._pause_calls = _PAUSE_CALLS

    def _begin_merge(self) -> None:
        """Choose what to merge: the identities of the batches that every output has or has queued."""
        rows = self._connection.execute(
            "SELECT number, parts, waiting_for = queued FROM batch ORDER BY number"
        ).fetchall()
        batches = [
            (number, {blob for blob, *_ in json.loads(parts)}, is_held) for number, parts, is_held in rows
        ]
        waiting = set[BlobKey]().union(*(blobs for _, blobs, is_held in batches if not is_held))
        # A batch that also has a blob which waits in another one stays: its row may be all that is durable
        # of that blob's identities.
        self._merging_batches = [
            (number,) for number, blobs, is_held in batches if is_held and blobs.isdisjoint(waiting)
        ]
        self._merging = sorted(
            identity for identity, blob in self._recent.items() if not waiting or blob not in waiting
        )
        self._merged = 0

    def evict(self, before: BlobKey) -> bool:
        """Drop, in one bounded step, identities that blobs older than `before` brought.

        Goes through the table from start to end over many calls; whether more remains of this round.
        """
        last = self._connection.execute(
            "SELECT key FROM identity WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._evicted_to, _EVICT_COUNT),
        ).fetchone()
        self._connection.execute(
            "DELETE FROM identity WHERE key > ? AND key <= ? AND blob < ?",
            (self._evicted_to, last[0] if last else _LAST_KEY, before.to_bytes(OWNER_BYTES, "big")),
        )
        self._evicted_to = last[0] if last else b""
        return last is not None


def pack(parts: Sequence[BatchPart], findings: Findings, *, outputs: frozenset[str]) -> tuple[str, bytes]:
    """The columns `parts` and `identities` of the row of a batch for `outputs`."""
    rows = [
        [
            part.blob,
            len(new),
            len(part.records) - duplicate_count(findings, number),
            duplicate_count(findings, number),
            *([] if part.missing_outputs >= outputs else [sorted(part.missing_outputs & outputs)]),
        ]
        for number, (part, new) in enumerate(zip(parts, findings.new, strict=True))
    ]
    return json.dumps(rows), b"".join(chain.from_iterable(findings.new))


def duplicate_count(findings: Findings, number: int) -> int:
    """How many records of part `number` are duplicates."""
    return len(findings.duplicates.get(number, ()))


def unpack(parts: str, packed: bytes) -> list[tuple[bytes, BlobKey]]:
    """The identities of a batch's row, each with its blob; none where they were merged already."""
    found: list[tuple[bytes, BlobKey]] = []
    if not packed:
        return found
    at = 0
    for blob, count, *_ in json.loads(parts):
        for _ in range(count):
            found.append((packed[at : at + IDENTITY_BYTES], blob))
            at += IDENTITY_BYTES
    return found
