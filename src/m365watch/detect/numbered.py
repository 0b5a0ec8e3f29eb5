"""Texts that the file of detections has once, and its matches by number: whose they are, and what they say.

A match names its rule, tenant and group, and repeats what most matches of an account say. Written out each
time that was three quarters of the file.
"""

from __future__ import annotations

import sqlite3

from m365watch.detect.kept import GroupKey

NUMBERS_MAX = 100_000
"""Numbers of each kind that are remembered; they are looked up again when there are more."""
_CLEANED = "cleaned"
_UNUSED = (
    "DELETE FROM series WHERE id NOT IN (SELECT series FROM match)",
    "DELETE FROM said WHERE id NOT IN (SELECT said FROM match)",
)


class Numbered:
    """The numbers, as one connection knows them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database
        self._series: dict[GroupKey, int] = {}
        self._said: dict[bytes, int] = {}
        self._cleaned = ""

    def begin(self) -> None:
        """A transaction has begun: where another process has cleaned up, no number is known any more."""
        cleaned = _read_cleaned(self._database)
        if cleaned != self._cleaned:
            self.doubt()
            self._cleaned = cleaned

    def doubt(self) -> None:
        """What is remembered may not be in the file."""
        self._series.clear()
        self._said.clear()

    def find_series(self, key: GroupKey) -> int:
        """The number of the group; 0 for one that has none."""
        found = self._series.get(key)
        if found is None:
            row = self._database.execute(
                "SELECT id FROM series WHERE (rule, tenant, grp) = (?, ?, ?)",
                (key.rule_id, key.tenant, key.joined),
            ).fetchone()
            if row is None:
                return 0
            found = self._remember(self._series, key, int(row[0]))
        return found

    def series(self, key: GroupKey) -> int:
        """The number of the group, which gets one if it has none."""
        found = self._series.get(key) or self.find_series(key)
        if not found:
            made = self._database.execute(
                "INSERT INTO series (rule, tenant, grp) VALUES (?, ?, ?)",
                (key.rule_id, key.tenant, key.joined),
            )
            found = self._remember(self._series, key, int(made.lastrowid or 0))
        return found

    def said(self, vals: bytes) -> int:
        """The number of what matches say."""
        found = self._said.get(vals)
        if found is None:
            row = self._database.execute("SELECT id FROM said WHERE vals = ?", (vals,)).fetchone()
            if row is None:
                made = self._database.execute("INSERT INTO said (vals) VALUES (?)", (vals,))
                row = (made.lastrowid,)
            found = self._remember(self._said, vals, int(row[0]))
        return found

    def _remember(self, known: dict, name: object, number: int) -> int:  # type: ignore[type-arg]
        if len(known) >= NUMBERS_MAX:
            known.clear()
        known[name] = number
        return number

    def clean(self) -> None:
        """Let go of what no match has any more; part of a transaction."""
        if clean_numbers(self._database):
            self.begin()


def clean_numbers(database: sqlite3.Connection) -> bool:
    """Let go of what no match has any more, which every connection learns of; whether there was anything."""
    gone = sum(database.execute(statement).rowcount for statement in _UNUSED)
    if gone:
        number = int(_read_cleaned(database) or 0) + 1
        database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_CLEANED, str(number)))
    return gone > 0


def _read_cleaned(database: sqlite3.Connection) -> str:
    row = database.execute("SELECT value FROM meta WHERE key = ?", (_CLEANED,)).fetchone()
    return str(row[0]) if row else ""
