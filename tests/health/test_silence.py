"""Silence told from quiet: what is unusual by a feed's own past, and what is not."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.health.completeness.silence_detection import (
    DAY_H,
    LEARN_AFTER_H,
    WEEK_H,
    WEEKS_MAX,
    FeedPast,
    Reason,
    Rhythm,
    Silence,
    Usual,
    find_silences,
    judge_and_learn,
    rhythm_body,
    rhythm_of,
)

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE, SHAREPOINT = Feed(TENANT, ContentType.EXCHANGE), Feed(TENANT, ContentType.SHAREPOINT)
DLP = Feed(TENANT, ContentType.DLP)
MONDAY = 4 * DAY_H + 2_900 * WEEK_H
"""A Monday 00:00, hours since 1970."""
NOW = MONDAY + 3 * WEEK_H
WORK = range(8, 18)
TUESDAY = NOW - WEEK_H + DAY_H


def level(hour: int) -> int:
    """Working days by day 12 blobs an hour, at night 2; at weekends one."""
    day, at = (hour - MONDAY) // DAY_H % 7, hour % DAY_H
    if day >= 5:
        return 1
    return 12 if at in WORK else 2


def blobs(hours: Iterable[int], *, seed: int = 1, share: float = 1.0) -> dict[int, int]:
    dice = random.Random(seed)
    return {hour: sum(dice.random() < share / 2 for _ in range(2 * level(hour))) for hour in hours}


def tenant(
    counts: dict[Feed, dict[int, int]], *, upto: int = NOW - WEEK_H, end: int = NOW
) -> dict[Feed, FeedPast]:
    """Feeds that have learned everything before `upto`, and were listed up to `end`."""
    listed = range(MONDAY, end)
    pasts = {feed: FeedPast(Rhythm(), hours, listed) for feed, hours in counts.items()}
    for past in pasts.values():
        past.rhythm.learn(past.counts, listed=listed, upto=upto, besides=())
    return pasts


def without(hours: dict[int, int], hole: range) -> dict[int, int]:
    return {hour: count for hour, count in hours.items() if hour not in hole}


def both(hole: range, *, of_both: bool = False) -> list[Silence]:
    """What is found where a feed, or each of two, lacks the hours of `hole`."""
    every = range(MONDAY, NOW)
    other = blobs(every, seed=2)
    counts = {
        EXCHANGE: without(blobs(every), hole),
        SHAREPOINT: without(other, hole) if of_both else other,
    }
    return find_silences(tenant(counts), range(NOW - WEEK_H, NOW))


def test_an_ordinary_week_has_no_silence() -> None:
    """Neither its nights nor its weekend."""
    assert both(range(0)) == []


def test_six_working_hours_without_content_are_found() -> None:
    """From their first to their last, and of the one feed that lacks them."""
    hole = range(TUESDAY + 9, TUESDAY + 15)

    [silence] = both(hole)

    assert (silence.feed, silence.reason) == (EXCHANGE, Reason.ALONE)
    assert silence.first_hour == hole.start
    assert silence.end_hour == hole.stop
    assert silence.usual_blobs > 50


def test_all_feeds_silent_at_once_are_an_incident() -> None:
    """What hits a whole tenant is told as such, and not taken for a quiet day."""
    found = both(range(TUESDAY + 11, TUESDAY + 17), of_both=True)

    assert {silence.feed: silence.reason for silence in found} == {
        EXCHANGE: Reason.INCIDENT,
        SHAREPOINT: Reason.INCIDENT,
    }


def test_a_holiday_is_a_quiet_day() -> None:
    """The tenant does little, and one feed nothing for six hours: no alarm, whatever the weekday."""
    every = range(MONDAY, NOW)
    holiday = range(TUESDAY + WORK.start, TUESDAY + WORK.stop)
    morning = range(holiday.start, holiday.start + 6)
    other = blobs(every, seed=2) | dict.fromkeys(holiday, 1)
    counts = {EXCHANGE: without(blobs(every), morning), SHAREPOINT: other}

    found = find_silences(tenant(counts), range(NOW - WEEK_H, NOW))

    assert [silence.reason for silence in found if silence.feed == EXCHANGE] == [Reason.QUIET_DAY]
    assert not any(silence.is_unusual for silence in found)


def test_hours_that_were_not_listed_are_no_silence() -> None:
    """Of what nobody has looked at nothing is said."""
    every = range(MONDAY, NOW)
    hole = range(TUESDAY + 9, TUESDAY + 15)
    pasts = tenant({EXCHANGE: without(blobs(every), hole)})
    listed = [hour for hour in every if hour not in hole]
    pasts[EXCHANGE] = FeedPast(pasts[EXCHANGE].rhythm, pasts[EXCHANGE].counts, listed)

    assert find_silences(pasts, range(NOW - WEEK_H, NOW)) == []


def test_a_feed_is_not_judged_before_two_weeks_are_known() -> None:
    """After one week everything could be usual."""
    hole = range(NOW - WEEK_H + 33, NOW - WEEK_H + 45)
    every = range(MONDAY, NOW)
    pasts = tenant({EXCHANGE: without(blobs(every), hole)}, upto=MONDAY + WEEK_H)

    assert find_silences(pasts, range(NOW - WEEK_H, NOW)) == []


def test_a_feed_that_is_silent_by_nature_raises_no_alarm() -> None:
    """One blob in a few hours proves nothing by its absence."""
    every = range(MONDAY, NOW)
    counts = {DLP: {hour: 1 for hour in every if hour % 5 == 0}, SHAREPOINT: blobs(every)}
    hole = range(NOW - WEEK_H + 30, NOW - WEEK_H + 50)
    counts[DLP] = without(counts[DLP], hole)

    assert find_silences(tenant(counts), range(NOW - WEEK_H, NOW)) == []


def test_an_unusual_silence_is_not_learned() -> None:
    """Otherwise the second outage would be usual; what has lasted for a week is learned all the same."""
    every = range(MONDAY, NOW)
    hole = range(TUESDAY + 9, TUESDAY + 15)
    learned = {}
    for custom in ((), (EXCHANGE,)):
        pasts = tenant(
            {EXCHANGE: without(blobs(every), hole), SHAREPOINT: blobs(every, seed=2)}, upto=hole.start
        )
        judge_and_learn(pasts, due_to=hole.stop + LEARN_AFTER_H, custom=custom)
        slot = pasts[EXCHANGE].rhythm.slots[(TUESDAY + 10) % WEEK_H]
        learned[custom] = (len(slot), slot[-1] == 0)

    assert learned == {(): (2, False), (EXCHANGE,): (3, True)}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_an_hour_is_learned_once(steps: list[int]) -> None:
    """However often and in whatever pieces it is looked at, and over restarts."""
    counts = blobs(range(MONDAY, NOW))
    listed = range(MONDAY, NOW)
    end = min(MONDAY + sum(steps), NOW)
    whole = Rhythm()
    whole.learn(counts, listed=listed, upto=end, besides=())

    pieces, upto = Rhythm(), MONDAY
    for step in steps:
        upto = min(upto + step, end)
        for _ in range(2):
            pieces.learn(counts, listed=listed, upto=upto, besides=())
        pieces = rhythm_of(json.dumps(rhythm_body(pieces)))

    assert pieces == whole


def test_what_is_learned_is_bounded() -> None:
    """A year takes no more than two months."""
    rhythm = Rhythm()
    year = range(MONDAY, MONDAY + 52 * WEEK_H)
    rhythm.learn(blobs(year), listed=year, upto=year.stop, besides=())

    assert len(rhythm.slots) == WEEK_H
    assert {len(slot) for slot in rhythm.slots.values()} == {WEEKS_MAX}


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=24), st.floats(0, 1))
def test_a_chance_is_a_chance(counts: list[int], activity: float) -> None:
    """Never nothing and never more than one; a quieter day makes an empty hour no less likely."""
    usual = Usual(tuple(counts), is_known=True)

    assert 0 < usual.chance_of_none(1.0) <= usual.chance_of_none(activity) <= 1
