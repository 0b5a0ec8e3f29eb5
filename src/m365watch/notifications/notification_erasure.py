"""A person taken out of the file of notifications: alerts that name them, also those that are being told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.detection.store.detection_database import BUSY_S
from m365watch.notifications.notification import Notification, Standing
from m365watch.notifications.notification_database import GARBLED, NOTIFICATION, NOTIFICATIONS, STANDINGS
from m365watch.storage.database import Database, DatabaseError, connect, connect_to_read, is_damage


@dataclass(frozen=True, slots=True)
class _Named:
    """What names the person."""

    alerts: list[str]
    outgoing: list[str]
    """Targets that are being told so."""
    aside: list[int]

    @property
    def count(self) -> int:
        """How many places of the file."""
        return len(self.alerts) + len(self.outgoing) + len(self.aside)


def count_told(path: Path, names: Callable[[bytes], bool], *, low_ms: int = 0, high_ms: int = 1 << 60) -> int:
    """How many places of the file name the person; nothing is changed.

    Raises: DatabaseError; OutputUnusable: it is damaged.
    """
    if not path.is_file():
        return 0
    with (
        _damage_named(path),
        closing(connect_to_read(path, timeout_s=BUSY_S)) as database,
    ):
        return _find(database, names, low_ms, high_ms).count


def forget_told(
    path: Path, names: Callable[[bytes], bool], *, low_ms: int = 0, high_ms: int = 1 << 60
) -> int:
    """Take out what names the person, and write over it; how many places. Works beside a running collector.

    Nobody is told that these alerts are gone. Others that were being told with them are told anew.
    Raises: OutputUnavailable: it is to be repeated. OutputUnusable: it is damaged.
    """
    if not path.is_file():
        return 0
    try:
        with (
            _damage_named(path),
            closing(connect(path, timeout_s=BUSY_S)) as database,
        ):
            database.execute("PRAGMA secure_delete = ON")
            with database.transaction():
                found = _find(database, names, low_ms, high_ms)
                for alert_id in found.alerts:
                    for table in ("standing", "waiting"):
                        database.execute(f"DELETE FROM {table} WHERE alert = ?", (alert_id,))  # noqa: S608 - our own names
                database.executemany(
                    "DELETE FROM outgoing WHERE target = ?", [(one,) for one in found.outgoing]
                )
                database.executemany("DELETE FROM aside WHERE number = ?", [(one,) for one in found.aside])
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except DatabaseError as error:
        what = f"the person's alerts cannot be taken out of the file of notifications: {error}"
        raise OutputUnavailable(what, where=str(path)) from None
    return found.count


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Raises: OutputUnusable: the file is damaged; DatabaseError: it cannot be used just now."""
    try:
        yield
    except (DatabaseError, *GARBLED) as error:
        if isinstance(error, DatabaseError) and not is_damage(error):
            raise
        raise OutputUnusable(
            "the file of notifications cannot be read, to say what of the person is in it",
            fix="move it away, have the erasure repeated, and remove it where you moved it to",
            where=str(path),
        ) from None


def _find(database: Database, names: Callable[[bytes], bool], low_ms: int, high_ms: int) -> _Named:
    def is_meant(body: bytes, spans: Iterator[tuple[int, int]]) -> bool:
        return names(body) and any(first < high_ms and last >= low_ms for first, last in spans)

    standings = database.execute("SELECT alert, body FROM standing")
    outgoing = database.execute("SELECT target, body FROM outgoing")
    aside = database.execute("SELECT number, body FROM aside")
    return _Named(
        [one for one, body in standings if is_meant(body, _span_of(STANDINGS.decode(body)))],
        [one for one, body in outgoing if is_meant(body, _spans_of(*NOTIFICATIONS.decode(body)))],
        [one for one, body in aside if is_meant(body, _spans_of(NOTIFICATION.decode(body)))],
    )


def _span_of(standing: Standing) -> Iterator[tuple[int, int]]:
    yield standing.alert.first_at_ms, standing.alert.last_at_ms


def _spans_of(*notifications: Notification) -> Iterator[tuple[int, int]]:
    for one in notifications:
        if one.standing is not None:
            yield from _span_of(one.standing)
        if one.digest is not None:
            yield one.digest.first_at_ms, one.digest.last_at_ms
