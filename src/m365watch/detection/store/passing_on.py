"""What is said of an alert, row by row: it goes along when that becomes another, and back when that parts.

Late records, or other rules, join two alerts and part them again. Who looks into the one has then not
looked into the other, though they were one for a while.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

COLUMNS = {
    "history": "at, state, reason, changed_by",
    "closing": "at, reason, changed_by, first, last, count, severity",
}
"""Of each table that says something of alerts, what it says."""


def pass_on(database: sqlite3.Connection, table: str, alert_id: str, *, became: str) -> None:
    """Say of `became` what the table says of the alert, too; its own rows wait for it to be there again."""
    columns = COLUMNS[table]
    database.execute(
        f"INSERT INTO {table} (alert, {columns}, origin)"  # noqa: S608 - our own names
        f" SELECT ?, {columns}, iif(origin = '', alert, origin) FROM {table} WHERE alert = ? ORDER BY rowid",
        (became, alert_id),
    )


def take_back(database: sqlite3.Connection, table: str, alert_id: str) -> Mapping[str, int]:
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


def forget_left(database: sqlite3.Connection, table: str, *, before_ms: int) -> None:
    """Let go of what the table has of alerts that ended before, and of those that went, if it is as old.

    One that was withdrawn may come back: a rule is changed there and back, records come late.
    """
    database.execute(
        f"DELETE FROM {table} WHERE alert IN (SELECT id FROM alert WHERE last < ?)"  # noqa: S608 - our own names
        " OR (alert NOT IN (SELECT id FROM alert)"
        f" AND alert NOT IN (SELECT alert FROM {table} WHERE at >= ?))",
        (before_ms, before_ms),
    )
