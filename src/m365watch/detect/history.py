"""What analysts have made of alerts, change by change: the alert itself knows only the last one."""

from __future__ import annotations

import sqlite3

from m365watch.detect.kept import AlertState
from m365watch.values import dataclass

CHANGES_MAX = 200
"""Changes of one alert that are kept, the latest ones."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One change of an alert's state."""

    at_ms: int
    state: AlertState
    reason: str
    by: str


class StateHistory:
    """The table of them, in the file of detections."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def add(self, alert_id: str, change: StateChange) -> None:
        """Keep one more change."""
        self._database.execute(
            "INSERT INTO history (alert, at, state, reason, changed_by) VALUES (?, ?, ?, ?, ?)",
            (alert_id, change.at_ms, str(change.state), change.reason, change.by),
        )
        self._database.execute(
            "DELETE FROM history WHERE alert = ? AND number NOT IN"
            " (SELECT number FROM history WHERE alert = ? ORDER BY number DESC LIMIT ?)",
            (alert_id, alert_id, CHANGES_MAX),
        )

    def list(self, alert_id: str) -> list[StateChange]:
        """The changes of an alert, the first one first."""
        rows = self._database.execute(
            "SELECT at, state, reason, changed_by FROM history WHERE alert = ? ORDER BY number", (alert_id,)
        )
        return [StateChange(at_ms, AlertState(state), reason, by) for at_ms, state, reason, by in rows]

    def move(self, alert_id: str, *, became: str) -> None:
        """The alert goes; what was made of it belongs to the one that it became."""
        self._database.execute("UPDATE history SET alert = ? WHERE alert = ?", (became, alert_id))

    def forget(self, *, before_ms: int) -> None:
        """Let go of what was made of alerts that ended before, or went before."""
        forget_left(self._database, "history", before_ms=before_ms)


def forget_left(database: sqlite3.Connection, table: str, *, before_ms: int) -> None:
    """Let go of what the table has of alerts that ended before, and of withdrawn ones, if it is as old.

    One that was withdrawn may come back: a rule is changed there and back, records come late.
    """
    database.execute(
        f"DELETE FROM {table} WHERE alert IN (SELECT id FROM alert WHERE last < ?)"  # noqa: S608 - our own names
        " OR (alert NOT IN (SELECT id FROM alert)"
        f" AND alert NOT IN (SELECT alert FROM {table} WHERE at >= ?))",
        (before_ms, before_ms),
    )
