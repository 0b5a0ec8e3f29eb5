"""Texts that the file of detections has once, and its matches by number: whose they are, and what they say.

A match names its rule, tenant and group, and repeats what most matches of an account say. Written out each
time that was three quarters of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.storage.database import Database

NUMBERS_MAX = 100_000
"""Numbers of each kind that are remembered; they are looked up again when there are more."""
_CLEANED = "cleaned"
_NUMBER = {
    "series": "INSERT OR IGNORE INTO series (id, rule, tenant, grp) VALUES (?, ?, ?, ?)",
    "said": "INSERT OR IGNORE INTO said (id, vals) VALUES (?, ?)",
}
_FIND = {
    "series": "SELECT id FROM series WHERE (rule, tenant, grp) = (?, ?, ?)",
    "said": "SELECT id FROM said WHERE vals = ?",
}
_T = TypeVar("_T", bound=Hashable)
_UNUSED = (
    "DELETE FROM series WHERE id NOT IN (SELECT series FROM match)",
    "DELETE FROM said WHERE id NOT IN (SELECT said FROM match)",
)


class Numbered:
    """The numbers, as one connection knows them."""

    def __init__(self, database: Database) -> None:
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
            row = self._database.execute(_FIND["series"], (key.rule_id, key.tenant, key.joined)).fetchone()
            if row is None:
                return 0
            found = self._remember(self._series, key, int(row[0]))
        return found

    def series(self, keys: Sequence[GroupKey]) -> list[int]:
        """The numbers of the groups, each of which gets one if it has none."""
        self._number(keys, self._series, "series", lambda key: (key.rule_id, key.tenant, key.joined))
        return [self._series[key] for key in keys]

    def said(self, texts: Sequence[bytes]) -> list[int]:
        """The numbers of what matches say."""
        self._number(texts, self._said, "said", lambda text: (text,))
        return [self._said[text] for text in texts]

    def _number(
        self,
        names: Sequence[_T],
        known: dict[_T, int],
        table: str,
        row_of: Callable[[_T], tuple[object, ...]],
    ) -> None:
        """Know a number for each of the names, all new ones in one go: most of what is not known is new."""
        new = [name for name in dict.fromkeys(names) if name not in known]
        if not new:
            return
        if len(known) + len(new) > NUMBERS_MAX:
            known.clear()
            new = list(dict.fromkeys(names))
        last = self._last_of(table)
        rows = [(last + place, *row_of(name)) for place, name in enumerate(new, 1)]
        if self._database.executemany(_NUMBER[table], rows).rowcount == len(rows):
            known.update(zip(new, range(last + 1, last + 1 + len(new)), strict=True))
            return
        for name, row in zip(new, rows, strict=True):
            [known[name]] = self._database.execute(_FIND[table], row[1:]).fetchone()

    def _last_of(self, table: str) -> int:
        """The last number that the table gave; nobody else gives one within a transaction."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0

    def _remember(self, known: dict, name: object, number: int) -> int:  # type: ignore[type-arg]
        if len(known) >= NUMBERS_MAX:
            known.clear()
        known[name] = number
        return number

    def clean(self) -> None:
        """Let go of what no match has any more; part of a transaction."""
        if clean_numbers(self._database):
            self.begin()


def clean_numbers(database: Database) -> bool:
    """Let go of what no match has any more, which every connection learns of; whether there was anything."""
    gone = sum(database.execute(statement).rowcount for statement in _UNUSED)
    if gone:
        number = int(_read_cleaned(database) or 0) + 1
        database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_CLEANED, str(number)))
    return gone > 0


def _read_cleaned(database: Database) -> str:
    row = database.execute("SELECT value FROM meta WHERE key = ?", (_CLEANED,)).fetchone()
    return str(row[0]) if row else ""
