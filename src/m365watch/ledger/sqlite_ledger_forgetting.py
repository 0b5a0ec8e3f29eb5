"""Which blobs a ledger forgets, and from which on what they brought has to stay known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from m365watch.common.model import BlobKey
from m365watch.ledger.schema import IS_OPEN

_DROP = f"""
DELETE FROM blob WHERE key IN
(SELECT key FROM blob WHERE created_us < ? AND finished_s IS NOT NULL AND (missing IS NULL OR key < ?)
 AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.blob = blob.key)
 AND key NOT IN (SELECT json_extract(part.value, '$[0]') FROM batch, json_each(batch.parts) AS part
                 WHERE {IS_OPEN}) LIMIT ?)
"""  # noqa: S608 - our own words
_HAS_LACKING = """
SELECT EXISTS (SELECT 1 FROM blob WHERE created_us < ? AND finished_s IS NOT NULL AND missing IS NOT NULL)
"""
_OLDEST = "SELECT key FROM blob WHERE created_us >= ? OR finished_s IS NULL ORDER BY key LIMIT 1"


def forget_blobs(
    connection: sqlite3.Connection, *, before_us: int, known_from: Callable[[], BlobKey], count_max: int
) -> int:
    """Forget at most `count_max` blobs that ended and were created before then; how many. The caller commits.

    A blob of which something is in quarantine stays: it is the name of what is kept. So does one in a batch
    that some output has not acknowledged, of which that may yet refuse a record; and one that is
    lost to some outputs and at others, until `known_from` says that its records are forgotten as well: it
    alone tells that a record of it which comes again is no duplicate everywhere.
    """
    has_lacking = connection.execute(_HAS_LACKING, (before_us,)).fetchone()[0]
    lacking_before = known_from() if has_lacking else 0
    return connection.execute(_DROP, (before_us, lacking_before, count_max)).rowcount


def oldest_needed(connection: sqlite3.Connection, *, before_us: int) -> BlobKey | None:
    """The oldest blob that may be listed again, or waits; None where there is none."""
    row = connection.execute(_OLDEST, (before_us,)).fetchone()
    return None if row is None else BlobKey(row[0])
