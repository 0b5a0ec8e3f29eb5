"""The ledger: progress moves by its verbs alone, and survives whatever comes between."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import LedgerHeld, LedgerUnavailable, LedgerUnusable
from m365watch.common.model import (
    BatchPart,
    BlobRef,
    ContentType,
    Feed,
    Header,
    KnownBlob,
    Receipt,
    RefusedRecord,
    TenantId,
    Window,
)
from m365watch.ledger.limits import HORIZON, LedgerBounds
from m365watch.ledger.quarantine import kept_pieces
from m365watch.ledger.queries import feed_progress, ledger_for_reading
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
WINDOW = Window(NOW - timedelta(hours=1), NOW)
LAKE = frozenset({"lake"})
BOTH = frozenset({"files", "lake"})


def opened(directory: Path, outputs: frozenset[str] = LAKE) -> SqliteLedger:
    return SqliteLedger(directory, outputs=outputs, now=NOW, bounds=LedgerBounds(merge_count=1))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    one = opened(tmp_path)
    yield one
    one.close()


def blob(number: int, *, created_at: datetime = NOW - timedelta(minutes=30)) -> BlobRef:
    return BlobRef(FEED, f"content${number}", created_at, created_at + timedelta(days=7))


def known(ledger: SqliteLedger, *numbers: int) -> list[KnownBlob]:
    """The blobs of `numbers`, listed, as the fetcher gets them."""
    ledger.commit_listing(FEED, WINDOW, [blob(number) for number in numbers], complete=True, at=NOW)
    due = ledger.due_blobs(FEED, now=NOW, count_max=100, besides=frozenset())
    return [one for number in numbers for one in due if one.ref.content_id == f"content${number}"]


def part(one: KnownBlob, *letters: str) -> BatchPart:
    """A part with one record per letter; the letter is its identity, "-" a record without Id."""
    records = [letter.encode() for letter in letters]
    return BatchPart(
        blob=one.key,
        feed=FEED,
        received_at=NOW,
        records=records,
        headers=[Header() for _ in letters],
        tables=["t"] * len(letters),
        missing_outputs=one.missing_outputs,
        identities=[None if letter == "-" else letter.encode() * 16 for letter in letters],
    )


def deliver(ledger: SqliteLedger, parts: Sequence[BatchPart], output: str = "lake") -> int:
    number = ledger.open_batch(parts, LAKE).number
    ledger.commit_delivered(number, output, Receipt(), at=NOW)
    return number


def test_a_listing_makes_each_blob_known_once(ledger: SqliteLedger) -> None:
    """The lookback lists the same blobs again on every poll."""
    first = ledger.commit_listing(FEED, WINDOW, [blob(1), blob(2)], complete=False, at=NOW)
    again = ledger.commit_listing(FEED, WINDOW, [blob(2), blob(3)], complete=True, at=NOW)

    assert (first, again) == (2, 1)


def test_one_content_id_with_another_created_time_is_another_blob(ledger: SqliteLedger) -> None:
    """The service cuts blobs and reuses the id: fetching twice is cheaper than missing records."""
    other = blob(1, created_at=NOW - timedelta(minutes=31))

    assert ledger.commit_listing(FEED, WINDOW, [blob(1), other], complete=True, at=NOW) == 2


def test_a_window_counts_as_listed_only_with_its_last_page(ledger: SqliteLedger) -> None:
    """A crash between two pages lists the window again."""
    ledger.commit_listing(FEED, WINDOW, [blob(1)], complete=False, at=NOW)
    assert ledger.coverage(FEED) == []

    ledger.commit_listing(FEED, WINDOW, [], complete=True, at=NOW)
    assert ledger.coverage(FEED) == [WINDOW]


def test_neighbouring_windows_become_one_span(ledger: SqliteLedger) -> None:
    """Half-open windows that touch leave no hole."""
    before = Window(WINDOW.start - timedelta(hours=3), WINDOW.start)
    apart = Window(WINDOW.start - timedelta(hours=9), WINDOW.start - timedelta(hours=8))
    for window in (WINDOW, apart, before):
        ledger.commit_listing(FEED, window, [], complete=True, at=NOW)

    assert ledger.coverage(FEED) == [apart, Window(before.start, WINDOW.end)]


def test_a_delivered_blob_is_not_due_again(ledger: SqliteLedger) -> None:
    """Its state is final."""
    deliver(ledger, [part(known(ledger, 1)[0], "a")])

    assert ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset()) == []
    progress = ledger.feed_progress()[0]
    assert (progress.blobs_listed, progress.blobs_delivered, progress.records_delivered) == (1, 1, 1)


def test_a_record_that_another_blob_brought_is_a_duplicate(ledger: SqliteLedger) -> None:
    """Across batches, across parts of a batch, and within one part."""
    one, two, three = known(ledger, 1, 2, 3)
    deliver(ledger, [part(one, "a", "b")])

    found = ledger.open_batch([part(two, "b", "c", "c"), part(three, "c", "d")], LAKE)

    assert found.duplicates == {0: frozenset({0, 2}), 1: frozenset({0})}


@guarantee(10)
def test_a_record_without_id_is_never_a_duplicate(ledger: SqliteLedger) -> None:
    """Nothing tells two of them apart, so both go on."""
    one, two = known(ledger, 1, 2)
    deliver(ledger, [part(one, "-")])

    assert ledger.open_batch([part(two, "-", "-")], LAKE).duplicates == {}


def test_duplicates_are_found_among_merged_identities_too(
    ledger: SqliteLedger,
) -> None:
    """Where an identity is kept makes no difference."""
    one, two = known(ledger, 1, 2)
    deliver(ledger, [part(one, "a", "b")])
    assert ledger.merge_identities()
    assert not ledger.merge_identities()

    assert ledger.open_batch([part(two, "a", "c")], LAKE).duplicates == {0: frozenset({0})}


@guarantee(10)
def test_a_blob_fetched_again_after_a_crash_is_not_its_own_duplicate(tmp_path: Path) -> None:
    """The first output had the batch, the second had not: only the second gets it again, all of it."""
    before = opened(tmp_path, BOTH)
    (one,) = known(before, 1)
    number = before.open_batch([part(one, "a", "b")], BOTH).number
    before.commit_delivered(number, "files", Receipt("here"), at=NOW)
    before.close()

    after = opened(tmp_path, BOTH)
    after.settle_outputs({"files": number, "lake": 0}, queued={}, at=NOW)
    (again,) = after.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    found = after.open_batch([part(again, "a", "b")], BOTH)
    after.commit_delivered(found.number, "files", None, at=NOW)
    after.commit_delivered(found.number, "lake", Receipt(), at=NOW)

    assert again.missing_outputs == {"lake"}
    assert found.duplicates == {}
    assert after.feed_progress()[0].records_delivered == 2
    after.close()


def test_a_batch_that_no_output_has_leaves_no_trace_after_a_crash(tmp_path: Path) -> None:
    """Its identities are new again, its blobs are due again."""
    before = opened(tmp_path)
    one, two = known(before, 1, 2)
    before.open_batch([part(one, "a")], LAKE)
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": 0}, queued={}, at=NOW)

    assert len(after.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())) == 2
    assert after.open_batch([part(two, "a")], LAKE).duplicates == {}
    after.close()


def test_a_batch_that_an_output_wrote_before_the_crash_is_not_written_again(tmp_path: Path) -> None:
    """Between the output's write and the ledger's commit: the output tells, and the commit is made up for."""
    before = opened(tmp_path)
    one, two = known(before, 1, 2)
    number = before.open_batch([part(one, "a", "b")], LAKE).number
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": number}, queued={}, at=NOW)

    assert [due.key for due in after.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())] == [two.key]
    assert after.output_position("lake").last_batch == number
    assert after.open_batch([part(two, "b", "c")], LAKE).duplicates == {0: frozenset({0})}
    after.close()


def test_an_output_that_is_gone_keeps_no_blob_waiting(tmp_path: Path) -> None:
    """It was removed from the configuration while it lacked a batch: the others have it all."""
    before = opened(tmp_path, BOTH)
    (one,) = known(before, 1)
    number = before.open_batch([part(one, "a", "b")], BOTH).number
    before.commit_delivered(number, "files", Receipt("here"), at=NOW)
    before.close()

    after = opened(tmp_path, frozenset({"files"}))
    after.settle_outputs({"files": number}, queued={}, at=NOW)

    assert after.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset()) == []
    progress = after.feed_progress()[0]
    assert (progress.blobs_waiting, progress.blobs_delivered, progress.records_delivered) == (0, 1, 2)
    after.close()


def test_batch_numbers_grow_over_restarts(tmp_path: Path) -> None:
    """An output that remembers the last number must never see it used twice."""
    before = opened(tmp_path)
    first = before.open_batch([part(known(before, 1)[0], "a")], LAKE).number
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": 0}, queued={}, at=NOW)
    second = after.open_batch([part(known(after, 1)[0], "a")], LAKE).number
    after.close()

    assert second > first


def test_what_an_output_refuses_is_in_quarantine_by_name(ledger: SqliteLedger) -> None:
    """In the transaction that commits its neighbours."""
    (one,) = known(ledger, 1)
    number = ledger.open_batch([part(one, "a", "b")], LAKE).number
    ledger.commit_delivered(
        number, "lake", Receipt(refused=(RefusedRecord(one.key, b"a", "too large"),)), at=NOW
    )

    assert ledger.feed_progress()[0].records_quarantined == 1


def test_one_body_of_a_blob_is_kept_in_quarantine_once(ledger: SqliteLedger) -> None:
    """The blob may be fetched again after a crash."""
    (one,) = known(ledger, 1)
    for _ in range(2):
        ledger.quarantine(one.key, b"not a record", "not valid JSON", at=NOW)

    assert ledger.feed_progress()[0].records_quarantined == 1
    rows = sqlite3.connect(ledger.path).execute("SELECT body FROM quarantine").fetchall()
    assert rows == [(b"not a record",)]


@guarantee(3)
@pytest.mark.parametrize("verb", ["lost", "quarantined"])
def test_every_blob_is_in_exactly_one_state(ledger: SqliteLedger, verb: str) -> None:
    """Listed is the sum of the others, in memory and in the file."""
    one, two, _ = known(ledger, 1, 2, 3)
    deliver(ledger, [part(one, "a")])
    if verb == "lost":
        ledger.commit_lost(two.key, "expired", at=NOW)
    else:
        ledger.quarantine(two.key, b"<html>", "no array", whole=True, at=NOW)

    live = ledger.feed_progress()[0]
    with ledger_for_reading(ledger.path) as connection:
        (read,) = feed_progress(connection, NOW)
    assert read == live
    assert (live.blobs_listed, live.blobs_delivered, live.blobs_waiting) == (3, 1, 1)
    assert live.blobs_lost + live.blobs_quarantined == 1


def test_a_gap_is_counted_once_and_stays_in_sight(ledger: SqliteLedger) -> None:
    """It is found again at every poll, also long after the coverage around it is forgotten."""
    gap = Window(NOW - timedelta(days=9), NOW - timedelta(days=8))
    news = [ledger.commit_gap(FEED, gap, at=NOW) for _ in range(2)]

    assert news == [True, False]
    with ledger_for_reading(ledger.path) as connection:
        (read,) = feed_progress(connection, NOW)
    assert (ledger.feed_progress()[0].unlisted_s, read.unlisted_s) == (86_400, 86_400)


@guarantee(3)
def test_a_gap_that_grows_is_counted_to_its_end(ledger: SqliteLedger) -> None:
    """The 7-day edge moves on before the rest could be listed: what it passes is lost as well."""
    start = NOW - timedelta(days=9)
    spans = [Window(start, start + timedelta(hours=hours)) for hours in (2, 5, 3)]
    news = [ledger.commit_gap(FEED, span, at=NOW) for span in spans]

    assert news == [True, True, False]
    with ledger_for_reading(ledger.path) as connection:
        (read,) = feed_progress(connection, NOW)
    assert (ledger.feed_progress()[0].unlisted_s, read.unlisted_s) == (5 * 3_600, 5 * 3_600)


def test_a_postponed_blob_waits_and_is_due_again_at_its_time_and_at_a_restart(tmp_path: Path) -> None:
    """It is named meanwhile."""
    before = opened(tmp_path)
    (one,) = known(before, 1)
    later = NOW + timedelta(minutes=5)
    before.postpone(one.key, attempts=5, next_try_at=later, error="HTTP 500")
    assert before.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset()) == []
    assert [due.attempts for due in before.due_blobs(FEED, now=later, count_max=9, besides=frozenset())] == [
        5
    ]
    assert [(w.content_id, w.last_error) for w in before.waiting_blobs()] == [("content$1", "HTTP 500")]
    before.close()

    after = opened(tmp_path)
    after.settle_outputs({"lake": 0}, queued={}, at=NOW)
    assert len(after.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())) == 1
    after.close()


def test_due_blobs_come_newest_first_and_without_those_in_flight(ledger: SqliteLedger) -> None:
    """Live before backfill."""
    old, new = blob(1, created_at=NOW - timedelta(days=3)), blob(2)
    ledger.commit_listing(FEED, WINDOW, [old, new], complete=True, at=NOW)

    due = ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    assert [one.ref for one in due] == [new, old]
    rest = ledger.due_blobs(FEED, now=NOW, count_max=1, besides=frozenset({due[0].key}))
    assert [one.ref for one in rest] == [old]


def test_what_is_older_than_the_horizon_is_forgotten_in_bounded_steps(
    ledger: SqliteLedger,
) -> None:
    """The store does not grow for ever; what is younger stays known."""
    ancient = blob(1, created_at=NOW - HORIZON - timedelta(days=1))
    ledger.commit_listing(FEED, WINDOW, [ancient], complete=True, at=NOW)
    (one,) = ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    deliver(ledger, [part(one, "a")])
    two, three = known(ledger, 2, 3)
    deliver(ledger, [part(two, "b")])
    ledger.merge_identities()

    while ledger.evict(now=NOW):
        pass

    assert ledger.open_batch([part(three, "a", "b")], LAKE).duplicates == {0: frozenset({1})}


@guarantee(3)
def test_the_name_of_what_is_in_quarantine_is_never_forgotten(
    ledger: SqliteLedger,
) -> None:
    """What is kept is kept with the blob it came with, and holds up no identity's eviction."""
    ancient = NOW - HORIZON - timedelta(days=1)
    blobs = [blob(number, created_at=ancient) for number in (1, 2)]
    ledger.commit_listing(FEED, WINDOW, blobs, complete=True, at=NOW)
    one, two = ledger.due_blobs(FEED, now=NOW, count_max=9, besides=frozenset())
    ledger.quarantine(one.key, b"<html>", "not a JSON array", whole=True, at=NOW)
    deliver(ledger, [part(two, "a")])
    (three,) = known(ledger, 3)
    deliver(ledger, [part(three, "b")])
    ledger.merge_identities()

    while ledger.evict(now=NOW):
        pass

    with ledger_for_reading(ledger.path) as reading:
        (piece,) = kept_pieces(reading, feed_part="", count_max=9).pieces
    assert (piece.feed, piece.content_id) == (FEED, "content$1")
    (four,) = known(ledger, 4)
    assert ledger.open_batch([part(four, "a", "b")], LAKE).duplicates == {0: frozenset({1})}


@guarantee(20)
def test_a_second_process_is_told_who_holds_the_ledger(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Two collectors on one ledger would deliver everything twice."""
    with pytest.raises(LedgerHeld, match=r"held by pid \d+ on "):
        opened(tmp_path)


@guarantee(29)
def test_a_reader_works_beside_the_collector_and_finds_only_what_is_committed(ledger: SqliteLedger) -> None:
    """`status` reads while `run` runs."""
    known(ledger, 1)

    with ledger_for_reading(ledger.path) as connection:
        assert feed_progress(connection, NOW)[0].blobs_waiting == 1


def test_no_ledger_yet_is_one_clear_line(tmp_path: Path) -> None:
    """With what to do."""
    with (
        pytest.raises(LedgerUnusable, match="no ledger yet; start the collector"),
        ledger_for_reading(tmp_path / LEDGER_FILE),
    ):
        pass


@guarantee(20)
def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """It is refused before anything is written."""
    opened(tmp_path).close()
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(LedgerUnusable, match="schema 99"):
        opened(tmp_path)


@guarantee(20)
def test_a_file_that_is_no_ledger_is_one_clear_line(tmp_path: Path) -> None:
    """It may be somebody's only copy, so it is not touched."""
    (tmp_path / LEDGER_FILE).write_bytes(b"not a database at all, really" * 100)

    with pytest.raises(LedgerUnusable, match="file is not a database"):
        opened(tmp_path)


@guarantee(28)
def test_a_full_disk_changes_nothing_and_can_be_repeated(ledger: SqliteLedger) -> None:
    """The verb did not happen; the same call succeeds once there is room."""
    (one,) = known(ledger, 1)
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    many = [blob(number) for number in range(2, 5_000)]
    with pytest.raises(LedgerUnavailable, match="full"):
        ledger.commit_listing(FEED, WINDOW, many, complete=True, at=NOW)
    assert ledger.feed_progress()[0].blobs_listed == 1

    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.commit_listing(FEED, WINDOW, many, complete=True, at=NOW) == len(many)
    assert one.key in {
        due.key for due in ledger.due_blobs(FEED, now=NOW, count_max=9999, besides=frozenset())
    }


def test_a_full_disk_is_passing_trouble_for_a_new_feed_too(ledger: SqliteLedger) -> None:
    """Even the first question about a feed may have to write."""
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    feeds = [
        Feed(TenantId(f"{number:08}-1111-1111-1111-111111111111"), ContentType.DLP) for number in range(5_000)
    ]
    with pytest.raises(LedgerUnavailable, match="full"):
        list(map(ledger.coverage, feeds))

    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    assert ledger.coverage(FEED) == []


def test_what_was_learned_is_known_again_after_a_restart(tmp_path: Path) -> None:
    """A newer body takes the place of the one before; a name that was never given has none."""
    first = opened(tmp_path)
    first.remember("gaps", '{"hours": 1}')
    first.remember("gaps", '{"hours": 2}')
    first.close()
    second = opened(tmp_path)
    assert second.remembered("gaps") == '{"hours": 2}'
    assert second.remembered("drift") is None
