"""A notification as a JSON document: what webhooks get, and what outputs get as a record."""

from __future__ import annotations

from typing import Any

from m365watch.notifications.notification import Digest, Notification, Standing
from m365watch.notifications.notification_text import iso_of, subject_of

SCHEMA = 1
RULES_SHOWN = 20


def document_of(notification: Notification, *, collector: str) -> dict[str, Any]:
    """All that is told, every value as the alert has it; no record's body is in an alert."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "key": notification.key,
        "kind": "digest" if notification.digest is not None else "alert",
        "tiding": str(notification.tiding),
        "severity": str(notification.severity),
        "summary": subject_of(notification),
        "collector": collector,
        "made_at": iso_of(notification.made_at_ms),
        "thread": notification.thread,
    }
    if notification.is_test:
        document["test"] = True
    if notification.standing is not None:
        document["alert"] = alert_document(notification.standing)
    if notification.digest is not None:
        document["digest"] = _digest_document(notification.digest)
    return document


def alert_document(standing: Standing) -> dict[str, Any]:
    """An alert and its state."""
    alert = standing.alert
    return {
        "id": alert.id,
        "title": alert.title,
        "severity": str(alert.severity),
        "state": str(standing.state),
        "reason": standing.reason,
        "changed_by": standing.changed_by,
        "changed_at": iso_of(standing.changed_at_ms) if standing.changed_at_ms else None,
        "rule": alert.rule_id,
        "detection": alert.detection,
        "tenant": alert.tenant,
        "entities": [{"kind": kind, "value": value} for kind, value in alert.entities],
        "first_seen_at": iso_of(alert.first_at_ms),
        "last_seen_at": iso_of(alert.last_at_ms),
        "count": alert.count,
        "explanation": alert.explanation,
        "techniques": list(alert.techniques),
        "tactics": list(alert.tactics),
        "check": list(alert.check),
        "contain": list(alert.contain),
        "risk": alert.risk,
        "notes": list(alert.notes),
        "evidence": list(alert.evidence),
        "formerly": list(alert.formerly),
    }


def _digest_document(digest: Digest) -> dict[str, Any]:
    return {
        "count": digest.count,
        "severities": {str(severity): number for severity, number in digest.counts},
        "rules": [{"title": title, "count": number} for title, number in digest.rules[:RULES_SHOWN]],
        "first_seen_at": iso_of(digest.first_at_ms),
        "last_seen_at": iso_of(digest.last_at_ms),
        "alerts": [one.alert_id for one in digest.covered],
        "worst": [alert_document(standing) for standing in digest.worst],
    }
