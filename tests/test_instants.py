"""Instants and the numbers for them: there and back is where it began."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from m365watch.common.timestamps import EPOCH, instant_of_ms, instant_of_us, ms_of, us_of

instants = st.datetimes(datetime(1601, 1, 1), datetime(9_999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(instants)
def test_microseconds_lead_back_to_the_very_instant(at: datetime) -> None:
    """Of any time, also before 1970, where a float would lose some."""
    assert instant_of_us(us_of(at)) == at


@given(st.integers(-(10**12), 10**13))
def test_milliseconds_lead_back_to_the_number(at_ms: int) -> None:
    """What is kept in a file is what it was."""
    assert ms_of(instant_of_ms(at_ms)) == at_ms


def test_where_somebody_is_changes_no_number() -> None:
    """An hour further east it is the same instant."""
    at = datetime(2026, 11, 17, 9, 0, 0, 1_500, tzinfo=UTC)
    east = at.astimezone(timezone(timedelta(hours=1)))

    assert (ms_of(east), us_of(east)) == (ms_of(at), us_of(at))
    assert us_of(at) == 1_794_906_000_001_500
    assert EPOCH.timestamp() == 0
