"""The feeds that a ledger knows: their numbers in it, and their figures as committed."""

from __future__ import annotations

from datetime import datetime

from m365watch.common.model import BlobKey, Feed
from m365watch.common.progress import FeedProgress
from m365watch.ledger import queries as reading
from m365watch.ledger.open_batches import Lot
from m365watch.storage.database import Database

_KNOW = (
    "INSERT INTO feed (tenant_id, content_type) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET tenant_id = tenant_id RETURNING id"
)
_OF_BLOB = "SELECT tenant_id, content_type FROM feed WHERE id = (SELECT feed FROM blob WHERE key = ?)"


def know_feed(connection: Database, feed: Feed) -> int:
    """The feed's number, given now if it had none."""
    [(number,)] = connection.execute(_KNOW, (feed.tenant_id, feed.content_type)).fetchall()
    return int(number)


class KnownFeeds:
    """Numbers are looked up once; figures are read once, and follow what is committed from then on."""

    def __init__(self, connection: Database, now: datetime) -> None:
        self._connection = connection
        self._numbers: dict[Feed, int] = {}
        self._progress = {one.feed: one for one in reading.feed_progress(connection, now)}

    def number(self, feed: Feed) -> int:
        """The feed's number; from now on it has figures."""
        if feed not in self._numbers:
            self._numbers[feed] = know_feed(self._connection, feed)
            self._progress.setdefault(feed, FeedProgress(feed))
        return self._numbers[feed]

    def of(self, blob: BlobKey) -> Feed:
        """The feed of a blob that the ledger knows."""
        [row] = self._connection.execute(_OF_BLOB, (blob,)).fetchall()
        feed = reading.feed_of(*row)
        self.number(feed)
        return feed

    def progress(self, feed: Feed) -> FeedProgress:
        """The figures of a feed that has its number, to be changed after each commit."""
        return self._progress[feed]

    def list_progress(self) -> list[FeedProgress]:
        """Every feed's figures."""
        return list(self._progress.values())

    def count_delivered(self, lot: Lot) -> None:
        """The blob of `lot` is delivered."""
        progress = self._progress[lot.feed]
        progress.blobs_waiting -= 1
        progress.blobs_delivered += 1
        progress.records_delivered += lot.records
        progress.records_duplicate += lot.duplicates
