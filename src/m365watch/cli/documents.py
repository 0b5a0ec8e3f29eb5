"""The JSON documents that `run`, `status` and `demo` print; docs/reference/status.md describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from m365watch.cli.render import Totals, totals_of
from m365watch.progress import FeedProgress, RunProgress

if TYPE_CHECKING:
    from m365watch.app import Outcome
    from m365watch.ledger.port import WaitingBlob

SCHEMA = 1
"""Grows when a key changes its meaning or goes away; new keys alone do not count."""


def status_document(
    progress: RunProgress, *, waiting: Sequence[WaitingBlob], now: datetime
) -> dict[str, Any]:
    """What `status --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "totals": _totals(totals_of(progress.feeds)),
        "feeds": [_feed(row, now=now) for row in progress.feeds],
        "waiting": [_waiting(blob) for blob in waiting],
    }


def outcome_document(outcome: Outcome, *, exit_code: int, now: datetime) -> dict[str, Any]:
    """What `run --json` prints when it ends: the status document and how the run ended."""
    status = status_document(outcome.progress, waiting=outcome.waiting, now=now)
    ending = {
        "exit_code": exit_code,
        "started_at": instant(outcome.progress.started_at),
        "caught_up": outcome.progress.caught_up,
        "problems": list(outcome.problems),
    }
    return status | ending


def as_json(document: object) -> str:
    """`document` on one line; characters beyond ASCII stay readable."""
    return json.dumps(document, ensure_ascii=False, default=str)


def instant(when: datetime | None) -> str | None:
    """2026-11-17T09:00:00Z, with microseconds where there are any."""
    return None if when is None else when.isoformat().replace("+00:00", "Z")


def _feed(row: FeedProgress, *, now: datetime) -> dict[str, Any]:
    return {
        "tenant": row.feed.tenant_id,
        "content_type": str(row.feed.content_type),
        "watermark": instant(row.watermark),
        "lag_s": row.lag_s(now),
        "listed_at": instant(row.listed_at),
        "unlisted_s": row.unlisted_s,
        **_totals(totals_of([row])),
        "last_error": row.last_error,
        "last_error_at": instant(row.last_error_at),
        "fix": row.fix,
    }


def _totals(sums: Totals) -> dict[str, Any]:
    return {
        "blobs": {
            "listed": sums.listed,
            "delivered": sums.delivered,
            "waiting": sums.waiting,
            "quarantined": sums.quarantined,
            "lost": sums.lost,
        },
        "records": {
            "delivered": sums.records,
            "duplicates": sums.duplicates,
            "quarantined": sums.records_quarantined,
        },
    }


def _waiting(blob: WaitingBlob) -> dict[str, Any]:
    return {
        "tenant": blob.feed.tenant_id,
        "content_type": str(blob.feed.content_type),
        "content_id": blob.content_id,
        "attempts": blob.attempts,
        "next_try_at": instant(blob.next_try_at),
        "last_error": blob.last_error,
    }
