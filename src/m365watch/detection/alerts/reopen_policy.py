"""What analysts had before them when they closed an alert: a record that was not among it opens it again.

A closing is about what was there to be looked at, and not about whatever may come to it later. So whether
an alert is closed is told from two things only: what it is now, and what was closed. Neither the order in
which records come nor a crash has a say in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.severity import Severity
from m365watch.detection.store.alert_history import COLUMNS, forget_left, pass_on, take_back
from m365watch.storage.database import Database

BY = "m365watch"
"""Who has opened an alert again, as its history says."""


@dataclass(frozen=True, slots=True)
class Closing:
    """An alert as somebody closed it."""

    at_ms: int
    reason: str
    by: str
    first_ms: int
    last_ms: int
    count: int
    severity: Severity


def closing_of(kept: KeptAlert) -> Closing:
    """The closing of an alert that is closed, of all that it is now."""
    alert = kept.alert
    return Closing(
        kept.changed_at_ms,
        kept.reason,
        kept.changed_by,
        alert.first_at_ms,
        alert.last_at_ms,
        alert.count,
        alert.severity,
    )


class Closings:
    """The table of them, in the file of detections; an alert that others became part of may have several."""

    def __init__(self, database: Database) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database

    def keep(self, kept: KeptAlert) -> None:
        """Keep what was closed, if the alert is closed, in place of what was closed of it before."""
        self._database.execute("DELETE FROM closing WHERE alert = ?", (kept.alert.id,))
        if kept.state is AlertState.CLOSED:
            one = closing_of(kept)
            self._database.execute(
                f"INSERT INTO closing (alert, {COLUMNS['closing']}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    kept.alert.id,
                    one.at_ms,
                    one.reason,
                    one.by,
                    one.first_ms,
                    one.last_ms,
                    one.count,
                    str(one.severity),
                ),
            )

    def list(self, alert_id: str) -> list[Closing]:
        """What was closed of an alert, the last closing at the end."""
        rows = self._database.execute(
            "SELECT at, reason, changed_by, first, last, count, severity FROM closing WHERE alert = ?"
            " ORDER BY at, reason, changed_by, first",
            (alert_id,),
        )
        return [
            Closing(at_ms, reason, by, first_ms, last_ms, count, Severity(severity))
            for at_ms, reason, by, first_ms, last_ms, count, severity in rows
        ]

    def pass_on(self, alert_id: str, *, became: str) -> None:
        """The alert goes; what was closed of it was closed of the one that it became."""
        pass_on(self._database, "closing", alert_id, became=became)

    def take_back(self, alert_id: str) -> set[str]:
        """The alert is there again: what was closed of it was closed of no other; of which ones it was."""
        return set(take_back(self._database, "closing", alert_id))

    def forget(self, *, before_ms: int) -> None:
        """Let go of what was closed of alerts that ended before, or went before."""
        forget_left(self._database, "closing", before_ms=before_ms)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an alert stands, and who has put it there."""

    state: AlertState = AlertState.OPEN
    reason: str = ""
    by: str = ""
    at_ms: int = 0


def stand(alert: Alert, parts: Sequence[KeptAlert], closings: Sequence[Closing], *, now_ms: int) -> Standing:
    """Where an alert stands that `parts` have become, of which `closings` were closed.

    What somebody is looking into stays theirs. What was closed is closed as long as nothing has come to it:
    no other record, earlier or later or in between, no higher severity, and no alert that was open.
    """
    # What lies beside it is no part of it any more.
    closings = [
        one for one in closings if one.first_ms <= alert.last_at_ms and alert.first_at_ms <= one.last_ms
    ]
    taken = [one for one in parts if one.state is AlertState.ACKNOWLEDGED]
    if taken:
        return _of(_latest(taken))
    if closings and not (news := _news_since(alert, closings)):
        last = closings[-1]
        return Standing(AlertState.CLOSED, last.reason, last.by, last.at_ms)
    opened = [one for one in parts if one.state is AlertState.OPEN]
    if not closings:
        return _of(_latest(opened)) if opened else Standing()
    last = closings[-1]
    reason = f": {last.reason}" if last.reason else ""
    again = next((one.changed_at_ms for one in opened if one.changed_by == BY), now_ms)
    return Standing(AlertState.OPEN, f"{news} since {last.by or 'somebody'} closed it{reason}", BY, again)


def turns(parts: Sequence[KeptAlert], standing: Standing) -> bool:
    """Whether something closed is open now, or the other way round."""
    was_closed = any(one.state is AlertState.CLOSED for one in parts)
    is_closed = standing.state is AlertState.CLOSED
    return standing.state is not AlertState.ACKNOWLEDGED and was_closed is not is_closed


def place(kept: KeptAlert, standing: Standing) -> KeptAlert:
    """The alert, standing so."""
    if _of(kept) == standing:
        return kept
    return replace(
        kept,
        state=standing.state,
        reason=standing.reason,
        changed_by=standing.by,
        changed_at_ms=standing.at_ms,
    )


def _news_since(alert: Alert, closings: Sequence[Closing]) -> str:
    """What has come to an alert since it was closed, in words; empty where nothing has."""
    severity = max((one.severity for one in closings), key=lambda one: one.rank)
    if alert.severity.rank > severity.rank:
        return f"it has become {alert.severity}"
    more = alert.count - sum(one.count for one in closings)
    if more > 0:
        return f"{more:,} more record{'s have' if more > 1 else ' has'} come"
    first_ms, last_ms = min(one.first_ms for one in closings), max(one.last_ms for one in closings)
    is_within = first_ms <= alert.first_at_ms and alert.last_at_ms <= last_ms
    return "" if is_within else "other records have come"


def _of(kept: KeptAlert) -> Standing:
    return Standing(kept.state, kept.reason, kept.changed_by, kept.changed_at_ms)


def _latest(parts: Sequence[KeptAlert]) -> KeptAlert:
    return max(parts, key=lambda one: (one.changed_at_ms, one.alert.id))
