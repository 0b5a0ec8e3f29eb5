"""Alerts that have changed, for whoever notifies of them: written with each change, in its transaction.

So no crash comes between, whoever makes the change: the engine, or an analyst's command in another process.
"""

from __future__ import annotations

from collections.abc import Callable

from m365watch.storage.database import Database

_KEY = "outbox"
_ADD = "INSERT OR REPLACE INTO outbox (alert) SELECT"
_IS_KEPT = f"EXISTS (SELECT 1 FROM meta WHERE key = '{_KEY}')"  # noqa: S608 - our own name


class AlertOutbox:
    """The table of them, in the file of detections; empty until somebody begins to read it."""

    def __init__(self, database: Database) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def add(self, alert_id: str) -> None:
        """The alert is new, has changed, or goes; one that changes again gets a new number."""
        self._database.execute(f"{_ADD} ? WHERE {_IS_KEPT}", (alert_id,))

    def add_ended(self, *, before_ms: int) -> None:
        """The alerts that ended before then go."""
        self._database.execute(f"{_ADD} id FROM alert WHERE last < ? AND {_IS_KEPT}", (before_ms,))

    @property
    def is_kept(self) -> bool:
        """Whether somebody has begun to read it."""
        return bool(self._database.execute(f"SELECT {_IS_KEPT}").fetchone()[0])

    def begin(self, take_former: Callable[[], None]) -> None:
        """Keep it from now on, if that and `take_former`, which sees what is there already, succeed."""
        with self._database.transaction():
            self._database.execute("INSERT INTO meta VALUES (?, '')", (_KEY,))
            take_former()

    def add_all(self) -> None:
        """Begin with all that is there."""
        self._database.execute(f"{_ADD} id FROM alert")

    def list(self, *, most: int) -> list[tuple[int, str]]:
        """The next changes: number and alert, the oldest first."""
        return self._database.execute(
            "SELECT number, alert FROM outbox ORDER BY number LIMIT ?", (most,)
        ).fetchall()

    def forget(self, *, until: int) -> None:
        """All up to this number is known."""
        self._database.execute("DELETE FROM outbox WHERE number <= ?", (until,))
