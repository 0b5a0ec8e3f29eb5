"""What analysts have made of alerts, change by change: the alert itself knows only the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.storage.database import Database

COLUMNS = {
    "history": "at, state, reason, changed_by",
    "closing": "at, reason, changed_by, first, last, count, severity",
}
"""Of each table that says something of alerts, what it says."""


def pass_on(database: Database, table: str, alert_id: str, *, became: str) -> None:
    """Say of `became` what the table says of the alert, too; its own rows wait for it to be there again."""
    columns = COLUMNS[table]
    database.execute(
        f"INSERT INTO {table} (alert, {columns}, origin)"  # noqa: S608 - our own names
        f" SELECT ?, {columns}, iif(origin = '', alert, origin) FROM {table} WHERE alert = ? ORDER BY rowid",
        (became, alert_id),
    )


def take_back(database: Database, table: str, alert_id: str) -> Mapping[str, int]:
    """Say of no other alert what the table said of this one.

    The alerts of which it was said, with the first row of each that went.
    """
    # What had become of it before then is its own, too.
    mine = f"(SELECT ? UNION SELECT origin FROM {table} WHERE alert = ? AND origin != '')"  # noqa: S608
    theirs = f"alert != ? AND origin IN {mine}"
    asked = (alert_id, alert_id, alert_id)
    found = database.execute(
        f"SELECT alert, min(rowid) FROM {table} WHERE {theirs} GROUP BY alert",  # noqa: S608 - our own names
        asked,
    ).fetchall()
    database.execute(f"DELETE FROM {table} WHERE {theirs}", asked)  # noqa: S608 - our own names
    return dict(found)


def forget_left(database: Database, table: str, *, before_ms: int) -> None:
    """Let go of what the table has of alerts that ended before, and of those that went, if it is as old.

    One that was withdrawn may come back: a rule is changed there and back, records come late.
    """
    database.execute(
        f"DELETE FROM {table} WHERE alert IN (SELECT id FROM alert WHERE last < ?)"  # noqa: S608 - our own names
        " OR (alert NOT IN (SELECT id FROM alert)"
        f" AND alert NOT IN (SELECT alert FROM {table} WHERE at >= ?))",
        (before_ms, before_ms),
    )


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

    def __init__(self, database: Database) -> None:
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

    def pass_on(self, alert_id: str, *, became: str) -> None:
        """The alert goes; what was made of it is said of the one that it became."""
        pass_on(self._database, "history", alert_id, became=became)

    def take_back(self, alert_id: str, *, by: str) -> set[str]:
        """The alert is there again: what was made of it is said of no other; of which ones it was.

        Nor what has come of it there since, which `by` has added.
        """
        others = take_back(self._database, "history", alert_id)
        self._database.executemany(
            "DELETE FROM history WHERE alert = ? AND number > ? AND changed_by = ?",
            [(other, number, by) for other, number in others.items()],
        )
        return set(others)

    def forget(self, *, before_ms: int) -> None:
        """Let go of what was made of alerts that ended before, or went before."""
        forget_left(self._database, "history", before_ms=before_ms)
