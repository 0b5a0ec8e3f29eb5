"""A notification as an event of PagerDuty's Events API v2, or of whatever takes the same.

Source: PagerDuty, "Events API v2" (trigger, acknowledge, resolve; `dedup_key` of up to 255 characters;
`summary` of up to 1,024; 512 kB for an event).
"""

from __future__ import annotations

from typing import Any

from m365watch.detection.rules.extension import Severity
from m365watch.notifications.notification import Notification, Tiding
from m365watch.notifications.notification_document import document_of
from m365watch.notifications.notification_text import iso_of, lead_of, shortened, subject_of

SUMMARY_CHARACTERS_MAX = 1_024

_ACTIONS = {
    Tiding.ACKNOWLEDGED: "acknowledge",
    Tiding.CLOSED: "resolve",
    Tiding.WITHDRAWN: "resolve",
}
_SEVERITIES = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
    Severity.INFORMATIONAL: "info",
}


def pagerduty_payload(notification: Notification, *, routing_key: str, collector: str) -> dict[str, Any]:
    """The event; those of one alert have one `dedup_key`, so that they are one incident."""
    action = _ACTIONS.get(notification.tiding, "trigger")
    head = {"routing_key": routing_key, "event_action": action, "dedup_key": notification.thread}
    if action != "trigger":
        return head
    document = document_of(notification, collector=collector)
    standing = notification.standing
    at_ms = notification.made_at_ms if standing is None else standing.alert.last_at_ms
    summary = f"{subject_of(notification)} {lead_of(notification)}"
    payload = {
        "summary": shortened(summary, SUMMARY_CHARACTERS_MAX),
        "source": collector if standing is None else f"{collector}, tenant {standing.alert.tenant}",
        "severity": _SEVERITIES[notification.severity],
        "timestamp": iso_of(at_ms),
        "component": collector,
        "class": "digest" if standing is None else standing.alert.detection or standing.alert.rule_id,
        "custom_details": document,
    }
    if standing is not None:
        payload["group"] = standing.alert.tenant
    return {**head, "client": "m365watch", "payload": payload}
