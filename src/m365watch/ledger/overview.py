"""What the ledger says of some feeds' blobs at a glance, for a diagnosis; read only, beside a collector."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from m365watch.common.model import Feed
from m365watch.ledger.queries_reading import instant

_SUMS = (
    "SELECT total(state IN (1, 4, 5) OR (finished_s IS NULL AND missing IS NOT NULL)),"
    " total(state = 0 AND missing IS NULL), max(CASE WHEN state = 1 THEN finished_s END)"
    " FROM blob JOIN feed ON feed.id = blob.feed WHERE tenant_id = ? AND content_type = ?"
)
_LAST_ERROR = (
    "SELECT blob.last_error FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = ? AND content_type = ? AND state = 0 AND attempts > 0 ORDER BY next_try_s LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Overview:
    """The blobs of some feeds that the ledger has not forgotten."""

    fetched: int
    waiting: int
    """To be fetched."""
    last_error: str | None
    """Why one of those could not be fetched; None where none has failed."""
    delivered_at: datetime | None
    """When a blob last became delivered."""


def overview_of(connection: sqlite3.Connection, feeds: Collection[Feed]) -> Overview:
    """The sums over `feeds`."""
    fetched = waiting = 0
    delivered: list[datetime] = []
    error: str | None = None
    for feed in feeds:
        named = (feed.tenant_id, str(feed.content_type))
        done, known, finished = connection.execute(_SUMS, named).fetchone()
        fetched, waiting = fetched + int(done), waiting + int(known)
        delivered += [at] if (at := instant(finished)) else []
        row = connection.execute(_LAST_ERROR, named).fetchone()
        error = error or (str(row[0]) if row and row[0] else None)
    return Overview(fetched, waiting, error, max(delivered, default=None))


def last_batches(connection: sqlite3.Connection) -> dict[str, int]:
    """The last batch that each output has acknowledged, by its name."""
    rows = connection.execute("SELECT name, last_batch FROM output").fetchall()
    return {str(name): int(number) for name, number in rows}
