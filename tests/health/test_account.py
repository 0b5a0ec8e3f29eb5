"""The account of an audit: each blob that is listed stands in exactly one count."""

from __future__ import annotations

from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import BlobRef, BlobState, ContentType, Feed, TenantId, Window
from m365watch.health.completeness.feed_audit import (
    FINAL,
    Counts,
    FeedAudit,
    Tally,
    audit_of,
    body_of,
    settled,
    total_of,
)
from m365watch.ledger.blob_states import Absent

FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)
START = datetime(2026, 11, 17, 9, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=24))
NEXT = Window(WINDOW.end, WINDOW.end + timedelta(hours=24))

standings = st.lists(
    st.tuples(st.integers(0, 24 * 60 - 1), st.sampled_from([*Absent, *BlobState])),
    max_size=60,
)


def ref(number: int, minutes: int, window: Window = WINDOW) -> BlobRef:
    at = window.start + timedelta(minutes=minutes)
    return BlobRef(FEED, f"blob{number}", at, at + timedelta(days=7))


@guarantee(6)
@given(standings, st.integers(1, 7))
def test_every_listed_blob_stands_in_one_count(
    standing: list[tuple[int, BlobState | Absent]], page_blobs: int
) -> None:
    """Whatever the pages are cut like, the counts add up, hour by hour, and missing ones are named."""
    tally = Tally()
    tally.begin(WINDOW)
    refs = [ref(number, minutes) for number, (minutes, _) in enumerate(standing)]
    for at in range(0, len(refs), page_blobs):
        states = [state for _, state in standing[at : at + page_blobs]]
        tally.add(refs[at : at + page_blobs], states)

    hours = tally.hours()
    assert all(row.listed == sum(astuple(row)[1:]) for row in hours.values())
    assert list(hours) == sorted({one.created_at.replace(minute=0) for one in refs})
    assert total_of(hours.values()).listed == len(refs)
    assert set(tally.missing()) == {
        one for one, (_, state) in zip(refs, standing, strict=True) if state is Absent.MISSING
    }


def test_a_window_that_is_begun_again_counts_once() -> None:
    """Neither a break in the middle nor a later beginning counts a blob twice."""
    tally = Tally()
    tally.begin(WINDOW)
    tally.add([ref(1, 5), ref(2, 90)], [BlobState.DELIVERED, Absent.MISSING])
    tally.begin(replace(WINDOW, start=WINDOW.start + timedelta(minutes=20)))
    tally.add([ref(2, 90)], [BlobState.WAITING])
    tally.begin(NEXT)
    tally.add([ref(3, 5, NEXT)], [BlobState.LOST])

    assert total_of(tally.hours().values()) == Counts(listed=2, waiting=1, lost=1)
    assert tally.missing() == ()


def test_a_blob_on_two_pages_counts_once() -> None:
    """Pages repeat; the second time the ledger knows the blob already."""
    tally = Tally()
    tally.begin(WINDOW)
    tally.add([ref(1, 5)], [Absent.MISSING])
    tally.add([ref(1, 5), ref(2, 6)], [BlobState.WAITING, BlobState.QUARANTINED])

    assert total_of(tally.hours().values()) == Counts(listed=2, quarantined=1, missing=1)
    assert tally.missing() == (ref(1, 5),)


@given(st.lists(st.sampled_from([*Absent, *BlobState]), max_size=20))
def test_what_was_repaired_is_in_a_final_state(states: list[BlobState | Absent]) -> None:
    """Known again is not enough: what still waits after a repair remains."""
    missing = tuple(ref(number, number) for number in range(len(states)))
    audit = audit_with(missing, beyond=3)

    after = settled(audit, states)

    assert after.repaired == sum(state in FINAL for state in states)
    assert after.repaired + after.remaining == len(states) + 3
    assert not after.is_proven


@given(standings)
def test_an_audit_is_kept_as_it_is(standing: list[tuple[int, BlobState | Absent]]) -> None:
    """What `status` and a command read is what the collector found."""
    tally = Tally()
    tally.begin(WINDOW)
    refs = [ref(number, minutes) for number, (minutes, _) in enumerate(standing)]
    tally.add(refs, [state for _, state in standing])
    audit = FeedAudit(
        FEED,
        at=NEXT.end,
        span=WINDOW,
        hours=tally.hours(),
        missing=tally.missing(),
        error="HTTP 503",
        asked="a1",
    )

    assert audit_of(FEED, body_of(audit)) == audit


@guarantee(6)
def test_part_of_a_listing_proves_nothing() -> None:
    """An error stands in the way of the proof even where nothing is missing."""
    audit = audit_with(())

    assert audit.is_proven
    assert not replace(audit, error="HTTP 503").is_proven


def audit_with(missing: tuple[BlobRef, ...], *, beyond: int = 0) -> FeedAudit:
    """An audit with these missing blobs, and so many more that are not named."""
    count = len(missing) + beyond
    return FeedAudit(
        FEED,
        at=NEXT.end,
        span=WINDOW,
        hours={START: Counts(listed=count, missing=count)} if count else {},
        missing=missing,
    )
