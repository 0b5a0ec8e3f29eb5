"""Quarantined blobs put back: fetched again, counted once, and never beside a running collector."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerHeld, LedgerUnusable
from m365watch.common.model import BlobRef, ContentType, Feed, Receipt, TenantId, Window
from m365watch.ledger.quarantine import PutBack, put_back
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch_testing.batches import make_part, make_record

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EXCHANGE, SHAREPOINT = (
    Feed(TenantId("11111111-1111-1111-1111-111111111111"), content_type)
    for content_type in (ContentType.EXCHANGE, ContentType.SHAREPOINT)
)


def opened(directory: Path) -> SqliteLedger:
    """The ledger as a run opens it."""
    return SqliteLedger(directory, outputs=frozenset({"lake"}), now=NOW)


def quarantined(
    ledger: SqliteLedger, feed: Feed = EXCHANGE, *, served: timedelta = timedelta(days=1)
) -> None:
    """A blob of `feed` in quarantine that is served for so long from now."""
    ref = BlobRef(feed, f"a{served}", NOW, NOW + served)
    ledger.commit_listing(feed, Window(NOW - timedelta(hours=1), NOW), [ref], complete=True, at=NOW)
    (one,) = ledger.due_blobs(feed, now=NOW, count_max=9, besides=frozenset())
    ledger.quarantine(one.key, b"<html>", "not a JSON array", whole=True, at=NOW)


def states(ledger: SqliteLedger, feed: Feed = EXCHANGE) -> tuple[int, int, int]:
    """How many blobs of `feed` wait and are quarantined, and how many are due."""
    progress = next(one for one in ledger.feed_progress() if one.feed == feed)
    due = ledger.due_blobs(feed, now=NOW, count_max=9, besides=frozenset())
    return (progress.blobs_waiting, progress.blobs_quarantined, len(due))


def retried(directory: Path, feed_part: str = "") -> PutBack:
    """What comes of a retry while no collector runs."""
    return put_back(directory / LEDGER_FILE, feed_part=feed_part, now=NOW)


def test_a_quarantined_blob_that_is_put_back_is_fetched_by_the_next_run(tmp_path: Path) -> None:
    """It is in one state again, and what fails again is counted once again."""
    ledger = opened(tmp_path)
    quarantined(ledger)
    ledger.close()

    assert retried(tmp_path) == PutBack(waiting=1, left=0)

    ledger = opened(tmp_path)
    assert states(ledger) == (1, 0, 1)
    (one,) = ledger.due_blobs(EXCHANGE, now=NOW, count_max=9, besides=frozenset())
    assert one.attempts == 0
    ledger.quarantine(one.key, b"<html>", "not a JSON array", whole=True, at=NOW)
    assert states(ledger) == (0, 1, 0)
    assert [feed.records_quarantined for feed in ledger.feed_progress()] == [1]
    ledger.close()


def test_what_is_no_longer_served_stays_in_quarantine(tmp_path: Path) -> None:
    """There is nothing to fetch, and lost would be less than the truth."""
    ledger = opened(tmp_path)
    quarantined(ledger, served=timedelta(0))
    quarantined(ledger)
    ledger.close()

    assert retried(tmp_path) == PutBack(waiting=1, left=1)

    ledger = opened(tmp_path)
    assert states(ledger) == (1, 1, 1)
    ledger.close()


@guarantee(3)
def test_a_blob_whose_records_are_in_one_output_stays_in_quarantine(tmp_path: Path) -> None:
    """After a crash it was fetched again for the other output, and something else came."""
    both = frozenset({"files", "lake"})
    ledger = SqliteLedger(tmp_path, outputs=both, now=NOW)
    ref = BlobRef(EXCHANGE, "a", NOW, NOW + timedelta(days=1))
    ledger.commit_listing(EXCHANGE, Window(NOW - timedelta(hours=1), NOW), [ref], complete=True, at=NOW)
    (one,) = ledger.due_blobs(EXCHANGE, now=NOW, count_max=9, besides=frozenset())
    part = make_part([make_record(1)], outputs=both, blob=one.key)
    ledger.commit_delivered(ledger.open_batch([part], both).number, "lake", Receipt(), at=NOW)
    ledger.quarantine(one.key, b"<html>", "not a JSON array", whole=True, at=NOW)
    ledger.close()

    assert retried(tmp_path) == PutBack(waiting=0, left=1)


def test_only_the_feeds_that_are_named_are_put_back(tmp_path: Path) -> None:
    """One tenant's proxy may be mended and another's not."""
    ledger = opened(tmp_path)
    quarantined(ledger)
    quarantined(ledger, SHAREPOINT)
    ledger.close()

    assert retried(tmp_path, "audit.sharep") == PutBack(waiting=1, left=0)

    ledger = opened(tmp_path)
    assert (states(ledger), states(ledger, SHAREPOINT)) == ((0, 1, 0), (1, 0, 1))
    ledger.close()


def test_lost_and_delivered_blobs_are_left_alone(tmp_path: Path) -> None:
    """Records of a delivered blob would arrive twice."""
    ledger = opened(tmp_path)
    ref = BlobRef(EXCHANGE, "a", NOW, NOW + timedelta(days=1))
    ledger.commit_listing(EXCHANGE, Window(NOW - timedelta(hours=1), NOW), [ref], complete=True, at=NOW)
    (one,) = ledger.due_blobs(EXCHANGE, now=NOW, count_max=9, besides=frozenset())
    ledger.commit_lost(one.key, "AF20051", at=NOW)
    ledger.close()

    assert retried(tmp_path) == PutBack(waiting=0, left=0)


@guarantee(3)
def test_nothing_is_put_back_beside_a_running_collector(tmp_path: Path) -> None:
    """It holds the ledger, and its own figures would be wrong from then on."""
    ledger = opened(tmp_path)
    quarantined(ledger)

    with pytest.raises(LedgerHeld):
        retried(tmp_path)

    assert states(ledger) == (0, 1, 0)
    ledger.close()


def test_without_a_ledger_nothing_is_made(tmp_path: Path) -> None:
    """A wrong directory stays as it is."""
    with pytest.raises(LedgerUnusable, match="no ledger yet"):
        retried(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    """In one line, as everywhere, and the lock is given back."""
    (tmp_path / LEDGER_FILE).write_bytes(b"not a database" * 100)

    for _ in range(2):
        with pytest.raises(LedgerUnusable, match="is damaged"):
            retried(tmp_path)


def test_only_the_blobs_of_the_pieces_that_are_named_are_put_back(tmp_path: Path) -> None:
    """The others may not be mended yet."""
    ledger = opened(tmp_path)
    quarantined(ledger)
    quarantined(ledger, SHAREPOINT)
    ledger.close()

    found = put_back(tmp_path / LEDGER_FILE, feed_part="", now=NOW, numbers=[2])

    assert found == PutBack(waiting=1, left=0)
    ledger = opened(tmp_path)
    assert (states(ledger), states(ledger, SHAREPOINT)) == ((0, 1, 0), (1, 0, 1))
    ledger.close()
