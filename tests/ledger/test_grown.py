"""Blobs that have grown since some outputs got them: the rest of them reaches every output."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.model import (
    BatchPart,
    BlobRef,
    ContentType,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    TenantId,
    Window,
)
from m365watch.ledger.sqlite_ledger import SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
OUTPUTS = frozenset({"devo", "lake"})


def due(ledger: SqliteLedger) -> list[KnownBlob]:
    return ledger.due_blobs(FEED, now=NOW, count_max=100, besides=frozenset())


def part(one: KnownBlob, letters: str) -> BatchPart:
    return BatchPart(
        blob=one.key,
        feed=FEED,
        received_at=NOW,
        records=[letter.encode() for letter in letters],
        headers=[Header()] * len(letters),
        tables=["t"] * len(letters),
        missing_outputs=one.missing_outputs,
        identities=[None if letter == "-" else letter.encode() * 16 for letter in letters],
    )


@guarantee(10)
def test_what_a_blob_has_grown_by_reaches_the_outputs_that_had_it(tmp_path: Path) -> None:
    """The lake got `b` of a blob; when it is fetched for Devo it holds `ab`, and `a` is for both."""
    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    at = NOW - timedelta(minutes=30)
    ref = BlobRef(FEED, "blob", at, at + timedelta(days=7))
    ledger.commit_listing(FEED, Window(at, NOW), [ref], complete=True, at=NOW)
    first = ledger.open_batch([part(due(ledger)[0], "b")], OUTPUTS)
    ledger.leave_out(first.number, "devo")
    ledger.commit_delivered(first.number, "lake", Receipt(), at=NOW)
    ledger.recall()

    [owed] = due(ledger)
    second = ledger.open_batch([part(owed, "ab")], OUTPUTS)
    for output in ("lake", "devo"):
        ledger.commit_delivered(second.number, output, Receipt(), at=NOW)
    [rest] = due(ledger)
    third = ledger.open_batch([part(rest, "ab")], OUTPUTS)
    for output in ("lake", "devo"):
        ledger.commit_delivered(third.number, output, Receipt(), at=NOW)
    left, progress = due(ledger), ledger.feed_progress()[0]
    ledger.close()

    assert owed.missing_outputs == {"devo"}
    assert (second.duplicates, second.has_rests) == ({0: frozenset({0})}, True)
    assert (rest.ref.content_id, rest.missing_outputs) == ("blob", OUTPUTS)
    assert (third.duplicates, third.has_rests) == ({0: frozenset({1})}, False)
    assert (left, progress.blobs_waiting, progress.blobs_delivered) == ([], 0, 2)


def test_an_output_that_is_added_after_a_crash_gets_what_nobody_has(tmp_path: Path) -> None:
    """Of the one batch of a blob nothing was delivered: its records come with the rest, to both, and once."""
    at = NOW - timedelta(minutes=30)
    ref = BlobRef(FEED, "blob", at, at + timedelta(days=7))
    ledger = SqliteLedger(tmp_path, outputs=frozenset({"devo"}), now=NOW)
    ledger.commit_listing(FEED, Window(at, NOW), [ref], complete=True, at=NOW)
    ledger.open_batch([part(due(ledger)[0], "a")], frozenset({"devo"}))
    ledger.close()

    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    ledger.settle_outputs({"devo": 0, "lake": 0}, queued={}, at=NOW)
    [owed] = due(ledger)
    second = ledger.open_batch([part(owed, "a")], OUTPUTS)
    for output in sorted(OUTPUTS):
        ledger.commit_delivered(second.number, output, Receipt(), at=NOW)
    [rest] = due(ledger)
    third = ledger.open_batch([part(rest, "a")], OUTPUTS)
    for output in sorted(OUTPUTS):
        ledger.commit_delivered(third.number, output, Receipt(), at=NOW)
    left = due(ledger)
    ledger.close()

    assert owed.missing_outputs == {"devo"}
    assert second.duplicates == {0: frozenset({0})}
    assert (rest.missing_outputs, third.duplicates, left) == (OUTPUTS, {}, [])


@guarantee(10)
@pytest.mark.parametrize("letters", ["x", "-"])
def test_a_blob_that_brought_nothing_of_its_own_before_may_have_grown(tmp_path: Path, letters: str) -> None:
    """The lake got it when all of it was a duplicate, or without an Id; what it has grown by is for both."""
    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    at = NOW - timedelta(minutes=30)
    refs = [BlobRef(FEED, name, at, at + timedelta(days=7)) for name in ("other", "blob")]
    ledger.commit_listing(FEED, Window(at, NOW), refs, complete=True, at=NOW)
    other, one = sorted(due(ledger), key=lambda known: known.key)
    before = ledger.open_batch([part(other, "x")], OUTPUTS)
    first = ledger.open_batch([part(one, letters)], OUTPUTS)
    for output in sorted(OUTPUTS):
        ledger.commit_delivered(before.number, output, Receipt(), at=NOW)
    ledger.leave_out(first.number, "devo")
    ledger.commit_delivered(first.number, "lake", Receipt(), at=NOW)
    ledger.recall()

    [owed] = due(ledger)
    second = ledger.open_batch([part(owed, f"a{letters}")], OUTPUTS)
    [rest] = [known for known in due(ledger) if known.key != owed.key]
    third = ledger.open_batch([part(rest, f"a{letters}")], OUTPUTS)
    ledger.close()

    assert owed.missing_outputs == {"devo"}
    assert (0 in second.duplicates[0], second.has_rests) == (True, True)
    assert (rest.missing_outputs, 0 in third.duplicates.get(0, ())) == (OUTPUTS, False)


def test_another_blob_with_the_rest_brings_it_to_all(tmp_path: Path) -> None:
    """The service lists the whole blob under another instant: it is not taken for a duplicate of the part."""
    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    at = NOW - timedelta(minutes=30)
    refs = [BlobRef(FEED, "blob", at + timedelta(seconds=s), at + timedelta(days=7)) for s in (5, 0)]
    ledger.commit_listing(FEED, Window(at, NOW), refs, complete=True, at=NOW)
    [one, other] = due(ledger)
    first = ledger.open_batch([part(one, "b")], OUTPUTS)
    ledger.leave_out(first.number, "devo")
    ledger.commit_delivered(first.number, "lake", Receipt(), at=NOW)
    ledger.recall()

    owed = next(blob for blob in due(ledger) if blob.key == one.key)
    second = ledger.open_batch([part(owed, "ab"), part(other, "ab")], OUTPUTS)
    ledger.close()

    assert second.duplicates == {0: frozenset({0}), 1: frozenset({1})}
