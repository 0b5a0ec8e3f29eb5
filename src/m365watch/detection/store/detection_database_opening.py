"""How the file of detections is opened: to write it, or only to look at what it has."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from m365watch.common.errors import OutputUnusable
from m365watch.detection.store.detection_database import SCHEMA_VERSION, NewerSchema, migrate
from m365watch.storage.sqlite import is_damage
from m365watch.storage.still import connect_still

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
