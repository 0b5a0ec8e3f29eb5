"""Listing: everything that is served becomes known, in the right order, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import BadAnswer, CollectorError, Throttled, TokenRefused, WindowRefused
from m365watch.common.model import LOOK_BACK_MAX, Window
from m365watch.sources.management_api.feed_poller import MARGINS_S, relisting_due_at
from m365watch_testing.api import Ask
from m365watch_testing.clock import START
from poller_scene import DOWN, REFUSED, WEEK, due, known, listed, publish, run, run_told
from scripted import EXCHANGE, FEED, TENANT, House


def test_live_windows_come_before_backfill(tmp_path: Path) -> None:
    """The present is listed first, then the past from its newest day to its oldest."""

    async def use(house: House) -> list[Window]:
        await house.poll_once()
        return listed(house)

    windows = run(tmp_path, use)

    assert windows[0] == Window(START - timedelta(hours=2), START)
    assert windows[1:] == sorted(windows[1:], reverse=True)
    assert len(windows) == 8
    assert windows[-1].start == START - WEEK + timedelta(seconds=MARGINS_S[0])


@guarantee(2)
def test_every_blob_on_every_page_becomes_known(tmp_path: Path) -> None:
    """No page is left out: neither the last one nor those between."""

    async def use(house: House) -> set[str]:
        publish(house, *(hour / 2 for hour in range(1, 334)))
        await house.poll_once()
        return known(house)

    assert len(run(tmp_path, use)) == 333


def test_a_blob_that_is_listed_twice_is_known_once(tmp_path: Path) -> None:
    """On two pages or in two polls; the same content id of another instant is another blob."""

    async def use(house: House) -> list[tuple[str, float]]:
        for age_h in (1.5, 1.5, 1.0):
            house.api.publish(EXCHANGE, "blob", created_at=START - timedelta(hours=age_h))
        await house.poll_once()
        await house.poll_once()
        return [(one.ref.content_id, (START - one.ref.created_at).total_seconds()) for one in due(house)]

    assert run(tmp_path, use) == [("blob", 3_600.0), ("blob", 5_400.0)]


@guarantee(2)
def test_a_window_counts_as_listed_only_after_its_last_page(tmp_path: Path) -> None:
    """A listing that breaks off leaves no trace in what is covered, while its blobs are known already."""

    async def use(house: House) -> tuple[list[Window], set[str]]:
        publish(house, 1.5, 1.4, 1.3, 1.2, 1.1)
        house.api.fail(Ask.PAGE, REFUSED, at=3)
        await house.poll_once()
        return house.ledger.coverage(FEED), known(house)

    assert run(tmp_path, use) == ([], {"blob0", "blob1", "blob2", "blob3"})


@guarantee(2)
@pytest.mark.parametrize(
    "error",
    [DOWN, BadAnswer("HTML"), TokenRefused("HTTP 401"), Throttled("AF429"), WindowRefused("AF20031")],
    ids=lambda error: error.code,
)
@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_page_that_fails_is_listed_again_from_the_first(
    tmp_path: Path, error: CollectorError, page: int
) -> None:
    """Whatever the page and the error: afterwards every blob is known and the window is covered."""

    async def use(house: House) -> tuple[set[str], bool]:
        publish(house, 1.5, 1.4, 1.3, 1.2, 1.1)
        house.api.fail(Ask.PAGE, error, at=page)
        poller = await house.poll_once()
        return known(house), poller.caught_up

    assert run(tmp_path, use) == ({f"blob{number}" for number in range(5)}, True)


@guarantee(2)
def test_a_failed_window_is_not_passed_over(tmp_path: Path) -> None:
    """It holds nothing older up, and is listed again until it is there: no hole is left."""

    async def use(house: House) -> list[Window]:
        day = Window(START - timedelta(hours=26), START - timedelta(hours=2))
        house.api.fail(Ask.PAGE, DOWN, about=str(day), times=2)
        await house.poll_once()
        assert len(house.ledger.coverage(FEED)) == 1
        return [window for window in listed(house) if window.end <= day.end]

    windows = run(tmp_path, use)

    assert windows.count(windows[0]) == 3
    assert windows[1].end == windows[0].start


@guarantee(2)
def test_content_that_turns_up_late_is_found_by_the_lookback(tmp_path: Path) -> None:
    """Behind the newest instant that was listed; so is content of the very second that was cut off."""

    async def use(house: House) -> set[str]:
        stop = asyncio.Event()
        polling = asyncio.create_task(house.poller().run(once=False, stop=stop))
        house.api.publish(
            EXCHANGE, "late", created_at=house.ago(minutes=90), listed_at=START + timedelta(minutes=7)
        )
        house.api.publish(EXCHANGE, "same second", created_at=START + timedelta(milliseconds=500))
        await asyncio.sleep(601)
        stop.set()
        await polling
        return known(house)

    assert run(tmp_path, use) == {"late", "same second"}


def test_nothing_before_the_start_time_is_listed(tmp_path: Path) -> None:
    """`start_time_in_utc` filters by contentCreated."""

    async def use(house: House) -> set[str]:
        publish(house, 1, 5, 30)
        await house.poll_once(house.poller(start_at=house.ago(hours=6)))
        return known(house)

    assert run(tmp_path, use) == {"blob0", "blob1"}


def test_a_second_run_lists_only_what_is_new(tmp_path: Path) -> None:
    """What a run has covered, the next one does not list again, but for the lookback."""

    async def use(house: House) -> list[Window]:
        await house.poll_once()
        house.api.windows.clear()
        await asyncio.sleep(3_600)
        await house.poll_once()
        return listed(house)

    assert run(tmp_path, use) == [Window(START - timedelta(hours=2), START + timedelta(hours=1))]


def test_the_fetcher_hears_of_new_blobs_only(tmp_path: Path) -> None:
    """It is woken for each page that brought one, and not by a listing without news."""

    async def use(house: House) -> tuple[int, int]:
        publish(house, 1.5, 1.4, 1.3)
        await house.poll_once()
        before = len(house.woken)
        await house.poll_once()
        return before, len(house.woken)

    assert run(tmp_path, use) == (2, 2)


def test_a_long_backfill_does_not_lose_its_oldest_window(tmp_path: Path) -> None:
    """Hours of backfill move the edge under the oldest window; it is planned anew, not refused."""

    async def use(house: House) -> list[Window]:
        house.api.fail(Ask.PAGE, Throttled("AF429", after_s=3_000), at=3, times=5)
        await house.poll_once()
        return house.ledger.coverage(FEED)

    [span] = run(tmp_path, use)

    assert span.start == START + timedelta(seconds=15_000) - WEEK + timedelta(seconds=MARGINS_S[0])


def test_a_backfill_that_outlasts_the_period_lets_live_windows_in(tmp_path: Path) -> None:
    """What is new does not wait hours for what is old."""

    async def use(house: House) -> list[Window]:
        house.api.answer_s = 200.0
        await house.poll_once(house.poller(period_s=300.0))
        return [window for _, window in house.api.windows]

    windows = run(tmp_path, use)

    live = [place for place, window in enumerate(windows) if window.end > START]
    assert len(live) >= 3
    assert max(later - earlier for earlier, later in pairwise(live)) <= 3


def test_listing_goes_on_where_the_subscriptions_cannot_be_asked_for(tmp_path: Path) -> None:
    """What is served is known, and the trouble is told."""

    async def use(house: House) -> tuple[set[str], list[str]]:
        publish(house, 1)
        house.api.fail(Ask.SUBSCRIPTIONS, DOWN, times=-1)
        await house.poll_once()
        return known(house), [trouble.code for trouble in house.troubles.present()]

    names, codes = run(tmp_path, use)

    assert len(names) == 1
    assert codes == ["unavailable"]


@guarantee(2)
def test_coverage_from_a_clock_that_was_ahead_is_not_believed(tmp_path: Path) -> None:
    """What came after that listing is listed all the same."""

    async def use(house: House) -> set[str]:
        then = START + timedelta(days=6)
        ahead = Window(START - timedelta(days=6), then)
        house.ledger.commit_listing(FEED, ahead, [], complete=True, at=then)
        house.ledger.commit_relisting(FEED, at=then)
        publish(house, 3)
        await house.poll_once()
        assert house.ledger.coverage(FEED)[-1].end == START
        return known(house)

    assert len(run(tmp_path, use)) == 1


def test_a_gap_that_a_clock_ahead_has_counted_is_taken_back(tmp_path: Path) -> None:
    """As far as it can still be listed; what is really too old stays in sight."""
    ahead = Window(START - timedelta(days=8), START + timedelta(days=3))

    async def use(house: House) -> tuple[float, set[str]]:
        house.ledger.commit_gap(FEED, ahead, at=START + timedelta(days=10))
        publish(house, 30)
        await house.poll_once()
        return house.progress().unlisted_s, known(house)

    (unlisted_s, blobs), told = run_told(tmp_path, use)

    assert unlisted_s == 24 * 3_600 + MARGINS_S[0]
    assert blobs == {"blob0"}
    assert told == ["repaired"]


@pytest.mark.parametrize("ahead", [timedelta(days=10), timedelta(days=-10)], ids=["ahead", "behind"])
def test_a_clock_that_jumps_by_days_is_told_and_costs_nothing(tmp_path: Path, ahead: timedelta) -> None:
    """Content is listed by the service's time, and nothing is too old by the machine's."""

    async def use(house: House) -> tuple[bool, set[str]]:
        poller = await house.poll_once()
        for hours in (1, 2):
            publish_as(house, f"{hours}", hours)
            # The first jump is met by a poller that runs, the second by one that starts.
            house.clock.ahead = house.api.ahead = ahead * hours
            await house.poll_once(poller if hours == 1 else None)
            assert [one.code for one in house.troubles.present()] == ["clock_wrong"]
            assert house.progress().unlisted_s == 0
            assert house.ledger.coverage(FEED)[-1].end <= START + timedelta(seconds=2)
        house.clock.ahead = house.api.ahead = timedelta(0)
        caught_up = (await house.poll_once(poller)).caught_up
        assert house.troubles.present() == []
        return caught_up, known(house)

    (caught_up, blobs), told = run_told(tmp_path, use)

    assert caught_up
    assert blobs == {"1", "2"}
    # Right after a jump a window may be planned by the old time.
    assert set(told) - {"window_refused"} == {"clock_wrong"}


def publish_as(house: House, name: str, hours: int) -> None:
    house.api.publish(EXCHANGE, name, created_at=START - timedelta(hours=hours))


def test_a_start_time_inside_a_second_cuts_nothing_off(tmp_path: Path) -> None:
    """Windows are in whole seconds; a blob of the start's own second, and not before it, is known."""
    start_at = START - timedelta(hours=1) + timedelta(milliseconds=500)

    async def use(house: House) -> set[str]:
        for name, after_ms in (("before", -100), ("at", 0), ("after", 200)):
            house.api.publish(EXCHANGE, name, created_at=start_at + timedelta(milliseconds=after_ms))
        await house.poll_once(house.poller(start_at=start_at))
        return known(house)

    assert run(tmp_path, use) == {"at", "after"}


def test_a_refused_window_at_the_edge_is_narrowed(tmp_path: Path) -> None:
    """A service whose week is a little shorter costs that little, is told, and nothing else."""

    async def use(house: House) -> tuple[list[Window], bool]:
        house.api.served = LOOK_BACK_MAX - timedelta(seconds=200)
        poller = await house.poll_once()
        return house.ledger.coverage(FEED), poller.caught_up

    (coverage, caught_up), told = run_told(tmp_path, use)

    [span] = coverage
    narrowed = span.start - (START - WEEK)
    assert timedelta(seconds=MARGINS_S[2]) <= narrowed < timedelta(seconds=MARGINS_S[2] + 10)
    assert caught_up
    assert told == ["window_refused", "window_refused"]


@pytest.mark.parametrize("age_h", [3, 50], ids=["yesterday", "two days ago"])
def test_a_refused_window_inside_the_week_is_not_narrowed(tmp_path: Path, age_h: float) -> None:
    """AF20055 is no empty answer: the window stays to be listed, and `--once` says that it is not."""

    async def use(house: House) -> tuple[list[Window], list[str], bool]:
        start = START - timedelta(hours=2 + 24 * (age_h // 24 + 1))
        refused = Window(start, start + timedelta(hours=24))
        house.api.fail(Ask.PAGE, WindowRefused("AF20055"), about=str(refused), times=-1)
        poller = await house.poll_once()
        spans = house.ledger.coverage(FEED)
        gap = [span for span in spans if span.start < refused.end and span.end > refused.start]
        return gap, [trouble.code for trouble in house.troubles.present()], poller.caught_up

    assert run(tmp_path, use) == ([], ["window_refused"], False)


def test_a_refused_page_token_does_not_narrow_the_window(tmp_path: Path) -> None:
    """An expired token says nothing about the edge: the oldest window is listed again as wide as it was."""

    async def use(house: House) -> tuple[set[str], list[Window]]:
        publish(house, 167.99, 160, 159, 158)
        oldest = START - WEEK + timedelta(seconds=MARGINS_S[0])
        window = Window(oldest, START - timedelta(hours=2 + 6 * 24))
        house.api.fail(Ask.PAGE, WindowRefused("AF20031"), about=str(window), at=2)
        await house.poll_once()
        return known(house), [one for one in listed(house) if one.end == window.end]

    blobs, windows = run(tmp_path, use)

    assert blobs == {f"blob{number}" for number in range(4)}
    assert [one.start - windows[0].start < timedelta(seconds=5) for one in windows] == [True, True]


def test_the_margin_has_a_last_step(tmp_path: Path) -> None:
    """A service that refuses whatever it is asked for is told about, not asked for less and less."""

    async def use(house: House) -> tuple[float, bool]:
        house.api.served = LOOK_BACK_MAX - timedelta(hours=2)
        poller = await house.poll_once()
        oldest = min(window.start for window in listed(house))
        assert [one.code for one in house.troubles.present()] == ["window_refused"]
        return (oldest - (START - WEEK)).total_seconds(), poller.caught_up

    narrowed_s, caught_up = run(tmp_path, use)

    assert not caught_up
    assert narrowed_s < MARGINS_S[-1] + 60


@guarantee(2)
def test_the_week_is_listed_again_once_a_day_and_repaired(tmp_path: Path) -> None:
    """What turns up days late is fetched, and reported; also what lies within the last day."""

    async def use(house: House) -> tuple[set[str], int]:
        polling = asyncio.create_task(house.poller().run(once=False, stop=asyncio.Event()))
        await asyncio.sleep(1)
        for number, age_h in enumerate((70, 20)):
            house.api.publish(
                EXCHANGE,
                f"late{number}",
                created_at=START - timedelta(hours=age_h),
                listed_at=house.clock.now(),
            )
        due_s = (relisting_due_at(TENANT, START) - house.clock.now()).total_seconds()
        await asyncio.sleep(due_s - 60)
        before = known(house)
        await asyncio.sleep(600)
        week = [window for window in listed(house) if window.start < START - timedelta(days=5)]
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert before == set()
        return known(house), len(week)

    with capture_logs() as lines:
        blobs, week = run(tmp_path, use)

    assert blobs == {"late0", "late1"}
    assert week == 3 + 2
    assert [line["event"].count("found 2 blobs") for line in lines if line.get("code") == "repaired"] == [1]


def test_a_backfill_of_several_runs_is_no_second_look(tmp_path: Path) -> None:
    """What came late, or while the clock was ahead, lies behind what an earlier run has listed."""

    async def use(house: House) -> set[str]:
        house.api.fail(Ask.PAGE, REFUSED, at=4)
        await house.poll_once()
        house.api.publish(EXCHANGE, "late", created_at=house.ago(hours=20), listed_at=house.clock.now())
        await asyncio.sleep(3 * 24 * 3_600)
        await house.poll_once()
        return known(house)

    assert run(tmp_path, use) == {"late"}


def test_listing_the_week_again_without_a_find_says_nothing(tmp_path: Path) -> None:
    """Nor does content that is merely new."""

    async def use(house: House) -> None:
        await house.poll_once()
        await asyncio.sleep(24 * 3_600)
        publish(house, 1, 0.5)
        await house.poll_once()

    _, told = run_told(tmp_path, use)

    assert told == []


def test_a_relisting_that_breaks_off_is_due_again(tmp_path: Path) -> None:
    """It counts only when its last window was listed."""

    async def use(house: House) -> tuple[bool, bool]:
        await house.poll_once()
        first = house.ledger.relisted_at(FEED)
        await asyncio.sleep(24 * 3_600 + 60)
        house.api.fail(Ask.PAGE, REFUSED, at=4)
        await house.poll_once()
        broken_off = house.ledger.relisted_at(FEED) == first
        await house.poll_once()
        return broken_off, house.ledger.relisted_at(FEED) == house.clock.now()

    broken_off, again = run(tmp_path, use)

    assert broken_off
    assert again


def test_what_was_never_listed_and_cannot_be_any_more_is_counted(tmp_path: Path) -> None:
    """A collector that stood still for more than 7 days says so, once, and how much it was."""

    async def use(house: House) -> list[float]:
        await house.poll_once()
        await asyncio.sleep(9 * 24 * 3_600)
        unlisted_s = []
        for _ in range(2):
            await house.poll_once()
            unlisted_s.append(house.progress().unlisted_s)
        return unlisted_s

    (first_s, second_s), told = run_told(tmp_path, use)

    assert first_s == second_s == 2 * 24 * 3_600 + MARGINS_S[0]
    assert told == ["gap"]
