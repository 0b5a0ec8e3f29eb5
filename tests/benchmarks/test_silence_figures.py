"""The measure of the silence alarm: it would see a false alarm, and a hole that nobody found."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.silence import FIRST, HOLE_H, MORNING, first_alarm, is_busy, raised, without
from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.health.completeness.silence_detection import WEEK_H

TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE, DLP = Feed(TENANT, ContentType.EXCHANGE), Feed(TENANT, ContentType.DLP)
HOLE = range(MORNING, MORNING + HOLE_H)
STEADY: Mapping[Feed, Mapping[int, int]] = {
    EXCHANGE: dict.fromkeys(range(FIRST, FIRST + 6 * WEEK_H), 9),
    DLP: dict.fromkeys(range(FIRST, FIRST + 6 * WEEK_H, 4), 1),
}


@pytest.mark.slow
def test_a_hole_is_counted_from_its_first_hour() -> None:
    """And only an alarm that falls into it counts."""
    found_after_h = first_alarm(without(STEADY, [EXCHANGE], HOLE), HOLE)

    assert found_after_h is not None
    assert 2 <= found_after_h <= HOLE_H
    assert first_alarm(STEADY, HOLE) is None


@pytest.mark.slow
def test_an_alarm_outside_of_a_hole_is_a_false_one() -> None:
    """It is counted once, however many hours it lasts."""
    alarms, quiet = raised(without(STEADY, [EXCHANGE], HOLE))

    assert alarms == {(EXCHANGE, HOLE.start)}
    assert quiet == set()
    assert raised(STEADY) == (set(), set())


def test_only_feeds_that_have_something_to_miss_are_emptied() -> None:
    """A blob in four hours is silent by nature."""
    assert [feed for feed, hours in STEADY.items() if is_busy(hours)] == [EXCHANGE]
