"""Every hour of a feed has one state: the worst thing that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from m365watch.common.model import BlobRef, BlobState, ContentType, Feed, TenantId, Window
from m365watch.health.completeness.hour_status import (
    HoursKnown,
    HourStanding,
    HourState,
    find_hours,
    judge_hours,
)
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import SqliteLedger

NOW_H = 500_000
NOW = datetime.fromtimestamp(NOW_H * 3_600 + 1_800, UTC)
OLD = NOW_H - 10
FEED = Feed(TenantId("11111111-1111-1111-1111-111111111111"), ContentType.EXCHANGE)


def judged(known: HoursKnown, hour: int = OLD) -> HourStanding:
    return judge_hours(known, range(hour, hour + 1), now=NOW)[0]


@pytest.mark.parametrize(
    ("counts", "state", "amiss"),
    [
        ({BlobState.DELIVERED: 3}, HourState.WHOLE, 0),
        ({}, HourState.QUIET, 0),
        ({BlobState.DELIVERED: 3, BlobState.WAITING: 1, BlobState.QUEUED: 1}, HourState.WAITING, 2),
        ({BlobState.DELIVERED: 3, BlobState.WAITING: 1, BlobState.QUARANTINED: 2}, HourState.QUARANTINED, 2),
        ({BlobState.QUARANTINED: 2, BlobState.LOST: 1}, HourState.LOST, 1),
    ],
)
def test_a_listed_hour_is_as_its_worst_blob(
    counts: Mapping[BlobState, int], state: HourState, amiss: int
) -> None:
    """And says how many blobs are."""
    known = HoursKnown({OLD: counts}, listed={OLD}, first=0)

    assert judged(known) == HourStanding(state, sum(counts.values()), amiss)


def test_an_hour_that_nobody_listed_is_never_whole() -> None:
    """Even where other hours' listings have shown blobs of it; the one that collecting began in may be."""
    delivered = {OLD: {BlobState.DELIVERED: 3}}

    assert judged(HoursKnown(delivered, listed=(), first=OLD - 1)).state is HourState.UNLISTED
    assert judged(HoursKnown(delivered, listed=(), first=OLD)).state is HourState.WHOLE
    assert judged(HoursKnown({}, listed=(), first=OLD + 1)).state is HourState.UNKNOWN
    assert judged(HoursKnown({}, listed=(), first=None)).state is HourState.UNKNOWN


def test_an_hour_is_not_judged_before_it_can_be_listed() -> None:
    """The present hour, and the one that has just ended, wait for the next poll."""
    known = HoursKnown({}, listed=(), first=OLD)

    states = [one.state for one in judge_hours(known, range(NOW_H - 2, NOW_H + 1), now=NOW)]

    assert states == [HourState.UNLISTED, HourState.DUE, HourState.DUE]


def test_what_is_silent_or_missing_is_no_quiet_hour() -> None:
    """A silence that the feed's own past makes unlikely, and what an audit found, are told."""
    assert judged(HoursKnown({}, {OLD}, 0, silent={OLD})).state is HourState.SILENT
    assert judged(HoursKnown({}, {OLD}, 0, missing={OLD: 4})) == HourStanding(HourState.MISSING, 0, 4)


def test_the_ledger_says_how_hours_stand(tmp_path: Path) -> None:
    """Blobs count in the hour of their contentCreated, and a pause of the collector shows."""
    begin = datetime.fromtimestamp(OLD * 3_600, UTC)
    hour = timedelta(hours=1)
    refs = [BlobRef(FEED, f"b{n}", at, at + 7 * 24 * hour) for n in range(3) for at in [begin + n * hour / 2]]
    ledger = SqliteLedger(tmp_path, outputs=frozenset({"lake"}), now=NOW)
    ledger.commit_listing(FEED, Window(begin, begin + 2 * hour), refs, complete=True, at=NOW)
    ledger.commit_listing(FEED, Window(begin + 3 * hour, begin + 4 * hour), [], complete=True, at=NOW)
    blobs = {
        one.ref.content_id: one for one in ledger.due_blobs(FEED, now=NOW, besides=frozenset(), count_max=10)
    }
    ledger.commit_lost(blobs["b0"].key, "AF20051: expired", at=NOW)

    with ledger_for_reading(ledger.path) as connection:
        (found,) = find_hours(connection, [FEED], range(OLD - 1, OLD + 4), now=NOW)
    ledger.close()

    assert list(found.hours) == [
        HourStanding(HourState.UNKNOWN),
        HourStanding(HourState.LOST, 2, 1),
        HourStanding(HourState.WAITING, 1, 1),
        HourStanding(HourState.UNLISTED),
        HourStanding(HourState.QUIET),
    ]
