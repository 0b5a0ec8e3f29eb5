"""Elements of a listing that name no blob: their neighbours arrive, and what is never read is counted."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.model import Window
from m365watch.common.progress import FeedProgress
from m365watch.sources.poll_loop import TRIES_ONCE
from m365watch_testing.api import Ask
from m365watch_testing.clock import START
from poller_scene import DOWN, known, listed, publish, run, run_told
from scripted import FEED, House


def windows_with(house: House, instant: datetime) -> list[Window]:
    return [window for window in listed(house) if window.start <= instant < window.end]


@guarantee(2)
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


@guarantee(3)
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


@guarantee(3)
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
