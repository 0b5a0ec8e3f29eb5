"""Which windows are listed next."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from promises import guarantee

from m365watch.common.model import LOOK_BACK_MAX, Window
from m365watch.sources.management_api.listing_windows import (
    WINDOW_MAX,
    plan_relisting,
    plan_windows,
    unreachable_spans,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
LOOKBACK = timedelta(hours=2)
MARGIN = timedelta(seconds=10)
SECONDS = st.integers(min_value=-12 * 86_400, max_value=3_600)


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


@st.composite
def coverages(draw: st.DrawFn) -> list[Window]:
    """Disjoint spans, oldest first, as the ledger keeps them."""
    edges = sorted(draw(st.sets(SECONDS, max_size=8)))
    return [Window(at(start), at(end)) for start, end in zip(edges[::2], edges[1::2], strict=False)]


@guarantee(2)
@given(coverages(), st.none() | SECONDS.map(at))
def test_after_the_plan_nothing_reachable_is_left_unlisted(
    coverage: list[Window], start_at: datetime | None
) -> None:
    """Coverage and plan together leave no hole between the start and now, to the second."""
    plan = plan_windows(coverage, NOW, start_at=start_at, lookback=LOOKBACK, margin=MARGIN)

    start = max(NOW - LOOK_BACK_MAX + MARGIN, start_at or NOW - LOOK_BACK_MAX)
    reached = start
    for window in sorted([*coverage, *plan.live, *plan.backfill]):
        if window.start <= reached:
            reached = max(reached, window.end)
    assert reached >= NOW or start >= NOW


@given(coverages(), st.none() | SECONDS.map(at))
def test_no_window_breaks_a_rule_of_the_service(coverage: list[Window], start_at: datetime | None) -> None:
    """At most 24 h, whole seconds, start before end, not older than 7 days, not before the start time."""
    plan = plan_windows(coverage, NOW, start_at=start_at, lookback=LOOKBACK, margin=MARGIN)

    for window in plan.live + plan.backfill:
        assert timedelta(0) < window.end - window.start <= WINDOW_MAX
        assert window.start >= max(NOW - LOOK_BACK_MAX + MARGIN, start_at or window.start)
        assert window.end <= NOW
        assert window.start.microsecond == window.end.microsecond == 0


@given(coverages(), st.none() | SECONDS.map(at))
def test_windows_come_newest_first_and_do_not_overlap(
    coverage: list[Window], start_at: datetime | None
) -> None:
    """Live before backfill, backfill from newest to oldest."""
    plan = plan_windows(coverage, NOW, start_at=start_at, lookback=LOOKBACK, margin=MARGIN)
    windows = plan.live + plan.backfill

    assert all(later.start >= earlier.end for later, earlier in itertools.pairwise(windows))


def test_the_first_plan_is_two_live_hours_and_then_the_week() -> None:
    """So that the newest records are there within seconds."""
    plan = plan_windows([], NOW, start_at=None, lookback=LOOKBACK, margin=MARGIN)

    assert plan.live == (Window(NOW - LOOKBACK, NOW),)
    assert plan.backfill[0] == Window(NOW - LOOKBACK - WINDOW_MAX, NOW - LOOKBACK)
    assert len(plan.backfill) == 7


def test_a_steady_feed_lists_its_lookback_again_and_nothing_else() -> None:
    """Content that turned up late behind the newest instant is found by the next poll."""
    coverage = [Window(NOW - timedelta(days=9), NOW - timedelta(minutes=5))]

    plan = plan_windows(coverage, NOW, start_at=None, lookback=LOOKBACK, margin=MARGIN)

    assert plan.live == (Window(NOW - timedelta(minutes=5) - LOOKBACK, NOW),)
    assert plan.backfill == ()


def test_an_earlier_start_time_adds_what_it_adds() -> None:
    """Changing the start time lists the added range and nothing twice."""
    coverage = [Window(NOW - timedelta(days=2), NOW)]

    plan = plan_windows(coverage, NOW, start_at=NOW - timedelta(days=3), lookback=LOOKBACK, margin=MARGIN)

    assert plan.backfill == (Window(NOW - timedelta(days=3), NOW - timedelta(days=2)),)


def test_a_clock_that_jumped_back_still_lists_up_to_its_now() -> None:
    """Coverage beyond now is believed no further than now."""
    coverage = [Window(NOW - timedelta(days=7), NOW + timedelta(hours=5))]

    plan = plan_windows(coverage, NOW, start_at=None, lookback=LOOKBACK, margin=MARGIN)

    assert plan.live == (Window(NOW - LOOKBACK, NOW),)


def test_relisting_covers_the_whole_week() -> None:
    """Once a day everything that is still served is listed again."""
    windows = plan_relisting(NOW, start_at=None, margin=MARGIN)

    assert windows[0].end == NOW
    assert windows[-1].start == NOW - LOOK_BACK_MAX + MARGIN
    assert len(windows) == 7


@guarantee(3)
def test_what_was_never_listed_and_is_too_old_is_lost_in_plain_sight() -> None:
    """The collector stood still for eight days; the part that is still listed is no gap."""
    before = Window(NOW - timedelta(days=12), NOW - timedelta(days=8))
    after = Window(NOW - timedelta(days=7) + MARGIN, NOW)
    hole_to_come = Window(NOW - timedelta(days=5), NOW)

    assert unreachable_spans([before, after], NOW, margin=MARGIN) == [Window(before.end, after.start)]
    assert unreachable_spans([before, hole_to_come], NOW, margin=MARGIN) == []
    assert unreachable_spans([], NOW, margin=MARGIN) == []


def test_a_standstill_of_weeks_is_lost_in_plain_sight_before_anything_is_listed() -> None:
    """The span before it would be forgotten with the first listing."""
    before = Window(NOW - timedelta(days=30), NOW - timedelta(days=20))

    assert unreachable_spans([before], NOW, margin=MARGIN) == [
        Window(before.end, NOW - LOOK_BACK_MAX + MARGIN)
    ]
