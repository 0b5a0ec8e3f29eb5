"""What is worth a warning: thresholds, several possible ends, and others that stand in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from promises import guarantee

from expiry_ward import DAY
from m365watch.health.expiry.credential_expiry import ENDED, judge, threshold_of
from m365watch.registry.credential_specs import CredentialEnd, Source
from m365watch_testing.clock import START


def end_in(*spans: timedelta) -> CredentialEnd:
    ends = tuple(START + span for span in spans)
    return CredentialEnd("client_secret", Source.CONFIGURATION if ends else Source.UNKNOWN, ends)


MANAGED = CredentialEnd("managed_identity", Source.RENEWED)


@guarantee(25)
@pytest.mark.parametrize(
    ("left", "threshold"),
    [
        (30 * DAY + timedelta(seconds=1), None),
        (30 * DAY, 30),
        (14 * DAY + timedelta(seconds=1), 30),
        (14 * DAY, 14),
        (7 * DAY + timedelta(seconds=1), 14),
        (7 * DAY, 7),
        (DAY + timedelta(seconds=1), 7),
        (DAY, 1),
        (timedelta(seconds=1), 1),
        (timedelta(), ENDED),
        (-DAY, ENDED),
    ],
)
def test_a_threshold_is_come_to_at_its_day(left: timedelta, threshold: int | None) -> None:
    """30, 14, 7 and 1 days before, and at the end."""
    assert threshold_of(left) == threshold


def test_of_several_possible_ends_the_soonest_that_has_not_passed_counts() -> None:
    """Up to there it surely works; where all have passed, the last one was it."""
    end = end_in(-3 * DAY, 5 * DAY, 90 * DAY)

    assert [end.ends_at(START + days * DAY) for days in (0, 6, 100)] == [
        START + 5 * DAY,
        START + 90 * DAY,
        START + 90 * DAY,
    ]


@pytest.mark.parametrize(
    ("other", "stops"),
    [
        (end_in(365 * DAY), False),
        (MANAGED, False),
        (end_in(20 * DAY), True),
        (end_in(), True),
    ],
)
def test_collecting_stops_where_no_other_credential_surely_goes_on(other: CredentialEnd, stops: bool) -> None:
    """One that ends soon itself, or of which nothing is known, is no comfort."""
    ended, _ = judge([end_in(-DAY), other], START)

    assert (ended.threshold, ended.stops_collecting) == (ENDED, stops)


def test_what_nobody_knows_is_no_warning() -> None:
    """Nor is what others renew."""
    assert [one.threshold for one in judge([end_in(), MANAGED], START)] == [None, None]
