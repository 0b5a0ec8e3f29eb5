"""The listed spans of a feed: what a window adds to them."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from m365watch.ledger import reading
from m365watch.ledger.bounds import HORIZON
from m365watch.model import Window


def cover(connection: sqlite3.Connection, feed: int, window: Window, *, at: datetime) -> None:
    """Know `window` of the feed with the number `feed` as listed, and when; the caller commits."""
    start_s, end_s = int(window.start.timestamp()), int(window.end.timestamp())
    spans = [*connection.execute("SELECT start_s, end_s FROM coverage WHERE feed = ?", (feed,))]
    spans.append((start_s, end_s))
    oldest = int((at - HORIZON).timestamp())
    connection.execute("DELETE FROM coverage WHERE feed = ?", (feed,))
    connection.executemany(
        "INSERT INTO coverage VALUES (?, ?, ?)",
        [(feed, max(start, oldest), end) for start, end in reading.merged(spans) if end > oldest],
    )
    connection.execute("UPDATE feed SET listed_at = ? WHERE id = ?", (at.timestamp(), feed))
