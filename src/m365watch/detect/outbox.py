"""What has to be told of alerts, as the file of detections keeps it: each waits once, and says the newest."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from m365watch.detect.alert import Alert, AlertId
from m365watch.detect.kept import News, Notice, decode_alert

OUTBOX_MAX = 100_000
"""Alerts that wait to be told of; each waits once, however often it changes."""


class Outbox:
    """The table."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def put(self, what: News, alert: Alert) -> None:
        """Let an alert be told of; what waits says the newest, and stays new while nobody was told."""
        row = self._database.execute("SELECT what FROM outbox WHERE alert = ?", (alert.id,)).fetchone()
        waiting = row[0] if row else None
        if waiting == News.NEW and what is News.WITHDRAWN:
            self._database.execute("DELETE FROM outbox WHERE alert = ?", (alert.id,))
            return
        if waiting == News.NEW:
            what = News.NEW
        elif waiting == News.WITHDRAWN and what is News.NEW:
            # It was told once, and nobody has heard yet that it was gone in between.
            what = News.UPDATED
        self._database.execute(
            "INSERT OR REPLACE INTO outbox (alert, what, body) VALUES (?, ?, ?)",
            (alert.id, str(what), msgspec.json.encode(alert)),
        )
        self._database.execute(
            "DELETE FROM outbox WHERE number <= (SELECT max(number) FROM outbox) - ?", (OUTBOX_MAX,)
        )

    def hand_over(self, former: AlertId) -> bool:
        """Forget what waits to be told of an alert that became another; whether nobody has heard of it."""
        row = self._database.execute("SELECT what FROM outbox WHERE alert = ?", (former,)).fetchone()
        self._database.execute("DELETE FROM outbox WHERE alert = ?", (former,))
        return bool(row and row[0] == News.NEW)

    def list_waiting(self, *, most: int = 1_000) -> list[Notice]:
        """What has to be told, the oldest first."""
        rows = self._database.execute(
            "SELECT number, what, body FROM outbox ORDER BY number LIMIT ?", (most,)
        )
        return [Notice(number, News(what), decode_alert(body)) for number, what, body in rows]

    def forget(self, numbers: Iterable[int]) -> None:
        """These have been told."""
        self._database.executemany("DELETE FROM outbox WHERE number = ?", [(one,) for one in numbers])

    def keep(self, *, since_ms: int, besides: frozenset[str]) -> None:
        """Let what is older, or is known elsewhere, be told no more."""
        rows = self._database.execute(
            "SELECT outbox.alert FROM outbox LEFT JOIN alert ON alert.id = outbox.alert"
            " WHERE last IS NULL OR last < ?",
            (since_ms,),
        ).fetchall()
        gone = {row[0] for row in rows} | besides
        self._database.executemany("DELETE FROM outbox WHERE alert = ?", [(one,) for one in sorted(gone)])
