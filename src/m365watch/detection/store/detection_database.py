"""The tables of `detections.sqlite`, and how the file is opened."""

from __future__ import annotations

from pathlib import Path

from m365watch.common.errors import OutputUnusable
from m365watch.storage.database import (
    Database,
    DatabaseError,
    OtherVersion,
    Schema,
    connect_still,
    is_damage,
    open_database,
)

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenant (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    UNIQUE (rule, tenant, grp)
);
CREATE TABLE said (id INTEGER PRIMARY KEY AUTOINCREMENT, vals BLOB NOT NULL UNIQUE);
-- source: empty where it is the rule of the series; severity: a rank.
CREATE TABLE match (
    series INTEGER NOT NULL, at INTEGER NOT NULL, identity TEXT NOT NULL, source TEXT NOT NULL,
    record TEXT NOT NULL, severity INTEGER NOT NULL, said INTEGER NOT NULL, counted TEXT NOT NULL,
    PRIMARY KEY (series, at, identity, source)
) WITHOUT ROWID;
CREATE TABLE full (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, hour INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (rule, tenant, grp, hour)
) WITHOUT ROWID;
-- low: of an alert that joins others, when they came together; `first` of any other. put_back: whether it
-- came out of a lake, and records that gave it were not seen since.
CREATE TABLE alert (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, shown INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, changed_at INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, put_back INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX alert_group ON alert (rule, tenant, grp, first);
CREATE INDEX alert_time ON alert (last);
CREATE TABLE former (id TEXT PRIMARY KEY, now TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE link (alert TEXT NOT NULL, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (alert, rule, grp, at)) WITHOUT ROWID;
CREATE TABLE lake_due (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, day INTEGER NOT NULL,
    UNIQUE (alert, day)
);
-- origin: the alert of which it was said and that has become this one; empty for this one.
CREATE TABLE history (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, at INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, origin TEXT NOT NULL DEFAULT ''
);
CREATE INDEX history_alert ON history (alert, number);
CREATE INDEX history_origin ON history (origin);
CREATE TABLE closing (
    alert TEXT NOT NULL, at INTEGER NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL, severity TEXT NOT NULL,
    origin TEXT NOT NULL DEFAULT ''
);
CREATE INDEX closing_alert ON closing (alert);
CREATE INDEX closing_origin ON closing (origin);
-- Alerts that have changed, for whoever tells of them (`alert_outbox.py`).
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL UNIQUE);
"""
DETECTIONS = Schema(
    8,
    _TABLES,
    (
        "journal_mode = WAL",
        # What is let go of names people, and not every SQLite writes over it unasked.
        "secure_delete = ON",
        # Matches of many groups are written at once: with SQLite's own 2 MB each page was read again.
        "cache_size = -32000",
        "wal_autocheckpoint = 4000",
    ),
)
BUSY_S = 30.0
"""How long a lock of somebody else is waited for."""
START_AGAIN = "start `m365watch run` again: it sets a damaged file aside, and makes it anew from the lake"
_GONE = "where the file is gone, the next run makes it anew"


def open_file(path: Path, *, survives_power_cuts: bool, looks_only: bool) -> Database:
    """The file, made if there is none.

    Who `looks_only` has it also where the disk is full, as far as nothing waits in its journal.

    Raises: OutputUnusable.
    """
    is_there = path.exists()
    try:
        try:
            return open_database(path, DETECTIONS, survives_power_cuts=survives_power_cuts, timeout_s=BUSY_S)
        except DatabaseError as error:
            if not looks_only or not is_there or isinstance(error, OtherVersion):
                raise
            still = connect_still(path, error)
            if still.version != DETECTIONS.version:
                still.close()
                raise
            return still
    except (DatabaseError, OSError) as error:
        fix = f"see to the disk, its room and its rights; {_GONE}"
        if isinstance(error, OtherVersion):
            fix = "use the m365watch that wrote it"
            if error.version < error.known:
                fix += f", or move it aside; {_GONE}"
        elif is_damage(error):
            fix = START_AGAIN
        raise OutputUnusable(
            f"the file of detections cannot be used: {error}", fix=fix, where=str(path)
        ) from None


def is_empty(path: Path) -> bool:
    """Whether the file is there with nothing in it: one that has been opened once has tables."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False
