"""A person taken out of the file of detections: the matches and alerts that name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.store.alert_outbox import AlertOutbox
from m365watch.detection.store.detection_database import BUSY_S, DETECTIONS
from m365watch.detection.store.lake_outbox import LakeDue
from m365watch.detection.store.match_store import ALERT_ID
from m365watch.detection.store.string_table import clean_numbers
from m365watch.storage.database import Database, DatabaseError, connect_to_read, open_database

ROWS_PER_STEP = 1_000
FAR_MS = 1 << 60
_MATCHES = (
    "SELECT series, at, identity, source, grp, vals, counted FROM match"
    " JOIN series ON series.id = match.series JOIN said ON said.id = match.said WHERE at >= ? AND at < ?"
)
_ALERT = "alert"
_MADE_OF_ALERTS = ("history", "closing")
_GROUPS = {"link": "at >= ? AND at < ?", "full": "hour > ? - 3600000 AND hour < ?"}
"""What is kept of groups beside their matches and alerts, and when: a group may be a person."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What of the file named the person."""

    alerts: int
    matches: int
    """What is kept of records and groups for rules that look at several."""
    reasons: int = 0
    """Other alerts of which somebody gave a reason that did."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Whom to look for, and when."""

    names: Callable[[bytes], bool]
    """Whether a text names the person."""
    low_ms: int = 0
    high_ms: int = FAR_MS


def find_named(path: Path, naming: Naming) -> Forgotten:
    """How much of the file names the person; nothing is changed. Raises: DatabaseError."""
    if not path.is_file():
        return Forgotten(0, 0)
    with closing(connect_to_read(path, timeout_s=BUSY_S)) as database:
        alerts = {row[0] for row in _alerts(database, naming)}
        reasons = {alert for _, _, alert in _reasons(database, naming)} - alerts
        kept = sum(1 for _ in _matches(database, naming)) + len(_groups(database, naming))
        return Forgotten(len(alerts), kept, len(reasons))


def forget_named(path: Path, naming: Naming) -> Forgotten:
    """Take out what names the person, and write over it; works beside a running collector.

    Rows of the alerts in lakes are due to go with it. Raises: OutputUnavailable: it is to be repeated.
    """
    if not path.is_file():
        return Forgotten(0, 0)
    try:
        return _forget(path, naming)
    except DatabaseError as error:
        what = f"the person's alerts cannot be taken out of the file of detections: {error}"
        raise OutputUnavailable(what, where=str(path)) from None


def _forget(path: Path, naming: Naming) -> Forgotten:
    with closing(open_database(path, DETECTIONS, timeout_s=BUSY_S)) as database:
        alerts = [row[0] for row in _alerts(database, naming)]
        # Counted before: some go with their alert.
        kept = sum(1 for _ in _matches(database, naming)) + len(_groups(database, naming))
        for alert_id in alerts:
            _drop_alert(database, alert_id)
        reasons = _blank_reasons(database, naming)
        matches = [row[:4] for row in _matches(database, naming)]
        for start in range(0, len(matches), ROWS_PER_STEP):
            with database.transaction():
                database.executemany(
                    "DELETE FROM match WHERE (series, at, identity, source) = (?, ?, ?, ?)",
                    matches[start : start + ROWS_PER_STEP],
                )
        with database.transaction():
            groups = _groups(database, naming)
            for table, group in groups:
                database.execute(
                    f"DELETE FROM {table} WHERE grp = ? AND {_GROUPS[table]}",  # noqa: S608 - our own names
                    (group, naming.low_ms, naming.high_ms),
                )
            clean_numbers(database)
            for table in _MADE_OF_ALERTS:
                # Of an alert that was withdrawn nothing says any more whom it named.
                database.execute(f"DELETE FROM {table} WHERE alert NOT IN (SELECT id FROM alert)")  # noqa: S608
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Forgotten(len(alerts), kept, reasons)


def _alerts(database: Database, naming: Naming) -> Iterator[tuple[Any, ...]]:
    rows = database.execute(
        "SELECT id, body FROM alert WHERE first < ? AND last >= ?", (naming.high_ms, naming.low_ms)
    )
    return (row for row in rows if naming.names(row[1]))


def _groups(database: Database, naming: Naming) -> list[tuple[str, str]]:
    """Tables with the groups in them that name the person."""
    return [
        (table, group)
        for table in sorted(_GROUPS)
        for (group,) in database.execute(
            f"SELECT DISTINCT grp FROM {table} WHERE {_GROUPS[table]}",  # noqa: S608 - our own names
            (naming.low_ms, naming.high_ms),
        )
        if naming.names(group.encode())
    ]


def _reasons(database: Database, naming: Naming) -> Iterator[tuple[str, str | int, str]]:
    """Table and key of each reason that names the person, with the alert of which it was given."""
    for table in (_ALERT, *_MADE_OF_ALERTS):
        alert = "id" if table == _ALERT else "alert"
        rows = database.execute(
            f"SELECT said.{_key(table)}, said.reason, alert.id"  # noqa: S608 - our own names
            f" FROM {table} AS said JOIN alert ON alert.id = said.{alert}"
            " WHERE said.reason != '' AND alert.first < ? AND alert.last >= ?",
            (naming.high_ms, naming.low_ms),
        )
        yield from ((table, key, of) for key, reason, of in rows if naming.names(reason.encode()))


def _key(table: str) -> str:
    return "id" if table == _ALERT else "rowid"


def _blank_reasons(database: Database, naming: Naming) -> int:
    """Take the reasons out, in one transaction; of how many alerts."""
    with database.transaction():
        found = list(_reasons(database, naming))
        for table, key, _ in found:
            database.execute(
                f"UPDATE {table} SET reason = '' WHERE {_key(table)} = ?",  # noqa: S608 - our own names
                (key,),
            )
        alerts = {alert for _, _, alert in found}
        for alert in sorted(alerts):
            LakeDue(database).mark_kept(alert)
            AlertOutbox(database).add(alert)
    return len(alerts)


def _matches(database: Database, naming: Naming) -> Iterator[tuple[Any, ...]]:
    """Their keys, and what they say."""
    rows = database.execute(_MATCHES, (naming.low_ms, naming.high_ms))
    return (row for row in rows if naming.names(b"\n".join((row[4].encode(), row[5], row[6].encode()))))


def _drop_alert(database: Database, alert_id: str) -> None:
    """With all that belongs to it, in one transaction."""
    with database.transaction():
        LakeDue(database).mark_kept(alert_id)
        AlertOutbox(database).add(alert_id)
        database.execute(
            f"DELETE FROM match WHERE {ALERT_ID} = ? AND (series, at) IN"  # noqa: S608 - our own text
            " (SELECT series.id, at FROM link JOIN series USING (rule, tenant, grp) WHERE alert = ?)",
            (alert_id, alert_id),
        )
        belongings = ("link", *_MADE_OF_ALERTS)
        for table, column in (*((one, "alert") for one in belongings), ("former", "now"), ("alert", "id")):
            database.execute(f"DELETE FROM {table} WHERE {column} = ?", (alert_id,))  # noqa: S608 - our own names
