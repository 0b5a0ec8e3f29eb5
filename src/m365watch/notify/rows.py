"""The file of notifications, and its rows as values.

One SQLite file in the state directory, which one thread of the collector uses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from m365watch.detect.alert import AlertId, clean_text
from m365watch.errors import OutputUnavailable, OutputUnusable
from m365watch.ledger.database import is_damage
from m365watch.notify.tidings import GROWTH, Notification, Standing, Tiding, Told
from m365watch.values import dataclass

FILE_NAME = "notifications.sqlite"
"""The file in the state directory."""
SCHEMA_VERSION = 1
_MAKE_AGAIN = (
    "move it away and start m365watch again: targets begin anew then, with what comes; "
    "what waited for them is told nobody, and `m365watch alerts list` has it"
)

_SCHEMA = """
CREATE TABLE target (
    name TEXT PRIMARY KEY, since INTEGER NOT NULL, sent INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, last_sent INTEGER NOT NULL DEFAULT 0,
    trouble TEXT NOT NULL DEFAULT '', trouble_at INTEGER NOT NULL DEFAULT 0,
    number INTEGER NOT NULL DEFAULT 0, position TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE standing (alert TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE told (
    target TEXT NOT NULL, alert TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (target, alert)
) WITHOUT ROWID;
CREATE TABLE waiting (
    target TEXT NOT NULL, alert TEXT NOT NULL, tiding TEXT NOT NULL, due INTEGER NOT NULL,
    since INTEGER NOT NULL, rank INTEGER NOT NULL, growth INTEGER NOT NULL,
    PRIMARY KEY (target, alert)
) WITHOUT ROWID;
CREATE INDEX waiting_turn ON waiting (target, due);
CREATE TABLE folded (
    target TEXT NOT NULL, severity TEXT NOT NULL, title TEXT NOT NULL, count INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (target, severity, title)
) WITHOUT ROWID;
CREATE TABLE outgoing (target TEXT PRIMARY KEY, number INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE aside (
    number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, at INTEGER NOT NULL,
    reason TEXT NOT NULL, body BLOB NOT NULL
);
CREATE TABLE pace (target TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX pace_time ON pace (target, at);
"""
STANDINGS = msgspec.json.Decoder(Standing)
NOTIFICATION = msgspec.json.Decoder(Notification)
NOTIFICATIONS = msgspec.json.Decoder(list[Notification])
_TOLD = msgspec.json.Decoder(Told)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a target is being told, until it is known to have it."""

    number: int
    """Grows by one from one to the next of a target."""
    notifications: list[Notification]

    @property
    def alert_ids(self) -> frozenset[str]:
        """The alerts that it is about."""
        return frozenset[str]().union(*map(_alerts_in, self.notifications))


class NotificationFile:
    """Opened; every row can be read, and a few kinds be written."""

    def __init__(self, path: Path, *, survives_power_cuts: bool = True) -> None:
        """Open or make the file. Raises: OutputUnusable."""
        self.path = path
        self._alerts_out: dict[str, frozenset[str]] = {}
        self._sinces: dict[str, int] = {}
        try:
            # It tells whom attackers are after, and what was found out about it.
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            # What is let go of names people, and not every SQLite writes over it unasked.
            self._database.execute("PRAGMA secure_delete = ON")
            self._database.execute(f"PRAGMA synchronous = {'FULL' if survives_power_cuts else 'NORMAL'}")
            self._make_tables()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # its words may quote what is damaged
            raise OutputUnusable(
                f"the file of notifications cannot be used: {clean_text(str(error))}",
                fix=_MAKE_AGAIN,
                where=str(path),
            ) from None

    def _make_tables(self) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._database.executescript(
                f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, and this program's is {SCHEMA_VERSION}")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.

        Raises: OutputUnavailable: nothing of it counts; try again. OutputUnusable: the file is damaged.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._failure(error, "written") from None
        except BaseException:
            self._roll_back()
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is read within the block need not belong together.

        Raises: OutputUnavailable. OutputUnusable: the file is damaged.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise self._failure(error, "read") from None

    def _failure(self, error: sqlite3.Error, done: str) -> OutputUnavailable | OutputUnusable:
        what = f"the file of notifications cannot be {done}: {clean_text(str(error))}"
        if is_damage(error):
            return OutputUnusable(what, fix=_MAKE_AGAIN, where=str(self.path))
        return OutputUnavailable(what, where=str(self.path))

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    # Rows ---------------------------------------------------------------------------------------

    def run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self._database.execute(statement, values)

    def one(self, statement: str, values: Sequence[object] = ()) -> tuple[Any, ...] | None:
        """The first row of what a statement finds."""
        found: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
        return found

    def list_targets(self) -> dict[str, int]:
        """The known targets, each with the time since which it is one."""
        return dict(self.run("SELECT name, since FROM target").fetchall())

    def outgoing(self, target: str) -> Outgoing | None:
        """What the target is being told; None where it has all that was begun."""
        row = self.one("SELECT number, body FROM outgoing WHERE target = ?", (target,))
        return Outgoing(row[0], NOTIFICATIONS.decode(row[1])) if row else None

    def standing(self, alert_id: str) -> Standing | None:
        """How the alert stands, as far as somebody has to do with it."""
        row = self.one("SELECT body FROM standing WHERE alert = ?", (alert_id,))
        return STANDINGS.decode(row[0]) if row else None

    def put_standing(self, standing: Standing) -> None:
        """Keep how an alert stands."""
        body = msgspec.json.encode(standing)
        self.run("INSERT OR REPLACE INTO standing VALUES (?, ?)", (standing.alert.id, body))

    def told(self, target: str, alert_id: str) -> Told | None:
        """What the target was last told of the alert."""
        row = self.one("SELECT body FROM told WHERE (target, alert) = (?, ?)", (target, alert_id))
        return _TOLD.decode(row[0]) if row else None

    def put_told(self, target: str, alert_id: AlertId, told: Told) -> None:
        """Keep what the target was told."""
        body = msgspec.json.encode(told)
        self.run("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", (target, alert_id, told.at_ms, body))

    def put_waiting(
        self, target: str, standing: Standing, tiding: Tiding, *, due_ms: int, now_ms: int
    ) -> None:
        """Let the target be told so from `due_ms` on; what it waits for already comes no later by it."""
        rank, is_growth = standing.alert.severity.rank, int(tiding in GROWTH)
        self.run(
            "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " due = min(excluded.due, CASE WHEN tiding = excluded.tiding THEN due ELSE excluded.due END),"
            " tiding = excluded.tiding, rank = excluded.rank, growth = excluded.growth",
            (target, standing.alert.id, str(tiding), due_ms, now_ms, rank, is_growth),
        )

    def drop_waiting(self, target: str, alert_id: str) -> None:
        """There is nothing to tell of the alert."""
        self.run("DELETE FROM waiting WHERE (target, alert) = (?, ?)", (target, alert_id))

    def waits(self, target: str, alert_id: str) -> bool:
        """Whether there is something to tell of the alert."""
        key = (target, alert_id)
        return self.one("SELECT 1 FROM waiting WHERE (target, alert) = (?, ?)", key) is not None

    def count_waiting(self, target: str) -> int:
        """Alerts of which the target is to be told something, now or later."""
        row = self.one("SELECT count(*) FROM waiting WHERE target = ?", (target,))
        return int(row[0]) if row else 0


def _alerts_in(notification: Notification) -> set[str]:
    if notification.standing is not None:
        return {notification.standing.alert.id}
    return {one.alert_id for one in notification.digest.covered} if notification.digest is not None else set()
