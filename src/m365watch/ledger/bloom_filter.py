"""A Bloom filter in front of the store of identities: what is surely new is not looked up.

It says "new" only of what is new: everything in the table is in the filter. What it says of
the rest ("may be known") is worth a look into the table and nothing else, so a false answer
costs a read and never a record. It lives in memory alone and is made from the table, which
takes half a microsecond an identity: a short run on a large ledger does without.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rbloom import Bloom

from m365watch.ledger.identity_pages import StoredIdentities
from m365watch.ledger.limits import IN_EARNEST, LedgerBounds

SIZE_MAX = 100_000_000
"""The most identities that a filter is made for beforehand: 100 MB. It still grows with the table."""
_ROOM, _ROOM_MAX = 3, 24_000_000
"""How many times what the table holds a filter has room for, so that it is seldom made anew, and how
many identities more at most."""
_WORTH = 4
"""A filter nobody asked for is made once a quarter as many identities were looked up as the table holds."""


@dataclass(frozen=True, slots=True)
class FilterSizes:
    """What the configuration says of the filter."""

    size: int | None
    """Devo's `override_bloom_filter_size`: the identities to make room for.

    None: `LedgerBounds.filter_count`, and not before it pays.
    """
    buffer_size: int | None
    """Devo's `override_bloom_filter_buffer_size`: the identities in memory before they go to the table."""


@dataclass(slots=True)
class _Filling:
    """A filter that is being made from the table."""

    bloom: Bloom
    room: int
    read_to: bytes = b""
    """Every identity of the table up to this one is in it."""


class FrontFilter:
    """Tells which identities are surely not in the table; none is before the table has been read."""

    def __init__(
        self, stored: StoredIdentities, *, size: int | None, bounds: LedgerBounds = IN_EARNEST
    ) -> None:
        """Reads what is `stored`; makes room for `size` identities or more.

        Without `size` it is made only once it pays.
        """
        self._stored = stored
        self._bounds = bounds
        self._size = min(size or bounds.filter_count, SIZE_MAX)
        self._pays = size is not None
        self._looked_up = 0
        self._look_at = 0
        self._bloom: Bloom | None = None
        self._room = 0
        self._filling: _Filling | None = None
        self.made = 0
        """How many filters were made, one after the other."""

    @property
    def answers(self) -> bool:
        """Whether there is a filter now that has read the whole table."""
        return self._bloom is not None

    def may_be_known(self, identities: Collection[bytes]) -> Collection[bytes]:
        """Those of `identities` that the table may have, in their order."""
        if self._bloom is None:
            self._looked_up += len(identities)
            return identities
        return list(filter(self._bloom.__contains__, identities))

    def add(self, identities: Sequence[bytes]) -> None:
        """Know identities that are about to go into the table; that may fail, then they are known in vain."""
        if self._bloom is not None:
            self._bloom.update(identities)
            self._room -= len(identities)
        if self._filling is not None:
            self._filling.bloom.update(identities)
            self._filling.room -= len(identities)

    def fill_step(self) -> bool:
        """Read a bounded piece of the table if a new filter is due; whether there was something to do.

        One is due at the start, or once it pays, and when the present one is full. Until the new
        one has read the whole table the present one answers, and both learn what is added
        meanwhile. What was evicted from the table is left behind with the old one.
        """
        if self._filling is None:
            if self._room > 0 or not (self._pays or self._begins_to_pay()):
                return False
            self._filling = self._begin()
        filling = self._filling
        identities, read_to = self._stored.read(filling.read_to, self._bounds.filter_step_count)
        filling.bloom.update(identities)
        if read_to is not None:
            filling.read_to = read_to
        else:
            self._bloom, self._room, self._filling = filling.bloom, filling.room, None
            self.made += 1
        return True

    def _begins_to_pay(self) -> bool:
        """Whether enough was looked up for the table's size, of which no more is counted than need be."""
        if self._looked_up < self._look_at:
            return False
        count_max = _WORTH * self._looked_up
        self._pays = self._stored.count(up_to=count_max) <= count_max
        self._look_at = 2 * self._looked_up
        return self._pays

    def _begin(self) -> _Filling:
        stored = self._stored.count()
        size = max(self._size, min(_ROOM * stored, stored + _ROOM_MAX))
        if size > self._bounds.filter_both_max:
            self._bloom = None
        bloom = Bloom(size, self._bounds.filter_false_share, self._bounds.filter_hash)
        return _Filling(bloom, size - stored)
