"""Rows of the file of detections, and the matches that they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import msgspec

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.stored_alert import GroupKey, Row
from m365watch.detection.rules.severity import Severity
from m365watch.storage.database import Database

ROWS_AT_ONCE = 500
"""Rows that one statement writes, or groups that it asks for."""
_SEVERITIES = tuple(Severity)
_VALUES = msgspec.json.Decoder(dict[str, str])


@lru_cache(maxsize=4_096)
def _read_values(written: bytes) -> Mapping[str, str]:
    """What an alert repeats; records of one account repeat the same, so that few texts are read at all."""
    return MappingProxyType(_VALUES.decode(written))


def walk_rows(
    rows: Iterable[Row], *, edge_ms: int, inside: range, reach_ms: int, most: int
) -> tuple[list[Row], bool]:
    """Rows going away from `edge_ms` until a gap of more than `reach_ms`; and whether there were too many.

    No gap `inside` counts; beyond it the first is that to the edge, where what has changed may be gone.
    """
    found: list[Row] = []
    last_ms = edge_ms
    for row in rows:
        if row[0] not in inside and abs(row[0] - last_ms) > reach_ms:
            break
        if len(found) >= most:
            return found, True
        found.append(row)
        last_ms = edge_ms if row[0] in inside else row[0]
    return found, False


def match_of(row: Row, key: GroupKey) -> Match:
    """A match as it was kept: at, identity, source, record, severity, vals, counted."""
    at_ms, identity, source, record, severity, vals, counted = row
    return Match(
        rule_id=key.rule_id,
        source_id=source or key.rule_id,
        tenant=key.tenant,
        group=key.group,
        at_ms=at_ms,
        identity=identity,
        record_id=record,
        severity=_SEVERITIES[severity],
        values=_read_values(vals),
        counted=counted,
        written=vals,
    )


def source_of(match: Match) -> str:
    """The match's source as it is kept: empty for the rule itself."""
    return "" if match.source_id == match.rule_id else match.source_id


def written_of(match: Match) -> bytes:
    """What the match says, as it is kept."""
    return match.written or msgspec.json.encode(match.values)


def rows_of_groups(database: Database, select: str, keys: Sequence[GroupKey], *, most: int) -> list[Row]:
    """What a SELECT finds of these groups, by its columns rule, tenant and grp; at most `most` of all."""
    found: list[Row] = []
    for at in range(0, len(keys), ROWS_AT_ONCE):
        if len(found) >= most:
            break
        some = keys[at : at + ROWS_AT_ONCE]
        places = ",".join(["(?,?,?)"] * len(some))
        found += database.execute(
            f"{select} WHERE (rule, tenant, grp) IN (VALUES {places}) LIMIT ?",
            [*(text for key in some for text in (key.rule_id, key.tenant, key.joined)), most - len(found)],
        ).fetchall()
    return found
