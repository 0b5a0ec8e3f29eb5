from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m365watch.http.retry_after import AFTER_S_MAX, retry_after_s
from m365watch_testing.clock import START


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("Tue, 17 Nov 2026 09:02:00 GMT", 120.0),
        ("Tue, 17 Nov 2026 08:00:00 GMT", 0.0),
        ("999999999", AFTER_S_MAX),
        ("Tue, 17 Nov 2099 09:02:00 GMT", AFTER_S_MAX),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_the_wait_is_read_as_seconds_or_as_a_date(said: str, expected: float | None) -> None:
    """Both forms of HTTP count, within bounds; anything else is as if it had not been said."""
    assert retry_after_s({"Retry-After": said}, now=START) == expected


def test_without_the_header_there_is_no_wait() -> None:
    """The pace is the caller's then."""
    assert retry_after_s({}, now=START) is None


@given(st.text())
def test_any_header_gives_a_bounded_wait_or_none(said: str) -> None:
    """No header, however odd, stops the collector."""
    wait_s = retry_after_s({"Retry-After": said}, now=START)

    assert wait_s is None or 0 <= wait_s <= AFTER_S_MAX
