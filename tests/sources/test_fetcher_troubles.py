"""Defects, refusals and outages that a fetcher meets, and feeds that come and go meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from fetcher_scene import DAY_S, DOWN, REFUSED, run, wait_idle, waiting
from m365watch.common.errors import LedgerUnusable, Throttled, Unreachable
from m365watch.common.model import BlobRef
from m365watch.registry.ports import WaitingBlob
from m365watch.sources.management_api.blob_fetcher import HOLD_S
from m365watch.sources.management_api.fetch_attempts import FETCHES_MAX, QUICK_TRIES
from m365watch_testing.api import Ask, FakeApi
from m365watch_testing.loop import CallsInLine
from scripted import (
    FEED,
    FOREIGN_FEED,
    OTHER_TENANT,
    TENANT,
    House,
)

P = ParamSpec("P")
T = TypeVar("T")


class Crashing(FakeApi):
    """A tenant whose fetches meet a defect of the collector, while `crashes`."""

    crashes = True

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        body = await super().fetch_blob(blob)
        if self.crashes and blob.content_id.startswith("poison"):
            raise KeyError("secret of a record")
        return body


@guarantee(3, 24)
def test_a_defect_met_by_one_blob_stops_no_other(tmp_path: Path) -> None:
    """It is told once with type and place, and waits by name; once it is gone the blob arrives."""

    async def use(house: House) -> tuple[list[str], list[WaitingBlob], int, list[str]]:
        crashing = house.apis[TENANT] = Crashing(TENANT, house.clock)
        for number in range(3):
            house.publish(f"poison{number}")
            house.publish(f"healthy{number}")
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            first, left, held = fetching.content_ids, waiting(house), fetching.flight._held
            crashing.crashes = False
            await asyncio.sleep(100)
            return first, left, held, fetching.content_ids[3:]

    with capture_logs() as lines:
        first, left, held, later = run(tmp_path, use)

    assert sorted(first) == ["healthy0", "healthy1", "healthy2"]
    assert [(one.attempts, one.last_error.partition(":")[0]) for one in left] == [
        (1, "unexpected KeyError in m365watch.sources.management_api.fetch_attempts")
    ] * 3
    assert held == 0
    assert sorted(later) == ["poison0", "poison1", "poison2"]
    assert [line["log_level"] for line in lines].count("error") == 1
    assert not any("secret of a record" in str(line) for line in lines)


def test_a_defect_that_stays_is_tried_less_and_less_often(tmp_path: Path) -> None:
    """Like any other poison."""

    async def use(house: House) -> int:
        house.apis[TENANT] = Crashing(TENANT, house.clock)
        house.publish("poison")
        async with house.fetching():
            await asyncio.sleep(DAY_S)
        return house.apis[TENANT].count(Ask.FETCH)

    assert QUICK_TRIES < run(tmp_path, use) < 20


def test_a_ledger_that_cannot_be_used_ends_the_fetching(tmp_path: Path) -> None:
    """It is not swallowed with the one blob that met it, which would look as if all were done."""

    async def use(house: House) -> BaseException | None:
        house.publish("poison")
        house.api.fail(Ask.FETCH, DOWN, times=-1)
        house.calls = UnusablePostponing()
        async with house.fetching() as fetching:
            await asyncio.wait([fetching.running], timeout=60)
            return fetching.running.exception()

    failure = run(tmp_path, use)

    assert isinstance(failure, ExceptionGroup)
    assert failure.subgroup(LedgerUnusable) is not None


class UnusablePostponing(CallsInLine):
    """Calls of a ledger that fails for good where a blob is to be put off."""

    async def __call__(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if getattr(verb, "__name__", "") == "postpone":
            raise LedgerUnusable("the file is gone", fix="look for it")
        return await super().__call__(verb, *args, **kwargs)


def test_a_feed_that_is_refused_is_left_alone_for_a_while(tmp_path: Path) -> None:
    """However many blobs wait: a few are tried, none of the others is; what waits costs nobody anything."""

    async def use(house: House) -> tuple[int, int, set[str]]:
        for number in range(500):
            house.publish(f"blob{number}")
        house.publish("other", feed=FOREIGN_FEED)
        house.api.fail(Ask.FETCH, REFUSED, times=-1)
        async with house.fetching(FEED, FOREIGN_FEED) as fetching:
            await asyncio.sleep(HOLD_S / 2)
            first = house.api.count(Ask.FETCH)
            await asyncio.sleep(10 * HOLD_S)
            return first, house.api.count(Ask.FETCH), set(fetching.content_ids)

    first, in_ten_minutes, content_ids = run(tmp_path, use)

    assert first <= FETCHES_MAX
    assert in_ten_minutes <= 11 * FETCHES_MAX
    assert content_ids == {"other"}


@guarantee(4)
@pytest.mark.slow
def test_an_outage_of_the_network_is_told_once_and_lengthens_no_wait(tmp_path: Path) -> None:
    """However many blobs wait, and for how long: when a poll succeeds again they are fetched at once."""

    async def use(house: House) -> tuple[int, float, int]:
        for number in range(500):
            house.publish(f"blob{number}")
        house.api.fail(Ask.FETCH, Unreachable("no connection (refused)"), times=-1)
        async with house.fetching() as fetching:
            await asyncio.sleep(DAY_S / 4)
            tries = house.api.count(Ask.FETCH)
            house.api.recover()
            fetching.fetcher.go_on(FEED)
            back_at_s = house.clock.monotonic_s()
            while len(fetching.handed_on) < 500:
                await asyncio.sleep(1)
            return tries, house.clock.monotonic_s() - back_at_s, len(house.ledger.waiting_blobs())

    with capture_logs() as lines:
        tries, took_s, waiting = run(tmp_path, use)

    assert [line["code"] for line in lines if line["log_level"] != "debug"] == ["unreachable"]
    assert tries < 500 * QUICK_TRIES * 360 / 10
    assert took_s <= 90
    assert waiting == 0


def test_a_connection_that_fails_once_keeps_the_other_blobs_for_seconds_only(tmp_path: Path) -> None:
    """What is under way tries again at once, and when it gets through, the rest goes on without a poll."""

    async def use(house: House) -> float:
        for number in range(100):
            house.publish(f"blob{number}")
        house.api.fail(Ask.FETCH, Unreachable("no connection (refused)"), times=1)
        async with house.fetching() as fetching:
            began_s = house.clock.monotonic_s()
            while len(fetching.handed_on) < 100:
                await asyncio.sleep(0.1)
            return house.clock.monotonic_s() - began_s

    assert run(tmp_path, use) < 10


@guarantee(4)
def test_a_run_to_one_end_goes_on_where_the_network_comes_back(tmp_path: Path) -> None:
    """Nobody polls any more who would notice: an outage of ten seconds costs a pause and no feed."""

    async def use(house: House) -> int:
        for number in range(400):
            house.publish(f"blob{number}")
        house.api.answer_s = 1.0
        house.api.fail(Ask.FETCH, Unreachable("no connection (refused)"), times=-1)
        async with house.fetching(once=True) as fetching:
            await asyncio.sleep(20)
            house.api.recover()
            await fetching.fetcher.wait_idle()
            return len(fetching.handed_on)

    assert run(tmp_path, use) >= 100


def test_a_feed_goes_on_as_soon_as_its_tenant_takes_a_poll(tmp_path: Path) -> None:
    """Nobody waits for the end of the hold where it is known that the cure was found."""

    async def use(house: House) -> tuple[list[str], list[str]]:
        house.publish("blob")
        async with house.fetching() as fetching:
            fetching.fetcher.hold(FEED, seconds=3_600)
            await asyncio.sleep(1_800)
            held = list(fetching.content_ids)
            fetching.fetcher.go_on(FEED)
            await asyncio.sleep(1)
            return held, fetching.content_ids

    assert run(tmp_path, use) == ([], ["blob"])


def test_a_held_feed_lets_a_run_end(tmp_path: Path) -> None:
    """What it lacks is in the ledger; `--once` does not wait for it."""

    async def use(house: House) -> list[str]:
        house.publish("blob")
        async with house.fetching() as fetching:
            fetching.fetcher.hold(FEED, seconds=3_600)
            await wait_idle(fetching)
            return fetching.content_ids

    assert run(tmp_path, use) == []


def test_a_feed_that_is_stopped_gives_back_all_it_held(tmp_path: Path) -> None:
    """Fetches under way are cut short, and their blobs wait in the ledger."""

    async def use(house: House) -> tuple[list[str], int, bool, int]:
        for number in range(3):
            house.publish(f"blob{number}")
        house.api.fail(Ask.FETCH, Throttled("AF429", after_s=600.0), times=-1)
        async with house.fetching() as fetching:
            await asyncio.sleep(1)
            asked = house.api.count(Ask.FETCH)
            fetching.fetcher.stop(FEED)
            await asyncio.sleep(3_600)
            house.api.recover()
            again = house.api.count(Ask.FETCH) - asked
            return fetching.content_ids, fetching.flight._held, fetching.fetcher.idle, again

    assert run(tmp_path, use) == ([], 0, True, 0)


def test_a_feed_that_comes_back_goes_on_with_what_waits(tmp_path: Path) -> None:
    """In its new way; what it had handed on and is not final yet is not fetched a second time."""

    async def use(house: House) -> tuple[list[str], list[str]]:
        house.publish("before")
        async with house.fetching(settles=False) as fetching:
            await asyncio.sleep(1)
            fetching.fetcher.stop(FEED)
            house.publish("meanwhile")
            await asyncio.sleep(60)
            stopped = list(fetching.content_ids)
            fetching.fetcher.add(FEED, house.access(TENANT))
            await asyncio.sleep(60)
            return stopped, fetching.content_ids

    assert run(tmp_path, use) == (["before"], ["before", "meanwhile"])


def test_a_feed_that_is_new_is_fetched(tmp_path: Path) -> None:
    """Beside those that were there from the start."""

    async def use(house: House) -> list[str]:
        house.publish("other", feed=FOREIGN_FEED)
        async with house.fetching() as fetching:
            await asyncio.sleep(60)
            fetching.fetcher.add(FOREIGN_FEED, house.access(OTHER_TENANT))
            await asyncio.sleep(1)
            return fetching.content_ids

    assert run(tmp_path, use) == ["other"]
