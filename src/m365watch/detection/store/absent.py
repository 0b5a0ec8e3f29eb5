"""Rules that are not there any more: after some days their matches go, too.

Not at once: a rule that is left out for a mistake in its file is there again when that is mended, and it
would have to learn for weeks anew what it had seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import msgspec

ABSENT_MS = 10 * 86_400_000
"""How long the matches of a rule are kept that is not there."""
_KEY = "absent"
_decode = msgspec.json.Decoder(dict[str, int]).decode


class AbsentRules:
    """Since when each of them is gone, in the file of detections."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def forget(self, present: Collection[str], *, now_ms: int) -> int:
        """Let go of the matches of rules that have been away for long; how many went."""
        before = self._read()
        since = {
            rule_id: before.get(rule_id, now_ms)
            for (rule_id,) in self._database.execute("SELECT DISTINCT rule FROM series").fetchall()
            if rule_id not in present
        }
        gone = 0
        for rule_id in [rule_id for rule_id, at_ms in since.items() if now_ms - at_ms >= ABSENT_MS]:
            gone += self._database.execute(
                "DELETE FROM match WHERE series IN (SELECT id FROM series WHERE rule = ?)", (rule_id,)
            ).rowcount
            self._database.execute("DELETE FROM full WHERE rule = ?", (rule_id,))
            del since[rule_id]
        if since != before:
            self._database.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, msgspec.json.encode(since).decode())
            )
        return gone

    def _read(self) -> dict[str, int]:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
        return _decode(row[0]) if row else {}
