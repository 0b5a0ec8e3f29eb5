"""The tables of the file of detections, and their rows as values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from m365watch.detect.alert import Alert, Match
from m365watch.detect.extension import Severity
from m365watch.detect.kept import AlertState, GroupKey, KeptAlert

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenant (id TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE match (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, at INTEGER NOT NULL,
    identity TEXT NOT NULL, source TEXT NOT NULL, record TEXT NOT NULL, severity TEXT NOT NULL,
    vals BLOB NOT NULL, counted TEXT NOT NULL,
    PRIMARY KEY (rule, tenant, grp, at, identity, source)
) WITHOUT ROWID;
CREATE TABLE full (
    rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL, hour INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (rule, tenant, grp, hour)
) WITHOUT ROWID;
CREATE TABLE alert (
    id TEXT PRIMARY KEY, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, shown INTEGER NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, changed_by TEXT NOT NULL, changed_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX alert_group ON alert (rule, tenant, grp, first);
CREATE INDEX alert_time ON alert (last);
CREATE TABLE former (id TEXT PRIMARY KEY, now TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE link (alert TEXT NOT NULL, rule TEXT NOT NULL, tenant TEXT NOT NULL, grp TEXT NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (alert, rule, grp)) WITHOUT ROWID;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, alert TEXT NOT NULL UNIQUE, what TEXT NOT NULL,
    body BLOB NOT NULL
);
"""

Row = tuple[Any, ...]
"""A row of the file, whose types its schema vouches for."""
_VALUES = msgspec.json.Decoder(dict[str, str])
_ALERTS = msgspec.json.Decoder(Alert)


def walk_rows(
    rows: Iterable[Row], *, edge_ms: int, inside: range, reach_ms: int, most: int
) -> tuple[list[Row], bool]:
    """Rows going away from `edge_ms` until a gap of more than `reach_ms`; and whether there were too many.

    No gap `inside` counts.
    """
    found: list[Row] = []
    last_ms = edge_ms
    for row in rows:
        if row[0] not in inside and abs(row[0] - last_ms) > reach_ms:
            break
        if len(found) >= most:
            return found, True
        found.append(row)
        last_ms = row[0]
    return found, False


def row_of(match: Match) -> Row:
    """A match as it is kept."""
    return (
        match.rule_id,
        match.tenant,
        "\x1f".join(match.group),
        match.at_ms,
        match.identity,
        match.source_id,
        match.record_id,
        match.severity.value,
        match.written or msgspec.json.encode(match.values),
        match.counted,
    )


def match_of(row: Row, key: GroupKey) -> Match:
    """A match as it was kept."""
    at_ms, identity, source, record, severity, vals, counted = row
    return Match(
        rule_id=key.rule_id,
        source_id=source,
        tenant=key.tenant,
        group=key.group,
        at_ms=at_ms,
        identity=identity,
        record_id=record,
        severity=Severity(severity),
        values=_VALUES.decode(vals),
        counted=counted,
    )


def alert_of(body: bytes) -> Alert:
    """An alert as it was kept."""
    return _ALERTS.decode(body)


def kept_of(row: Row) -> KeptAlert:
    """An alert with where it stands."""
    body, shown, state, reason, changed_by, changed_at_ms = row
    return KeptAlert(alert_of(body), bool(shown), AlertState(state), reason, changed_by, changed_at_ms)
