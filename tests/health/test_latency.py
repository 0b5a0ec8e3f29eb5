"""Latency: spans fall into their buckets, steps are told apart, and nothing grows without bound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from promises import guarantee

from m365watch.common.model import (
    Batch,
    BatchPart,
    BlobKey,
    BlobRef,
    ContentType,
    Feed,
    GraphContent,
    Header,
    KnownBlob,
    TenantId,
)
from m365watch.pipeline import latency
from m365watch.pipeline.latency import BOUNDS_S, TOGETHER, Histogram, LatencyBook, SeriesKey, Step, recent

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FEED = Feed(TenantId("8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10"), ContentType.EXCHANGE)
HEADER = Header(CreationTime="2026-11-24T10:00:00", Workload="Exchange")


def known(listed_at: datetime | None = NOW - timedelta(minutes=5), *, feed: Feed = FEED) -> KnownBlob:
    """A blob published an hour ago."""
    ref = BlobRef(feed, "a$b", NOW - timedelta(hours=1), NOW + timedelta(days=7))
    return KnownBlob(BlobKey(1), ref, 0, frozenset({"lake"}), listed_at)


def batch(*headers: Header, received_at: datetime = NOW) -> Batch:
    part = BatchPart(
        blob=BlobKey(1),
        feed=FEED,
        received_at=received_at,
        records=[b"{}"] * len(headers),
        headers=list(headers),
        tables=["t"] * len(headers),
        missing_outputs=frozenset({"lake"}),
    )
    return Batch(1, [part])


def spans(book: LatencyBook) -> dict[Step, float]:
    """The one span of each step."""
    return {key.step: series.ever.sum_s for key, series in book}


def test_each_step_is_the_time_between_its_two_instants() -> None:
    """From the act over publication, listing and fetch to the acknowledgement."""
    book = LatencyBook()
    book.note_fetched(known(), [HEADER], fetched_at=NOW)
    book.note_delivered(batch(HEADER), "lake", at=NOW + timedelta(seconds=3))

    assert spans(book) == {
        Step.PUBLISHED: 3600.0,
        Step.LISTED: 3300.0,
        Step.FETCHED: 300.0,
        Step.DELIVERED: 3.0,
        Step.ALL: 7203.0,
    }


def test_an_announcement_is_no_measure_of_latency() -> None:
    """Its time may lie months before it was announced to this tenant."""
    health = Feed(FEED.tenant_id, GraphContent.SERVICE_HEALTH)
    announced = batch(HEADER)
    announced.parts[0].feed = health
    book = LatencyBook()
    book.note_delivered(announced, "lake", at=NOW)

    assert spans(book) == {}


def test_what_is_not_known_is_not_counted() -> None:
    """A blob whose listing is forgotten, a record without an instant, a batch without records."""
    book = LatencyBook()
    book.note_fetched(known(None), [Header(CreationTime="soon")], fetched_at=NOW)
    book.note_delivered(batch(), "lake", at=NOW)

    assert list(book) == []


def test_one_record_speaks_for_its_blob() -> None:
    """Of ten thousand records, one is read."""
    book = LatencyBook()
    book.note_fetched(known(None), [HEADER] * 10_000, fetched_at=NOW)

    [(key, series)] = book
    assert (key.step, series.ever.count) == (Step.PUBLISHED, 1)


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(-5.0, 0), (0.0, 0), (BOUNDS_S[0], 0), (0.07, 1), (1.0, 4), (BOUNDS_S[-1] + 1, len(BOUNDS_S))],
)
def test_a_span_lies_in_the_first_bucket_that_holds_it(seconds: float, place: int) -> None:
    """The bound belongs to its bucket; a clock that ran backwards counts as no time at all."""
    histogram = Histogram()
    histogram.add(seconds)

    assert [at for at, number in enumerate(histogram.counts) if number] == [place]


def test_a_quantile_is_as_exact_as_its_bucket() -> None:
    """Never off by more than a factor of two, never beyond the longest."""
    histogram = Histogram()
    for seconds in range(1, 1001):
        histogram.add(float(seconds))

    assert Histogram().quantile(0.5) is None
    for share in (0.01, 0.5, 0.95, 1.0):
        found = histogram.quantile(share)
        assert found is not None
        assert share * 1000 / 2 <= found <= min(share * 1000 * 2, 1000.0)


def test_the_book_is_the_same_after_a_restart() -> None:
    """What the ledger remembers is everything."""
    book = LatencyBook()
    book.note_fetched(known(), [HEADER], fetched_at=NOW)
    book.note_delivered(batch(HEADER), "lake", at=NOW)

    assert list(LatencyBook.of_body(book.body())) == list(book) != []


@pytest.mark.parametrize("body", [None, "", "[]", "{", '{"bounds": 25, "series": [[1]]}', '{"bounds": 3}'])
def test_a_body_of_others_is_no_book(body: str | None) -> None:
    """Another version's figures are begun anew, and keep no run from starting."""
    assert list(LatencyBook.of_body(body)) == []


def test_recent_figures_leave_old_days_out() -> None:
    """A backfill of a week does not stay in the median for ever, and days do not pile up."""
    book = LatencyBook()
    for days in range(10):
        book.note_fetched(known(None), [HEADER], fetched_at=NOW + timedelta(days=days))

    [(key, series)] = book
    assert len(series.days) == latency.RECENT_DAYS
    assert recent(book, (NOW + timedelta(days=9)).date())[key].count == 2
    assert recent(book, (NOW + timedelta(days=30)).date()) == {}
    assert series.ever.count == 10


@guarantee(9)
def test_series_are_bounded() -> None:
    """Ever new workloads end up together, and the whole fits into the ledger's memory."""
    book = LatencyBook()
    for number in range(3 * latency.SERIES_MAX):
        header = Header(CreationTime="2026-11-24T10:00:00", Workload=f"{number}" + "w" * 500)
        book.note_fetched(known(), [header], fetched_at=NOW)
    keys = [key for key, _ in book]

    assert len(keys) <= latency.SERIES_MAX + len(Step)
    together = SeriesKey(TOGETHER, str(FEED.content_type), TOGETHER, Step.LISTED, "")
    assert together in keys
    assert len(book.body()) < 1_000_000
    kept = [len(one) for one in vars(book).values() if isinstance(one, dict)]
    assert max(kept) <= latency.SERIES_MAX + len(Step)
