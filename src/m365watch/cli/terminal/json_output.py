"""The JSON documents that the commands print; docs/reference/status.md describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from m365watch.cli.terminal.formatting import Totals, cure_of, totals_of
from m365watch.common.missing_files import MissingFiles
from m365watch.common.progress import FeedProgress, RunProgress
from m365watch.common.timestamps import iso_of

if TYPE_CHECKING:
    from m365watch.common.model import Feed
    from m365watch.health.completeness.feed_audit import Counts, FeedAudit
    from m365watch.ledger.quarantine import BlobsFound, KeptPiece, NamedBlob, PiecesFound
    from m365watch.registry.ports import WaitingBlob
    from m365watch.runtime.collector_run import Outcome

SCHEMA = 1
"""Grows when a key changes its meaning or goes away; new keys alone do not count."""


def done_document(**counts: int) -> str:
    """What a command with --json prints that changed so many of each."""
    return as_json({"schema": SCHEMA, **counts})


def status_document(
    progress: RunProgress,
    *,
    waiting: Sequence[WaitingBlob],
    now: datetime,
    audits: Mapping[Feed, FeedAudit] | None = None,
) -> dict[str, Any]:
    """What `status --json` prints; `audits` are the feeds' last ones, where they are known."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "totals": _totals(totals_of(progress.feeds)),
        "feeds": [_feed(row, now=now, audit=(audits or {}).get(row.feed)) for row in progress.feeds],
        "waiting": [_waiting(blob) for blob in waiting],
        "pieces_dropped": progress.pieces_dropped,
        "outputs": [
            {
                "name": output.name,
                "blobs_missing": output.blobs_missing,
                "blobs_queued": output.blobs_queued,
                "last_error": output.last_error,
                "last_error_at": instant(output.last_error_at),
                "fix": output.fix,
                "needs_operator": output.needs_operator,
                "safe_until": instant(output.safe_until),
                "lake_files_missing": missing_document(output.missing_files),
            }
            for output in progress.outputs
        ],
    }


def missing_document(missing: MissingFiles | None) -> dict[str, Any] | None:
    """The data files that are gone from a lake; null for none."""
    if missing is None:
        return None
    return {
        "files": missing.files,
        "records": missing.records,
        "first_day": missing.first_day.isoformat(),
        "last_day": missing.last_day.isoformat(),
        "names": list(missing.names),
        "found_at": instant(missing.found_at),
    }


def outcome_document(outcome: Outcome, *, exit_code: int, now: datetime) -> dict[str, Any]:
    """What `run --json` prints when it ends: the status document and how the run ended."""
    status = status_document(outcome.progress, waiting=outcome.waiting, now=now)
    ending = {
        "exit_code": exit_code,
        "started_at": instant(outcome.progress.started_at),
        "caught_up": outcome.progress.caught_up,
        "problems": list(outcome.problems),
        "this_run": _totals(totals_of(outcome.progress.feeds).since(totals_of(outcome.progress.before))),
    }
    return status | ending


def blobs_document(found: BlobsFound, *, now: datetime) -> dict[str, Any]:
    """What `blobs --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "total": found.total,
        "blobs": [_blob(blob) for blob in found.blobs],
    }


def quarantine_document(found: PiecesFound, *, now: datetime) -> dict[str, Any]:
    """What `quarantine --json` prints."""
    return {
        "schema": SCHEMA,
        "at": instant(now),
        "total": found.total,
        "pieces": [_piece(piece) for piece in found.pieces],
    }


def as_json(document: object) -> str:
    """`document` on one line; characters beyond ASCII stay readable."""
    return json.dumps(document, ensure_ascii=False, default=str)


def instant(when: datetime | None) -> str | None:
    """2026-11-17T09:00:00Z, with microseconds where there are any; without Z where no zone is known."""
    return None if when is None else iso_of(when)


def _feed(row: FeedProgress, *, now: datetime, audit: FeedAudit | None) -> dict[str, Any]:
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
        "needs_operator": row.needs_operator,
        "audit": None if audit is None else audit_summary(audit),
    }


def audit_summary(audit: FeedAudit) -> dict[str, Any]:
    """A feed's audit without its hours."""
    return {
        "at": instant(audit.at),
        "from": instant(audit.span.start),
        "to": instant(audit.span.end),
        **counts_document(audit.total),
        "repaired": audit.repaired,
        "remaining": audit.remaining,
        "error": audit.error,
        "fix": audit.fix,
    }


def counts_document(counts: Counts) -> dict[str, int]:
    """The counts of an audit by their names."""
    return asdict(counts)


def blob_counts(sums: Totals) -> dict[str, int]:
    """How many blobs there are in each state."""
    return {
        "listed": sums.listed,
        "delivered": sums.delivered,
        "waiting": sums.waiting,
        "quarantined": sums.quarantined,
        "lost": sums.lost,
    }


def _totals(sums: Totals) -> dict[str, Any]:
    return {
        "blobs": blob_counts(sums),
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


def _blob(blob: NamedBlob) -> dict[str, Any]:
    return {
        "tenant": blob.feed.tenant_id,
        "content_type": str(blob.feed.content_type),
        "content_id": blob.content_id,
        "created_at": instant(blob.created_at),
        "expires_at": instant(blob.expires_at),
        "state": str(blob.state),
        "attempts": blob.attempts,
        "next_try_at": instant(blob.next_try_at),
        "missing_outputs": list(blob.missing_outputs),
        "reason": blob.reason,
        "fix": cure_of(blob),
        "records": blob.records,
        "duplicates": blob.duplicates,
        "finished_at": instant(blob.finished_at),
    }


def _piece(piece: KeptPiece) -> dict[str, Any]:
    return {
        "id": piece.number,
        "tenant": piece.feed and piece.feed.tenant_id,
        "content_type": piece.feed and str(piece.feed.content_type),
        "content_id": piece.content_id,
        "created_at": instant(piece.created_at),
        "state": piece.blob_state and str(piece.blob_state),
        "output": piece.output or None,
        "bytes": piece.size_bytes,
        "reason": piece.reason,
        "quarantined_at": instant(piece.quarantined_at),
    }
