"""The tables of `detections.sqlite`, and the way from an older version of them to this one."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 4

_LAKE_DUE = """
CREATE TABLE lake_due (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, day INTEGER NOT NULL,
    UNIQUE (alert, day)
);
"""
# Several panels of a page open the file at once, and each may find it as an older version left it.
_HISTORY = """
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, at INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_alert ON history (alert, number);
"""
_CLOSING = """
CREATE TABLE IF NOT EXISTS closing (
    alert TEXT NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, severity TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS closing_alert ON closing (alert);
"""
# What was closed before is taken to have been seen as it was when this version came.
_CLOSED_SO_FAR = """
INSERT INTO closing SELECT id, changed_at, reason, changed_by, first, last,
    json_extract(CAST(body AS TEXT), '$.count'), json_extract(CAST(body AS TEXT), '$.severity')
    FROM alert WHERE state = 'closed' AND id NOT IN (SELECT alert FROM closing);
"""
_CREATE = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenant (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE match (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, at INTEGER NOT NULL,
    identity TEXT NOT NULL, source TEXT NOT NULL, record TEXT NOT NULL, severity TEXT NOT NULL,
    vals BLOB NOT NULL, counted TEXT NOT NULL,
    PRIMARY KEY (rule, tenant, grp, at, identity, source)
) WITHOUT ROWID;
CREATE TABLE full (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, hour INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (rule, tenant, grp, hour)
) WITHOUT ROWID;
CREATE TABLE alert (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, shown INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, changed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX alert_group ON alert (rule, tenant, grp, first);
CREATE INDEX alert_time ON alert (last);
CREATE TABLE former (id TEXT PRIMARY KEY, now TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE link (alert TEXT NOT NULL, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (alert, rule, grp)) WITHOUT ROWID;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL UNIQUE, what TEXT NOT NULL,
    body BLOB NOT NULL
);
{_LAKE_DUE}
{_HISTORY}
{_CLOSING}
"""
_MIGRATIONS: dict[int, str] = {1: _LAKE_DUE, 2: _HISTORY, 3: _CLOSING + _CLOSED_SO_FAR}
"""From version n to n + 1."""


class NewerSchema(Exception):
    """A newer version of this program wrote the file; the text says so."""


def migrate(database: sqlite3.Connection) -> None:
    """Bring the file to `SCHEMA_VERSION`, each step in one transaction.

    Raises: NewerSchema; sqlite3.Error.
    """
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise NewerSchema(f"it has schema {version}, this version knows {SCHEMA_VERSION} at most")
    if version == 0:
        _apply(database, _CREATE, version=SCHEMA_VERSION)
        return
    for step in range(version, SCHEMA_VERSION):
        _apply(database, _MIGRATIONS[step], version=step + 1)


def _apply(database: sqlite3.Connection, script: str, *, version: int) -> None:
    # executescript would commit what is open first, so the transaction begins in the script.
    database.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {version}; COMMIT;")
