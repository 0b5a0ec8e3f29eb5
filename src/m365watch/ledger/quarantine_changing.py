"""Small changes to a ledger by an operator, safe beside a running collector.

Each is one transaction that touches nothing the collector keeps in memory: pieces that are kept in
quarantine, and when a blob that waits is tried again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from m365watch.common.errors import LedgerUnusable
from m365watch.ledger.queries_reading import cure_of_version, remembered, require_ledger
from m365watch.ledger.schema import SCHEMA_VERSION
from m365watch.storage.sqlite import FAILURES, name_failure, transaction

DROPPED = "quarantine/dropped"
"""Under which name the ledger remembers what was dropped."""
_BUSY_S = 10.0
_ASKED = (
    " FROM quarantine LEFT JOIN blob ON blob.key = quarantine.blob LEFT JOIN feed ON feed.id = blob.feed"
    " WHERE instr(lower(ifnull(tenant_id || '/' || content_type, '')), lower(:feed))"
    " AND (:numbers IS NULL OR quarantine.id IN (SELECT value FROM json_each(:numbers)))"
)
_COUNT = f"SELECT count(*), total(length(body)){_ASKED}"
_DROP = f"DELETE FROM quarantine WHERE id IN (SELECT quarantine.id{_ASKED})"  # noqa: S608 - our own text
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
    with _changing(path) as connection, transaction(connection):
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
    with _changing(path) as connection, transaction(connection):
        return connection.execute(_HASTEN, (feed_part,)).rowcount


def forget_memory(path: Path, name: str) -> None:
    """Keep nothing any more of what a part of the collector has learned under `name`.

    Raises: LedgerUnusable, LedgerUnavailable.
    """
    with _changing(path) as connection, transaction(connection):
        connection.execute("DELETE FROM memory WHERE name = ?", (name,))


def read_dropped(connection: sqlite3.Connection) -> Dropped:
    """What was ever dropped."""
    body = remembered(connection, DROPPED)
    return Dropped() if body is None else msgspec.json.decode(body, type=Dropped)


@contextmanager
def _changing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may write beside the collector's own, which waits for it and is waited for."""
    require_ledger(path)
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_S)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise LedgerUnusable(
                    f"the ledger has schema {version}, this version writes {SCHEMA_VERSION}",
                    where=str(path),
                    fix=cure_of_version(version),
                )
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
    except FAILURES as error:
        raise name_failure(error, path) from error
