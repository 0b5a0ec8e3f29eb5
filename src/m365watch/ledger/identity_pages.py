"""The identities that are in memory: those of batches whose rows are not merged into the table yet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from math import ceil

from m365watch.common.model import BlobKey
from m365watch.records.identity import IDENTITY_BYTES
from m365watch.storage.database import Database

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


ROW_BYTES = IDENTITY_BYTES + OWNER_BYTES
"""An identity and, behind it, the key of the blob that brought it."""
PAGE_COUNT = 180
"""Identities of a full page: two such pages fill one of the file's, of 8 KiB."""
_FULL_SHARE = 0.75
"""A page that is as full as that is left alone by what comes behind its last one."""
_FEW = 8
"""So many identities are sought, or put in, one by one; for more of them a page is taken apart."""
_AROUND = """
SELECT (SELECT rows FROM identity_page WHERE first <= ?1 ORDER BY first DESC LIMIT 1),
    (SELECT first FROM identity_page WHERE first > ?1 ORDER BY first LIMIT 1)
"""
_READ = "SELECT rows FROM identity_page WHERE first > ? ORDER BY first LIMIT ?"
_READ_ON = """
SELECT rows FROM identity_page WHERE first >= ifnull(
    (SELECT first FROM identity_page WHERE first <= ?1 ORDER BY first DESC LIMIT 1), x'')
ORDER BY first LIMIT ?2
"""
_COUNT = "SELECT ifnull(sum(length(rows)), 0) FROM identity_page"
_COUNT_SOME = "SELECT ifnull(sum(length(rows)), 0) FROM (SELECT rows FROM identity_page LIMIT ?)"


class StoredIdentities:
    """The table of pages; works on the ledger's connection, inside its transactions.

    No two pages overlap, and in none is an identity twice.
    """

    def __init__(self, connection: Database, *, page_count: int = PAGE_COUNT) -> None:
        """Nothing is read yet but whether there is any; no page gets more than `page_count` of them."""
        self._connection = connection
        self._page_count = page_count
        self._evicted_to = b""
        self.is_empty = not connection.execute("SELECT rows FROM identity_page LIMIT 1").fetchall()
        """Whether the table has surely none."""

    def owners(self, identities: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of `identities`, which are in order, that are stored, each with its owner's key."""
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(identities):
            page, end = self._page_for(identities, at)
            if page:
                found.update(_owners_in(page, identities[at:end]))
            at = end
        return found

    def add(self, rows: Sequence[bytes]) -> None:
        """Store `rows`, which are in order, none twice; an identity that is stored already stays as it is."""
        self.is_empty = False
        at = 0
        while at < len(rows):
            page, end = self._page_for(rows, at)
            self._put(page, rows[at:end])
            at = end

    def _page_for(self, some: Sequence[bytes], at: int) -> tuple[bytes, int]:
        """The page that `some[at]` belongs to, empty for none, and the place of the first one beyond it."""
        page, next_first = self._connection.execute(_AROUND, (some[at][:IDENTITY_BYTES],)).fetchone()
        return page or b"", len(some) if next_first is None else bisect_left(some, next_first, at)

    def _put(self, page: bytes, rows: Sequence[bytes]) -> None:
        """Put `rows` into the page, none of which belongs before it, or between pages where it is empty."""
        if page and len(rows) <= _FEW and len(page) // ROW_BYTES + len(rows) <= self._page_count:
            merged = page
            for row in rows:
                merged = _with_row(merged, row)
            self._rewrite(merged)
            return
        overlaps = page[-ROW_BYTES:-OWNER_BYTES] >= rows[0][:IDENTITY_BYTES]
        if overlaps or (page and len(page) < _FULL_SHARE * self._page_count * ROW_BYTES):
            # What is known already comes last, and stays.
            every = {row[:IDENTITY_BYTES]: row for row in chain(rows, _rows_of(page))}
            first, *others = self._pages_of(sorted(every.values()))
            self._rewrite(first)
            self._insert(others)
        else:
            self._insert(self._pages_of(rows))

    def _pages_of(self, rows: Sequence[bytes]) -> list[bytes]:
        """As few pages as hold `rows`, none of them much shorter than another."""
        if not rows:
            return []
        size = ceil(len(rows) / ceil(len(rows) / self._page_count))
        return [b"".join(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _rewrite(self, page: bytes) -> None:
        self._connection.execute(
            "UPDATE identity_page SET rows = ? WHERE first = ?", (page, page[:IDENTITY_BYTES])
        )

    def _insert(self, pages: Iterable[bytes]) -> None:
        self._connection.executemany(
            "INSERT INTO identity_page VALUES (?, ?)", [(page[:IDENTITY_BYTES], page) for page in pages]
        )

    def read(self, after: bytes, count: int) -> tuple[list[bytes], bytes | None]:
        """Some `count` identities beyond `after`, and up to where; None: up to the end of the table.

        Who reads on from there has read, at the end, all that were stored all the time, however they
        were put into other pages meanwhile.
        """
        # The page that `after` is in may have more behind it by now.
        limit = 2 + count // self._page_count
        pages = self._connection.execute(_READ_ON, (after, limit)).fetchall()
        found = [
            page[place : place + IDENTITY_BYTES]
            for (page,) in pages
            for place in range(0, len(page), ROW_BYTES)
        ]
        return found[bisect_right(found, after) :], found[-1] if len(pages) == limit else None

    def count(self, *, up_to: int | None = None) -> int:
        """How many there are; beyond `up_to` it need not be exact."""
        if up_to is None:
            ((size_bytes,),) = self._connection.execute(_COUNT).fetchall()
        else:
            ((size_bytes,),) = self._connection.execute(_COUNT_SOME, (up_to + 1,)).fetchall()
        return int(size_bytes) // ROW_BYTES

    def evict(self, before: bytes, *, count: int) -> tuple[int, bool]:
        """Drop, of the next `count`, what owners below `before` brought: how many, and whether more follow.

        The pages that it has gone through are full again.
        """
        limit = max(1, count // self._page_count)
        pages = [page for (page,) in self._connection.execute(_READ, (self._evicted_to, limit))]
        rows = [row for page in pages for row in _rows_of(page)]
        kept = [row for row in rows if row[IDENTITY_BYTES:] >= before]
        if len(kept) < len(rows):
            self._connection.executemany(
                "DELETE FROM identity_page WHERE first = ?", [(page[:IDENTITY_BYTES],) for page in pages]
            )
            self._insert(self._pages_of(kept))
        is_more = len(pages) == limit
        self._evicted_to = rows[-1][:IDENTITY_BYTES] if is_more else b""
        return len(rows) - len(kept), is_more


def _rows_of(page: bytes) -> list[bytes]:
    return [page[place : place + ROW_BYTES] for place in range(0, len(page), ROW_BYTES)]


def _owners_in(page: bytes, identities: Sequence[bytes]) -> dict[bytes, bytes]:
    if len(identities) > _FEW:
        owners = {row[:IDENTITY_BYTES]: row[IDENTITY_BYTES:] for row in _rows_of(page)}
        return {one: owners[one] for one in identities if one in owners}
    found = {}
    for one in identities:
        start = _place_in(page, one)
        if page.startswith(one, start):
            found[one] = page[start + IDENTITY_BYTES : start + ROW_BYTES]
    return found


def _with_row(page: bytes, row: bytes) -> bytes:
    """The page with `row` in its place, if its identity is not there already."""
    identity = row[:IDENTITY_BYTES]
    start = _place_in(page, identity)
    return page if page.startswith(identity, start) else page[:start] + row + page[start:]


def _place_in(page: bytes, identity: bytes) -> int:
    """Where in the page the first row begins that is not before `identity`."""
    return ROW_BYTES * bisect_left(
        range(len(page) // ROW_BYTES),
        identity,
        key=lambda number: page[number * ROW_BYTES : number * ROW_BYTES + IDENTITY_BYTES],
    )
