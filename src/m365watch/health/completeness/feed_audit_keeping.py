"""The last audit of each feed, as the ledger keeps it: for `status`, and as the answer to a request."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

from m365watch.common.model import BlobRef, Feed, Window
from m365watch.health.completeness.feed_audit import Counts, FeedAudit
from m365watch.ledger.queries_reading import remembered
from m365watch.sources.management_api.responses import CONTENT_LIFE

NAMES_KEPT_MAX = 2_500
"""Missing blobs that are kept by name: some 500 kB of the 1 MB that one memory may have."""


GARBLED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, OSError)
"""What a text that `body_of` did not make may raise."""


def memory_name(feed: Feed) -> str:
    """The name under which a feed's last audit is kept."""
    return f"audit {feed}"


def body_of(audit: FeedAudit) -> str:
    """The audit as JSON."""
    body: dict[str, Any] = {
        "at": audit.at.timestamp(),
        "span": [audit.span.start.timestamp(), audit.span.end.timestamp()],
        "hours": [[int(hour.timestamp()), *astuple(counts)] for hour, counts in audit.hours.items()],
        "missing": [[ref.content_id, ref.created_at.isoformat()] for ref in audit.missing[:NAMES_KEPT_MAX]],
        "repaired": audit.repaired,
        "remaining": audit.remaining,
        "error": audit.error,
        "fix": audit.fix,
        "asked": audit.asked,
    }
    return json.dumps(body, separators=(",", ":"))


def audit_of(feed: Feed, body: str) -> FeedAudit:
    """The audit that `body_of` made the text of."""
    fields: Mapping[str, Any] = json.loads(body)
    created = [(content_id, datetime.fromisoformat(at)) for content_id, at in fields["missing"]]
    return FeedAudit(
        feed,
        at=_instant(fields["at"]),
        span=Window(*map(_instant, fields["span"])),
        hours={_instant(hour): Counts(*counts) for hour, *counts in fields["hours"]},
        missing=tuple(BlobRef(feed, content_id, at, at + CONTENT_LIFE) for content_id, at in created),
        repaired=fields["repaired"],
        remaining=fields["remaining"],
        error=fields["error"],
        fix=fields["fix"],
        asked=fields["asked"],
    )


def last_audit(connection: sqlite3.Connection, feed: Feed) -> FeedAudit | None:
    """The feed's last audit; None if there was none, or it cannot be read: the next one is a day away."""
    body = remembered(connection, memory_name(feed))
    try:
        return None if body is None else audit_of(feed, body)
    except GARBLED:
        return None


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
