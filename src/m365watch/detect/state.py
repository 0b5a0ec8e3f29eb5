"""What detection remembers, on disk: matches, alerts, what has to be told, and the last batch.

One SQLite file. Everything that a batch changes is one transaction, its number included, so that a
crash neither loses nor repeats anything. The file can be lost: a search over the lake makes it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import msgspec

from m365watch.detect.absent import AbsentRules
from m365watch.detect.alert import AlertId, Match
from m365watch.detect.closings import Closings
from m365watch.detect.due import LakeDue
from m365watch.detect.history import StateChange, StateHistory
from m365watch.detect.kept import (
    AlertState,
    GroupKey,
    KeptAlert,
    Row,
    Span,
    kept_of,
)
from m365watch.detect.numbered import Numbered
from m365watch.detect.opening import open_file
from m365watch.detect.rows import match_of, source_of, walk_rows, written_of
from m365watch.errors import OutputUnavailable
from m365watch.ledger.database import is_damage, suspicion_of

SPAN_MATCHES_MAX = 50_000
"""Matches of one group that are judged together, those nearest to what is new."""
ROWS_AT_ONCE = 500
"""Rows that are written by one statement."""
HOUR_MS = 3_600_000
RECORDS, TROUBLE = "records", "finder"
"""Under these names the engine keeps how many records it has judged, and what makes it slow."""
_HOLD = "hold"
_MATCHES = (
    "SELECT at, identity, source, record, severity, vals, counted"
    " FROM match CROSS JOIN said ON said.id = match.said WHERE series = ?"
)


class HoldLost(Exception):
    """Somebody else has taken hold of the file."""


class DetectionState:
    """The file. One thread uses it; others read it through connections of their own."""

    def __init__(
        self, path: Path, *, survives_power_cuts: bool = True, hold: int = 0, looks_only: bool = False
    ) -> None:
        """Open or make the file; a crash of the process costs nothing either way. Raises: OutputUnusable.

        With a `hold` that somebody took for this connection, its transactions end where another was taken.
        Who `looks_only` changes nothing in it.
        """
        self.path = path
        self.survives_power_cuts = survives_power_cuts
        self._hold = hold
        self._since_ms: dict[str, int] = {}
        self._has_full: bool | None = None
        self._database = open_file(path, survives_power_cuts=survives_power_cuts, looks_only=looks_only)
        self.lake_due = LakeDue(self._database)
        self.history = StateHistory(self._database)
        self.closings = Closings(self._database)
        self.absent = AbsentRules(self._database)
        self._numbered = Numbered(self._database)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.

        Raises: OutputUnavailable: nothing of it counts; try again. HoldLost: nor does it, for good.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            if self._hold and self.read(_HOLD) != str(self._hold):
                raise HoldLost  # noqa: TRY301 - rolled back like all else
            self._numbered.begin()
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            then = ""
            if is_damage(error):
                # The next start then looks at all of it, however long that takes.
                with suppress(OSError):
                    suspicion_of(self.path).touch(mode=0o600)
                then = "; start m365watch again: it sets the file aside and makes it anew from the lake"
            raise OutputUnavailable(
                f"the file of detections cannot be written: {error}{then}", where=str(self.path)
            ) from None
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        self._since_ms.clear()
        self._numbered.doubt()
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    # Progress -----------------------------------------------------------------------------------

    @property
    def last_batch(self) -> int:
        """The number of the last batch that is durable here; 0 for none."""
        return int(self.read("batch") or 0)

    def read(self, key: str) -> str:
        """A value that was written under `key`; empty where there is none."""
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def write(self, key: str, value: str) -> None:
        """Keep a value under `key`."""
        self._database.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def take_hold(self) -> int:
        """Let nobody write on who holds the file till now; a number for whoever does from now on."""
        with self.transaction():
            hold = int(self.read(_HOLD) or 0) + 1
            self.write(_HOLD, str(hold))
        return hold

    def doubt(self) -> None:
        """Another connection has written: what is remembered of the file may be out of date."""
        self._since_ms.clear()
        self._has_full = None
        self._numbered.doubt()

    def since_ms(self, tenant: str) -> int | None:
        """The earliest time that the tenant was watched at."""
        if tenant not in self._since_ms:
            row = self._database.execute("SELECT since FROM tenant WHERE id = ?", (tenant,)).fetchone()
            if row is None:
                return None
            self._since_ms[tenant] = int(row[0])
        return self._since_ms[tenant]

    def watch_since(self, tenant: str, since_ms: int) -> None:
        """Keep the tenant's earliest time."""
        self._since_ms.pop(tenant, None)
        self._database.execute(
            "INSERT INTO tenant VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET since = min(since, excluded.since)",
            (tenant, since_ms),
        )

    # Matches ------------------------------------------------------------------------------------

    def add_matches(self, matches: Iterable[Match]) -> None:
        """Keep matches; those that are there already stay as they are."""
        kept = list(matches)
        series = self._numbered.series([GroupKey(one.rule_id, one.tenant, one.group) for one in kept])
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

    def find_sighting(self, match: Match, *, stretch_ms: int) -> Match | None:
        """The first match of the same group and value in the same stretch of time."""
        low_ms = match.at_ms // stretch_ms * stretch_ms
        key = GroupKey(match.rule_id, match.tenant, match.group)
        series = self._numbered.find_series(key)
        if not series:
            return None
        row = self._database.execute(
            _MATCHES + " AND at >= ? AND at < ? AND counted = ? ORDER BY at, identity LIMIT 1",
            (series, low_ms, low_ms + stretch_ms, match.counted),
        ).fetchone()
        return None if row is None else match_of(row, key)

    def drop_match(self, match: Match) -> None:
        """Forget a match."""
        series = self._numbered.find_series(GroupKey(match.rule_id, match.tenant, match.group))
        self._database.execute(
            "DELETE FROM match WHERE (series, at, identity, source) = (?, ?, ?, ?)",
            (series, match.at_ms, match.identity, source_of(match)),
        )

    def _has_match(self, match: Match) -> bool:
        """Whether that very match is there, with all that it says."""
        key = GroupKey(match.rule_id, match.tenant, match.group)
        row = self._database.execute(
            _MATCHES + " AND (at, identity, source) = (?, ?, ?)",
            (self._numbered.find_series(key), match.at_ms, match.identity, source_of(match)),
        ).fetchone()
        wanted = (match.record_id, match.severity.rank, written_of(match), match.counted)
        return row is not None and row[3:] == wanted

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
        return Span([match_of(row, key) for row in rows], cut_before or cut_after)

    def read_group(self, key: GroupKey, *, since_ms: int) -> Span:
        """All matches of a group from `since_ms` on, the latest ones where there are too many."""
        rows = self._database.execute(
            _MATCHES + " AND at >= ? ORDER BY at DESC, identity DESC, source DESC LIMIT ?",
            (self._numbered.find_series(key), since_ms, SPAN_MATCHES_MAX + 1),
        ).fetchall()
        kept = rows[:SPAN_MATCHES_MAX]
        return Span([match_of(row, key) for row in reversed(kept)], len(rows) > len(kept))

    def thin_hour(self, key: GroupKey, hour_ms: int, *, most: int) -> int:
        """Keep the earliest `most` matches of an hour; how many have been dropped of it until now."""
        series = self._numbered.find_series(key)
        span = (hour_ms, hour_ms + HOUR_MS)
        count = self._database.execute(
            "SELECT count(*) FROM match WHERE series = ? AND at >= ? AND at < ?", (series, *span)
        ).fetchone()[0]
        if count > most:
            self._database.execute(
                "DELETE FROM match WHERE series = ? AND (at, identity, source) IN ("
                " SELECT at, identity, source FROM match WHERE series = ? AND at >= ? AND at < ?"
                " ORDER BY at DESC, identity DESC, source DESC LIMIT ?)",
                (series, series, *span, count - most),
            )
            self._database.execute(
                "INSERT INTO full VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET dropped = dropped + excluded.dropped",
                (key.rule_id, key.tenant, key.joined, hour_ms, count - most),
            )
            self._has_full = True
        return max(0, int(count - most))

    def is_full(self, key: GroupKey, *, low_ms: int, high_ms: int) -> bool:
        """Whether matches of the group between the two times were dropped for want of room."""
        if self._has_full is None:
            self._has_full = self.count_full() > 0
        if not self._has_full:
            return False
        row = self._database.execute(
            "SELECT 1 FROM full WHERE (rule, tenant, grp) = (?, ?, ?) AND hour BETWEEN ? AND ? LIMIT 1",
            (key.rule_id, key.tenant, key.joined, low_ms - HOUR_MS, high_ms),
        ).fetchone()
        return row is not None

    def read_tallies(self, keys: Sequence[GroupKey], *, most: int) -> list[Row]:
        """Rule, tenant, group, source and counted value of each match of these groups, at most `most`."""
        select = (
            "SELECT rule, tenant, grp, iif(source = '', rule, source), counted FROM series CROSS JOIN match"
        )
        return self._of_groups(f"{select} ON match.series = series.id", keys, most=most)

    def read_alerted(self, keys: Sequence[GroupKey]) -> list[Row]:
        """Rule, tenant and group of those that have alerts."""
        return self._of_groups("SELECT DISTINCT rule, tenant, grp FROM alert", keys, most=len(keys))

    def _of_groups(self, select: str, keys: Sequence[GroupKey], *, most: int) -> list[Row]:
        found: list[Row] = []
        for at in range(0, len(keys), ROWS_AT_ONCE):
            some = keys[at : at + ROWS_AT_ONCE]
            places = ",".join(["(?,?,?)"] * len(some))
            found += self._database.execute(
                f"{select} WHERE (rule, tenant, grp) IN (VALUES {places}) LIMIT ?",
                [*(text for key in some for text in (key.rule_id, key.tenant, key.joined)), most],
            ).fetchall()
        return found

    def list_groups(self, rule_ids: Iterable[str], *, most: int) -> list[GroupKey]:
        """The groups of these rules that have matches."""
        found = []
        for rule_id in rule_ids:
            rows = self._database.execute(
                "SELECT tenant, grp FROM series WHERE rule = ? AND EXISTS"
                " (SELECT 1 FROM match WHERE series = series.id) ORDER BY tenant, grp LIMIT ?",
                (rule_id, most),
            )
            found += [GroupKey(rule_id, tenant, tuple(group.split("\x1f"))) for tenant, group in rows]
        return found

    def list_tenant_groups(self, rule_id: str, tenant: str, *, low_ms: int, high_ms: int) -> list[GroupKey]:
        """The groups of a rule that have a match in [low, high)."""
        rows = self._database.execute(
            "SELECT grp FROM series WHERE rule = ? AND tenant = ? AND EXISTS"
            " (SELECT 1 FROM match WHERE series = series.id AND at >= ? AND at < ?) ORDER BY grp",
            (rule_id, tenant, low_ms, high_ms),
        )
        return [GroupKey(rule_id, tenant, tuple(group.split("\x1f"))) for (group,) in rows]

    def forget_matches(self, rule_id: str, *, before_ms: int) -> int:
        """Let go of a rule's old matches, but for those of an alert that is younger; how many went."""
        gone = self._database.execute(
            "DELETE FROM match WHERE series IN (SELECT id FROM series WHERE rule = ?) AND at < ?"
            " AND NOT EXISTS (SELECT 1 FROM series JOIN alert USING (rule, tenant, grp)"
            " WHERE series.id = match.series AND alert.first <= match.at AND alert.last >= ?)",
            (rule_id, before_ms, before_ms),
        )
        self._database.execute("DELETE FROM full WHERE rule = ? AND hour < ?", (rule_id, before_ms - HOUR_MS))
        return gone.rowcount

    def clean(self) -> None:
        """Let go of what is kept for matches that are gone."""
        self._numbered.clean()

    # Alerts -------------------------------------------------------------------------------------

    def list_alerts_of(self, key: GroupKey, *, low_ms: int, high_ms: int) -> list[KeptAlert]:
        """The group's alerts that overlap the span."""
        rows = self._database.execute(
            "SELECT body, shown, state, reason, changed_by, changed_at FROM alert"
            " WHERE (rule, tenant, grp) = (?, ?, ?) AND first <= ? AND last >= ? ORDER BY first, id",
            (key.rule_id, key.tenant, key.joined, high_ms, low_ms),
        )
        return [kept_of(row) for row in rows]

    def list_alerts(self, *, since_ms: int = 0, most: int = 100_000) -> list[KeptAlert]:
        """The alerts that were still going on at `since_ms` or later, the latest first."""
        rows = self._database.execute(
            "SELECT body, shown, state, reason, changed_by, changed_at FROM alert"
            " WHERE shown AND last >= ? ORDER BY last DESC, id LIMIT ?",
            (since_ms, most),
        )
        return [kept_of(row) for row in rows]

    def find_alert(self, alert_id: str) -> KeptAlert | None:
        """The alert of that id, or the one that it has become."""
        row = self._database.execute("SELECT now FROM former WHERE id = ?", (alert_id,)).fetchone()
        rows = self._database.execute(
            "SELECT body, shown, state, reason, changed_by, changed_at FROM alert WHERE id = ?",
            (row[0] if row else alert_id,),
        ).fetchall()
        return kept_of(rows[0]) if rows else None

    def put_alert(self, kept: KeptAlert) -> None:
        """Keep an alert, or what it is now."""
        alert = kept.alert
        self._database.execute(
            "INSERT OR REPLACE INTO alert VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                alert.id,
                alert.rule_id,
                alert.tenant,
                "\x1f".join(alert.group),
                alert.first_at_ms,
                alert.last_at_ms,
                int(kept.shown),
                msgspec.json.encode(alert),
                str(kept.state),
                kept.reason,
                kept.changed_by,
                kept.changed_at_ms,
            ),
        )

    def drop_alert(self, alert_id: AlertId, *, became: AlertId | None) -> None:
        """Let go of an alert; who asks for it is shown the one that it `became`."""
        self.lake_due.mark_kept(alert_id)
        self._database.execute("DELETE FROM alert WHERE id = ?", (alert_id,))
        self.history.move(alert_id, became=became)
        self.closings.move(alert_id, became=became)
        if became is not None:
            self._database.execute("UPDATE former SET now = ? WHERE now = ?", (became, alert_id))
            self._database.execute("INSERT OR REPLACE INTO former VALUES (?, ?)", (alert_id, became))
            self._database.execute("DELETE FROM former WHERE id = ?", (became,))

    def add_former(self, former: AlertId, now: AlertId) -> None:
        """Show whoever asks for `former` the alert `now`."""
        self._database.execute("INSERT OR REPLACE INTO former VALUES (?, ?)", (former, now))

    def forget_alerts(self, *, before_ms: int) -> int:
        """Let go of alerts that ended before; how many went."""
        self.lake_due.forget_alerts(before_ms=before_ms)
        gone = self._database.execute("DELETE FROM alert WHERE last < ?", (before_ms,))
        self._database.execute("DELETE FROM former WHERE now NOT IN (SELECT id FROM alert)")
        self.history.forget_gone()
        self.closings.forget_gone()
        return gone.rowcount

    def set_state(self, alert_id: str, state: AlertState, *, reason: str, by: str, at_ms: int) -> bool:
        """What an analyst makes of an alert; whether there is one of that id."""
        kept = self.find_alert(alert_id)
        if kept is None:
            return False
        self._database.execute(
            "UPDATE alert SET state = ?, reason = ?, changed_by = ?, changed_at = ? WHERE id = ?",
            (str(state), reason, by, at_ms, kept.alert.id),
        )
        self.history.add(kept.alert.id, StateChange(at_ms, state, reason, by))
        self.closings.keep(replace(kept, state=state, reason=reason, changed_by=by, changed_at_ms=at_ms))
        self.lake_due.mark_kept(kept.alert.id)
        return True

    # Links: what an episode is for the correlations that join it -----------------------------------

    def replace_links(self, alert_id: AlertId, links: Sequence[Match]) -> list[tuple[GroupKey, int]]:
        """Make these the links of an alert; the groups that this changes, each with a time in it."""
        touched: list[tuple[GroupKey, int]] = []
        wanted = {(match.rule_id, "\x1f".join(match.group), match.at_ms) for match in links}
        rows = self._database.execute(
            "SELECT rule, tenant, grp, at FROM link WHERE alert = ?", (alert_id,)
        ).fetchall()
        for rule_id, tenant, group, at in rows:
            if (rule_id, group, at) not in wanted:
                key = GroupKey(rule_id, tenant, tuple(group.split("\x1f")))
                self._database.execute(
                    "DELETE FROM match WHERE (series, at, identity) = (?, ?, ?)",
                    (self._numbered.find_series(key), at, alert_id),
                )
                self._database.execute(
                    "DELETE FROM link WHERE (alert, rule, grp) = (?, ?, ?)", (alert_id, rule_id, group)
                )
                touched.append((key, at))
        for match in links:
            if self._has_match(match):
                continue
            self.drop_match(match)
            self.add_matches([match])
            self._database.execute(
                "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?)",
                (alert_id, match.rule_id, match.tenant, "\x1f".join(match.group), match.at_ms),
            )
            touched.append((GroupKey(match.rule_id, match.tenant, match.group), match.at_ms))
        return touched

    def count_alerts(self) -> list[tuple[str, str, int]]:
        """How many alerts there are to see, by state and severity."""
        return self._database.execute(
            "SELECT state, json_extract(CAST(body AS TEXT), '$.severity'), count(*) FROM alert"
            " WHERE shown GROUP BY 1, 2"
        ).fetchall()

    def count_full(self) -> int:
        """Hours of groups that had more matches than are kept."""
        return int(self._database.execute("SELECT count(*) FROM full").fetchone()[0])

    def count(self) -> dict[str, int]:
        """How much is kept, by table."""
        row = self._database.execute(
            "SELECT (SELECT count(*) FROM match), (SELECT count(*) FROM alert)"
        ).fetchone()
        return dict(zip(("matches", "alerts"), row, strict=True))
