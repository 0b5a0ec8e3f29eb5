"""The identities that are in memory: those of batches whose rows are not merged into the table yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from m365watch.common.model import BlobKey

OWNER_BYTES = 6
"""How the table writes the key of the blob that brought an identity: big-endian, so that they compare."""


class RecentIdentities:
    """Knows them as one set, and which blob brought each only when somebody asks for it.

    Records are seldom sent twice, so nearly every batch is checked with one comparison of sets.
    """

    def __init__(self) -> None:
        """None is known."""
        self._known: set[bytes] = set()
        self._brought: dict[BlobKey, list[Sequence[bytes]]] = {}
        self._merging: list[Sequence[bytes]] = []
        self._owners: dict[bytes, BlobKey] | None = None

    def __len__(self) -> int:
        """How many are known."""
        return len(self._known)

    def oldest(self, *, besides: BlobKey) -> BlobKey:
        """The oldest blob that brought some of them, or the one given if that is older."""
        return min(besides, min(self._brought, default=besides))

    def add(self, blob: BlobKey, identities: Sequence[bytes]) -> None:
        """Know identities that were not known before; the sequence is kept and must not change."""
        if identities:
            self._known.update(identities)
            self._brought.setdefault(blob, []).append(identities)
            if self._owners is not None:
                self._owners.update(dict.fromkeys(identities, blob))

    def owners_among(self, some: set[bytes]) -> Mapping[bytes, BlobKey]:
        """The blob that brought each of those of `some` that are known; perhaps also that of others.

        The first known one costs a pass over all that is in memory, 0.1 s for a million; what comes
        after it, until the next merge, costs nothing.
        """
        if self._known.isdisjoint(some):
            return {}
        if self._owners is None:
            self._owners = {
                identity: blob
                for blob, lots in self._brought.items()
                for identity in chain.from_iterable(lots)
            }
        return self._owners

    def begin_merge(self, *, besides: Collection[BlobKey]) -> list[bytes]:
        """What is to go into the table, sorted: each identity with its owner's `OWNER_BYTES` behind it.

        It leaves out what the blobs `besides` have brought. All of it stays known until `end_merge`.
        """
        rows: list[bytes] = []
        # Until the merge has ended an owner may be asked for, and none may be missing.
        for blob in [blob for blob in self._brought if blob not in besides]:
            owner = blob.to_bytes(OWNER_BYTES, "big")
            for identities in self._brought[blob]:
                rows += [identity + owner for identity in identities]
                self._merging.append(identities)
        rows.sort()
        return rows

    def end_merge(self) -> None:
        """Forget what `begin_merge` gave: the table has it."""
        self._known.difference_update(chain.from_iterable(self._merging))
        gone = set(map(id, self._merging))
        kept = {blob: [lot for lot in lots if id(lot) not in gone] for blob, lots in self._brought.items()}
        self._brought = {blob: lots for blob, lots in kept.items() if lots}
        self._merging = []
        self._owners = None
