"""Batches on their way: which outputs have what of them, in memory and in the ledger's tables.

A batch waits for the outputs that have not acknowledged it. An output may keep it in its queue on
disk meanwhile, or be left out because that queue is full; then its blobs are owed to it, and known
again once there is room. Each step is computed first, written in one of the ledger's transactions,
and remembered after it, so that a transaction that fails changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from m365watch.common.model import BatchPart, BlobKey, Feed
from m365watch.ledger.identity_store import Findings, Routes, duplicate_count
from m365watch.ledger.schema import IS_OPEN
from m365watch.storage.database import Database

_KNOWN, _QUEUED, _LEFT_OUT = 0, 4, 5


_WRITE_BLOB = (
    "UPDATE blob SET state = ?, missing = ?, queued = ?, records = ?, duplicates = ?"
    " WHERE key = ? AND finished_s IS NULL"
)
"""A blob that is final stays as it is: at a start, what an output had durable may end it, while another batch
that carries it is still open."""

_WRITE_BATCH = (
    "UPDATE batch SET committed = 1, waiting_for = printf('%-*s', length(waiting_for), ?), queued = ?"
    " WHERE number = ?"
)
"""Spaces keep the row as long as it was: SQLite then writes the page that differs, and not the identities'
pages again, which were two thirds of what acknowledgements wrote in a first backfill."""


@dataclass(slots=True)
class Lot:
    """A blob of an open batch that some output still lacks."""

    blob: BlobKey
    feed: Feed
    records: int
    duplicates: int
    missing: set[str]
    """The outputs that have not acknowledged its records."""
    queued: set[str] = field(default_factory=set)
    """Those of them that have the records in their queue on disk."""
    left_out: set[str] = field(default_factory=set)
    """Those of them whose queue was full."""
    on_way: set[str] = field(default_factory=set)
    """Those of them that an open batch brings the records to."""
    batches: int = 0
    """How many open batches carry it: several where an output's copy was fetched again."""


class Happening(Enum):
    """What an output may do with a batch."""

    ACKNOWLEDGED = auto()
    QUEUED = auto()
    LEFT_OUT = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """One output's happening with one batch, and what follows from it."""

    happening: Happening
    number: int
    output: str
    lots: list[Lot]
    """The blobs that the batch carries for the output."""

    @property
    def finished(self) -> list[Lot]:
        """The blobs that no output lacks any more."""
        if self.happening is not Happening.ACKNOWLEDGED:
            return []
        return [lot for lot in self.lots if lot.missing == {self.output}]


@dataclass(slots=True)
class _OpenBatch:
    """A batch that some output has not acknowledged."""

    parts: list[tuple[Lot, frozenset[str]]]
    """Its blobs, each with the outputs that this batch carries it for."""
    waiting_for: set[str]
    queued: set[str] = field(default_factory=set)


class OpenBatches:
    """Every batch that waits for an output; works on the ledger's connection, inside its transactions."""

    def __init__(self, connection: Database, feed_of: Callable[[BlobKey], Feed], routes: Routes) -> None:
        """`feed_of` names the feed of a blob, `routes` the outputs that its tenant's records go to."""
        self._connection = connection
        self._routes = routes
        self._feed_of = feed_of
        self._batches: dict[int, _OpenBatch] = {}
        self._lots: dict[BlobKey, Lot] = {}

    def add(
        self, number: int, parts: Sequence[BatchPart], findings: Findings, outputs: frozenset[str]
    ) -> None:
        """Batch `number` is on its way to `outputs`."""
        batch = self._batches[number] = _OpenBatch([], set(outputs))
        for place, part in enumerate(parts):
            duplicates = duplicate_count(findings, place)
            missing = set(part.missing_outputs)
            lot = Lot(part.blob, part.feed, len(part.records) - duplicates, duplicates, missing)
            self._carry(batch, lot, findings.receivers(place, part) & outputs)

    def _carry(self, batch: _OpenBatch, lot: Lot, outputs: frozenset[str]) -> None:
        """`batch` brings the blob of `lot` to `outputs`."""
        missing = lot.missing
        lot = self._lots.setdefault(lot.blob, lot)
        lot.missing |= missing
        lot.left_out -= outputs
        lot.on_way |= outputs
        lot.batches += 1
        batch.parts.append((lot, outputs))

    def step(self, happening: Happening, number: int, output: str) -> Step:
        """What follows from `happening`; nothing is changed yet."""
        parts = self._batches[number].parts
        return Step(happening, number, output, [lot for lot, outputs in parts if output in outputs])

    def write(self, step: Step) -> None:
        """Bring the tables to where `step` leads; the caller commits, and finishes `step.finished`."""
        batch = self._batches[step.number]
        waiting_for, queued = set(batch.waiting_for), set(batch.queued)
        _apply(step, waiting_for=waiting_for, queued=queued)
        # Also where the output was left out: the batch that brings it the blobs later finds their identities
        # known, and so has none of them in its own row.
        self._connection.execute(
            _WRITE_BATCH,
            (_json(waiting_for), _json(queued), step.number),
        )
        self._connection.executemany(
            _WRITE_BLOB,
            _blob_rows(step, waiting_for),
        )

    def remember(self, step: Step) -> None:
        """The transaction with `write` is durable."""
        batch = self._batches[step.number]
        _apply(step, waiting_for=batch.waiting_for, queued=batch.queued)
        for lot in step.lots:
            lot.missing, lot.queued, lot.left_out = _after(step, lot)
            if step.happening is not Happening.QUEUED:
                lot.on_way.discard(step.output)
        if not batch.waiting_for:
            self._close(step.number)

    def _close(self, number: int) -> None:
        for lot, _ in self._batches.pop(number).parts:
            lot.batches -= 1
            if lot.batches == 0:
                del self._lots[lot.blob]

    def write_rest(self, parts: Sequence[BatchPart], findings: Findings) -> None:
        """Let the rows say who lacks a blob that this batch does not bring to all; the caller commits."""
        self._connection.executemany(
            "UPDATE blob SET missing = ? WHERE key = ? AND missing IS NULL",
            [(_json(parts[number].missing_outputs), parts[number].blob) for number in findings.outputs],
        )

    def lacking(self, blobs: Collection[BlobKey], outputs: frozenset[str]) -> dict[BlobKey, frozenset[str]]:
        """Of `blobs`, those that some of `outputs` are without and not on their way to get, with these."""
        found: dict[BlobKey, frozenset[str]] = {}
        for key, missing, finished_s in self._connection.execute(
            "SELECT key, missing, finished_s FROM blob WHERE key IN (SELECT value FROM json_each(?))"
            " AND (finished_s IS NULL OR missing IS NOT NULL)",
            (json.dumps(sorted(blobs)),),
        ):
            lot = self._lots.get(key)
            without = self._routed(key) if missing is None else frozenset(json.loads(missing))
            without &= outputs
            if lot is not None:
                without = (without if finished_s is not None else outputs & lot.missing) - lot.on_way
            if without:
                found[BlobKey(key)] = without
        return found

    def _routed(self, blob: BlobKey) -> frozenset[str]:
        """The outputs that a blob goes to which no output has."""
        return self._routes.of(self._feed_of(blob).tenant_id)

    def write_lacking(self, blob: BlobKey) -> None:
        """Let the row of a blob that ends otherwise say who will not have its records; the caller commits."""
        if (lot := self._lots.get(blob)) is not None:
            row = (_json(lot.missing - lot.on_way), blob)
            self._connection.execute("UPDATE blob SET missing = ? WHERE key = ?", row)

    def forget(self, blob: BlobKey) -> None:
        """The blob has ended otherwise (lost, quarantined): nobody is owed it, whatever is in a queue."""
        if (lot := self._lots.get(blob)) is not None:
            lot.missing.clear()
            lot.queued.clear()
            lot.left_out.clear()

    def recall(self) -> bool:
        """What outputs were left out of is to be fetched again for them; whether there is any."""
        for lot in self._lots.values():
            lot.left_out.clear()
        return bool(
            self._connection.execute(
                "UPDATE blob SET state = ? WHERE state = ? AND finished_s IS NULL", (_KNOWN, _LEFT_OUT)
            ).rowcount
        )

    # At start.

    def load(self) -> list[tuple[int, list[str]]]:
        """Read the batches that the last run left open; each number with the outputs it waits for."""
        rows = self._connection.execute(
            f"SELECT number, parts, waiting_for FROM batch WHERE {IS_OPEN} ORDER BY number"  # noqa: S608
        ).fetchall()
        for number, parts, waiting_for in rows:
            batch = self._batches[number] = _OpenBatch([], set(json.loads(waiting_for)))
            for lot, outputs in self._lots_of(parts, batch.waiting_for):
                self._carry(batch, lot, outputs)
        return [(number, json.loads(waiting_for)) for number, _, waiting_for in rows]

    def _lots_of(self, parts: str, waiting_for: Collection[str]) -> Iterator[tuple[Lot, frozenset[str]]]:
        """The unfinished blobs of a batch's row, each with the outputs that the batch brings it to."""
        for blob, _, records, duplicates, *outputs in json.loads(parts):
            row = self._connection.execute(
                "SELECT missing FROM blob WHERE key = ? AND finished_s IS NULL", (blob,)
            ).fetchone()
            if row is not None:
                # Where nobody has it, all lack it that the batch brings it to and that have not said so.
                brought = set(outputs[0]).intersection(waiting_for) if outputs else set(waiting_for)
                missing = set(json.loads(row[0])) if row[0] else brought
                lot = Lot(BlobKey(blob), self._feed_of(blob), records, duplicates, missing)
                yield lot, frozenset(outputs[0] if outputs else waiting_for)

    def settle(
        self, queued: Mapping[str, Collection[int]], *, outputs: frozenset[str]
    ) -> dict[str, list[int]]:
        """Keep open what is in the outputs' queues, undo what none holds; the rest is known again.

        `queued` are the batches in each output's queue on disk; the answer, those of them that are
        still to be delivered, in order. What is owed to an output that is not among `outputs` any more,
        and not in its queue, is owed to nobody. The caller commits.
        """
        kept: dict[str, list[int]] = {output: [] for output in queued}
        for number, batch in sorted(self._batches.items()):
            batch.queued = {output for output in batch.waiting_for if number in queued.get(output, ())}
            batch.waiting_for = set(batch.queued)
            for lot, carried_for in batch.parts:
                lot.queued |= carried_for & batch.queued
            for output in batch.queued:
                kept[output].append(number)
        for lot in self._lots.values():
            lot.missing &= outputs | lot.queued
            lot.on_way = set(lot.queued)
        self._write_settled()
        for number in [number for number, batch in self._batches.items() if not batch.waiting_for]:
            self._close(number)
        return kept

    def drop_debts(self, *, outputs: frozenset[str]) -> list[Lot]:
        """Owe nothing to outputs that are neither among `outputs` nor have it queued; what is then finished.

        The caller finishes those, and commits.
        """
        done: list[Lot] = []
        for key, missing, queued, records, duplicates in self._connection.execute(
            "SELECT key, missing, queued, records, duplicates FROM blob"
            " WHERE finished_s IS NULL AND missing IS NOT NULL"
        ).fetchall():
            owed = set(json.loads(missing))
            left = owed & (outputs | set(json.loads(queued or "[]")))
            if not left:
                done.append(Lot(BlobKey(key), self._feed_of(key), records or 0, duplicates or 0, set()))
            elif left != owed:
                self._connection.execute("UPDATE blob SET missing = ? WHERE key = ?", (_json(left), key))
        return done

    def _write_settled(self) -> None:
        self._connection.execute(
            "UPDATE blob SET state = ?, queued = NULL WHERE finished_s IS NULL AND state != ?",
            (_KNOWN, _KNOWN),
        )
        self._connection.executemany(
            "UPDATE batch SET committed = max(committed, ?), waiting_for = ?, queued = ? WHERE number = ?",
            [
                (bool(batch.queued), _json(batch.waiting_for), _json(batch.queued), number)
                for number, batch in self._batches.items()
            ],
        )
        self._connection.execute(
            "DELETE FROM moved WHERE batch IN (SELECT number FROM batch WHERE committed = 0)"
        )
        self._connection.execute("DELETE FROM batch WHERE committed = 0")
        self._connection.executemany(
            _WRITE_BLOB,
            [_blob_row(lot, lot.missing, lot.queued, lot.left_out) for lot in self._lots.values()],
        )


def _apply(step: Step, *, waiting_for: set[str], queued: set[str]) -> None:
    """Change the sets of a batch as `step` does."""
    if step.happening is Happening.QUEUED:
        queued.add(step.output)
    else:
        queued.discard(step.output)
        waiting_for.discard(step.output)


def _after(step: Step, lot: Lot) -> tuple[set[str], set[str], set[str]]:
    """What `lot` is missing, where it is queued and what was left out, after `step`."""
    output = {step.output}
    match step.happening:
        case Happening.ACKNOWLEDGED:
            return lot.missing - output, lot.queued - output, lot.left_out - output
        case Happening.QUEUED:
            return lot.missing, lot.queued | output, lot.left_out - output
        case Happening.LEFT_OUT:
            return lot.missing, lot.queued - output, lot.left_out | output


def _blob_rows(step: Step, waiting_for: set[str]) -> Iterator[tuple[object, ...]]:
    """The rows of the blobs that stay unfinished, where the tables have to know more than the batch's.

    `waiting_for` are the outputs that the batch still waits for.
    """
    for lot in step.lots:
        missing, queued, left_out = _after(step, lot)
        if not missing:
            continue
        row = _blob_row(lot, missing, queued, left_out)
        # The batch's row says who has it queued. But who was left out is in no batch's row any more: it is
        # fetched again for them, and not for those that have it queued.
        is_told = step.happening is Happening.QUEUED and missing <= waiting_for & lot.on_way
        if row[0] != _KNOWN or not is_told:
            yield row


def _blob_row(lot: Lot, missing: set[str], queued: set[str], left_out: set[str]) -> tuple[object, ...]:
    """The columns of a blob's UPDATE: its state, who lacks it, and its figures."""
    state = _QUEUED if missing <= queued else _LEFT_OUT if missing <= queued | left_out else _KNOWN
    return (state, _json(missing), _json(queued) if queued else None, lot.records, lot.duplicates, lot.blob)


def _json(outputs: Iterable[str]) -> str:
    return json.dumps(sorted(outputs))
