"""Blobs and pieces by name: what an operator can ask of a ledger that a collector is writing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m365watch.common.errors import PermissionMissing
from m365watch.common.model import (
    BatchPart,
    BlobRef,
    BlobState,
    ContentType,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    RefusedRecord,
    TenantId,
    Window,
)
from m365watch.ledger.quarantine import (
    BlobsAsked,
    BlobsFound,
    PiecesFound,
    kept_pieces,
    named_blobs,
    piece_body,
)
from m365watch.ledger.queries import first_expiries, ledger_for_reading
from m365watch.ledger.sqlite_ledger import SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
FEED = Feed(TENANT, ContentType.EXCHANGE)
BOTH = frozenset({"files", "lake"})
NOT_DELIVERED = frozenset(BlobState) - {BlobState.DELIVERED}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A ledger for two outputs, open as in a running collector."""
    one = SqliteLedger(tmp_path, outputs=BOTH, now=NOW)
    yield one
    one.close()


def known(ledger: SqliteLedger, *names: str, feed: Feed = FEED) -> dict[str, KnownBlob]:
    """Blobs of these names, the first the newest, listed and due."""
    created = [NOW - timedelta(minutes=place) for place in range(len(names))]
    refs = [BlobRef(feed, name, at, at + timedelta(days=7)) for name, at in zip(names, created, strict=True)]
    ledger.commit_listing(feed, Window(NOW - timedelta(hours=1), NOW), refs, complete=True, at=NOW)
    due = ledger.due_blobs(feed, now=NOW, count_max=99, besides=frozenset())
    return {one.ref.content_id: one for one in due}


def part(one: KnownBlob, *records: bytes) -> BatchPart:
    """A part of the blob with these records, none of which has an Id."""
    return BatchPart(
        blob=one.key,
        feed=one.ref.feed,
        received_at=NOW,
        records=list(records),
        headers=[Header() for _ in records],
        tables=["t"] * len(records),
        missing_outputs=one.missing_outputs,
        identities=[None] * len(records),
    )


def ask(ledger: SqliteLedger, *states: BlobState, feed_part: str = "", count_max: int = 99) -> BlobsFound:
    """What another process finds."""
    asked = BlobsAsked(frozenset(states) or NOT_DELIVERED, feed_part=feed_part, count_max=count_max)
    with ledger_for_reading(ledger.path) as connection:
        return named_blobs(connection, asked)


def pieces(ledger: SqliteLedger, *, feed_part: str = "", count_max: int = 99) -> PiecesFound:
    """What another process finds in quarantine."""
    with ledger_for_reading(ledger.path) as connection:
        return kept_pieces(connection, feed_part=feed_part, count_max=count_max)


def test_every_blob_is_named_in_its_state_and_untried_ones_come_last(ledger: SqliteLedger) -> None:
    """A backfill has thousands of them, and what went wrong should not drown among them."""
    blobs = known(ledger, "untried", "lost", "waiting", "kept", "done")
    ledger.commit_lost(blobs["lost"].key, "AF20051: expired", at=NOW)
    ledger.quarantine(blobs["kept"].key, b"<html>", "not a JSON array", whole=True, at=NOW)
    number = ledger.open_batch([part(blobs["done"], b"{}")], BOTH).number
    for output in sorted(BOTH):
        ledger.commit_delivered(number, output, Receipt(), at=NOW)
    ledger.postpone(blobs["waiting"].key, attempts=6, next_try_at=NOW, error="HTTP 503")

    found = ask(ledger)

    assert [(one.content_id, one.state, one.reason) for one in found.blobs] == [
        ("waiting", BlobState.WAITING, "HTTP 503"),
        ("kept", BlobState.QUARANTINED, "not a JSON array"),
        ("lost", BlobState.LOST, "AF20051: expired"),
        ("untried", BlobState.WAITING, None),
    ]
    assert [one.content_id for one in ask(ledger, BlobState.DELIVERED).blobs] == ["done"]


def test_a_blob_comes_with_its_times_its_tries_and_its_feeds_cure(ledger: SqliteLedger) -> None:
    """All that is needed to find it elsewhere and to do something about it."""
    one = known(ledger, "a")["a"]
    ledger.postpone(one.key, attempts=6, next_try_at=NOW + timedelta(minutes=5), error="AF10001")
    ledger.note_error(FEED, PermissionMissing("AF10001", fix="grant it"), at=NOW)

    (found,) = ask(ledger).blobs

    assert (found.created_at, found.expires_at) == (NOW, NOW + timedelta(days=7))
    assert (found.attempts, found.next_try_at) == (6, NOW + timedelta(minutes=5))
    assert (found.feed_fix, found.finished_at, found.missing_outputs) == ("grant it", None, ())


def test_what_an_output_has_or_keeps_on_disk_does_not_expire_for_it(ledger: SqliteLedger) -> None:
    blobs = known(ledger, "newest", "queued", "had")
    for name, done_by in (("queued", "files"), ("had", "lake")):
        number = ledger.open_batch([part(blobs[name], b"{}")], BOTH).number
        ledger.commit_delivered(number, done_by, Receipt(), at=NOW)
        if name == "queued":
            ledger.commit_queued(number, "lake")

    lake, files = (first_expiries(ledger._connection, name)[FEED] for name in ("lake", "files"))

    assert lake == NOW + timedelta(days=7)
    assert files == NOW + timedelta(days=7, minutes=-2)


def test_a_blob_that_one_output_lacks_names_it(ledger: SqliteLedger) -> None:
    """It waits for that output, and for no fetch."""
    number = ledger.open_batch([part(known(ledger, "a")["a"], b"{}")], BOTH).number
    ledger.commit_delivered(number, "lake", Receipt(), at=NOW)

    assert [one.missing_outputs for one in ask(ledger).blobs] == [("files",)]


def test_a_part_of_the_feeds_name_is_enough_in_any_case(ledger: SqliteLedger) -> None:
    """Tenant, content type, or both."""
    known(ledger, "mail")
    known(ledger, "site", feed=Feed(TENANT, ContentType.SHAREPOINT))

    assert [one.content_id for one in ask(ledger, feed_part="sharepoint").blobs] == ["site"]
    assert ask(ledger, feed_part=f"{TENANT}/audit.").total == 2
    assert ask(ledger, feed_part="%").total == 0


def test_no_more_are_named_than_asked_for_and_all_are_counted(ledger: SqliteLedger) -> None:
    """A reader has bounds too."""
    known(ledger, *map(str, range(5)))

    found = ask(ledger, count_max=2)
    assert ([one.content_id for one in found.blobs], found.total) == (["0", "1"], 5)


def test_a_piece_comes_with_its_blob_its_output_and_its_very_bytes(ledger: SqliteLedger) -> None:
    """The latest first: what an output refused, and what is no record at all."""
    blobs = known(ledger, "a", "b")
    ledger.quarantine(blobs["b"].key, b"<html>\xff\0", "not a JSON array", whole=True, at=NOW)
    number = ledger.open_batch([part(blobs["a"], b"{\n}")], BOTH).number
    refused = RefusedRecord(blobs["a"].key, b"{\n}", "a line break")
    ledger.commit_delivered(number, "files", Receipt(refused=(refused,)), at=NOW)

    found = pieces(ledger)

    assert [(one.content_id, one.output, one.size_bytes, one.reason) for one in found.pieces] == [
        ("a", "files", 3, "a line break"),
        ("b", "", 8, "not a JSON array"),
    ]
    assert [one.blob_state for one in found.pieces] == [BlobState.WAITING, BlobState.QUARANTINED]
    assert [one.quarantined_at for one in found.pieces] == [NOW, NOW]
    with ledger_for_reading(ledger.path) as connection:
        assert [piece_body(connection, one.number) for one in found.pieces] == [b"{\n}", b"<html>\xff\0"]
        assert piece_body(connection, 99) is None
    assert pieces(ledger, count_max=1).total == 2
    assert pieces(ledger, feed_part="dlp").total == 0


def test_a_piece_of_a_forgotten_blob_is_still_shown(ledger: SqliteLedger) -> None:
    """Earlier versions forgot the blob after 15 days; its bytes are there all the same."""
    ledger.quarantine(known(ledger, "a")["a"].key, b"<html>", "not a JSON array", whole=True, at=NOW)
    ledger._connection.execute("DELETE FROM blob")

    (piece,) = pieces(ledger).pieces
    assert (piece.feed, piece.content_id, piece.blob_state, piece.size_bytes) == (None, None, None, 6)
