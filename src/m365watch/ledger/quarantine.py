"""Blobs and quarantined pieces by name, for an operator who asks; read only, beside a collector."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from m365watch.common.model import BlobState, Feed
from m365watch.common.timestamps import instant_of_us
from m365watch.ledger.queries_reading import feed_of, instant, instant_s

_STATES = tuple(BlobState)
"""In the order of the ledger's numbers for them."""
_ASKED = (
    " FROM blob JOIN feed ON feed.id = blob.feed"
    " WHERE state IN (SELECT value FROM json_each(:states))"
    " AND instr(lower(tenant_id || '/' || content_type), lower(:feed))"
)
_COUNT_BLOBS = "SELECT count(*)" + _ASKED
_LIST_BLOBS = (
    "SELECT tenant_id, content_type, content_id, created_us, expires_us, state, attempts, next_try_s,"
    " blob.last_error, fix, missing, records, duplicates, finished_s"
    + _ASKED
    + " ORDER BY state = 0 AND attempts = 0, state = 1, state, created_us DESC, key LIMIT :count"
)
# A blob is forgotten some time after it was delivered or lost, the pieces that were kept of it are not.
_PIECES = (
    " FROM quarantine LEFT JOIN blob ON blob.key = quarantine.blob LEFT JOIN feed ON feed.id = blob.feed"
    " WHERE instr(lower(ifnull(tenant_id || '/' || content_type, '')), lower(:feed))"
)
_COUNT_PIECES = "SELECT count(*)" + _PIECES
_LIST_PIECES = (
    "SELECT quarantine.id, tenant_id, content_type, content_id, created_us, state, output,"
    " length(body), reason, quarantined_at" + _PIECES + " ORDER BY quarantine.id DESC LIMIT :count"
)


@dataclass(frozen=True, slots=True)
class BlobsAsked:
    """Which blobs are asked for."""

    states: Collection[BlobState]
    feed_part: str = ""
    """Part of the feed's name (tenant/Audit.Exchange), in any case."""
    count_max: int = 100


@dataclass(frozen=True, slots=True)
class NamedBlob:
    """A blob and where it stands."""

    feed: Feed
    content_id: str
    created_at: datetime
    expires_at: datetime
    """When the service stops serving it."""
    state: BlobState
    attempts: int
    next_try_at: datetime | None
    """Of a blob that waits; None where it was not tried yet, and in a final state."""
    reason: str | None
    """Why it waits, or why it ended in quarantine or as lost."""
    feed_fix: str | None
    """What a person has to do about the feed's present error."""
    missing_outputs: tuple[str, ...]
    """Of a blob that waits: the outputs that still lack it where others have it."""
    records: int | None
    duplicates: int | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class BlobsFound:
    """The first blobs of those asked for, newest first in each state.

    Those that wait after a failed try come first, then quarantined, lost and delivered ones; those that
    were not tried yet, of which a backfill has many, come last.
    """

    blobs: list[NamedBlob]
    total: int


@dataclass(frozen=True, slots=True)
class KeptPiece:
    """Bytes that could not go on and are kept: a record, what is no record, or a whole body."""

    number: int
    feed: Feed | None
    """None where the ledger has forgotten the blob that it came with."""
    content_id: str | None
    created_at: datetime | None
    blob_state: BlobState | None
    output: str
    """The output that refused it; empty where it was no record that an output could be given."""
    size_bytes: int
    reason: str
    quarantined_at: datetime


@dataclass(frozen=True, slots=True)
class PiecesFound:
    """The latest pieces in quarantine, the last one first."""

    pieces: list[KeptPiece]
    total: int


def named_blobs(connection: sqlite3.Connection, asked: BlobsAsked) -> BlobsFound:
    """The blobs that are `asked` for, and how many there are in all."""
    values = {
        "states": json.dumps([_STATES.index(state) for state in asked.states]),
        "feed": asked.feed_part,
        "count": asked.count_max,
    }
    [total] = connection.execute(_COUNT_BLOBS, values).fetchone()
    return BlobsFound([_blob(row) for row in connection.execute(_LIST_BLOBS, values)], total)


def _blob(row: tuple[object, ...]) -> NamedBlob:
    tenant_id, content_type, content_id, created, expires, state, attempts, next_try, *rest = row
    reason, fix, missing, records, duplicates, finished = rest
    known = _STATES[int(str(state))]
    return NamedBlob(
        feed=feed_of(str(tenant_id), str(content_type)),
        content_id=str(content_id),
        created_at=instant_of_us(int(str(created))),
        expires_at=instant_of_us(int(str(expires))),
        state=known,
        attempts=int(str(attempts)),
        next_try_at=instant(next_try) if known is BlobState.WAITING and attempts else None,
        reason=None if reason is None or known is BlobState.DELIVERED else str(reason),
        feed_fix=None if fix is None else str(fix),
        missing_outputs=tuple(json.loads(str(missing))) if missing else (),
        records=None if records is None else int(str(records)),
        duplicates=None if duplicates is None else int(str(duplicates)),
        finished_at=instant(finished),
    )


def kept_pieces(connection: sqlite3.Connection, *, feed_part: str, count_max: int) -> PiecesFound:
    """What is in quarantine, without its bytes; `feed_part` as in `BlobsAsked`."""
    values = {"feed": feed_part, "count": count_max}
    [total] = connection.execute(_COUNT_PIECES, values).fetchone()
    return PiecesFound([_piece(row) for row in connection.execute(_LIST_PIECES, values)], total)


def _piece(row: tuple[object, ...]) -> KeptPiece:
    number, tenant_id, content_type, content_id, created, state, output, size, reason, at = row
    return KeptPiece(
        number=int(str(number)),
        feed=None if tenant_id is None else feed_of(str(tenant_id), str(content_type)),
        content_id=None if content_id is None else str(content_id),
        created_at=None if created is None else instant_of_us(int(str(created))),
        blob_state=None if state is None else _STATES[int(str(state))],
        output=str(output),
        size_bytes=int(str(size)),
        reason=str(reason),
        quarantined_at=instant_s(float(str(at))),
    )


def piece_body(connection: sqlite3.Connection, number: int) -> bytes | None:
    """The piece's own bytes; None where there is no such piece."""
    row = connection.execute("SELECT body FROM quarantine WHERE id = ?", (number,)).fetchone()
    return None if row is None else bytes(row[0])
