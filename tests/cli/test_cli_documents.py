from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

from m365watch.cli.feeds.audit_view import audit_document
from m365watch.cli.feeds.gaps_view import gaps_document
from m365watch.cli.terminal.json_output import (
    as_json,
    blobs_document,
    outcome_document,
    quarantine_document,
    status_document,
)
from m365watch.common.model import BlobRef, Window
from m365watch.common.progress import OutputProgress
from m365watch.health.completeness.content_gaps import Gap, GapsFound
from m365watch.health.completeness.feed_audit import Counts, FeedAudit
from m365watch.ledger.quarantine import BlobsFound, PiecesFound
from run_figures import BLOB, NOW, PIECE, WAITING, feed_progress, outcome, run_progress

AUDIT = FeedAudit(
    feed_progress().feed,
    at=NOW,
    span=Window(NOW - timedelta(hours=1), NOW),
    hours={NOW: Counts(listed=1, missing=1)},
    missing=(BlobRef(feed_progress().feed, "20261124$a$b", NOW, NOW),),
    remaining=1,
)
GAP = Gap(
    feed_progress().feed,
    NOW - timedelta(hours=6),
    NOW,
    "alone",
    is_unusual=True,
    usual_blobs=40.0,
    chance=1e-6,
    text="silent",
)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "status.md"


def test_the_status_document_is_this_one() -> None:
    """Programs read it, so its keys are pinned."""
    feed = feed_progress(last_error="got HTTP 503", last_error_at=NOW)
    blobs = {"listed": 1200, "delivered": 1200, "waiting": 0, "quarantined": 0, "lost": 0}
    records = {"delivered": 34567, "duplicates": 89, "quarantined": 0}

    progress = run_progress(feed)
    progress.outputs = [OutputProgress("devo", 3, 2, "refused", NOW, "renew it", needs_operator=True)]

    assert json.loads(as_json(status_document(progress, waiting=[WAITING], now=NOW))) == {
        "schema": 1,
        "at": "2026-11-24T12:00:00Z",
        "totals": {"blobs": blobs, "records": records},
        "feeds": [
            {
                "tenant": "8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10",
                "content_type": "Audit.Exchange",
                "watermark": "2026-11-24T11:55:00Z",
                "lag_s": 300.0,
                "listed_at": "2026-11-24T12:00:00Z",
                "unlisted_s": 0.0,
                "blobs": blobs,
                "records": records,
                "last_error": "got HTTP 503",
                "last_error_at": "2026-11-24T12:00:00Z",
                "fix": None,
                "needs_operator": False,
                "audit": None,
            }
        ],
        "waiting": [
            {
                "tenant": "8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10",
                "content_type": "Audit.Exchange",
                "content_id": "20261124$a$b",
                "attempts": 3,
                "next_try_at": "2026-11-24T12:05:00Z",
                "last_error": "got HTTP 503",
            }
        ],
        "pieces_dropped": 0,
        "outputs": [
            {
                "name": "devo",
                "blobs_missing": 3,
                "blobs_queued": 2,
                "last_error": "refused",
                "last_error_at": "2026-11-24T12:00:00Z",
                "fix": "renew it",
                "needs_operator": True,
                "safe_until": None,
                "lake_files_missing": None,
            }
        ],
    }


def test_every_key_stands_in_the_reference_page() -> None:
    """A key that nobody can look up is not stable."""
    page = PAGE.read_text(encoding="utf-8")
    named = {word for span in re.findall(r"`([^`]+)`", page) for word in re.split(r"[.\[\]]+", span)}
    documents: list[object] = [
        outcome_document(outcome(waiting=(WAITING,)), exit_code=0, now=NOW),
        blobs_document(BlobsFound([BLOB], 1), now=NOW),
        quarantine_document(PiecesFound([PIECE], 1), now=NOW),
        audit_document([AUDIT], {}, now=NOW),
        gaps_document(GapsFound((GAP,), {GAP.feed: 0.5}, NOW), now=NOW),
        status_document(run_progress(feed_progress()), waiting=[], now=NOW, audits={AUDIT.feed: AUDIT}),
    ]

    assert keys_in(documents) - named == set()


def keys_in(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_in, value.values()))
    return set().union(*map(keys_in, value)) if isinstance(value, list) else set()


def test_a_document_is_one_line() -> None:
    """`status --json --watch` is read line by line."""
    feed = feed_progress(last_error="first\nsecond")

    assert "\n" not in as_json(status_document(run_progress(feed), waiting=[], now=NOW))
