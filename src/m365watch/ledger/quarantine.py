"""Blobs and quarantined pieces by name, for an operator who asks; read only, beside a collector."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from m365watch.common.model import BlobState, Feed
from m365watch.common.timestamps import instant_of_us, us_of
from m365watch.ledger.ledger_database import name_failure, open_ledger
from m365watch.ledger.lock import hold_ledger
from m365watch.ledger.queries import feed_of, instant, instant_s, remembered, require_ledger
from m365watch.ledger.schema import LEDGER
from m365watch.storage.database import FAILURES, Database, connect

DROPPED = "quarantine/dropped"
"""Under which name the ledger remembers what was dropped."""
_BUSY_S = 10.0
_CHOSEN = (
    " FROM quarantine LEFT JOIN blob ON blob.key = quarantine.blob LEFT JOIN feed ON feed.id = blob.feed"
    " WHERE instr(lower(ifnull(tenant_id || '/' || content_type, '')), lower(:feed))"
    " AND (:numbers IS NULL OR quarantine.id IN (SELECT value FROM json_each(:numbers)))"
)
_COUNT = f"SELECT count(*), total(length(body)){_CHOSEN}"
_DROP = f"DELETE FROM quarantine WHERE id IN (SELECT quarantine.id{_CHOSEN})"  # noqa: S608 - our own text
_HASTEN = (
    "UPDATE blob SET next_try_s = 0"
    " WHERE state = 0 AND finished_s IS NULL AND attempts > 0 AND next_try_s > 0"
    " AND feed IN (SELECT id FROM feed WHERE instr(lower(tenant_id || '/' || content_type), lower(?)))"
)


@dataclass(frozen=True, slots=True)
class PiecesAsked:
    """Which pieces are meant."""

    numbers: Sequence[int] = ()
    """Empty: all."""
    feed_part: str = ""
    """Part of the feed's name (tenant/Audit.Exchange), in any case."""

    def values(self) -> dict[str, object]:
        """The parameters of a statement."""
        return {
            "feed": self.feed_part,
            "numbers": json.dumps(list(self.numbers)) if self.numbers else None,
        }


class Dropped(msgspec.Struct, frozen=True):
    """What was ever dropped from quarantine."""

    pieces: int = 0
    size_bytes: int = 0
    last_at: datetime | None = None


def count_pieces(path: Path, asked: PiecesAsked) -> tuple[int, int]:
    """How many pieces are meant, and how many bytes they have.

    Raises: LedgerUnusable, LedgerUnavailable.
    """
    with _changing(path) as connection:
        pieces, size_bytes = connection.execute(_COUNT, asked.values()).fetchone()
    return int(pieces), int(size_bytes)


def drop_pieces(path: Path, asked: PiecesAsked, *, at: datetime) -> int:
    """How many pieces were removed for good; their sum stays, in plain sight.

    Raises: LedgerUnusable, LedgerUnavailable: nothing was removed.
    """
    with _changing(path) as connection, connection.transaction():
        pieces, size_bytes = connection.execute(_COUNT, asked.values()).fetchone()
        if not pieces:
            return 0
        before = read_dropped(connection)
        sums = Dropped(before.pieces + pieces, before.size_bytes + int(size_bytes), at)
        connection.execute(_DROP, asked.values())
        connection.execute(
            "INSERT OR REPLACE INTO memory VALUES (?, ?)", (DROPPED, msgspec.json.encode(sums).decode())
        )
    return int(pieces)


def hasten(path: Path, *, feed_part: str) -> int:
    """How many blobs that waited for their next try are due now.

    Raises: LedgerUnusable, LedgerUnavailable.
    """
    with _changing(path) as connection, connection.transaction():
        return connection.execute(_HASTEN, (feed_part,)).rowcount


def forget_memory(path: Path, name: str) -> None:
    """Keep nothing any more of what a part of the collector has learned under `name`.

    Raises: LedgerUnusable, LedgerUnavailable.
    """
    with _changing(path) as connection, connection.transaction():
        connection.execute("DELETE FROM memory WHERE name = ?", (name,))


def read_dropped(connection: Database) -> Dropped:
    """What was ever dropped."""
    body = remembered(connection, DROPPED)
    return Dropped() if body is None else msgspec.json.decode(body, type=Dropped)


@contextmanager
def _changing(path: Path) -> Iterator[Database]:
    """A connection that may write beside the collector's own, which waits for it and is waited for."""
    require_ledger(path)
    try:
        with closing(connect(path, mode="rw", timeout_s=_BUSY_S)) as connection:
            connection.require(LEDGER)
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except FAILURES as error:
        raise name_failure(error, path) from error


_FEEDS = "SELECT id FROM feed WHERE instr(lower(tenant_id || '/' || content_type), lower(?))"
_PUT_BACK = (
    "UPDATE blob SET state = 0, attempts = 0, next_try_s = 0, last_error = NULL, finished_s = NULL"
    " WHERE feed = :feed AND state = 2 AND expires_us > :now AND records IS NULL"
)
_MEANT = (
    " AND (:numbers IS NULL OR key IN"
    " (SELECT blob FROM quarantine WHERE id IN (SELECT value FROM json_each(:numbers))))"
)
_COUNT_LEFT = "SELECT count(*) FROM blob WHERE feed = :feed AND state = 2"
_UNCOUNT = "UPDATE feed SET blobs_quarantined = blobs_quarantined - ? WHERE id = ?"


@dataclass(frozen=True, slots=True)
class PutBack:
    """What came of putting blobs back."""

    waiting: int
    """Blobs that were quarantined and wait again."""
    left: int
    """Blobs that stay in quarantine: no longer served, or their records are in some output already."""


def put_back(path: Path, *, feed_part: str, now: datetime, numbers: Sequence[int] = ()) -> PutBack:
    """Let the quarantined blobs of the ledger at `path` wait again; with `feed_part` only of feeds so named.

    With `numbers`, only the blobs of these pieces.

    Two kinds are left alone. Of one that has expired there is nothing to fetch. One whose records had
    reached some output, before a crash had it fetched again and something else came, would arrive twice
    there. So no record of what is put back is in any output. The pieces that were kept of it stay.

    Raises: LedgerHeld: a collector is running; LedgerUnusable: there is no ledger; LedgerUnavailable.
    """
    require_ledger(path)
    lock = hold_ledger(path)
    try:
        with closing(open_ledger(path)) as connection:
            asked = json.dumps(list(numbers)) if numbers else None
            return _put_back(connection, feed_part, asked, now_us=us_of(now))
    except FAILURES as error:
        raise name_failure(error, path) from error
    finally:
        lock.release()


def _put_back(connection: Database, feed_part: str, numbers: str | None, *, now_us: int) -> PutBack:
    waiting = left = 0
    with connection.transaction():
        for (feed,) in connection.execute(_FEEDS, (feed_part,)).fetchall():
            values = {"feed": feed, "now": now_us, "numbers": numbers}
            again = connection.execute(_PUT_BACK + _MEANT, values).rowcount
            connection.execute(_UNCOUNT, (again, feed))
            waiting += again
            left += connection.execute(_COUNT_LEFT + _MEANT, values).fetchone()[0]
    return PutBack(waiting, left)


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


def named_blobs(connection: Database, asked: BlobsAsked) -> BlobsFound:
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


def kept_pieces(connection: Database, *, feed_part: str, count_max: int) -> PiecesFound:
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


def piece_body(connection: Database, number: int) -> bytes | None:
    """The piece's own bytes; None where there is no such piece."""
    row = connection.execute("SELECT body FROM quarantine WHERE id = ?", (number,)).fetchone()
    return None if row is None else bytes(row[0])
