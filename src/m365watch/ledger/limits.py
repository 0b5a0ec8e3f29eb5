"""What bounds the ledger's memory, steps and remembrance: every number by name, as it is in earnest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from m365watch.ledger.identity_pages import PAGE_COUNT

HORIZON = timedelta(days=15)
"""How long after its contentCreated a blob and its identities are remembered: the 7 days in
which it can be listed, and 8 in which the service has been seen to send records again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBounds:
    """The numbers of one ledger. Only speed and memory depend on them, but for `horizon`."""

    horizon: timedelta = HORIZON
    """Longer than content can be listed, by more than a day: so far ahead a clock is believed."""
    blobs_forgotten_max: int = 2_000
    """Blobs that one step forgets."""
    merge_count: int = 220_000
    """Identities in memory from which on batches are merged; each takes about 110 bytes there."""
    merge_count_min: int = 10_000
    """The least that a configuration can make of it: a full batch, which would otherwise be a merge by
    itself."""
    merge_again_share: float = 0.3
    """How much of that is enough once the table has some: a short run does without merging, and the cache and
    the filter of a table take the room of what is merged. Not where the configuration says how many."""
    merge_share: float = 0.125
    """How much of that is merged at once: while it is sorted nothing else computes, for 0.3 ms a thousand."""
    step_count: int = 8_192
    """Identities that one step of a merge stores: about 5 ms."""
    page_count: int = PAGE_COUNT
    """Identities of a full page of the table."""
    merge_pause_calls: int = 20
    """How often a merge is not looked for after one look that found little: with the collector's upkeep,
    5 s."""
    identities_forgotten_max: int = 20_000
    """Identities that one step goes through, and rows of what outputs hold that one step forgets."""
    filter_count: int = 4_000_000
    """What the first filter has room for where nobody says: 4 MB, a week of most tenants."""
    filter_step_count: int = 50_000
    """Identities that are read into a new filter in one step: about 25 ms."""
    filter_both_max: int = 16_000_000
    """A filter for more than that takes the place of the present one before it is filled, not after: memory
    is bounded, and until it is full the table is asked for everything."""
    filter_false_share: float = 0.02
    """Of new identities, how many are looked up all the same; a byte of memory an identity."""
    filter_hash: Callable[[bytes], int] | None = None
    """What the filter makes of an identity, as a signed number of 128 bits; None: Python's own hash, which
    is the fastest and another one in each process."""


IN_EARNEST = LedgerBounds()
"""What every run has."""
