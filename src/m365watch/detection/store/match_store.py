"""The matches that are kept, group by group: added, read where they have to do with each other, let go of.

An hour of a group that has more of them of one rule than there is room for is thinned, and that it was is
written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from m365watch.detection.alerts.alert import AlertId, Match
from m365watch.detection.alerts.stored_alert import GroupKey, Row, Span
from m365watch.detection.correlation.alert_links import ID_CHARACTERS
from m365watch.detection.store.match_rows import (
    ROWS_AT_ONCE,
    match_of,
    rows_of_groups,
    source_of,
    walk_rows,
    written_of,
)
from m365watch.detection.store.match_sampling import HOUR_MS, Room
from m365watch.detection.store.string_table import Numbered
from m365watch.storage.database import Database

SPAN_MATCHES_MAX = 50_000
"""Matches of one group that are judged together, those nearest to what is new."""
ALERT_ID = f"substr(identity, 1, {ID_CHARACTERS})"
"""Of a match that stands for an alert, that alert's id."""
_IN_HOUR = f"series = ? AND at >= ? AND at < ? AND length(identity) <= {ID_CHARACTERS}"
"""The records of an hour: what stands for an alert goes with it alone, and has a bound of its own."""
_MATCHES = (
    "SELECT at, identity, source, record, severity, vals, counted"
    " FROM match CROSS JOIN said ON said.id = match.said WHERE series = ?"
)


class KeptMatches:
    """The tables of them, in the file of detections."""

    def __init__(self, database: Database, numbered: Numbered) -> None:
        """The file's own connection: what is written here is part of its transaction."""
        self._database = database
        self._numbered = numbered
        self._has_full: bool | None = None

    def doubt(self) -> None:
        """What is remembered of the file may be out of date."""
        self._has_full = None
        self._numbered.doubt()

    def add(self, matches: Iterable[Match]) -> None:
        """Keep matches; those that are there already stay as they are."""
        kept = list(matches)
        series = self._numbered.series([key_of(one) for one in kept])
        said = self._numbered.said([written_of(one) for one in kept])
        rows = [
            (
                number,
                match.at_ms,
                match.identity,
                source_of(match),
                match.record_id,
                match.severity.rank,
                text,
                match.counted,
            )
            for match, number, text in zip(kept, series, said, strict=True)
        ]
        # In the order in which the file has them: each of its pages is written to once.
        rows.sort()
        # Many rows in one statement: between two of them another thread would take its turn.
        for at in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[at : at + ROWS_AT_ONCE]
            places = ",".join(["(?,?,?,?,?,?,?,?)"] * len(some))
            self._database.execute(
                f"INSERT OR IGNORE INTO match VALUES {places}",  # noqa: S608 - nothing but question marks
                list(chain.from_iterable(some)),
            )

    def has(self, match: Match) -> bool:
        """Whether that very match is there, with all that it says."""
        row = self._database.execute(
            _MATCHES + " AND (at, identity, source) = (?, ?, ?)",
            (self._numbered.find_series(key_of(match)), match.at_ms, match.identity, source_of(match)),
        ).fetchone()
        wanted = (match.record_id, match.severity.rank, written_of(match), match.counted)
        return row is not None and row[3:] == wanted

    def drop(self, match: Match) -> None:
        """Forget a match."""
        self._database.execute(
            "DELETE FROM match WHERE (series, at, identity, source) = (?, ?, ?, ?)",
            (self._numbered.find_series(key_of(match)), match.at_ms, match.identity, source_of(match)),
        )

    def drop_link(self, key: GroupKey, *, at_ms: int, alert_id: AlertId) -> None:
        """Forget what stands for an alert at that time in a group that joins it."""
        self._database.execute(
            f"DELETE FROM match WHERE series = ? AND at = ? AND {ALERT_ID} = ?",  # noqa: S608 - our own text
            (self._numbered.find_series(key), at_ms, alert_id),
        )

    def find_sighting(self, match: Match, *, stretch_ms: int) -> Match | None:
        """The first match of the same group and value in the same stretch of time."""
        low_ms = match.at_ms // stretch_ms * stretch_ms
        key = key_of(match)
        series = self._numbered.find_series(key)
        if not series:
            return None
        row = self._database.execute(
            _MATCHES + " AND at >= ? AND at < ? AND counted = ? ORDER BY at, identity LIMIT 1",
            (series, low_ms, low_ms + stretch_ms, match.counted),
        ).fetchone()
        return None if row is None else match_of(row, key)

    def read_span(self, key: GroupKey, *, low_ms: int, high_ms: int, reach_ms: int) -> Span:
        """The matches between the two times, and beyond them as far as no gap is longer than `reach_ms`."""
        series = self._numbered.find_series(key)
        before = self._database.execute(
            _MATCHES + " AND at <= ? ORDER BY at DESC, identity DESC, source DESC",
            (series, high_ms),
        )
        half = SPAN_MATCHES_MAX // 2
        inside = range(low_ms, high_ms + 1)
        earlier, cut_before = walk_rows(before, edge_ms=low_ms, inside=inside, reach_ms=reach_ms, most=half)
        after = self._database.execute(
            _MATCHES + " AND at > ? ORDER BY at, identity, source",
            (series, high_ms),
        )
        later, cut_after = walk_rows(after, edge_ms=high_ms, inside=inside, reach_ms=reach_ms, most=half)
        rows = [*reversed(earlier), *later]
        return Span([match_of(row, key) for row in rows], cut_before or cut_after, begins=not cut_before)

    def read_group(self, key: GroupKey, *, since_ms: int) -> Span:
        """All matches of a group from `since_ms` on, the latest ones where there are too many."""
        rows = self._database.execute(
            _MATCHES + " AND at >= ? ORDER BY at DESC, identity DESC, source DESC LIMIT ?",
            (self._numbered.find_series(key), since_ms, SPAN_MATCHES_MAX + 1),
        ).fetchall()
        kept = rows[:SPAN_MATCHES_MAX]
        return Span([match_of(row, key) for row in reversed(kept)], len(rows) > len(kept))

    def read_tallies(self, keys: Sequence[GroupKey], *, most: int) -> list[Row]:
        """Rule, tenant, group, source and counted value of each match of these groups, at most `most`."""
        select = (
            "SELECT rule, tenant, grp, iif(source = '', rule, source), counted FROM series CROSS JOIN match"
            " ON match.series = series.id"
        )
        return rows_of_groups(self._database, select, keys, most=most)

    def list_groups(self, rules: Mapping[str, bool], *, most: int) -> list[GroupKey]:
        """The groups of these rules that have matches; of each rule, whether its groups have fields."""
        found = []
        for rule_id, has_fields in rules.items():
            rows = self._database.execute(
                "SELECT tenant, grp FROM series WHERE rule = ? AND EXISTS"
                " (SELECT 1 FROM match WHERE series = series.id) ORDER BY tenant, grp LIMIT ?",
                (rule_id, most),
            )
            found += [GroupKey.split(rule_id, tenant, group, has_fields=has_fields) for tenant, group in rows]
        return found

    def list_spans(
        self, rule_id: str, *, has_fields: bool, since_ms: int, most: int
    ) -> list[tuple[GroupKey, int, int]]:
        """Groups of a rule with matches since then, the latest ones, and from when to when these are."""
        rows = self._database.execute(
            "SELECT tenant, grp, min(at), max(at) AS latest FROM series CROSS JOIN match"
            " ON match.series = series.id WHERE rule = ? AND at >= ? GROUP BY series.id"
            " ORDER BY latest DESC, series.id LIMIT ?",
            (rule_id, since_ms, most),
        )
        return [
            (GroupKey.split(rule_id, tenant, group, has_fields=has_fields), first_ms, last_ms)
            for tenant, group, first_ms, last_ms in rows
        ]

    def list_tenant_groups(
        self, rule_id: str, tenant: str, *, has_fields: bool, low_ms: int, high_ms: int
    ) -> list[GroupKey]:
        """The groups of a rule that have a match in [low, high)."""
        rows = self._database.execute(
            "SELECT grp FROM series WHERE rule = ? AND tenant = ? AND EXISTS"
            " (SELECT 1 FROM match WHERE series = series.id AND at >= ? AND at < ?) ORDER BY grp",
            (rule_id, tenant, low_ms, high_ms),
        )
        return [GroupKey.split(rule_id, tenant, group, has_fields=has_fields) for (group,) in rows]

    def thin_hour(self, key: GroupKey, hour_ms: int, *, room: Room) -> tuple[int, int] | None:
        """Keep of an hour what there is room for, of each source and severity.

        From where on some are left out to the end of the hour; None where there was room for all. What lies
        between the two times is other than it was, or says now that more may have been there.
        """
        # Each has room of its own: whoever has a flood made of one rule would else hide what others find.
        series = self._numbered.find_series(key)
        of_hour = (series, hour_ms, hour_ms + HOUR_MS)
        flooding = self._database.execute(
            f"SELECT source, severity FROM match WHERE {_IN_HOUR}"  # noqa: S608 - our own text
            " GROUP BY source, severity HAVING count(*) > ?",
            (*of_hour, room.most),
        ).fetchall()
        dropped = sum(self._thin(of_hour, source, severity, room) for source, severity in flooding)
        if not dropped:
            return None
        self._database.execute(
            "INSERT INTO full VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET dropped = dropped + excluded.dropped",
            (key.rule_id, key.tenant, key.joined, hour_ms, dropped),
        )
        self._has_full = True
        return self._full_from(series, hour_ms, room), hour_ms + HOUR_MS - 1

    def _thin(self, of_hour: tuple[int, int, int], source: str, severity: int, room: Room) -> int:
        """Let go of what there is no room for; how many that are."""
        seen = self._database.execute(
            f"SELECT at, identity, counted FROM match WHERE {_IN_HOUR}"  # noqa: S608 - our own text
            " AND source = ? AND severity = ? ORDER BY at, identity",
            (*of_hour, source, severity),
        ).fetchall()
        kept = room.choose(seen)
        self._database.executemany(
            "DELETE FROM match WHERE (series, at, identity, source) = (?, ?, ?, ?)",
            [
                (of_hour[0], at_ms, identity, source)
                for at_ms, identity, counted in seen
                if (at_ms, identity, counted) not in kept
            ],
        )
        return len(seen) - len(kept)

    def _full_from(self, series: int, hour_ms: int, room: Room) -> int:
        """Until when all matches are there, of the source that is full first: the last of its earliest."""
        row = self._database.execute(
            "WITH had AS (SELECT at, row_number() OVER"  # noqa: S608 - our own text
            " (PARTITION BY source, severity ORDER BY at, identity) AS place"
            f" FROM match WHERE {_IN_HOUR}) SELECT min(at) FROM had WHERE place = ?",
            (series, hour_ms, hour_ms + HOUR_MS, room.most),
        ).fetchone()
        return hour_ms if row[0] is None else int(row[0])

    def is_full(self, key: GroupKey, *, low_ms: int, high_ms: int, room: Room) -> bool:
        """Whether matches of the group that were dropped for want of room may lie between the two times.

        Of a source the earliest of an hour stay: what was over before the last of these has all of them.
        """
        if self._has_full is None:
            self._has_full = self.count_full() > 0
        if not self._has_full:
            return False
        hours = self._database.execute(
            "SELECT hour FROM full WHERE (rule, tenant, grp) = (?, ?, ?) AND hour BETWEEN ? AND ?",
            (key.rule_id, key.tenant, key.joined, low_ms // HOUR_MS * HOUR_MS, high_ms),
        ).fetchall()
        series = self._numbered.find_series(key) if hours else 0
        return any(self._full_from(series, hour_ms, room) <= high_ms for (hour_ms,) in hours)

    def count_full(self) -> int:
        """Hours of groups that had more matches than are kept."""
        return int(self._database.execute("SELECT count(*) FROM full").fetchone()[0])

    def forget(self, rule_id: str, *, before_ms: int, back_ms: int = 0) -> int:
        """Let go of a rule's old matches, but for those of an alert that is younger; how many went.

        An alert's are those of `back_ms` before it, too.
        """
        gone = self._database.execute(
            "DELETE FROM match WHERE series IN (SELECT id FROM series WHERE rule = ?) AND at < ?"
            " AND NOT EXISTS (SELECT 1 FROM series JOIN alert USING (rule, tenant, grp)"
            " WHERE series.id = match.series AND alert.low - ? <= match.at AND alert.last >= ?)",
            (rule_id, before_ms, back_ms, before_ms),
        )
        self._database.execute(
            "DELETE FROM full WHERE rule = ? AND hour < ? AND NOT EXISTS (SELECT 1 FROM alert"
            " WHERE (alert.rule, alert.tenant, alert.grp) = (full.rule, full.tenant, full.grp)"
            " AND alert.low - ? <= full.hour AND alert.last >= ?)",
            (rule_id, before_ms - HOUR_MS, back_ms + HOUR_MS, before_ms),
        )
        return gone.rowcount

    def clean(self) -> None:
        """Let go of what is kept for matches that are gone."""
        self._numbered.clean()


def key_of(match: Match) -> GroupKey:
    """The group that a match belongs to."""
    return GroupKey(match.rule_id, match.tenant, match.group)


class Links:
    """The table of them, in the file of detections."""

    def __init__(self, database: Database, matches: KeptMatches) -> None:
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
