"""Which alerts have changed since somebody looked: a list that the file of detections keeps by itself.

Triggers write it, in the transaction of whatever changes an alert: the engine, an analyst's command in
another process, a rebuilt file. So nobody can forget to say so, and no crash can come between.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.store.detection_store import DetectionState
from m365watch.notifications.notification import Standing, standing_of
from m365watch.notifications.notification_database import GARBLED, identity_of

CHANGES_AT_ONCE = 500
_SCHEMA = """
CREATE TABLE notify_changed (number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL UNIQUE);
CREATE TRIGGER notify_made AFTER INSERT ON alert
    BEGIN INSERT OR REPLACE INTO notify_changed (alert) VALUES (new.id); END;
CREATE TRIGGER notify_altered AFTER UPDATE ON alert
    BEGIN INSERT OR REPLACE INTO notify_changed (alert) VALUES (new.id); END;
CREATE TRIGGER notify_gone AFTER DELETE ON alert
    BEGIN INSERT OR REPLACE INTO notify_changed (alert) VALUES (old.id); END;
"""


class Changes:
    """The list in one file of detections; one thread uses it."""

    def __init__(self, path: Path, *, survives_power_cuts: bool = True) -> None:
        """Open the file, which is there. Raises: OutputUnusable."""
        self._path = path
        self._file = identity_of(path)
        self._state = DetectionState(path, survives_power_cuts=survives_power_cuts)
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        self._database.execute(f"PRAGMA synchronous = {'FULL' if survives_power_cuts else 'NORMAL'}")

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one at its place: it may have been made anew."""
        return self._file is not None and self._file == identity_of(self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
        self._state.close()

    @property
    def is_kept(self) -> bool:
        """Whether there is a list. Raises: OutputUnavailable."""
        with self._failing():
            found = self._database.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'notify_changed'"
            ).fetchone()
        return found is not None

    def begin(self, take_former: Callable[[], None]) -> None:
        """Have the list kept from now on; where it was not, what is there already is taken first.

        No list is begun where that fails: whoever found one would take what was there for known.
        Raises: OutputUnavailable; what `take_former` does, and the list is to be closed then.
        """
        if self.is_kept:
            return
        with self._failing():
            self._database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}")
            take_former()
            self._database.execute("COMMIT")

    def list_former(self) -> None:
        """Have the list begin with all that is there, for whoever can take it later."""
        self._database.execute("INSERT OR IGNORE INTO notify_changed (alert) SELECT id FROM alert")

    def take(self) -> tuple[list[tuple[str, Standing | None]], int]:
        """The next alerts that have changed, as they stand (None: gone), and the number for `forget`.

        Those that are there come first: one may have taken the place of another that is gone.
        Raises: OutputUnavailable.
        """
        with self._failing():
            rows = self._database.execute(
                "SELECT number, alert FROM notify_changed ORDER BY number LIMIT ?",
                (CHANGES_AT_ONCE,),
            ).fetchall()
            found = [(alert, self._find(alert)) for _, alert in rows]
        found.sort(key=lambda one: one[1] is None)
        return found, rows[-1][0] if rows else 0

    def forget(self, number: int) -> None:
        """Whatever had changed up to that number is known. Raises: OutputUnavailable."""
        with self._failing():
            self._database.execute("DELETE FROM notify_changed WHERE number <= ?", (number,))

    def list_all(self, *, since_ms: int) -> list[tuple[str, Standing | None]]:
        """Every alert that was still going on at `since_ms` or later. Raises: OutputUnavailable."""
        with self._failing():
            return [(kept.alert.id, standing_of(kept)) for kept in self._state.alerts.list(since_ms=since_ms)]

    def _find(self, alert_id: str) -> Standing | None:
        kept = self._state.alerts.find(alert_id)
        if kept is None or not kept.shown or kept.alert.id != alert_id:
            return None
        return standing_of(kept)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, *GARBLED) as error:
            if self._database.in_transaction:
                with suppress(sqlite3.Error):  # what has led here is told
                    self._database.execute("ROLLBACK")
            said = str(error) if isinstance(error, sqlite3.Error) else "a row is not as it was written"
            raise OutputUnavailable(
                f"the file of detections cannot be used: {said}", where=str(self._path)
            ) from None
