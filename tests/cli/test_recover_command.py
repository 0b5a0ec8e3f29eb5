"""What `recover` says before it asks Microsoft."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from m365watch.cli.recover import KEPT, warn_of_age
from m365watch.model import Window

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("start", "end", "part"),
    [(400 * DAY, 399 * DAY, "all of"), (KEPT + DAY, 3 * DAY, "a part of"), (KEPT, DAY, None)],
)
def test_a_period_that_may_be_gone_is_told(
    capsys: pytest.CaptureFixture[str], start: timedelta, end: timedelta, part: str | None
) -> None:
    """The search finds nothing there, without an error; with E5 it may, so that it is no mistake."""
    warn_of_age(Window(NOW - start, NOW - end), now=NOW)

    said = capsys.readouterr().err
    assert said.startswith(f"warning: {part} the period is older than 180 days") if part else not said
