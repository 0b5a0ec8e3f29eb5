"""What `recover` says before it asks Microsoft, and at its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from m365watch.cli.feeds.recover_command import KEPT, warn_of_age
from m365watch.cli.feeds.recover_view import outcome_page
from m365watch.common.model import Window
from m365watch.runtime.recovery_run import RecoveryOutcome, ServiceRecovered
from run_figures import EXCHANGE

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


@pytest.mark.parametrize(
    ("new", "waiting", "verdict"),
    [
        (0, 0, "2 queries, 3 pages; no record was missing"),
        (1, 0, "2 queries, 3 pages; 1 record was missing and is delivered now"),
        (7, 2, "2 queries, 3 pages; 7 records were missing and are delivered now; 2 blobs still wait"),
        (0, 1, "2 queries, 3 pages; no record was missing so far; 1 blob still waits"),
    ],
)
def test_the_verdict_says_what_was_missing_and_whether_all_of_it_arrived(
    new: int, waiting: int, verdict: str
) -> None:
    """In words that fit the figures."""
    row = ServiceRecovered(EXCHANGE, found=10, had=10 - new, new=new, unfinished=waiting, pieces=0)
    outcome = RecoveryOutcome(
        exit_code=3 if waiting else 0,
        is_done=True,
        services=(row,),
        queries=2,
        pages=3,
        other=0,
        problems=(),
        went_on=False,
    )
    console = Console(width=120, highlight=False)
    with console.capture() as capture:
        console.print(outcome_page(outcome), crop=False)

    assert verdict in capture.get().splitlines()
