"""The blobs that wait after tries that failed, summed by feed: for who looks at many tenants at once."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from m365watch.common.model import Feed
from m365watch.ledger.queries_reading import feed_of

# The bare column beside max() is that of the row with the maximum: so it is written of SQLite.
_TRIED = (
    "SELECT tenant_id, content_type, count(*), blob.last_error, max(next_try_s)"
    " FROM feed JOIN blob ON blob.feed = feed.id AND state = 0 AND finished_s IS NULL AND attempts > 0"
    " GROUP BY feed.id"
)


@dataclass(frozen=True, slots=True)
class TriedInVain:
    """A feed's blobs that wait after at least one failed round of tries."""

    blobs: int
    last_error: str
    """Why the one that waits longest could not be fetched."""


def tried_in_vain(connection: sqlite3.Connection) -> dict[Feed, TriedInVain]:
    """Those feeds that have any."""
    return {
        feed_of(tenant_id, content_type): TriedInVain(blobs, str(error or "it was not said why"))
        for tenant_id, content_type, blobs, error, _ in connection.execute(_TRIED).fetchall()
    }
