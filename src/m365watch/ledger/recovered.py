"""What the ledger says of recovered blobs; read only, in a bounded number of rows per feed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

_OF_PREFIX = (
    " FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE tenant_id = :tenant AND content_id >= :prefix AND content_id < :beyond"
)
# State 2 is quarantined: it may be put back as long as its body is kept.
_WANTED = f"SELECT content_type, content_id{_OF_PREFIX} AND (finished_s IS NULL OR state = 2)"
_SUMS = (
    "SELECT content_type, total(records), total(duplicates), total(finished_s IS NULL), total(state = 2),"  # noqa: S608 - our own text
    f" total((SELECT count(*) FROM quarantine WHERE quarantine.blob = blob.key)){_OF_PREFIX}"
    " AND substr(content_id, :skip, instr(substr(content_id, :skip), ':') - 1)"
    " IN (SELECT value FROM json_each(:queries)) GROUP BY content_type"
)


@dataclass(frozen=True, slots=True)
class RecoveredSums:
    """What came of the recovered blobs of one content type."""

    records: int
    """Records that were new, and are durable at every output."""
    duplicates: int
    """Records that had been delivered before."""
    blobs_unfinished: int
    """Blobs that still wait, or whose records are in an output's queue."""
    blobs_quarantined: int
    pieces: int
    """Pieces of them in quarantine."""


def wanted_bodies(connection: sqlite3.Connection, tenant_id: str, *, prefix: str) -> set[tuple[str, str]]:
    """Content type and content id of each recovered blob whose body may still be asked for."""
    return {(row[0], row[1]) for row in connection.execute(_WANTED, _names(tenant_id, prefix))}


def recovered_sums(
    connection: sqlite3.Connection, tenant_id: str, *, prefix: str, queries: Sequence[str]
) -> dict[str, RecoveredSums]:
    """What came of the blobs of `queries`, by content type."""
    values = _names(tenant_id, prefix) | {"skip": len(prefix) + 1, "queries": json.dumps(list(queries))}
    return {row[0]: RecoveredSums(*map(int, row[1:])) for row in connection.execute(_SUMS, values)}


def _names(tenant_id: str, prefix: str) -> dict[str, object]:
    return {"tenant": tenant_id, "prefix": prefix, "beyond": prefix[:-1] + chr(ord(prefix[-1]) + 1)}
