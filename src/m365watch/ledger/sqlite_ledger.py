"""The listed spans of a feed: what a window adds to them."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta

from m365watch.common.model import Window
from m365watch.ledger import queries_reading as reading
from m365watch.ledger.limits import HORIZON

AHEAD_MAX = timedelta(minutes=5)
"""Coverage further in the future than this was made by a clock that was wrong; it is not believed."""


def cover(connection: sqlite3.Connection, feed: int, window: Window, *, at: datetime) -> None:
    """Know `window` of the feed with the number `feed` as listed, and when; the caller commits.

    What of it comes after `at` is not: nobody can list the future.
    """
    start_s, end_s = int(window.start.timestamp()), int(min(window.end, at).timestamp())
    spans = [*connection.execute("SELECT start_s, end_s FROM coverage WHERE feed = ?", (feed,))]
    if start_s < end_s:
        spans.append((start_s, end_s))
    oldest = int((at - HORIZON).timestamp())
    connection.execute("DELETE FROM coverage WHERE feed = ?", (feed,))
    connection.executemany(
        "INSERT INTO coverage VALUES (?, ?, ?)",
        [(feed, max(start, oldest), end) for start, end in reading.merged(spans) if end > oldest],
    )
    connection.execute("UPDATE feed SET listed_at = ? WHERE id = ?", (at.timestamp(), feed))


def add_gap(connection: sqlite3.Connection, feed: int, span: Window, *, at: datetime) -> int:
    """Count `span` as never listed and lost; how many seconds of it are news. The caller commits."""
    start_s, end_s = int(span.start.timestamp()), int(span.end.timestamp())
    row = connection.execute(
        "SELECT end_s FROM gap WHERE feed = ? AND start_s = ?", (feed, start_s)
    ).fetchone()
    new_s = end_s - (row[0] if row else start_s)
    if new_s > 0:
        values = (feed, start_s, end_s, at.timestamp())
        connection.execute("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?)", values)
    return max(0, new_s)


def take_back(connection: sqlite3.Connection, feed: int, *, since: datetime, now: datetime) -> int:
    """Undo what a clock that was ahead left; how many seconds no longer count as lost. The caller commits.

    Nothing is lost that can be listed, from `since` on. Where coverage reaches beyond `now`, what of it lies
    before may be as wrong: the 7 days are due to be listed again.
    """
    now_s, since_s = int(now.timestamp()), int(since.timestamp())
    gaps = "SELECT total(end_s - max(start_s, ?)) FROM gap WHERE feed = ? AND end_s > ?"
    back_s = int(connection.execute(gaps, (since_s, feed, since_s)).fetchone()[0])
    if back_s:
        connection.execute("DELETE FROM gap WHERE feed = ? AND start_s >= ?", (feed, since_s))
        connection.execute("UPDATE gap SET end_s = ? WHERE feed = ? AND end_s > ?", (since_s, feed, since_s))
    (end_s,) = connection.execute("SELECT max(end_s) FROM coverage WHERE feed = ?", (feed,)).fetchone()
    if end_s is not None and end_s > now_s + AHEAD_MAX.total_seconds():
        connection.execute("DELETE FROM coverage WHERE feed = ? AND start_s >= ?", (feed, now_s))
        connection.execute("UPDATE coverage SET end_s = ? WHERE feed = ? AND end_s > ?", (now_s, feed, now_s))
        connection.execute("UPDATE feed SET relisted_at = NULL WHERE id = ?", (feed,))
    return back_s
