"""Whose turn it is, how much is in flight, and when the fetcher is idle or stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from promises import guarantee

from fetcher_scene import DOWN, run, wait_idle
from m365watch.common.errors import Throttled
from m365watch.sources.management_api.fetch_attempts import FETCHES_MAX
from m365watch_testing.api import Ask
from scripted import (
    FEED,
    FOREIGN_FEED,
    SHAREPOINT_FEED,
    House,
)


def test_feeds_are_served_in_turn(tmp_path: Path) -> None:
    """A feed with a week to fetch does not keep a feed with one blob waiting."""

    async def use(house: House) -> list[str]:
        for number in range(300):
            house.publish(f"many{number}")
        house.publish("few", feed=SHAREPOINT_FEED)
        house.publish("foreign", feed=FOREIGN_FEED)
        async with house.fetching(FEED, SHAREPOINT_FEED, FOREIGN_FEED) as fetching:
            await wait_idle(fetching)
            return fetching.content_ids[:6]

    assert {"few", "foreign"} <= set(run(tmp_path, use))


def test_no_more_are_fetched_at_once_than_there_are_places(tmp_path: Path) -> None:
    """Over all feeds of a tenant together."""

    async def use(house: House) -> int:
        for number in range(100):
            house.publish(f"blob{number}")
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            return house.api.fetching_max

    assert run(tmp_path, use) == FETCHES_MAX


def test_a_tenant_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    """A hundred of its fetches never answer; the healthy tenant's hundred are all there at once."""

    async def use(house: House) -> int:
        for number in range(100):
            house.apis[FOREIGN_FEED.tenant_id].hold(
                house.publish(f"stuck{number}", feed=FOREIGN_FEED).content_id
            )
            house.publish(f"healthy{number}")
        async with house.fetching(FOREIGN_FEED, FEED) as fetching:
            await asyncio.sleep(1)
            return len(fetching.content_ids)

    assert run(tmp_path, use) == 100


def test_a_tenant_of_giants_that_hangs_keeps_no_other_waiting(tmp_path: Path) -> None:
    """What its blobs are guessed to hold leaves room in the bound for the other tenant."""
    giant = b'[{"Id":"' + b"1" * 9_000_000 + b'"}]'

    async def use(house: House) -> tuple[int, int]:
        house.publish("giant", giant, feed=FOREIGN_FEED)
        async with house.fetching(FOREIGN_FEED, FEED) as fetching:
            await wait_idle(fetching)
            for number in range(100):
                house.apis[FOREIGN_FEED.tenant_id].hold(
                    house.publish(f"stuck{number}", feed=FOREIGN_FEED).content_id
                )
                house.publish(f"healthy{number}")
            fetching.fetcher.wake(FOREIGN_FEED)
            fetching.fetcher.wake(FEED)
            await asyncio.sleep(1)
            return len(fetching.content_ids) - 1, len(house.apis[FOREIGN_FEED.tenant_id].fetching)

    assert run(tmp_path, use) == (100, FETCHES_MAX)


def test_a_feed_that_does_not_fit_lets_a_smaller_one_pass(tmp_path: Path) -> None:
    """The bound is nearly used up by a tenant that hangs: its next blob waits, and nobody behind it."""

    async def use(house: House) -> tuple[int, int]:
        for number in range(40):
            house.publish(f"small{number}")
        async with house.fetching(FOREIGN_FEED, FEED, bytes_max=1_100_000) as fetching:
            await wait_idle(fetching)  # The healthy feed's blobs are known to be small now.
            for number in range(10):
                house.apis[FOREIGN_FEED.tenant_id].hold(
                    house.publish(f"stuck{number}", feed=FOREIGN_FEED).content_id
                )
            fetching.fetcher.wake(FOREIGN_FEED)
            await asyncio.sleep(1)
            house.publish("healthy")
            fetching.fetcher.wake(FEED)
            await asyncio.sleep(1)
            return len(house.apis[FOREIGN_FEED.tenant_id].fetching), fetching.content_ids.count("healthy")

    assert run(tmp_path, use) == (4, 1)


@guarantee(3)
def test_poison_holds_no_place_and_no_bytes_while_it_waits(tmp_path: Path) -> None:
    """A hundred blobs in their pauses: a healthy one passes at once, though the bound is small."""

    async def use(house: House) -> tuple[list[str], int]:
        for number in range(100):
            ref = house.publish(f"poison{number}")
            house.api.fail(Ask.FETCH, Throttled("AF429", after_s=3_600.0), about=ref.content_id, times=-1)
        async with house.fetching(FEED, SHAREPOINT_FEED, bytes_max=1_000_000) as fetching:
            await asyncio.sleep(10)
            held = fetching.flight._held
            house.publish("healthy", feed=SHAREPOINT_FEED)
            fetching.fetcher.wake(SHAREPOINT_FEED)
            await asyncio.sleep(1)
            return fetching.content_ids, held

    assert run(tmp_path, use) == (["healthy"], 0)


def test_bytes_in_flight_hold_fetching_back(tmp_path: Path) -> None:
    """While an output is slow, fetching stops at the bound, and goes on as blobs become final."""
    body = b'[{"Id":"' + b"1" * 99_989 + b'"}]'

    async def use(house: House) -> tuple[int, int, int]:
        for number in range(40):
            house.publish(f"blob{number}", body)
        async with house.fetching(bytes_max=1_000_000, settles=False) as fetching:
            await asyncio.sleep(5)
            held, before = fetching.flight._held, len(fetching.handed_on)
            for one in fetching.handed_on[:5]:
                house.ledger.commit_lost(one.known.key, "final", at=house.clock.now())
                fetching.fetcher.settle(one)
            await asyncio.sleep(5)
            return held, before, len(fetching.handed_on)

    held, before, after = run(tmp_path, use)

    assert 800_000 <= held <= 1_000_000
    assert 8 <= before <= 10
    assert before < after <= before + 5


@guarantee(26)
def test_no_more_blobs_are_in_flight_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny blobs are bounded by count; as they become final, the rest follows, in every feed."""
    monkeypatch.setattr("m365watch.sources.management_api.blob_fetcher.BLOBS_IN_FLIGHT_MAX", 10)

    async def use(house: House) -> tuple[int, int]:
        for number in range(30):
            house.publish(f"blob{number}", feed=FEED if number % 2 else SHAREPOINT_FEED)
        async with house.fetching(FEED, SHAREPOINT_FEED, settles=False) as fetching:
            await asyncio.sleep(5)
            first = len(fetching.handed_on)
            settled = 0
            while settled < 30:
                one = fetching.handed_on[settled]
                house.ledger.commit_lost(one.known.key, "final", at=house.clock.now())
                fetching.fetcher.settle(one)
                settled += 1
                await asyncio.sleep(0.1)
            await wait_idle(fetching)
            return first, len(fetching.content_ids)

    assert run(tmp_path, use) == (10, 30)


def test_quiet_is_told_only_when_nothing_is_on_its_way(tmp_path: Path) -> None:
    """Whoever gathers blobs need not wait for more then."""

    async def use(house: House) -> list[int]:
        for number in range(300):
            house.publish(f"blob{number}")
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            await asyncio.sleep(0.1)
            return fetching.handed_on_at_quiet

    assert set(run(tmp_path, use)) == {300}


def test_it_is_not_quiet_while_blobs_wait_for_room(tmp_path: Path) -> None:
    """More comes once what is on its way has arrived: a batch closed before would be a small one."""

    async def use(house: House) -> tuple[int, list[int]]:
        for number in range(3):
            house.publish(f"blob{number}")
        async with house.fetching(bytes_max=1, settles=False) as fetching:
            await asyncio.sleep(20)
            return len(fetching.handed_on), fetching.handed_on_at_quiet

    assert run(tmp_path, use) == (1, [])


def test_waiting_for_idleness_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    """A blob that was handed on and is not final counts, as does one in its pause."""

    async def use(house: House) -> list[bool]:
        house.publish("blob")
        house.api.fail(Ask.FETCH, Throttled("AF429", after_s=50.0))
        async with house.fetching(settles=False) as fetching:
            waits = asyncio.create_task(fetching.fetcher.wait_idle())
            seen = []
            for seconds in (10, 60):
                await asyncio.sleep(seconds)
                seen.append(waits.done())
            house.ledger.commit_lost(fetching.handed_on[0].known.key, "final", at=house.clock.now())
            fetching.fetcher.settle(fetching.handed_on[0])
            await waits
            return seen

    assert run(tmp_path, use) == [False, False]


def test_a_fetcher_that_asks_the_ledger_is_not_idle(tmp_path: Path) -> None:
    """Between question and answer nothing is in flight and nothing queued, and yet it is not over."""

    async def use(house: House) -> tuple[list[bool], list[str]]:
        house.publish("blob")
        async with house.fetching() as fetching:
            idle = []
            while not fetching.content_ids:
                await asyncio.sleep(0)
                idle.append(fetching.fetcher.idle)
            await wait_idle(fetching)
            return idle[:-1], fetching.content_ids

    idle, content_ids = run(tmp_path, use)

    assert not any(idle)
    assert content_ids == ["blob"]


def test_a_fetcher_without_blobs_is_idle_after_one_look(tmp_path: Path) -> None:
    """`--once` with nothing to do ends."""

    async def use(house: House) -> bool:
        async with house.fetching(FEED, SHAREPOINT_FEED) as fetching:
            await wait_idle(fetching)
            return fetching.fetcher.idle

    assert run(tmp_path, use)


@guarantee(12)
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_a_stop_leaves_blobs_known_and_nothing_held(tmp_path: Path, turns: int) -> None:
    """At whatever moment it comes: before a fetch, in it, in a pause, waiting for a place or for bytes."""

    async def use(house: House) -> tuple[int, int]:
        for number in range(60):
            ref = house.publish(f"blob{number}")
            house.api.hold(ref.content_id)
            house.api.fail(Ask.FETCH, DOWN, about=ref.content_id)
        async with house.fetching(bytes_max=2_000_000) as fetching:
            for _ in range(turns):
                await asyncio.sleep(0 if turns % 2 else 0.1)
        due = house.ledger.due_blobs(FEED, now=house.clock.now(), count_max=100, besides=frozenset())
        return len(due), fetching.flight._held

    assert run(tmp_path, use) == (60, 0)


def test_a_stop_while_all_places_are_taken_gives_back_the_bytes(tmp_path: Path) -> None:
    """Both are held from a fetch's first step on."""

    async def use(house: House) -> tuple[int, int]:
        for number in range(FETCHES_MAX + 5):
            house.api.hold(house.publish(f"blob{number}").content_id)
        async with house.fetching() as fetching:
            await asyncio.sleep(1)
            held = fetching.flight._held
        return held // (256 * 1024), fetching.flight._held

    assert run(tmp_path, use) == (FETCHES_MAX, 0)
