"""Listing: everything that is served becomes known, in the right order, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from m365watch.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    LedgerUnavailable,
    NotSubscribed,
    Throttled,
    TokenRefused,
    Unavailable,
    Unreachable,
    WindowRefused,
)
from m365watch.feed.poller import MARGINS_S
from m365watch.feed.polling import REACH_ONCE_S, THROTTLED_ONCE, TRIES_ONCE
from m365watch.feed.relisting import relisting_due_at
from m365watch.feed.subscriptions import SubscriptionKeeper
from m365watch.feed.troubles import Troubles
from m365watch.feed.windows import LOOK_BACK_MAX
from m365watch.model import BlobRef, ContentType, KnownBlob, Window
from m365watch.progress import FeedProgress
from m365watch.testing.api import Ask, FakeApi
from m365watch.testing.clock import START
from m365watch.testing.loop import CallsInLine, run_jumping
from scripted import EXCHANGE, FEED, FOREIGN_FEED, SHAREPOINT_FEED, TENANT, House, house_in

P = ParamSpec("P")
Result = TypeVar("Result")

DOWN = Unavailable("HTTP 503")
AWAY = Unreachable("no connection (refused)")
FULL = LedgerUnavailable("the ledger cannot be written (database or disk is full)")
REFUSED = AccessRefused("AF10001", fix="grant it")
WEEK = timedelta(days=7)


def run(folder: Path, use: Callable[[House], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with house_in(folder) as house:
            return await use(house)

    return run_jumping(main())


def run_told(folder: Path, use: Callable[[House], Awaitable[Result]]) -> tuple[Result, list[str]]:
    """What `use` gives, and the codes of the lines that were written."""
    with capture_logs() as lines:
        result = run(folder, use)
    return result, [str(line["code"]) for line in lines if "code" in line]


def publish(house: House, *ages_h: float) -> list[BlobRef]:
    """Blobs created so many hours ago."""
    return [
        house.api.publish(EXCHANGE, f"blob{number}", created_at=house.ago(hours=age_h))
        for number, age_h in enumerate(ages_h)
    ]


def due(house: House) -> list[KnownBlob]:
    return house.ledger.due_blobs(FEED, now=house.clock.now(), count_max=1_000, besides=frozenset())


def known(house: House) -> set[str]:
    return {blob.ref.content_id for blob in due(house)}


def listed(house: House) -> list[Window]:
    return [window for content_type, window in house.api.windows if content_type is EXCHANGE]


# Order and completeness.


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


def test_a_window_counts_as_listed_only_after_its_last_page(tmp_path: Path) -> None:
    """A listing that breaks off leaves no trace in what is covered, while its blobs are known already."""

    async def use(house: House) -> tuple[list[Window], set[str]]:
        publish(house, 1.5, 1.4, 1.3, 1.2, 1.1)
        house.api.fail(Ask.PAGE, REFUSED, at=3)
        await house.poll_once()
        return house.ledger.coverage(FEED), known(house)

    assert run(tmp_path, use) == ([], {"blob0", "blob1", "blob2", "blob3"})


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


# The 7-day edge.


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


def test_coverage_from_a_clock_that_was_ahead_is_not_believed(tmp_path: Path) -> None:
    """What came after that listing is listed all the same."""

    async def use(house: House) -> set[str]:
        ahead = Window(START - timedelta(days=6), START + timedelta(days=6))
        house.ledger.commit_listing(FEED, ahead, [], complete=True, at=START)
        house.ledger.commit_relisting(FEED, at=START + timedelta(days=6))
        publish(house, 3)
        await house.poll_once()
        return known(house)

    assert len(run(tmp_path, use)) == 1


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


# Listing the week again.


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


# Elements that name no blob.


def windows_with(house: House, instant: datetime) -> list[Window]:
    return [window for window in listed(house) if window.start <= instant < window.end]


@pytest.mark.parametrize("age_h", [1, 30], ids=["live", "backfill"])
def test_an_element_that_names_no_blob_costs_its_neighbours_nothing(tmp_path: Path, age_h: float) -> None:
    """They are known; its window is not covered; `status` says what to do; `--once` gives up in the end."""

    async def use(house: House) -> tuple[set[str], bool, bool, FeedProgress]:
        publish(house, 0.5, 1.5, 29, 31, 100)
        bad_at = house.ago(hours=age_h)
        house.api.unreadable_at.append(bad_at)
        poller = await house.poll_once()
        covered = any(span.start <= bad_at < span.end for span in house.ledger.coverage(FEED))
        assert len(windows_with(house, bad_at)) == TRIES_ONCE
        return known(house), covered, poller.caught_up, house.progress()

    (names, is_covered, is_caught_up, progress), told = run_told(tmp_path, use)

    assert names == {f"blob{number}" for number in range(5)}
    assert (is_covered, is_caught_up) == (False, False)
    assert (progress.last_error or "").startswith("Audit.Exchange: 1 element names no blob")
    assert progress.fix == "report it"
    assert told == ["listing_unreadable"]


def test_an_element_that_becomes_readable_is_the_end_of_the_trouble(tmp_path: Path) -> None:
    """The window is listed again until then, and covered."""

    async def use(house: House) -> tuple[set[str], list[str], int]:
        bad_at = house.ago(hours=30)
        house.api.unreadable_at.append(bad_at)
        polling = asyncio.create_task(house.poller().run(once=False, stop=asyncio.Event()))
        await asyncio.sleep(1_000)
        house.api.unreadable_at.clear()
        publish(house, (house.clock.now() - bad_at).total_seconds() / 3_600)
        await asyncio.sleep(400)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        return known(house), [one.code for one in house.troubles.present()], len(house.ledger.coverage(FEED))

    assert run(tmp_path, use) == ({"blob0"}, [], 1)


def test_an_element_that_stays_unreadable_is_no_hot_loop_and_one_line(tmp_path: Path) -> None:
    """After a few quick tries its feed is polled as often as ever; what is new becomes known meanwhile."""

    async def use(house: House) -> tuple[int, set[str]]:
        house.api.unreadable_at.append(house.ago(hours=1))
        polling = asyncio.create_task(house.poller(period_s=300).run(once=False, stop=asyncio.Event()))
        await asyncio.sleep(6 * 3_600)
        publish(house, 0.1)
        await asyncio.sleep(600)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        return len({window.end for window in listed(house) if window.end > START}), known(house)

    (polls, names), told = run_told(tmp_path, use)

    assert polls <= 6.2 * 12 + 12
    assert names == {"blob0"}
    assert told == ["listing_unreadable"]


def test_what_stays_unreadable_until_nobody_lists_it_is_counted(tmp_path: Path) -> None:
    """Its window was never listed in full: that is told, with how long it is."""

    async def use(house: House) -> tuple[float, list[str]]:
        house.api.unreadable_at.append(house.ago(hours=140))
        await house.poll_once()
        await asyncio.sleep(29 * 3_600)
        await house.poll_once()
        await house.poll_once()
        return house.progress().unlisted_s, [one.code for one in house.troubles.present()]

    (unlisted_s, troubles), told = run_told(tmp_path, use)

    assert 6.9 * 3_600 < unlisted_s < 7.1 * 3_600
    assert troubles == []
    assert told == ["listing_unreadable", "gap"]


def test_the_daily_listing_of_the_week_goes_on_beside_what_cannot_be_read(tmp_path: Path) -> None:
    """All of the week is listed; what is repaired is found; only the one window is listed again and again."""

    async def use(house: House) -> tuple[set[str], int, list[str]]:
        await house.poll_once()
        await asyncio.sleep(24 * 3_600)
        bad_at = house.ago(hours=50)
        publish(house, 49, 51, 120)
        house.api.unreadable_at.append(bad_at)
        house.api.windows.clear()
        poller = house.poller()
        polling = asyncio.create_task(poller.run(once=False, stop=asyncio.Event()))
        await asyncio.sleep(3 * 3_600)
        again = [one for one in listed(house) if one not in windows_with(house, bad_at)]
        assert len([one for one in again if one.end < house.ago(hours=100)]) == 2
        # Those that were due while nothing ran come within an hour.
        assert len(windows_with(house, bad_at)) > 24
        house.api.unreadable_at.clear()
        await asyncio.sleep(301)
        seen = len(windows_with(house, bad_at))
        await asyncio.sleep(3_600)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        later = len(windows_with(house, bad_at)) - seen
        return known(house), later, [one.code for one in house.troubles.present()]

    (names, later, troubles), told = run_told(tmp_path, use)

    assert names == {"blob0", "blob1", "blob2"}
    assert (later, troubles) == (0, [])
    assert told == ["repaired", "listing_unreadable"]


def test_what_the_daily_listing_could_never_read_is_counted(tmp_path: Path) -> None:
    """Its window counts as listed from before, and yet something in it was never known."""

    async def use(house: House) -> float:
        await house.poll_once()
        await asyncio.sleep(24 * 3_600)
        house.api.unreadable_at.append(house.ago(days=6, hours=12))
        polling = asyncio.create_task(house.poller().run(once=False, stop=asyncio.Event()))
        await asyncio.sleep(20 * 3_600)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        return house.progress().unlisted_s

    unlisted_s, told = run_told(tmp_path, use)

    # What was due while nothing ran comes within an hour, and by then a little has gone.
    assert 11 * 3_600 <= unlisted_s < 13 * 3_600
    # Twice: what had gone when the week was listed again, and the rest.
    assert told == ["listing_unreadable", "gap", "gap"]


def test_a_failure_that_may_pass_is_not_hidden_behind_what_cannot_be_read(tmp_path: Path) -> None:
    """It is tried again in its own, shorter time, and told."""

    async def use(house: House) -> list[str]:
        house.api.unreadable_at.append(house.ago(hours=1))
        day = Window(START - timedelta(hours=26), START - timedelta(hours=2))
        house.api.fail(Ask.PAGE, DOWN, about=str(day), times=-1)
        await house.poll_once()
        return [one.code for one in house.told]

    assert run(tmp_path, use)[0] == "unavailable"


# Subscriptions.


def test_a_subscription_that_is_missing_is_started_and_listing_goes_on(tmp_path: Path) -> None:
    """The list comes first, then the start, then the listing; no failure is told."""

    async def use(house: House) -> list[Ask]:
        house.api.enabled.clear()
        await house.poll_once()
        return [asked.ask for asked in house.api.asked][:3]

    asked, told = run_told(tmp_path, use)

    assert asked == [Ask.SUBSCRIPTIONS, Ask.START, Ask.PAGE]
    assert told == []


def test_a_subscription_that_vanishes_is_revived_and_the_window_listed(tmp_path: Path) -> None:
    """In the middle of the pages, too, and in the same poll."""

    async def use(house: House) -> tuple[set[str], int, list[str]]:
        publish(house, 1.5, 1.4, 1.3)
        house.api.fail(Ask.PAGE, NotSubscribed("AF20022"), at=2)
        await house.poll_once()
        return known(house), house.api.count(Ask.START), [one.code for one in house.told]

    assert run(tmp_path, use) == ({"blob0", "blob1", "blob2"}, 1, [])


def test_a_subscription_that_stays_away_is_told(tmp_path: Path) -> None:
    """Within the 15 minutes it is not started again; listing is tried all the same."""

    async def use(house: House) -> tuple[int, list[str], bool]:
        house.api.fail(Ask.PAGE, NotSubscribed("AF20022"), times=-1)
        poller = await house.poll_once()
        return house.api.count(Ask.START), [one.code for one in house.told], poller.caught_up

    assert run(tmp_path, use) == (1, ["not_subscribed"], False)


# Failures and patience.


def test_a_feed_that_needs_a_person_does_not_stop_the_others(tmp_path: Path) -> None:
    """Each feed polls for itself."""

    async def use(house: House) -> tuple[bool, bool]:
        refused, other = house.poller(), house.poller(SHAREPOINT_FEED)
        house.api.publish(ContentType.SHAREPOINT, "blob", created_at=house.ago(hours=1))
        await house.keepers[FEED.tenant_id].ensure(EXCHANGE)
        house.api.fail(Ask.START, REFUSED, about=EXCHANGE, times=-1)
        house.api.fail(Ask.PAGE, NotSubscribed("AF20022"), at=1)
        await asyncio.gather(*(house.poll_once(poller) for poller in (refused, other)))
        return refused.caught_up, other.caught_up

    assert run(tmp_path, use) == (False, True)


def test_a_failed_poll_leaves_nothing_that_only_the_collector_of_garbage_would_let_go(tmp_path: Path) -> None:
    """Its frames have the error among their failures, and would hold it as it holds them."""
    error = Unavailable("HTTP 503")

    async def use(house: House) -> None:
        house.api.fail(Ask.PAGE, error, times=3)
        await house.poll_once()

    run(tmp_path, use)

    assert error.__traceback__ is None


def test_once_gives_up_at_once_where_a_person_is_needed(tmp_path: Path) -> None:
    """And says what to do."""

    async def use(house: House) -> tuple[int, str | None, float]:
        house.api.fail(Ask.PAGE, REFUSED, times=-1)
        await house.poll_once()
        return house.api.count(Ask.PAGE), house.told[0].fix, house.clock.monotonic_s()

    assert run(tmp_path, use) == (1, "grant it", 0.0)


@pytest.mark.parametrize(("error", "tries"), [(DOWN, 8 * TRIES_ONCE), (Throttled("AF429"), THROTTLED_ONCE)])
def test_once_gives_up_after_so_many_tries(tmp_path: Path, error: CollectorError, tries: int) -> None:
    """Of each of the 8 windows; being throttled is the tenant's matter, and is borne longer."""

    async def use(house: House) -> tuple[int, list[str], bool]:
        house.api.fail(Ask.PAGE, error, times=-1)
        poller = await house.poll_once()
        return house.api.count(Ask.PAGE), [one.code for one in house.troubles.present()], poller.caught_up

    assert run(tmp_path, use) == (tries, [error.code], False)


def test_a_service_out_of_reach_is_told_at_its_first_failure(tmp_path: Path) -> None:
    """Not only when every window was tried in vain, and once for all the tries; `status` shows it too."""
    down = Unavailable("the proxy cannot be reached")

    async def use(house: House) -> tuple[list[str], str | None, list[str]]:
        house.api.answer_s = 1.0
        for ask in (Ask.SUBSCRIPTIONS, Ask.PAGE):
            house.api.fail(ask, down, times=-1)
        polling = asyncio.create_task(house.poll_once())
        await asyncio.sleep(1.5)
        told, error = [one.code for one in house.told], house.progress().last_error
        await polling
        return told, error, [one.code for one in house.told]

    told = run(tmp_path, use)

    assert told == (["unavailable"], str(down), ["unavailable"])


def test_a_first_poll_that_fails_slowly_comes_to_its_end(tmp_path: Path) -> None:
    """While nothing is listed the windows end at the present; those that failed are no new ones later."""

    async def use(house: House) -> int:
        house.api.answer_s = 1.5
        house.api.fail(Ask.PAGE, DOWN, times=-1)
        await house.poll_once()
        return house.api.count(Ask.PAGE)

    assert run(tmp_path, use) == 8 * TRIES_ONCE


@pytest.mark.parametrize("answer_s", [0.0, 30.0])
@pytest.mark.parametrize("ask", [Ask.SUBSCRIPTIONS, Ask.PAGE])
def test_once_gives_up_soon_where_the_host_cannot_be_reached(
    tmp_path: Path, ask: Ask, answer_s: float
) -> None:
    """No window is tried in vain after the first, and no try is made after a minute of them."""

    async def use(house: House) -> tuple[int, float, bool]:
        house.api.answer_s = answer_s
        house.api.fail(ask, AWAY, times=-1)
        poller = await house.poll_once()
        return house.api.count(ask), house.clock.monotonic_s(), poller.caught_up

    tries, took_s, caught_up = run(tmp_path, use)

    assert not caught_up
    assert 3 <= tries <= TRIES_ONCE
    assert took_s <= REACH_ONCE_S + 4 * answer_s


def test_a_poll_that_cannot_reach_the_host_is_made_good_by_the_next(tmp_path: Path) -> None:
    """The windows that were not tried are listed then, each of them."""

    async def use(house: House) -> tuple[bool, list[Window]]:
        house.api.fail(Ask.PAGE, AWAY, at=1)
        house.api.fail(Ask.PAGE, AWAY, at=5)
        poller = await house.poll_once()
        return poller.caught_up, house.ledger.coverage(FEED)

    caught_up, coverage = run(tmp_path, use)

    assert caught_up
    assert [span.start for span in coverage] == [START - WEEK + timedelta(seconds=MARGINS_S[0] + 1)]


class FullDisk(CallsInLine):
    """No verb that writes gets through; each is given up after its patience."""

    async def __call__(self, verb: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
        if verb.__name__ in ("commit_listing", "note_error"):
            await asyncio.sleep(15.0)
            raise FULL
        return await super().__call__(verb, *args, **kwargs)


def test_a_ledger_that_cannot_be_written_ends_the_run_of_a_feed(tmp_path: Path) -> None:
    """It is no failure of the feed, to be tried window by window: the run is over with the patience."""

    async def use(house: House) -> float:
        house.calls = FullDisk()
        house.troubles = Troubles(house.ledger, house.calls, house.clock)
        with pytest.raises(LedgerUnavailable):
            await house.poll_once()
        return house.clock.monotonic_s()

    assert run(tmp_path, use) == 15.0


def test_once_gives_up_although_other_windows_are_listed(tmp_path: Path) -> None:
    """Listing the present again and again is no progress of the past that fails."""

    async def use(house: House) -> tuple[bool, int]:
        oldest = Window(START - WEEK + timedelta(seconds=MARGINS_S[0]), START - timedelta(hours=146))
        day = Window(oldest.end, oldest.end + timedelta(hours=24))
        house.api.fail(Ask.PAGE, DOWN, about=str(day), times=-1)
        poller = await house.poll_once()
        return poller.caught_up, house.api.count(Ask.PAGE, str(day))

    assert run(tmp_path, use) == (False, TRIES_ONCE)


def test_windows_of_the_past_that_get_through_are_progress(tmp_path: Path) -> None:
    """A backfill that fails once a window is not given up, however many windows there are."""

    async def use(house: House) -> bool:
        for at in range(2, 24, 3):
            house.api.fail(Ask.PAGE, DOWN, at=at)
        return (await house.poll_once()).caught_up

    assert run(tmp_path, use)


class Crashing(FakeApi):
    """A tenant whose listings meet a defect of the collector, `crashes` times."""

    crashes = 0

    async def enabled_subscriptions(self) -> frozenset[ContentType]:
        if self.crashes:
            self.crashes -= 1
            raise KeyError("secret of a record")
        return await super().enabled_subscriptions()


def test_a_defect_met_by_one_feed_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    """It is told once, with its type and its place, and never with its words; `status` says what to do."""

    async def use(house: House) -> tuple[bool, FeedProgress, set[str]]:
        crashing = Crashing(TENANT, house.clock)
        crashing.crashes = 2
        house.api = house.apis[TENANT] = crashing
        house.keepers[TENANT] = SubscriptionKeeper(crashing, house.clock)
        publish(house, 1)
        foreign = house.poller(FOREIGN_FEED)
        polling = asyncio.create_task(house.poller().run(once=False, stop=asyncio.Event()))
        await house.poll_once(foreign)
        await asyncio.sleep(310)
        trouble = house.progress()
        trouble = FeedProgress(FEED, last_error=trouble.last_error, fix=trouble.fix)
        await asyncio.sleep(300)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert house.troubles.present() == []
        return foreign.caught_up, trouble, known(house)

    with capture_logs() as lines:
        is_caught_up, trouble, names = run(tmp_path, use)

    assert is_caught_up
    assert (trouble.last_error or "").startswith(
        f"{FEED}: unexpected KeyError in m365watch.feed.subscriptions:"
    )
    assert "--verbose" in (trouble.fix or "")
    assert names == {"blob0"}
    assert [line["log_level"] for line in lines].count("error") == 1
    assert not any("secret of a record" in str(line) for line in lines)


def test_once_gives_up_where_it_meets_a_defect(tmp_path: Path) -> None:
    """And says so, instead of dying with every other feed."""

    async def use(house: House) -> list[str]:
        crashing = Crashing(TENANT, house.clock)
        crashing.crashes = -1
        house.keepers[TENANT] = SubscriptionKeeper(crashing, house.clock)
        await house.poll_once()
        return [one.code for one in house.troubles.present()]

    assert run(tmp_path, use) == ["defect"]


def test_the_pause_grows_and_ends_with_success(tmp_path: Path) -> None:
    """Half a second, doubled each time, up to a minute; as long as the service asks for, if longer."""

    async def use(house: House) -> list[float]:
        house.api.fail(Ask.SUBSCRIPTIONS, Throttled("AF429", after_s=300.0))
        house.api.fail(Ask.SUBSCRIPTIONS, DOWN, times=9)
        stop = asyncio.Event()
        polling = asyncio.create_task(house.poller().run(once=False, stop=stop))
        await asyncio.sleep(800)
        stop.set()
        await polling
        tries = [asked.at for asked in house.api.asked if asked.ask is Ask.SUBSCRIPTIONS]
        return [(later - earlier).total_seconds() for earlier, later in pairwise(tries)]

    assert run(tmp_path, use)[:10] == [300, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_person_is_waited_for_five_minutes(tmp_path: Path) -> None:
    """The cure is found without a restart."""

    async def use(house: House) -> tuple[int, bool]:
        house.api.fail(Ask.PAGE, REFUSED)
        poller = house.poller()
        stop = asyncio.Event()
        polling = asyncio.create_task(poller.run(once=False, stop=stop))
        await asyncio.sleep(299)
        before = house.api.count(Ask.PAGE)
        await asyncio.sleep(2)
        stop.set()
        await polling
        assert house.troubles.present() == []
        return before, poller.caught_up

    assert run(tmp_path, use) == (1, True)


def test_polling_rests_for_its_period_and_ends_when_told(tmp_path: Path) -> None:
    """A stop is obeyed at once, also in the middle of a rest."""

    async def use(house: House) -> tuple[int, float]:
        stop = asyncio.Event()
        polling = asyncio.create_task(house.poller(period_s=100).run(once=False, stop=stop))
        await asyncio.sleep(250)
        stop.set()
        await polling
        return len([one for one in listed(house) if one.end >= START]), house.clock.monotonic_s()

    assert run(tmp_path, use) == (3, 250.0)


def test_the_windows_left_are_counted_down(tmp_path: Path) -> None:
    """What a progress bar shows ends at nothing, also when the week was listed again."""

    async def use(house: House) -> list[int]:
        left = [(await house.poll_once()).windows_planned]
        await asyncio.sleep(24 * 3_600)
        return [*left, (await house.poll_once()).windows_planned]

    assert run(tmp_path, use) == [0, 0]
