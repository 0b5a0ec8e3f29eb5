"""Blobs that were fetched again for some outputs, and brought more than the others had got.

The service has been seen to serve a part of a blob first. What is new in it has no place in the old blob,
whose row says that the outputs with the part lack nothing. So the blob is known once more: as one
that no output has anything of. Its next fetch brings the rest to all of them, and finds what they have known.
Its records without Id come once more with it, because nobody can tell which of them are new.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from m365watch.common.model import BlobKey

# The service creates content at milliseconds, so that the microseconds between two are free.
_KNOW_REST = (
    "INSERT INTO blob (feed, content_id, created_us, expires_us)"
    " SELECT feed, content_id, (SELECT max(created_us) + 1 FROM blob AS other WHERE other.feed = blob.feed"
    " AND other.content_id = blob.content_id AND other.created_us / 1000 = blob.created_us / 1000),"
    " expires_us FROM blob WHERE key = ?"
)


def know_rests(connection: sqlite3.Connection, blobs: Iterable[BlobKey]) -> None:
    """Let what each of `blobs` has grown by be fetched for every output; the caller commits."""
    connection.executemany(_KNOW_REST, [(blob,) for blob in blobs])
