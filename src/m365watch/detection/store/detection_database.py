"""The tables of `detections.sqlite`, and the way from an older version of them to this one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from m365watch.common.errors import OutputUnusable
from m365watch.storage.sqlite import connect_still, is_damage

SCHEMA_VERSION = 7
NUMBERED_SINCE = 5
"""Since that version matches name their rule, tenant and group by number."""

_LAKE_DUE = """
CREATE TABLE lake_due (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL, day INTEGER NOT NULL,
    UNIQUE (alert, day)
);
"""
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
_NUMBERED = """
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    UNIQUE (rule, tenant, grp)
);
CREATE TABLE said (id INTEGER PRIMARY KEY AUTOINCREMENT, vals BLOB NOT NULL UNIQUE);
"""
# `source` is empty where it is the rule of the series; `severity` is a rank.
_MATCH = """
CREATE TABLE match (
    series INTEGER NOT NULL, at INTEGER NOT NULL, identity TEXT NOT NULL, source TEXT NOT NULL,
    record TEXT NOT NULL, severity INTEGER NOT NULL, said INTEGER NOT NULL, counted TEXT NOT NULL,
    PRIMARY KEY (series, at, identity, source)
) WITHOUT ROWID;
"""
_NUMBER_MATCHES = f"""
ALTER TABLE match RENAME TO written_out;
{_NUMBERED}
{_MATCH}
INSERT INTO series (rule, tenant, grp) SELECT DISTINCT rule, tenant, grp FROM written_out;
INSERT INTO said (vals) SELECT DISTINCT vals FROM written_out;
INSERT INTO match SELECT series.id, at, identity, iif(source = old.rule, '', source), record,
    CASE severity WHEN 'critical' THEN 4 WHEN 'high' THEN 3 WHEN 'medium' THEN 2 WHEN 'low' THEN 1 ELSE 0 END,
    said.id, counted FROM written_out AS old
    JOIN series ON (series.rule, series.tenant, series.grp) = (old.rule, old.tenant, old.grp)
    JOIN said ON said.vals = old.vals;
DROP TABLE written_out;
DROP TABLE outbox;
"""  # noqa: S608 - our own text
_LINK = """
CREATE TABLE link (alert TEXT NOT NULL, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (alert, rule, grp, at)) WITHOUT ROWID;
"""
# Of an alert that joins others, `low` is when they came together; it is `first` of any other.
_LOW = """
ALTER TABLE alert ADD COLUMN low INTEGER NOT NULL DEFAULT 0;
UPDATE alert SET low = first;
"""
_MANY_LINKS = f"""
ALTER TABLE link RENAME TO link_once;
{_LINK}
INSERT INTO link SELECT alert, rule, tenant, grp, at FROM link_once;
DROP TABLE link_once;
{_LOW}
"""  # noqa: S608 - our own text
# Of which alert it was said that has become this one; empty for this one.
_ORIGIN = """
ALTER TABLE history ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE closing ADD COLUMN origin TEXT NOT NULL DEFAULT '';
CREATE INDEX history_origin ON history (origin);
CREATE INDEX closing_origin ON closing (origin);
"""
# Whether it came out of a lake, and records that gave it were not seen since.
_PUT_BACK = f"""
ALTER TABLE alert ADD COLUMN put_back INTEGER NOT NULL DEFAULT 0;
{_ORIGIN}
"""
_CREATE = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenant (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
{_NUMBERED}
{_MATCH}
CREATE TABLE full (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, hour INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (rule, tenant, grp, hour)
) WITHOUT ROWID;
CREATE TABLE alert (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, shown INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, changed_at INTEGER NOT NULL,
    low INTEGER NOT NULL DEFAULT 0, put_back INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX alert_group ON alert (rule, tenant, grp, first);
CREATE INDEX alert_time ON alert (last);
CREATE TABLE former (id TEXT PRIMARY KEY, now TEXT NOT NULL) WITHOUT ROWID;
{_LINK}
{_LAKE_DUE}
{_HISTORY}
{_CLOSING}
{_ORIGIN}
"""
_MIGRATIONS: dict[int, str] = {
    1: _LAKE_DUE,
    2: _HISTORY,
    3: _CLOSING + _CLOSED_SO_FAR,
    4: _NUMBER_MATCHES,
    5: _MANY_LINKS,
    6: _PUT_BACK,
}
"""From version n to n + 1."""


class NewerSchema(Exception):
    """A newer version of this program wrote the file; the text says so."""


def migrate(database: sqlite3.Connection) -> None:
    """Bring the file to `SCHEMA_VERSION`, each step in one transaction.

    Several panels of a page open the file at once, and each may find it as an older version left it.
    Raises: NewerSchema; sqlite3.Error.
    """
    version = _version_of(database)
    if version > SCHEMA_VERSION:
        raise NewerSchema(f"it has schema {version}, this version knows {SCHEMA_VERSION} at most")
    if version == 0:
        _apply(database, _CREATE, before=0, version=SCHEMA_VERSION)
    for step in range(_version_of(database), SCHEMA_VERSION):
        _apply(database, _MIGRATIONS[step], before=step, version=step + 1)


def _version_of(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _apply(database: sqlite3.Connection, script: str, *, before: int, version: int) -> None:
    """Do it, unless somebody else has done it meanwhile."""
    database.execute("BEGIN IMMEDIATE")
    try:
        if _version_of(database) == before:
            for statement in script.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {version}")
        database.execute("COMMIT")
    except sqlite3.Error:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


_CACHE_KIB = 32_000
_WAL_PAGES = 4_000

START_AGAIN = "start `m365watch run` again: it sets a damaged file aside, and makes it anew from the lake"
_GONE = "where the file is gone, the next run makes it anew"


def open_file(path: Path, *, survives_power_cuts: bool, looks_only: bool) -> sqlite3.Connection:
    """The file, made or brought to this version's schema.

    Who `looks_only` has it also where the disk is full, as far as nothing waits in its journal.

    Raises: OutputUnusable.
    """
    is_new = not path.exists()
    try:
        try:
            database = _open(path, survives_power_cuts=survives_power_cuts)
        except sqlite3.Error as error:
            if not looks_only or is_new:
                raise
            return _still(path, error)
        if is_new:
            path.chmod(0o600)
    except NewerSchema as error:
        raise OutputUnusable(
            f"the file of detections cannot be used: {error}",
            fix="run the newer m365watch that wrote it",
            where=str(path),
        ) from None
    except (sqlite3.Error, OSError) as error:
        is_harm = isinstance(error, sqlite3.Error) and is_damage(error)
        raise OutputUnusable(
            f"the file of detections cannot be used: {error}",
            fix=START_AGAIN if is_harm else f"see to the disk, its room and its rights; {_GONE}",
            where=str(path),
        ) from None
    return database


def is_empty(path: Path) -> bool:
    """Whether the file is there with nothing in it: one that has been opened once has tables."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


def _open(path: Path, *, survives_power_cuts: bool) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # What is let go of names people, and not every SQLite writes over it unasked.
        database.execute("PRAGMA secure_delete = ON")
        # Matches of many groups are written at once: with SQLite's own 2 MB each page was read again.
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        database.execute(f"PRAGMA synchronous = {'FULL' if survives_power_cuts else 'NORMAL'}")
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _still(path: Path, refused: sqlite3.Error) -> sqlite3.Connection:
    database = connect_still(path, refused)
    if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        database.close()
        raise refused
    return database
