"""Subscriptions that go, failures that pass or last, and when a poller waits, gives up or ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import (
    CollectorError,
    LedgerUnavailable,
    NotSubscribed,
    Throttled,
    Unavailable,
    Unreachable,
)
from m365watch.common.model import ContentType, Window
from m365watch.common.progress import FeedProgress
from m365watch.sources.feed_errors import Troubles
from m365watch.sources.management_api.feed_poller import MARGINS_S
from m365watch.sources.management_api.subscriptions import SubscriptionKeeper
from m365watch.sources.poll_loop import REACH_ONCE_S, THROTTLED_ONCE, TRIES_ONCE
from m365watch_testing.api import Ask, FakeApi
from m365watch_testing.clock import START
from m365watch_testing.loop import CallsInLine
from poller_scene import DOWN, REFUSED, WEEK, Result, known, listed, publish, run, run_told
from scripted import EXCHANGE, FEED, FOREIGN_FEED, SHAREPOINT_FEED, TENANT, House

P = ParamSpec("P")
AWAY = Unreachable("no connection (refused)")
FULL = LedgerUnavailable("the ledger cannot be written (database or disk is full)")


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


@guarantee(4)
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

    async def use(house: House) -> tuple[int, str, float]:
        house.api.fail(Ask.PAGE, REFUSED, times=-1)
        await house.poll_once()
        return house.api.count(Ask.PAGE), house.told[0].text, house.clock.monotonic_s()

    requests, told, waited_s = run(tmp_path, use)

    assert (requests, waited_s) == (1, 0.0)
    assert told.endswith("; grant it")


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


@guarantee(4)
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


@guarantee(4)
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


@guarantee(4)
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
        f"{FEED}: unexpected KeyError in m365watch.sources.management_api.subscriptions:"
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
