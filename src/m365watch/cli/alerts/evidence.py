"""The records that an alert rests on, looked up in the lake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from m365watch.cli.terminal.json_output import instant
from m365watch.common.errors import CollectorError
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_text import details_of, failure_of
from m365watch.detection.rules.extension_text import PERIOD_S_MAX

LOOK_UP_S = 20.0
"""How long the lake may take to find them."""
_LOOKED_BEFORE = (timedelta(days=1), timedelta(seconds=PERIOD_S_MAX))
"""How far before an alert its records are looked for, until all are found.

What a silence came after, and what a sum reaches back to, lie whole periods before it.
"""
_COLUMNS = "id, created_at, operation, user_id, client_ip, object_id, result, raw"


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One record of the lake."""

    id: str
    created_at: datetime | None
    operation: str
    user_id: str
    client_ip: str
    object_id: str
    result: str
    raw: str

    def document(self, *, raw: bool) -> dict[str, Any]:
        """As `alerts show --json` has it; the record itself with `raw`."""
        found: dict[str, Any] = {
            "id": self.id,
            "created_at": instant(self.created_at),
            "operation": self.operation,
            "user_id": self.user_id,
            "client_ip": self.client_ip,
            "object_id": self.object_id,
            "result": self.result,
            "failed": bool(failure_of(self.raw)),
            "details": details_of(self.raw),
        }
        return found | {"raw": self.raw} if raw else found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found of an alert's records."""

    records: tuple[EvidenceRecord, ...] = ()
    why_not: str = ""
    """Why nothing could be looked up."""


def find_evidence(lake: Path | None, alert: Alert) -> Evidence:
    """The records of the alert that the lake has, in the order of their times."""
    if lake is None:
        return Evidence(why_not="no output is a lake, so that only their ids are known")
    from m365watch.lake.sql_sandbox.sandbox_client import LakeReader

    found: dict[str, EvidenceRecord] = {}
    for before in _LOOKED_BEFORE:
        try:
            answer = LakeReader(lake).query(_sql(alert, before), tenants=[alert.tenant], limit_s=LOOK_UP_S)
        except CollectorError as error:
            if found:
                break
            return Evidence(why_not=f"the lake does not answer: {error.what}")
        found = {str(row[0]): _record(row) for row in answer.rows}
        if len(found) >= len(set(alert.evidence)):
            break
    return Evidence(tuple(found.values()), "" if found else "the lake does not hold them (any more)")


def _sql(alert: Alert, before: timedelta) -> str:
    ids = ", ".join("'" + one.replace("'", "''") + "'" for one in alert.evidence)
    first = (alert.first_seen_at - before).date()
    last = (alert.last_seen_at + timedelta(days=8)).date()
    return (
        f"SELECT {_COLUMNS} FROM audit WHERE day BETWEEN DATE '{first}' AND DATE '{last}'"  # noqa: S608 - ids are quoted
        f" AND id IN ({ids}) ORDER BY created_at, id"
    )


def _record(row: Sequence[Any]) -> EvidenceRecord:
    at = row[1] if isinstance(row[1], datetime) else None
    return EvidenceRecord(str(row[0]), at, *map(_text, row[2:]))


def _text(value: object) -> str:
    return "" if value is None else str(value)
