"""What outputs were found to hold when their ledger had been lost, or put back from an older copy.

Such a ledger does not know what outputs have. What they can tell is read once, before anything is
fetched, and kept here: a record that an output holds is left out for it, and for no other; so is one that
was erased there. Fifteen days later none of it can come again, and all of it is forgotten.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import msgspec
import xxhash

from m365watch.common.model import BatchPart, BlobKey, Feed
from m365watch.common.timestamps import us_of
from m365watch.ledger import queries as reading
from m365watch.ledger.feed_table import know_feed
from m365watch.ledger.identity_store import Findings
from m365watch.ledger.ledger_database import failures_named
from m365watch.ledger.limits import IN_EARNEST, LedgerBounds
from m365watch.ledger.schema import NUMBERS
from m365watch.records.identity import IDENTITY_BYTES, MarkMaker
from m365watch.storage.database import Database, DatabaseError

MEMORY = "adoption"
"""Under what name the ledger remembers how far the reading of its outputs has come."""
_TIMELESS = b"\xff\xff\xff\xff"
"""How the keys of records without Id begin; identities begin with a time, which is never this one."""
_ADD = """
INSERT OR IGNORE INTO held SELECT ?3, substr(?1, n * 16 + 1, 16) FROM number WHERE n < ?2 ORDER BY n
"""
_LOOK_UP = """
SELECT n FROM number CROSS JOIN held ON held.output = ?3 AND held.key = substr(?1, n * 16 + 1, 16)
WHERE n < ?2
"""
_KEEP_QUEUED = (
    "INSERT OR IGNORE INTO batch (number, parts, identities, waiting_for, queued, committed)"
    " VALUES (?, ?, x'', ?, ?, 1)"
)
_NAME_QUEUED = (
    "INSERT OR IGNORE INTO blob (key, feed, content_id, created_us, expires_us, state, finished_s)"
    " VALUES (?, ?, ?, ?, ?, 1, ?)"
)
_ENDED = "SELECT key FROM blob WHERE key IN (SELECT value FROM json_each(?)) AND finished_s IS NOT NULL"


class Stage(StrEnum):
    """How far the reading of the outputs has come."""

    WANTED = "wanted"
    """The ledger was put back from a copy; nothing has been read yet."""
    BEGUN = "begun"
    """Reading was cut short; it begins again."""
    DONE = "done"


class Adoption(msgspec.Struct, frozen=True):
    """What the ledger remembers of the reading of its outputs, as JSON."""

    stage: Stage
    at_s: float = 0.0
    """When it was done, in seconds since 1970."""
    outputs: tuple[str, ...] = ()
    """Those of which something is kept."""
    marks: dict[str, str] = msgspec.field(default_factory=dict)
    """Of those that can tell what was erased there, the key of the marks that are kept, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class QueuedBlob:
    """A blob of which an output's queue has records; the ledger may not know it."""

    key: BlobKey
    feed: Feed
    received_at: datetime


@dataclass(slots=True)
class Adopted:
    """What outputs were found to have."""

    last_batches: dict[str, int] = field(default_factory=dict)
    """The highest batch number at each output that can tell."""
    queued: dict[str, list[int]] = field(default_factory=dict)
    """The batches that wait in each output's queue on disk."""
    queued_blobs: dict[BlobKey, QueuedBlob] = field(default_factory=dict)
    parts: dict[int, set[BlobKey]] = field(default_factory=dict)
    """Of each of those batches, the blobs that some queue has records of."""
    mark_keys: dict[str, bytes] = field(default_factory=dict)
    """Of outputs at which records were erased, the key of the marks that `HeldStore.add` was given."""

    @property
    def newest_batch(self) -> int:
        """The highest of all numbers; 0 for none."""
        return max(
            (*self.last_batches.values(), *(n for some in self.queued.values() for n in some)), default=0
        )


class HeldStore:
    """The records that outputs were found to hold; bounded reads and writes on the ledger's connection."""

    def __init__(
        self, connection: Database, path: Path, *, seed: int, bounds: LedgerBounds = IN_EARNEST
    ) -> None:
        """`path` is the ledger's, for errors; `seed` its secret."""
        self.horizon = bounds.horizon
        """How long what is held is remembered."""
        self._count_max = bounds.identities_forgotten_max
        self.left_out = 0
        """How many records were left out for an output since the opening, because it holds them."""
        self._connection = connection
        self.path = path
        self._seed = seed
        self._makers: dict[str, MarkMaker] = {}
        self._adoption = self._remembered()
        self._note_makers()

    def _remembered(self) -> Adoption | None:
        body = reading.remembered(self._connection, MEMORY)
        try:
            return None if body is None else msgspec.json.decode(body, type=Adoption)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise DatabaseError(f"what is remembered as {MEMORY!r} cannot be read") from None

    @failures_named
    def is_adoption_due(self) -> bool:
        """Whether outputs may hold what this ledger does not know of: it is new, or put back."""
        if self._adoption is not None:
            return self._adoption.stage is not Stage.DONE
        asked = "SELECT NOT EXISTS (SELECT 1 FROM output) AND NOT EXISTS (SELECT 1 FROM batch)"
        numbered = "SELECT count(*) FROM sqlite_sequence WHERE name = 'batch'"
        return (
            bool(self._connection.execute(asked).fetchone()[0])
            and not (self._connection.execute(numbered).fetchone()[0])
        )

    @failures_named
    def begin(self) -> None:
        """Forget what an earlier reading found; from now on a crash makes the next start read again."""
        with self._connection.transaction():
            self._connection.execute("DELETE FROM held")
            self._remember(Adoption(Stage.BEGUN))

    def body_key(self, record: bytes) -> bytes:
        """What stands for a record without Id: its very bytes, as an output has them.

        Only here may it be taken for a duplicate: two that are alike byte for byte, one of them held already.
        """
        return _TIMELESS + xxhash.xxh3_128_digest(record, self._seed)[: IDENTITY_BYTES - len(_TIMELESS)]

    @failures_named
    def add(self, output: str, keys: Iterable[bytes]) -> None:
        """`output` holds the records of `keys`, or they were erased there; durable with `finish`."""
        some = sorted(set(keys))
        with self._connection.transaction():
            for start in range(0, len(some), NUMBERS):
                slice_ = some[start : start + NUMBERS]
                self._connection.execute(_ADD, (b"".join(slice_), len(slice_), output))

    @failures_named
    def finish(self, adopted: Adopted, *, at: datetime) -> None:
        """The outputs have been read: their batches are behind this ledger's next, their queues are known."""
        with self._connection.transaction():
            for output, number in adopted.last_batches.items():
                self._connection.execute("INSERT OR REPLACE INTO output VALUES (?, ?, '')", (output, number))
            self._keep_queued(adopted, at)
            # Numbers go on behind all that any output has seen, keys behind those that queues name.
            self._raise_sequence("batch", adopted.newest_batch)
            self._raise_sequence("blob", max(adopted.queued_blobs, default=0))
            names = self._connection.execute(
                "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM held WHERE output = value)",
                (json.dumps(sorted({*adopted.last_batches, *adopted.queued, *adopted.mark_keys})),),
            ).fetchall()
            marks = {name: key.hex() for name, key in adopted.mark_keys.items()}
            self._remember(Adoption(Stage.DONE, at.timestamp(), tuple(name for (name,) in names), marks))

    @failures_named
    def drop(self, output: str) -> bool:
        """Forget what `output` was found to hold; whether this ledger had to be told of all of it before."""
        with self._connection.transaction():
            self._connection.execute("DELETE FROM held WHERE output = ?", (output,))
        return self._adoption is not None and output in self._adoption.outputs

    @failures_named
    def finish_again(self, output: str, mark_keys: Mapping[str, bytes], *, at: datetime) -> None:
        """What `output` holds has been read once more, and was added."""
        known = self._adoption or Adoption(Stage.DONE)
        marks = known.marks | {name: key.hex() for name, key in mark_keys.items()}
        with self._connection.transaction():
            outputs = tuple(sorted({*known.outputs, output}))
            self._remember(Adoption(Stage.DONE, at.timestamp(), outputs, marks))

    def _keep_queued(self, adopted: Adopted, at: datetime) -> None:
        """Let the ledger know the batches of queues, and name their blobs, which are not fetched for them."""
        waiting: defaultdict[int, list[str]] = defaultdict(list)
        for output, numbers in adopted.queued.items():
            for number in numbers:
                waiting[number].append(output)
        for blob in adopted.queued_blobs.values():
            number = know_feed(self._connection, blob.feed)
            created_us = us_of(blob.received_at)
            name = f"from the queue of an earlier ledger, {blob.key}"
            self._connection.execute(
                _NAME_QUEUED, (blob.key, number, name, created_us, created_us, at.timestamp())
            )
        for number, outputs in waiting.items():
            names = json.dumps(sorted(outputs))
            row = (number, self._parts_of(adopted.parts.get(number, ())), names, names)
            self._connection.execute(_KEEP_QUEUED, row)

    def _parts_of(self, blobs: Collection[BlobKey]) -> str:
        """The column `parts` of an adopted batch, which brings its blobs nothing, and keeps them known.

        One that a ledger from a copy is still to fetch is left out: its own batch ends it.
        """
        ended = self._connection.execute(_ENDED, (json.dumps(list(blobs)),)).fetchall()
        return json.dumps([[key, 0, 0, 0] for (key,) in ended])

    def _raise_sequence(self, table: str, number: int) -> None:
        if number:
            raised = self._connection.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table)
            ).rowcount
            if not raised:
                self._connection.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))

    def _remember(self, adoption: Adoption) -> None:
        body = msgspec.json.encode(adoption).decode()
        self._connection.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (MEMORY, body))
        self._adoption = adoption
        self._note_makers()

    def _note_makers(self) -> None:
        marks = self._adoption.marks if self._adoption else {}
        self._makers = {name: MarkMaker(bytes.fromhex(key)) for name, key in marks.items()}

    def leave_out(
        self, parts: Sequence[BatchPart], findings: Findings, outputs: frozenset[str]
    ) -> Mapping[str, Mapping[int, frozenset[int]]]:
        """Per output that holds some, the places of the records that it holds, part by part.

        What every output of a part holds becomes a duplicate in `findings` instead.
        """
        names = outputs.intersection(self._adoption.outputs) if self._adoption else frozenset[str]()
        if not names:
            return {}
        found = {name: self._places(name, parts) for name in names}
        self.left_out += sum(len(places) for some in found.values() for places in some.values())
        for number, part in enumerate(parts):
            receivers = part.missing_outputs & outputs
            if receivers and receivers <= names:
                by_all = frozenset.intersection(*(found[name].get(number, frozenset()) for name in receivers))
                self._drop(number, part, by_all, findings)
        return {name: left for name, places in found.items() if (left := _besides(findings, places))}

    def _places(self, name: str, parts: Sequence[BatchPart]) -> dict[int, frozenset[int]]:
        wanted: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
        maker = self._makers.get(name)
        for number, part in enumerate(parts):
            if name in part.missing_outputs:
                for place, identity in enumerate(part.identities):
                    wanted[identity or self.body_key(part.records[place])].append((number, place))
                marks = maker.marks(part.feed.tenant_id, part.headers, part.records) if maker else ()
                for place, mark in enumerate(marks):
                    wanted[mark].append((number, place))
        found: defaultdict[int, set[int]] = defaultdict(set)
        for key in self.known(name, wanted):
            for number, place in wanted[key]:
                found[number].add(place)
        return {number: frozenset(places) for number, places in found.items()}

    @failures_named
    def known(self, output: str, keys: Iterable[bytes]) -> set[bytes]:
        """Those of `keys` whose records `output` was found to hold."""
        found: set[bytes] = set()
        ordered = sorted(set(keys))
        for start in range(0, len(ordered), NUMBERS):
            some = ordered[start : start + NUMBERS]
            rows = self._connection.execute(_LOOK_UP, (b"".join(some), len(some), output))
            found.update(some[row] for (row,) in rows)
        return found

    @staticmethod
    def _drop(number: int, part: BatchPart, places: frozenset[int], findings: Findings) -> None:
        new = set(findings.new[number])
        # A known one comes again for an output that has lost others of its blob: it counts as delivered.
        places = frozenset(one for one in places if (key := part.identities[one]) is None or key in new)
        if not places:
            return
        findings.duplicates[number] = findings.duplicates.get(number, frozenset()) | places
        gone = {part.identities[place] for place in places}
        findings.new[number] = [identity for identity in findings.new[number] if identity not in gone]

    def evict_step(self, now: datetime) -> bool:
        """Forget, in one bounded step, what cannot come again; whether more remains. The caller commits."""
        adoption = self._adoption
        if adoption is None or not adoption.outputs:
            return False
        if now.timestamp() < adoption.at_s + self.horizon.total_seconds():
            return False
        gone = self._connection.execute(
            "DELETE FROM held WHERE (output, key) IN (SELECT output, key FROM held LIMIT ?)",
            (self._count_max,),
        ).rowcount
        if gone < self._count_max:
            self._remember(Adoption(Stage.DONE, adoption.at_s))
        return gone == self._count_max


def _besides(findings: Findings, found: Mapping[int, frozenset[int]]) -> dict[int, frozenset[int]]:
    """The places in `found` that are no duplicates."""
    left = {part: places - findings.duplicates.get(part, frozenset()) for part, places in found.items()}
    return {part: places for part, places in left.items() if places}


def mark_put_back(connection: Database) -> None:
    """Let the next run with this ledger read what its outputs hold; the caller commits."""
    body = msgspec.json.encode(Adoption(Stage.WANTED)).decode()
    connection.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (MEMORY, body))
