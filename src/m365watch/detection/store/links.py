"""What an episode is for the correlations that join it: matches of their rules, which come and go with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from m365watch.detection.alerts.alert import AlertId, Match
from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.store.match_store import KeptMatches, key_of


class Links:
    """The table of them, in the file of detections."""

    def __init__(self, database: sqlite3.Connection, matches: KeptMatches) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database
        self._matches = matches

    def replace(self, alert_id: AlertId, links: Sequence[Match]) -> list[tuple[GroupKey, int]]:
        """Make these the links of an alert; the groups that this changes, each with a time in it."""
        return [*self._drop_others(alert_id, links), *self._add(alert_id, links)]

    def _drop_others(self, alert_id: AlertId, links: Sequence[Match]) -> list[tuple[GroupKey, int]]:
        gone: list[tuple[GroupKey, int]] = []
        wanted = {(match.rule_id, key_of(match).joined, match.at_ms) for match in links}
        rows = self._database.execute(
            "SELECT rule, tenant, grp, at FROM link WHERE alert = ?", (alert_id,)
        ).fetchall()
        for rule_id, tenant, group, at_ms in rows:
            if (rule_id, group, at_ms) in wanted:
                continue
            # Nothing is joined on a field that is absent.
            key = GroupKey.split(rule_id, tenant, group, has_fields=bool(group))
            self._matches.drop_link(key, at_ms=at_ms, alert_id=alert_id)
            self._database.execute(
                "DELETE FROM link WHERE (alert, rule, grp, at) = (?, ?, ?, ?)",
                (alert_id, rule_id, group, at_ms),
            )
            gone.append((key, at_ms))
        return gone

    def _add(self, alert_id: AlertId, links: Sequence[Match]) -> list[tuple[GroupKey, int]]:
        added: list[tuple[GroupKey, int]] = []
        for match in links:
            if self._matches.has(match):
                continue
            key = key_of(match)
            # What is the first now was a later one before, or the other way round.
            self._matches.drop_link(key, at_ms=match.at_ms, alert_id=alert_id)
            self._matches.add([match])
            self._database.execute(
                "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?)",
                (alert_id, key.rule_id, key.tenant, key.joined, match.at_ms),
            )
            added.append((key, match.at_ms))
        return added
