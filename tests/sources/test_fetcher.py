"""Fetching: every known blob is handed on, lost or waiting, and none is in another's way."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from fetcher_scene import DAY_S, DOWN, REFUSED, run, wait_idle, waiting
from m365watch.common.errors import (
    AnswerTooLarge,
    BadAnswer,
    CollectorError,
    ContentLost,
    NotSubscribed,
    Throttled,
    Unavailable,
)
from m365watch.records.split import Fragment
from m365watch.registry.ports import WaitingBlob
from m365watch.sources.management_api.fetch_attempts import (
    QUARANTINE_TRIES,
    QUICK_TRIES,
    RETRY_WAITS_S,
    THROTTLED_TRIES,
)
from m365watch.sources.management_api.responses import EMPTY, EXPIRED, INVALID, UNKNOWN
from m365watch_testing.api import Ask
from m365watch_testing.clock import START
from scripted import (
    FEED,
    SHAREPOINT_FEED,
    Fetching,
    House,
)

WHOLE = b'[{"Id":"1"},{"Id":"2"}]'
BROKEN = b'[{"Id":"1"},{"Id":,{"Id":"2","RecordType":1,"CreationTime":"","Operation":""}]'
CUT = b'[{"Id":"1"},{"Id":"2"'


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


def test_expired_content_is_lost_at_once(tmp_path: Path) -> None:
    """And counted, and written as an error: it is the one loss that nobody can undo."""
    with capture_logs() as lines:
        _, house, asked_s, _ = fetched(tmp_path, error=ContentLost(f"{EXPIRED}: AF20051"), times=-1)

    assert len(asked_s) == 1
    assert [line["log_level"] for line in lines if line.get("code") == "content_lost"] == ["error"]
    assert house.progress().blobs_lost == 1


@guarantee(3)
@pytest.mark.slow
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


@guarantee(3)
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


def test_a_blob_that_is_too_large_is_not_fetched_again_at_once(tmp_path: Path) -> None:
    """It waits as after five tries that failed: of 256 MB each of them would be fetched in vain."""
    _, _, asked_s, _ = fetched(tmp_path, error=AnswerTooLarge("the body is larger than 9 bytes"), times=-1)

    first, second, *_ = asked_s
    assert RETRY_WAITS_S[0] <= second - first <= RETRY_WAITS_S[0] + 31
