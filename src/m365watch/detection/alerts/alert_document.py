"""An alert as programs read it: the same keys on the command line and over the board's API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.rules.extension import Severity


def _says(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Entity(msgspec.Struct, frozen=True):
    """Somebody or something that an alert is about."""

    kind: Annotated[str, _says("user, address, app ...")]
    value: str


class AlertDocument(msgspec.Struct, frozen=True):
    """One alert, with what analysts have made of it."""

    id: Annotated[str, _says("32 hexadecimal digits; its first digits will do to name it.")]
    severity: Severity
    state: AlertState
    reason: Annotated[str, _says("Why it was put into its state; empty where nobody said.")]
    changed_by: str
    changed_at: datetime | None
    detection: Annotated[str, _says("Its number in the catalogue of detections; empty for rules of others.")]
    rule_id: str
    title: str
    tenant: str
    entities: list[Entity]
    first_seen_at: Annotated[datetime, _says("When the first of its records was created.")]
    last_seen_at: Annotated[datetime, _says("When the last of them was.")]
    count: Annotated[int, _says("Matching records, also those that `evidence` has no room for.")]
    explanation: str
    techniques: Annotated[list[str], _says("Of ATT&CK.")]
    tactics: list[str]
    check: Annotated[list[str], _says("What to look at next.")]
    contain: Annotated[list[str], _says("What contains it, as steps of `m365watch respond`.")]
    risk: int
    notes: Annotated[list[str], _says("What was left out, and why.")]
    evidence: Annotated[list[str], _says("Ids of its records, the earliest ones.")]
    formerly: Annotated[list[str], _says("Alerts that have become this one.")]


def document_of(kept: KeptAlert) -> AlertDocument:
    """The alert as a document."""
    alert = kept.alert
    return AlertDocument(
        id=alert.id,
        severity=alert.severity,
        state=kept.state,
        reason=kept.reason,
        changed_by=kept.changed_by,
        changed_at=instant_of_ms(kept.changed_at_ms) if kept.changed_at_ms else None,
        detection=alert.detection,
        rule_id=alert.rule_id,
        title=alert.title,
        tenant=alert.tenant,
        entities=[Entity(kind, value) for kind, value in alert.entities],
        first_seen_at=alert.first_seen_at,
        last_seen_at=alert.last_seen_at,
        count=alert.count,
        explanation=alert.explanation,
        techniques=list(alert.techniques),
        tactics=list(alert.tactics),
        check=list(alert.check),
        contain=list(alert.contain),
        risk=alert.risk,
        notes=list(alert.notes),
        evidence=list(alert.evidence),
        formerly=list(alert.formerly),
    )
