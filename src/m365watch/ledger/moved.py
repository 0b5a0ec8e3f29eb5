"""Records whose first copy some output lacks: another blob brings them there, and owns them from then on.

The blob that brought a record first may be at one output and not at another, after a crash or with a full
queue, and may expire before it is fetched again. Until then a duplicate of its record is none for the
output that lacks it. These are few; they are kept in a table of their own, beside the store of identities.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from m365watch.common.model import BatchPart, BlobKey


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

    def __init__(self, connection: sqlite3.Connection) -> None:
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
