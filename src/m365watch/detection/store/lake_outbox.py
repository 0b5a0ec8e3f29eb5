"""Alerts whose rows in the lake are behind: written down with whatever changes them, in its transaction."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.stored_alert import KeptAlert, kept_of
from m365watch.storage.database import Database

DAY_MS = 86_400_000


class Due(NamedTuple):
    """A row of the lake that is to be made, replaced, or taken out."""

    number: int
    """Grows with every change; a row that changes again gets a new one."""
    alert_id: AlertId
    day: date
    """The part of the table in which the row is, or was."""
    kept: KeptAlert | None
    """The alert as it is now; None where there is none to be seen."""


class LakeDue:
    """The table of them, in the file of detections."""

    def __init__(self, database: Database) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def mark(self, alert_id: str, *, first_at_ms: int) -> None:
        """The alert's row is behind."""
        self._database.execute(
            "INSERT OR REPLACE INTO lake_due (alert, day) VALUES (?, ?)", (alert_id, first_at_ms // DAY_MS)
        )

    def mark_kept(self, alert_id: str) -> None:
        """The same for an alert that is about to go or has changed its state, if it is one to be seen."""
        self._database.execute(
            "INSERT OR REPLACE INTO lake_due (alert, day)"
            " SELECT id, first / 86400000 FROM alert WHERE id = ? AND shown",
            (alert_id,),
        )

    def mark_all(self) -> None:
        """Every alert to be seen is behind: a lake is new, or was put back."""
        self._database.execute(
            "INSERT OR REPLACE INTO lake_due (alert, day)"
            " SELECT id, first / 86400000 FROM alert WHERE shown ORDER BY last, id"
        )

    def list(self, *, after: int, most: int) -> list[Due]:
        """What has become due after number `after`, in the order of the numbers."""
        rows = self._database.execute(
            "SELECT number, alert, day, body, shown, state, reason, changed_by, changed_at, low, put_back"
            " FROM lake_due LEFT JOIN alert ON id = alert AND shown AND first / 86400000 = day"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (after, most),
        )
        return [
            Due(number, AlertId(alert), day_of(day * DAY_MS), None if row[0] is None else kept_of(tuple(row)))
            for number, alert, day, *row in rows
        ]

    def newest(self) -> int:
        """The last number that was given."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'lake_due'").fetchone()
        return int(row[0]) if row else 0

    def forget(self, *, until: int) -> None:
        """All up to this number is in every lake."""
        self._database.execute("DELETE FROM lake_due WHERE number <= ?", (until,))

    def forget_alerts(self, *, before_ms: int) -> None:
        """Alerts that are too old to be kept here stay in the lake as they are."""
        self._database.execute(
            "DELETE FROM lake_due WHERE alert IN (SELECT id FROM alert WHERE last < ?)", (before_ms,)
        )


def day_of(at_ms: int) -> date:
    """The day of an instant, in UTC."""
    return instant_of_ms(at_ms).date()
