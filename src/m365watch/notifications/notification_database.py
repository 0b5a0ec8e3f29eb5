"""The file of notifications, and its rows as values.

One SQLite file in the state directory, which one thread of the collector uses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.detection.alerts.alert import AlertId, clean_text
from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import GROWTH, Notification, Standing, Tiding, Told
from m365watch.storage.database import (
    Cursor,
    Database,
    DatabaseError,
    Failure,
    OtherVersion,
    Schema,
    connect_to_read,
    failure_of,
    is_damage,
    open_database,
)

LOCKED_S = 5.0
"""How long a lock of somebody else is waited for: so long a run waits at its start, and at its end."""
FILE_NAME = "notifications.sqlite"
"""The file in the state directory."""
_MOVE_AWAY = (
    "move it away: nobody is told of alerts until then, and a run goes on by itself with what has changed "
    "since; what waited in the file is told nobody, and `m365watch alerts list` has it"
)
_SEE_TO_IT = "see to the disk, its room and its rights: nobody is told of alerts until then"
_START = "start `m365watch run`: targets are told of what has changed since, and begin anew otherwise"

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
_TABLES = {"target", "standing", "told", "waiting", "folded", "outgoing", "aside", "pace"}
_NOTIFICATIONS = Schema(
    1,
    _SCHEMA,
    # What is let go of names people, and not every SQLite writes over it unasked.
    ("journal_mode = WAL", "secure_delete = ON"),
)
GARBLED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What rows raise that are not as they were written."""
STANDINGS = msgspec.json.Decoder(Standing)
_PASSES = {Failure.BUSY, Failure.FULL}
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


class _Unusable(DatabaseError):
    """Another program's, or damaged: what is told could not be noted, and would be told again and again."""


class _Empty(DatabaseError):
    """Nobody has written the file yet, or somebody has emptied it."""


class NotificationFile:
    """Opened; every row can be read, and a few kinds be written."""

    def __init__(self, path: Path, *, survives_power_cuts: bool = True, looks_only: bool = False) -> None:
        """Open or make the file; who `looks_only` changes nothing in it.

        Raises: OutputUnusable. OutputUnavailable: it is locked.
        """
        self.path = path
        self.is_damaged = False
        """Whether somebody has met damage in it."""
        self._alerts_out: dict[str, frozenset[str]] = {}
        self._sinces: dict[str, int] = {}
        try:
            if looks_only:
                self._database = connect_to_read(path)
            else:
                self._database = _connect(path, survives_power_cuts=survives_power_cuts)
            self._file = identity_of(path)
            try:
                self._find_tables(looks_only=looks_only)
            except BaseException:
                self._database.close()
                raise
        except (DatabaseError, OSError, *GARBLED) as error:
            raise self._failure(error, "used") from None

    def _find_tables(self, *, looks_only: bool) -> None:
        if not self._database.version:
            raise _Empty("there is nothing in it")
        self._database.require(_NOTIFICATIONS)
        found = {name for (name,) in self._database.execute("SELECT name FROM sqlite_schema")}
        for name in sorted(_TABLES - found):
            raise _Unusable(f"it has no table {name}")
        if not looks_only and self._database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise _Unusable("database disk image is malformed")

    @property
    def is_whole(self) -> bool:
        """Whether it is the file at its place still, and nobody has met damage in it."""
        return not self.is_damaged and self._file == identity_of(self.path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.

        Raises: OutputUnavailable: nothing of it counts; try again. OutputUnusable: the file is damaged.
        """
        with self._failing("written"), self._database.transaction():
            yield

    def reading(self) -> AbstractContextManager[None]:
        """What is read within the block need not belong together.

        Raises: OutputUnavailable. OutputUnusable: the file is damaged.
        """
        return self._failing("read")

    @contextmanager
    def _failing(self, done: str) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, *GARBLED) as error:
            raise self._failure(error, done) from None

    def _failure(self, error: Exception, done: str) -> OutputUnavailable | OutputUnusable:
        """What to say of it; the words of a library may quote what is damaged."""
        where = str(self.path)
        if isinstance(error, GARBLED):
            self.is_damaged = True
            what = f"the file of notifications cannot be {done}: a row is not as it was written"
            return OutputUnusable(what, fix=_MOVE_AWAY, where=where)
        said = (error.strerror if isinstance(error, OSError) else "") or str(error)
        what = f"the file of notifications cannot be {done}: {clean_text(said)}"
        if isinstance(error, _Empty):
            return OutputUnusable(what, fix=_START, where=where)
        if isinstance(error, (_Unusable, OtherVersion)) or is_damage(error):
            self.is_damaged = True
            first = "use the m365watch that wrote it, or " if isinstance(error, OtherVersion) else ""
            return OutputUnusable(what, fix=first + _MOVE_AWAY, where=where)
        if done != "used" or failure_of(error) in _PASSES:
            return OutputUnavailable(what, where=where)
        return OutputUnusable(what, fix=_SEE_TO_IT, where=where)

    # Rows ---------------------------------------------------------------------------------------

    def run(self, statement: str, values: Sequence[Any] = ()) -> Cursor:
        """Run one statement."""
        return self._database.execute(statement, values)

    def one(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
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

    def fold(self, target: str, severity: Severity, title: str, count: int, span_ms: tuple[int, int]) -> None:
        """Have the next digest count so many alerts more, from their first time to their last."""
        self.run(
            "INSERT INTO folded VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " count = count + excluded.count,"
            " first = min(first, excluded.first), last = max(last, excluded.last)",
            (target, str(severity), title, count, *span_ms),
        )

    def waits(self, target: str, alert_id: str) -> bool:
        """Whether there is something to tell of the alert."""
        key = (target, alert_id)
        return self.one("SELECT 1 FROM waiting WHERE (target, alert) = (?, ?)", key) is not None

    def count_waiting(self, target: str) -> int:
        """Alerts of which the target is to be told something, now or later."""
        row = self.one("SELECT count(*) FROM waiting WHERE target = ?", (target,))
        return int(row[0]) if row else 0


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells the file from another one of its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path, *, survives_power_cuts: bool) -> Database:
    # It tells whom attackers are after, and what was found out about it.
    path.touch(mode=0o600)
    if not os.access(path, os.W_OK):
        # SQLite would lay files beside it that nobody may write either, for good.
        raise PermissionError(errno.EACCES, "this user may not write it")
    return open_database(path, _NOTIFICATIONS, survives_power_cuts=survives_power_cuts, timeout_s=LOCKED_S)


def _alerts_in(notification: Notification) -> set[str]:
    if notification.standing is not None:
        return {notification.standing.alert.id}
    return {one.alert_id for one in notification.digest.covered} if notification.digest is not None else set()
