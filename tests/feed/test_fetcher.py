"""Fetching: every known blob is handed on, lost or waiting, and none is in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from structlog.testing import capture_logs

from m365watch.errors import (
    AccessRefused,
    BadAnswer,
    CollectorError,
    ContentLost,
    LedgerUnusable,
    NotSubscribed,
    Throttled,
    Unavailable,
    Unreachable,
)
from m365watch.feed.codes import EMPTY, EXPIRED, INVALID, UNKNOWN
from m365watch.feed.fetcher import HOLD_S
from m365watch.feed.tries import (
    FETCHES_MAX,
    QUARANTINE_TRIES,
    QUICK_TRIES,
    RETRY_WAITS_S,
    THROTTLED_TRIES,
)
from m365watch.ledger.port import WaitingBlob
from m365watch.model import BlobRef
from m365watch.records.split import Fragment
from m365watch.testing.api import Ask, FakeApi
from m365watch.testing.clock import START
from m365watch.testing.loop import CallsInLine, run_jumping
from scripted import (
    FEED,
    FOREIGN_FEED,
    OTHER_TENANT,
    SHAREPOINT_FEED,
    TENANT,
    Fetching,
    House,
    house_in,
)

Result = TypeVar("Result")
P = ParamSpec("P")
T = TypeVar("T")

DOWN = Unavailable("HTTP 503")
REFUSED = AccessRefused("AF10001", fix="grant it")
WHOLE = b'[{"Id":"1"},{"Id":"2"}]'
BROKEN = b'[{"Id":"1"},{"Id":,{"Id":"2","RecordType":1,"CreationTime":"","Operation":""}]'
CUT = b'[{"Id":"1"},{"Id":"2"'
DAY_S = 86_400.0


def run(folder: Path, use: Callable[[House], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        async with house_in(folder) as house:
            return await use(house)

    return run_jumping(main())


def fetched(
    folder: Path,
    *bodies: bytes,
    error: CollectorError | None = None,
    times: int = 0,
    seconds: float = DAY_S,
) -> tuple[list[str], House, list[float], Fetching]:
    """What one blob comes to within a day, and when it was asked for, in seconds."""

    async def use(house: House) -> tuple[list[str], House, list[float], Fetching]:
        house.publish("poison", *bodies)
        if error is not None:
            house.api.fail(Ask.FETCH, error, times=times)
        async with house.fetching() as fetching:
            await asyncio.sleep(seconds)
        asked_s = [(one.at - START).total_seconds() for one in house.api.asked if one.ask is Ask.FETCH]
        return fetching.content_ids, house, asked_s, fetching

    return run(folder, use)


def waiting(house: House) -> list[WaitingBlob]:
    return house.ledger.waiting_blobs()


async def wait_idle(fetching: Fetching) -> None:
    async with asyncio.timeout(3_600):
        await fetching.fetcher.wait_idle()


# One blob's way.


def test_a_known_blob_is_fetched_split_and_handed_on(tmp_path: Path) -> None:
    """With its records, the instant of its arrival, and what it holds in flight."""

    async def use(house: House) -> tuple[list[bytes], bool, int]:
        house.publish("blob", WHOLE)
        async with house.fetching(settles=False) as fetching:
            await asyncio.sleep(1)
            [one] = fetching.handed_on
            at_once = one.received_at <= house.clock.now()
            return one.split.records, at_once, fetching.flight._held

    assert run(tmp_path, use) == ([b'{"Id":"1"}', b'{"Id":"2"}'], True, len(WHOLE))


def test_what_a_blob_held_is_given_back_when_it_is_final(tmp_path: Path) -> None:
    """Not before: its bytes are in memory until every output has them."""

    async def use(house: House) -> tuple[int, int, bool]:
        house.publish("blob", WHOLE)
        async with house.fetching(settles=False) as fetching:
            await asyncio.sleep(1)
            before = fetching.flight._held
            house.ledger.commit_lost(fetching.handed_on[0].known.key, "final", at=house.clock.now())
            fetching.fetcher.settle(fetching.handed_on[0])
            await wait_idle(fetching)
            return before, fetching.flight._held, fetching.fetcher.idle

    assert run(tmp_path, use) == (len(WHOLE), 0, True)


def test_blobs_that_become_known_later_are_fetched_when_the_fetcher_is_woken(tmp_path: Path) -> None:
    """A listing that found something does not wait for the next look into the ledger."""

    async def use(house: House) -> list[str]:
        async with house.fetching() as fetching:
            await asyncio.sleep(1)
            house.publish("blob")
            fetching.fetcher.wake(FEED)
            await asyncio.sleep(0.1)
            return fetching.content_ids

    assert run(tmp_path, use) == ["blob"]


def test_more_blobs_than_one_look_brings_are_all_fetched_once(tmp_path: Path) -> None:
    """The ledger is asked again and again, without what is in flight already."""

    async def use(house: House) -> tuple[int, int]:
        house.know(*(house.publish(f"blob{number}") for number in range(600)))
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            return len(set(fetching.content_ids)), len(fetching.content_ids)

    assert run(tmp_path, use) == (600, 600)


# The ladder of retries.


def test_a_blob_that_fails_is_tried_quickly_and_then_waits_longer_and_longer(tmp_path: Path) -> None:
    """Five quick tries, then after 1, 5, 15 minutes, 1 hour, and every 3 hours for ever."""
    _, _, asked_s, _ = fetched(tmp_path, error=DOWN, times=-1)
    waits_s = [later - earlier for earlier, later in pairwise(asked_s[: QUICK_TRIES + 6])]

    assert waits_s[: QUICK_TRIES - 1] == pytest.approx([0.5, 1, 2, 4])
    expected_s = [*RETRY_WAITS_S, RETRY_WAITS_S[-1]]
    assert all(
        wait_s <= waited_s <= wait_s + 31
        for wait_s, waited_s in zip(expected_s, waits_s[QUICK_TRIES - 1 :], strict=True)
    )


def test_a_failed_try_leaves_nothing_that_only_the_collector_of_garbage_would_let_go(tmp_path: Path) -> None:
    """An error with its traceback holds frames, and one of them the body: a day of faults grew to 500 MB."""
    error = Unavailable("HTTP 503")

    fetched(tmp_path, WHOLE, error=error, times=3)

    assert error.__traceback__ is None


def test_a_blob_that_waits_is_named_with_its_last_error(tmp_path: Path) -> None:
    """`--once` ends with code 3 for it; it stays known."""

    async def use(house: House) -> list[tuple[str, int, str]]:
        house.publish("poison")
        house.api.fail(Ask.FETCH, DOWN, times=-1)
        async with house.fetching() as fetching:
            await wait_idle(fetching)
        return [(one.content_id, one.attempts, one.last_error) for one in waiting(house)]

    assert run(tmp_path, use) == [("poison", QUICK_TRIES, "HTTP 503")]


@pytest.mark.parametrize("error", [DOWN, BadAnswer("HTML"), NotSubscribed("AF20022")], ids=lambda e: e.code)
def test_a_blob_that_failed_is_delivered_when_it_can_be_had(tmp_path: Path, error: CollectorError) -> None:
    """A failure of any kind is not the blob's end."""
    content_ids, _, _, _ = fetched(tmp_path, error=error, times=QUICK_TRIES + 1)

    assert content_ids == ["poison"]


def test_a_blob_that_waits_gets_its_turn_in_a_feed_without_news(tmp_path: Path) -> None:
    """However busy the others are: a quiet feed's blob does not wait until it has expired."""

    async def use(house: House) -> list[str]:
        house.publish("poison", feed=SHAREPOINT_FEED)
        house.api.fail(Ask.FETCH, DOWN, about="poison", times=QUICK_TRIES)
        async with house.fetching(FEED, SHAREPOINT_FEED) as fetching:
            for number in range(20):
                house.publish(f"news{number}")
                fetching.fetcher.wake(FEED)
                await asyncio.sleep(10)
            return [one for one in fetching.content_ids if one == "poison"]

    assert run(tmp_path, use) == ["poison"]


def test_being_throttled_uses_up_no_try(tmp_path: Path) -> None:
    """It says nothing about the blob, which is delivered in its first round."""

    async def use(house: House) -> tuple[list[str], list[WaitingBlob]]:
        house.publish("blob")
        house.api.fail(Ask.FETCH, Throttled("AF429"), times=THROTTLED_TRIES)
        house.api.fail(Ask.FETCH, DOWN, times=QUICK_TRIES - 1)
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            return fetching.content_ids, waiting(house)

    assert run(tmp_path, use) == (["blob"], [])


def test_being_throttled_for_ever_ends_the_round(tmp_path: Path) -> None:
    """The bound on patience has a number."""

    async def use(house: House) -> tuple[int, int]:
        house.publish("blob")
        house.api.fail(Ask.FETCH, Throttled("AF429"), times=-1)
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            return house.api.count(Ask.FETCH), waiting(house)[0].attempts

    assert run(tmp_path, use) == (THROTTLED_TRIES + QUICK_TRIES, QUICK_TRIES)


def test_the_service_is_given_the_time_that_it_asks_for(tmp_path: Path) -> None:
    """Retry-After is obeyed where it is longer than the collector's own pause."""
    _, _, asked_s, _ = fetched(tmp_path, error=Throttled("AF429", after_s=120.0), times=1)

    assert asked_s[1] - asked_s[0] == 120


def test_a_missing_subscription_is_started_again_from_here(tmp_path: Path) -> None:
    """A fetch that is refused for its sake does not wait until the next listing finds out."""
    content_ids, house, _, _ = fetched(tmp_path, error=NotSubscribed("AF20023"), times=1)

    assert (content_ids, house.api.count(Ask.START)) == (["poison"], 1)


def test_a_start_that_fails_is_told_and_the_blob_tried_again(tmp_path: Path) -> None:
    """The start's failure is the feed's trouble, not the blob's end."""

    async def use(house: House) -> tuple[list[str], list[str]]:
        house.publish("blob")
        house.api.fail(Ask.FETCH, NotSubscribed("AF20023"))
        house.api.fail(Ask.START, REFUSED)
        async with house.fetching() as fetching:
            await wait_idle(fetching)
            return fetching.content_ids, [one.code for one in house.told]

    assert run(tmp_path, use) == (["blob"], ["access_refused"])


def test_what_needs_a_person_postpones_and_is_told_once(tmp_path: Path) -> None:
    """However many blobs meet it; no try is used up, and all arrive once the cure is found."""

    async def use(house: House) -> tuple[list[str], list[tuple[int, str]], set[str]]:
        for number in range(5):
            house.publish(f"blob{number}")
        house.api.fail(Ask.FETCH, REFUSED, times=-1)
        async with house.fetching() as fetching:
            await asyncio.sleep(300)
            told = [one.code for one in house.told]
            left = [(one.attempts, one.last_error) for one in waiting(house)]
            house.api.recover()
            await asyncio.sleep(100)
            return told, left, set(fetching.content_ids)

    told, left, content_ids = run(tmp_path, use)

    assert told == ["access_refused"]
    assert left == [(1, "AF10001")] * 5
    assert content_ids == {f"blob{number}" for number in range(5)}


# Content that is lost.


def test_expired_content_is_lost_at_once(tmp_path: Path) -> None:
    """And counted, and written as an error: it is the one loss that nobody can undo."""
    with capture_logs() as lines:
        _, house, asked_s, _ = fetched(tmp_path, error=ContentLost(f"{EXPIRED}: AF20051"), times=-1)

    assert len(asked_s) == 1
    assert [line["log_level"] for line in lines if line.get("code") == "content_lost"] == ["error"]
    assert house.progress().blobs_lost == 1


@pytest.mark.parametrize("reason", [UNKNOWN, INVALID, EMPTY])
def test_unknown_content_is_lost_only_when_it_has_expired(tmp_path: Path, reason: str) -> None:
    """The service has been seen to deny its own blob for a while; one without a body may get it."""
    denied = ContentLost(f"{reason}: as the service says")
    _, house, asked_s, _ = fetched(tmp_path, error=denied, times=-1, seconds=8 * DAY_S)

    assert house.progress().blobs_lost == 1
    assert 7 * DAY_S - 600 <= asked_s[-1] <= 7 * DAY_S + 4 * 3_600


def test_content_that_was_denied_for_a_while_is_delivered(tmp_path: Path) -> None:
    """However often it was asked for meanwhile."""
    denied = ContentLost(f"{UNKNOWN}: AF20050")
    content_ids, _, _, _ = fetched(tmp_path, error=denied, times=30, seconds=6 * DAY_S)

    assert content_ids == ["poison"]


# Bodies that are doubted.


def test_a_broken_element_is_fetched_again_quickly_and_then_handed_on(tmp_path: Path) -> None:
    """In its first round: its neighbours go on, the fragment goes with them to be quarantined."""
    content_ids, _, asked_s, fetching = fetched(tmp_path, BROKEN)
    [one] = fetching.handed_on

    assert content_ids == ["poison"]
    assert len(asked_s) == QUICK_TRIES
    assert asked_s[-1] < 20
    assert len(one.split.records) == 2
    assert [fragment.body for fragment in one.split.fragments] == [b'{"Id":']


def test_a_broken_body_that_mends_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    """The second try brought it whole."""
    _, _, asked_s, fetching = fetched(tmp_path, BROKEN, WHOLE)

    assert len(asked_s) == 2
    assert fetching.handed_on[0].split.fragments == []


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (CUT, 1),
        (b'[{"Id":"1"},{"Id":"2"}', 2),
        (b'{"Message":"no"}', 0),
        (b"odd", 0),
    ],
    ids=["cut in a record", "cut between records", "an object", "text"],
)
def test_a_truncated_body_is_fetched_again_for_hours(tmp_path: Path, body: bytes, records: int) -> None:
    """What was cut off may be there next time; only after many tries is the rest taken as it is.

    The last of them is seen to be cut a second time at once. What is no record goes along, to be named.
    """
    content_ids, _, asked_s, fetching = fetched(tmp_path, body)

    assert content_ids == ["poison"]
    assert len(asked_s) == QUARANTINE_TRIES + 1
    assert asked_s[-1] > 3_600
    assert not fetching.handed_on[0].split.complete
    assert len(fetching.handed_on[0].split.records) == records
    assert len(fetching.handed_on[0].split.fragments) == 1


def test_records_without_an_array_are_fetched_again_for_hours_and_then_handed_on(tmp_path: Path) -> None:
    """They are whole, and yet nothing shows that they are all."""
    body = b'{"Id":"1","RecordType":1,"CreationTime":"","Operation":""}'
    content_ids, _, asked_s, fetching = fetched(tmp_path, body)

    assert (content_ids, len(asked_s)) == (["poison"], QUARANTINE_TRIES + 1)
    assert (fetching.handed_on[0].split.records, fetching.handed_on[0].split.fragments) == ([body], [])


def test_text_behind_the_array_is_doubted_and_then_handed_on_apart(tmp_path: Path) -> None:
    """The array is whole, so that its first round decides; the text behind goes to quarantine."""
    content_ids, _, asked_s, fetching = fetched(tmp_path, WHOLE + b"<!-- front door -->")
    [one] = fetching.handed_on

    assert (content_ids, len(asked_s)) == (["poison"], QUICK_TRIES)
    assert len(one.split.records) == 2
    assert [fragment.body for fragment in one.split.fragments] == [b"<!-- front door -->"]


@pytest.mark.parametrize("body", [CUT, BROKEN], ids=["cut short", "broken"])
def test_a_body_that_fails_once_after_hours_without_any_is_not_taken(tmp_path: Path, body: bytes) -> None:
    """The tries of an outage say nothing about the body: the first one after it is seen twice."""

    async def use(house: House) -> tuple[int, float]:
        house.publish("blob", body, WHOLE)
        house.api.fail(Ask.FETCH, DOWN, times=QUARANTINE_TRIES + 3)
        async with house.fetching() as fetching:
            await asyncio.sleep(3 * DAY_S)
            [one] = fetching.handed_on
            asked = [one.at for one in house.api.asked if one.ask is Ask.FETCH]
            return len(one.split.fragments), (asked[-1] - asked[-2]).total_seconds()

    fragments, waited_s = run(tmp_path, use)

    assert fragments == 0
    assert waited_s < 60


def test_each_try_of_a_poisoned_blob_is_one_line(tmp_path: Path) -> None:
    """Whatever it fails with, its name is in the line once; what is tried for days must not fill a log."""
    with capture_logs() as lines:
        _, _, asked_s, _ = fetched(tmp_path, CUT, seconds=DAY_S / 4)

    told = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert len(told) == len(asked_s) - QUICK_TRIES + 1
    assert all(line.count("poison") == 1 for line in told)


def test_what_needs_a_person_is_no_line_of_each_blob(tmp_path: Path) -> None:
    """A permission that is taken away would else be told for thousands of blobs each minute."""

    async def use(house: House) -> None:
        for number in range(50):
            house.publish(f"blob{number}")
        house.api.fail(Ask.FETCH, REFUSED, times=-1)
        async with house.fetching():
            await asyncio.sleep(600)

    with capture_logs() as lines:
        run(tmp_path, use)

    assert [line["code"] for line in lines if line["log_level"] != "debug"] == ["access_refused"]


def test_an_empty_blob_is_fetched_again_for_hours_and_then_set_aside_by_name(tmp_path: Path) -> None:
    """A blob is documented to hold a record or more, so that an empty one is never counted as delivered."""
    content_ids, _, asked_s, fetching = fetched(tmp_path, b"[]")
    split = fetching.handed_on[0].split

    assert (content_ids, len(asked_s)) == (["poison"], QUARANTINE_TRIES + 1)
    assert asked_s[-1] > 3_600
    assert (split.records, split.fragments) == ([], [Fragment(b"[]", "no record in it")])


# Fairness and bounds.


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


def test_no_more_blobs_are_in_flight_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny blobs are bounded by count; as they become final, the rest follows, in every feed."""
    monkeypatch.setattr("m365watch.feed.fetcher.BLOBS_IN_FLIGHT_MAX", 10)

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


# Being idle.


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


# Stops and failures.


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


class Crashing(FakeApi):
    """A tenant whose fetches meet a defect of the collector, while `crashes`."""

    crashes = True

    async def fetch_blob(self, blob: BlobRef) -> bytes:
        body = await super().fetch_blob(blob)
        if self.crashes and blob.content_id.startswith("poison"):
            raise KeyError("secret of a record")
        return body


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
        (1, "unexpected KeyError in m365watch.feed.tries")
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


# Feeds that come, go, and are held.


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
