"""Blobs that are pending again for one output, which has lost records."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from promises import guarantee

from m365watch.common.model import BlobRef, Receipt, Window
from m365watch.ledger.redelivery import PendingAgain
from m365watch.ledger.sqlite_ledger import SqliteLedger
from test_grown import FEED, NOW, OUTPUTS, due, part


def deliver(ledger: SqliteLedger, name: str, letters: str) -> None:
    """A blob that every output gets."""
    at = NOW - timedelta(minutes=30)
    ref = BlobRef(FEED, name, at, at + timedelta(days=7))
    ledger.commit_listing(FEED, Window(at, NOW), [ref], complete=True, at=NOW)
    batch = ledger.open_batch([part(due(ledger)[0], letters)], OUTPUTS)
    for output in OUTPUTS:
        ledger.commit_delivered(batch.number, output, Receipt(), at=NOW)


@guarantee(15)
def test_an_expired_blob_is_lost_to_the_output_alone_that_lacks_its_record(
    tmp_path: Path,
) -> None:
    """The lake has lost `a` and has `b` and `c`: one of two blobs is lost, and a third brings `a` to it."""
    ledger = SqliteLedger(tmp_path, outputs=OUTPUTS, now=NOW)
    deliver(ledger, "first", "ab")
    deliver(ledger, "second", "c")
    later = NOW + timedelta(days=8)
    carriers = ledger.carriers_of("lake", received=(None, None), is_kept=lambda _: False, now=later)
    ledger.held.add("lake", [b"b" * 16, b"c" * 16])
    ledger.held.finish_again("lake", {}, at=later)

    assert ledger.make_pending("lake", carriers) == PendingAgain(0, 0, 1, 1)
    assert not due(ledger)
    again = BlobRef(FEED, "again", later, later + timedelta(days=7))
    ledger.commit_listing(FEED, Window(NOW, later), [again], complete=True, at=later)
    [known] = ledger.due_blobs(FEED, now=later, count_max=9, besides=frozenset())
    first = ledger.open_batch([part(known, "abc")], OUTPUTS)
    for output in OUTPUTS:
        ledger.commit_delivered(first.number, output, Receipt(), at=later)
    assert first.duplicates == {0: frozenset({0, 1, 2})}
    [known] = ledger.due_blobs(FEED, now=later, count_max=9, besides=frozenset())
    second = ledger.open_batch([part(known, "abc")], OUTPUTS)

    assert known.missing_outputs == {"lake"}
    duplicates, held = second.duplicates.get(0, frozenset()), second.held.get("lake", {})
    assert {0, 1, 2} - duplicates - held.get(0, frozenset()) == {0}
