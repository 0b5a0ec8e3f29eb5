"""A notification as a record, for an output of the configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from m365watch.notifications.notification import Notification
from m365watch.notifications.notification_document import document_of
from m365watch.notifications.notification_text import iso_of

TABLE = "cloud.office365.alerts"
"""Devo's name of the table that the records are of."""


def record_of(notification: Notification, *, collector: str) -> bytes:
    """One line of JSON with the fields that every record has, and the notification's own."""
    standing = notification.standing
    head: dict[str, Any] = {
        "CreationTime": iso_of(notification.made_at_ms),
        "Id": notification.key,
        "Operation": "AlertDigest" if standing is None else f"Alert{str(notification.tiding).title()}",
        "OrganizationId": "" if standing is None else standing.alert.tenant,
        "UserId": "" if standing is None else standing.alert.entity("user"),
        "Workload": "M365watch",
    }
    return msgspec.json.encode(head | document_of(notification, collector=collector))
