"""The alerts that are kept: what each is, what analysts made of it, and what became of former ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.reopen_policy import BY, Closings, Standing, place
from m365watch.detection.alerts.stored_alert import AlertState, GroupKey, KeptAlert, Row, kept_of
from m365watch.detection.store.alert_history import StateChange, StateHistory
from m365watch.detection.store.alert_outbox import AlertOutbox
from m365watch.detection.store.lake_outbox import LakeDue
from m365watch.detection.store.match_rows import rows_of_groups
from m365watch.storage.database import Database

_ALERTS = "SELECT body, shown, state, reason, changed_by, changed_at, low, put_back FROM alert"


class KeptAlerts:
    """The tables of them, in the file of detections."""

    def __init__(
        self,
        database: Database,
        *,
        lake_due: LakeDue,
        history: StateHistory,
        closings: Closings,
        outbox: AlertOutbox,
    ) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database
        self._lake_due = lake_due
        self._history = history
        self._closings = closings
        self._outbox = outbox

    def find(self, alert_id: str) -> KeptAlert | None:
        """The alert of that id, or the one that it has become."""
        row = self._database.execute("SELECT now FROM former WHERE id = ?", (alert_id,)).fetchone()
        return self.find_itself(row[0] if row else alert_id)

    def find_itself(self, alert_id: str) -> KeptAlert | None:
        """The alert of that very id, be it one that has been a part of another in between."""
        found = self._database.execute(f"{_ALERTS} WHERE id = ?", (alert_id,)).fetchone()
        return kept_of(found) if found else None

    def put(self, kept: KeptAlert) -> None:
        """Keep an alert, or what it is now."""
        alert = kept.alert
        key = GroupKey(alert.rule_id, alert.tenant, alert.group)
        self._database.execute("DELETE FROM former WHERE id = ?", (alert.id,))
        self._database.execute(
            "INSERT OR REPLACE INTO alert VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                alert.id,
                alert.rule_id,
                alert.tenant,
                key.joined,
                alert.first_at_ms,
                alert.last_at_ms,
                int(kept.shown),
                msgspec.json.encode(alert),
                str(kept.state),
                kept.reason,
                kept.changed_by,
                kept.changed_at_ms,
                kept.low_ms,
                int(kept.is_put_back),
            ),
        )
        self._outbox.add(alert.id)

    def drop(self, alert_id: AlertId, *, became: AlertId | None) -> None:
        """Let go of an alert; who asks for it is shown the one that it `became`.

        What somebody made of it stays, for when it comes back.
        """
        self._lake_due.mark_kept(alert_id)
        self._note_standing(alert_id)
        self._database.execute("DELETE FROM alert WHERE id = ?", (alert_id,))
        self._outbox.add(alert_id)
        if became is not None:
            self._note_standing(became)
            self._history.pass_on(alert_id, became=became)
            self._closings.pass_on(alert_id, became=became)
            self._database.execute("UPDATE former SET now = ? WHERE now = ?", (became, alert_id))
            self.add_former(alert_id, became)
            self._database.execute("DELETE FROM former WHERE id = ?", (became,))

    def _note_standing(self, alert_id: AlertId) -> None:
        """Let the history end with where the alert stands; out of a lake it came with none."""
        kept = self.find_itself(alert_id)
        if kept is not None and kept.changed_at_ms:
            standing = StateChange(kept.changed_at_ms, kept.state, kept.reason, kept.changed_by)
            last = self._history.list(alert_id)[-1:]
            # What the engine says of it is worded anew with each record that comes.
            if [replace(one, reason=kept.reason) for one in last] != [standing]:
                self._history.add(alert_id, standing)

    def take_back(self, alert_id: AlertId) -> set[str]:
        """An alert that is there again: what others got of it is theirs no more, and they stand without it.

        Which others they are.
        """
        others = self._history.take_back(alert_id, by=BY) | self._closings.take_back(alert_id)
        for other in others:
            kept = self.find_itself(other)
            if kept is not None:
                self.put(self.recall(kept) or place(kept, Standing()))
                self._lake_due.mark_kept(kept.alert.id)
        return others

    def recall(self, kept: KeptAlert) -> KeptAlert | None:
        """An alert that is there again, as somebody had left it when it went; None where nobody had."""
        history = self._history.list(kept.alert.id)
        if not history:
            return None
        last = history[-1]
        return replace(
            kept, state=last.state, reason=last.reason, changed_by=last.by, changed_at_ms=last.at_ms
        )

    def add_former(self, former: AlertId, now: AlertId) -> None:
        """Show whoever asks for `former` the alert `now`."""
        self._database.execute("INSERT OR REPLACE INTO former VALUES (?, ?)", (former, now))

    def forget(self, *, before_ms: int) -> int:
        """Let go of alerts that ended before; how many went."""
        self._lake_due.forget_alerts(before_ms=before_ms)
        self._history.forget(before_ms=before_ms)
        self._closings.forget(before_ms=before_ms)
        self._outbox.add_ended(before_ms=before_ms)
        gone = self._database.execute("DELETE FROM alert WHERE last < ?", (before_ms,))
        self._database.execute("DELETE FROM former WHERE now NOT IN (SELECT id FROM alert)")
        self._database.execute("DELETE FROM link WHERE alert NOT IN (SELECT id FROM alert)")
        return gone.rowcount

    def set_state(self, alert_id: str, state: AlertState, *, reason: str, by: str, at_ms: int) -> bool:
        """What an analyst makes of an alert; whether there is one of that id."""
        kept = self.find(alert_id)
        if kept is None:
            return False
        self._database.execute(
            "UPDATE alert SET state = ?, reason = ?, changed_by = ?, changed_at = ? WHERE id = ?",
            (str(state), reason, by, at_ms, kept.alert.id),
        )
        self._outbox.add(kept.alert.id)
        self._history.add(kept.alert.id, StateChange(at_ms, state, reason, by))
        self._closings.keep(replace(kept, state=state, reason=reason, changed_by=by, changed_at_ms=at_ms))
        self._lake_due.mark_kept(kept.alert.id)
        return True

    def list_of(self, key: GroupKey, *, low_ms: int, high_ms: int) -> list[KeptAlert]:
        """The group's alerts of which a match of their own is in the span, or around it."""
        rows = self._database.execute(
            f"{_ALERTS} WHERE (rule, tenant, grp) = (?, ?, ?) AND low <= ? AND last >= ? ORDER BY low, id",
            (key.rule_id, key.tenant, key.joined, high_ms, low_ms),
        )
        return [kept_of(row) for row in rows]

    def list_times(self, rule_id: str, *, has_fields: bool, since_ms: int) -> list[tuple[GroupKey, int]]:
        """Group and end of a rule's alerts that went on then, and of which matches are kept."""
        # What was put back out of a lake may have none: nothing says that it is no alert.
        rows = self._database.execute(
            "SELECT tenant, grp, last FROM alert JOIN series USING (rule, tenant, grp) WHERE rule = ?"
            " AND last >= ? AND EXISTS"
            " (SELECT 1 FROM match WHERE series = series.id AND at BETWEEN low AND last)",
            (rule_id, since_ms),
        )
        return [
            (GroupKey.split(rule_id, tenant, group, has_fields=has_fields), last_ms)
            for tenant, group, last_ms in rows
        ]

    def alerted(self, keys: Sequence[GroupKey]) -> list[Row]:
        """Rule, tenant and group of those that have alerts."""
        select = "SELECT DISTINCT rule, tenant, grp FROM alert"
        return rows_of_groups(self._database, select, keys, most=len(keys))

    def count(self) -> list[tuple[str, str, int]]:
        """How many alerts there are to see, by state and severity."""
        return self._database.execute(
            "SELECT state, json_extract(CAST(body AS TEXT), '$.severity'), count(*) FROM alert"
            " WHERE shown GROUP BY 1, 2"
        ).fetchall()

    def list_tenants(self) -> Sequence[str]:
        """The tenants of which there are alerts to see."""
        return [row[0] for row in self._database.execute("SELECT DISTINCT tenant FROM alert WHERE shown")]

    def list(self, *, since_ms: int = 0, most: int = 100_000) -> list[KeptAlert]:
        """The alerts that were still going on at `since_ms` or later, the latest first."""
        rows = self._database.execute(
            f"{_ALERTS} WHERE shown AND last >= ? ORDER BY last DESC, id LIMIT ?", (since_ms, most)
        )
        return [kept_of(row) for row in rows]
