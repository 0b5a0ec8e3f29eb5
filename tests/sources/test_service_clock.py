"""What time it is, by the service's answers and by a machine whose clock may be wrong."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from m365watch.sources.management_api.service_clock import OFF_MAX, ServiceClock
from m365watch_testing.clock import START, FakeClock


def said(at: datetime) -> str:
    return format_datetime(at, usegmt=True)


def compared(ahead_s: float, *, took_s: float = 0.0, clock: ServiceClock | None = None) -> ServiceClock:
    """A clock that is so far ahead of the service's `START`, after an answer."""
    clock = clock or ServiceClock(FakeClock(START + timedelta(seconds=ahead_s)))
    clock.compare(said(clock._clock.now() - timedelta(seconds=ahead_s)), took_s=took_s)
    return clock


@pytest.mark.parametrize("ahead_s", [62.0, -62.0, 7_200.0, 864_000.0, -864_000.0])
def test_a_clock_that_is_off_is_corrected_and_named(ahead_s: float) -> None:
    clock = compared(ahead_s)

    assert abs(clock.now() - START) <= timedelta(seconds=1)
    error = clock.error("contoso")
    assert error is not None
    assert ("ahead of" if ahead_s > 0 else "behind") in str(error)


@pytest.mark.parametrize("ahead_s", [0.0, 59.0, -59.0])
def test_a_clock_that_is_nearly_right_stays_as_it_is(ahead_s: float) -> None:
    clock = compared(ahead_s)

    assert clock.now() == START + timedelta(seconds=ahead_s)
    assert clock.error("contoso") is None


def test_an_answer_that_took_minutes_says_nothing_against_the_clock() -> None:
    """Its `Date` is of when it began."""
    assert compared(300.0, took_s=310.0).error("contoso") is None


def test_a_clock_at_the_bound_does_not_go_to_and_fro() -> None:
    clock = compared(62.0)
    for ahead_s in (61.0, 59.0, 62.0, 58.0):
        assert compared(ahead_s, clock=clock).error("contoso") is not None
    assert compared(1.0, clock=clock).error("contoso") is None


def test_the_time_is_uncertain_from_a_jump_to_the_next_answer() -> None:
    """The system's monotonic clock does not jump along."""
    machine = FakeClock()
    clock = ServiceClock(machine)
    assert not clock.is_current

    compared(0.0, clock=clock)
    assert clock.is_current
    asyncio.run(machine.advance(86_400))
    assert clock.is_current
    machine.set_back(-240)
    assert not clock.is_current
    compared(864_000.0, clock=clock)
    assert clock.is_current


@pytest.mark.parametrize(
    "date",
    [
        None,
        "",
        "yesterday",
        "Tue, 17 Nov 99999 09:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
    ],
)
def test_without_its_date_an_answer_leaves_the_clock_as_it_is(date: str | None) -> None:
    clock = ServiceClock(FakeClock())
    clock.compare(date, took_s=0.0)

    assert clock.now() == START
    assert (clock.is_current, clock.knows_service) == (True, False)


def test_a_date_without_a_zone_is_in_utc() -> None:
    clock = ServiceClock(FakeClock())
    clock.compare("Tue, 17 Nov 2026 09:00:00 -0000", took_s=0.0)

    assert clock.knows_service
    assert abs(clock.ahead) <= OFF_MAX
