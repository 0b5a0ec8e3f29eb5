from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from m365watch.cli.terminal.formatting import (
    QUOTED_LENGTH_MAX,
    completeness_line,
    moment,
    quoted,
    span,
    totals_of,
    waiting_line,
)
from run_figures import EXCHANGE, NOW, WAITING, feed_progress, run_progress


def test_the_completeness_line_accounts_for_every_blob() -> None:
    """Listed is the sum of the states, and the line says all of them."""
    progress = run_progress(feed_progress(blobs_lost=1, blobs_quarantined=2, blobs_waiting=3))

    assert completeness_line(progress) == (
        "1,206 blobs listed, 1,200 delivered, 1 lost, 2 quarantined, 3 waiting; "
        "34,567 records, 89 duplicates left out"
    )


def test_one_of_a_thing_is_in_the_singular() -> None:
    """A newcomer's first run is small."""
    progress = run_progress(
        feed_progress(blobs_delivered=1, records_delivered=1, records_duplicate=1, records_quarantined=1)
    )

    assert completeness_line(progress) == (
        "1 blob listed, 1 delivered, 0 lost, 0 quarantined; 1 record, 1 piece kept in quarantine, "
        "1 duplicate left out"
    )


def test_a_run_with_a_waiting_blob_is_not_complete() -> None:
    """Complete means: delivered is listed, and nothing was set aside."""
    perfect = totals_of([feed_progress()])

    assert perfect.complete
    assert not replace(perfect, listed=perfect.listed + 1).complete
    assert not replace(perfect, records_quarantined=1).complete


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-3, "0 s"),
        (42, "42 s"),
        (99.4, "99 s"),
        (300, "5 min"),
        (4 * 3600, "4.0 h"),
        (6.3 * 86400, "6.3 d"),
    ],
)
def test_a_span_is_told_in_one_unit(seconds: float | None, text: str) -> None:
    """A lag is read at a glance."""
    assert span(seconds) == text


def test_a_waiting_blob_is_named_with_its_last_error() -> None:
    """Exit code 3 leaves nobody guessing which blob it is about."""
    assert waiting_line(WAITING) == (
        f"waiting: {EXCHANGE} 20261124$a$b: 3 tries, next at 2026-11-24 12:05:00Z; got HTTP 503"
    )


def test_what_others_say_is_cut_and_has_no_control_characters() -> None:
    """An answer may be the page of somebody's proxy, or an attack on the terminal."""
    shown = quoted("\x1b[2J\u202ebad\r\n" + "x" * 1000)

    assert len(shown) == QUOTED_LENGTH_MAX
    assert shown.isprintable()
    assert shown.endswith("x…")


def test_an_instant_says_that_it_is_utc() -> None:
    """Whatever zone it comes in."""
    assert moment(NOW.astimezone(timezone(timedelta(hours=2)))) == "2026-11-24 12:00:00Z"
    assert moment(None) == "-"
