"""Quarantined blobs put back, so that the next run fetches them again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from m365watch.common.timestamps import us_of
from m365watch.ledger.lock import hold_ledger
from m365watch.ledger.queries_reading import require_ledger
from m365watch.storage.sqlite import FAILURES, name_failure, open_database, transaction

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
        with closing(open_database(path)) as connection:
            asked = json.dumps(list(numbers)) if numbers else None
            return _put_back(connection, feed_part, asked, now_us=us_of(now))
    except FAILURES as error:
        raise name_failure(error, path) from error
    finally:
        lock.release()


def _put_back(connection: sqlite3.Connection, feed_part: str, numbers: str | None, *, now_us: int) -> PutBack:
    waiting = left = 0
    with transaction(connection):
        for (feed,) in connection.execute(_FEEDS, (feed_part,)).fetchall():
            values = {"feed": feed, "now": now_us, "numbers": numbers}
            again = connection.execute(_PUT_BACK + _MEANT, values).rowcount
            connection.execute(_UNCOUNT, (again, feed))
            waiting += again
            left += connection.execute(_COUNT_LEFT + _MEANT, values).fetchone()[0]
    return PutBack(waiting, left)
