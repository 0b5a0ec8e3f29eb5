from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from m365watch.cli.render import completeness_line, feeds_view, span, totals_of, waiting_line
from m365watch.model import ContentType
from m365watch.progress import RunProgress
from run_figures import EXCHANGE, NOW, TENANT, WAITING, feed_progress, run_progress


def drawn(progress: RunProgress, columns: int) -> list[str]:
    console = Console(width=columns, highlight=False, markup=False, color_system=None)
    with console.capture() as capture:
        console.print(feeds_view(progress, now=NOW, columns=columns))
    return [line.rstrip() for line in capture.get().splitlines()]


WIDE_TABLE = """\
tenant 8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10
feed      watermark               lag  listed  delivered  waiting  lost  quarantined  records  duplicates
Exchange  2026-11-24 11:55:00Z  5 min   1,200      1,200        0     0            0   34,567          89
DLP       not listed yet            -   1,200      1,200        0     0            0   34,567          89
all                                     2,400      2,400        0     0            0   69,134         178

2,400 blobs listed, 2,400 delivered, 0 lost, 0 quarantined; 69,134 records, 178 duplicates left out"""
EVERY_FEED = run_progress(*(feed_progress(content_type) for content_type in ContentType))


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
        "1 blob listed, 1 delivered, 0 lost, 0 quarantined; 1 record, 1 record quarantined, "
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


def test_the_table_of_a_wide_terminal_is_this_one() -> None:
    """Pinned, so that a change of its looks is a decision."""
    feeds = (feed_progress(), feed_progress(ContentType.DLP, watermark=None))

    assert "\n".join(drawn(run_progress(*feeds), 112)) == WIDE_TABLE


def test_the_table_at_80_columns_is_this_one() -> None:
    """The usual terminal shows every figure whole."""
    lines = drawn(EVERY_FEED, 80)

    assert lines[:4] == [
        f"tenant {TENANT}",
        "                                  deliv- wait-      quaran-         dupli-",
        "feed                   lag listed   ered   ing lost   tined records  cates",
        "AzureActiveDirectory 5 min  1,200  1,200     0    0       0  34,567     89",
    ]


@pytest.mark.parametrize("columns", [60, 80, 100, 110, 120, 200])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    """Also with figures of years and an error that goes on and on."""
    grown = feed_progress(records_delivered=9_999_999_999, last_error="word " * 60, last_error_at=NOW)

    assert max(map(len, drawn(run_progress(*EVERY_FEED.feeds, grown), columns))) <= columns


def test_an_error_is_followed_by_what_to_do() -> None:
    """Each on its own line, the cure as a hint."""
    feed = feed_progress(
        last_error=f"{EXCHANGE}: AF10001: not permitted; grant ActivityFeed.Read to the application",
        last_error_at=NOW - timedelta(minutes=10),
        fix="grant ActivityFeed.Read to the application",
    )

    assert drawn(run_progress(feed), 200)[4:6] == [
        f"{TENANT} Exchange: AF10001: not permitted (10 min ago)",
        "hint: grant ActivityFeed.Read to the application",
    ]


def test_feeds_in_the_same_trouble_share_a_line() -> None:
    """A tenant whose audit is off says so once, not five times."""
    feeds = [
        feed_progress(
            content_type, last_error=f"{TENANT}/{content_type} start: auditing is off", fix="turn it on"
        )
        for content_type in (ContentType.EXCHANGE, ContentType.DLP)
    ]

    lines = [line for line in drawn(run_progress(*feeds), 200) if "auditing" in line or "hint" in line]
    assert lines == [f"{TENANT} Exchange, DLP: start: auditing is off", "hint: turn it on"]


def test_an_error_that_passes_by_itself_says_so() -> None:
    """Nobody should look for something to do where there is nothing."""
    feed = feed_progress(last_error="got HTTP 503", last_error_at=NOW)

    assert drawn(run_progress(feed), 200)[5] == "hint: nothing to do, it is tried again by itself"


def test_control_characters_never_reach_the_terminal() -> None:
    """An error may quote what a server sent."""
    feed = feed_progress(last_error="bad\x1b[2Jbad\rbad\x07")

    assert "\x1b" not in "".join(drawn(run_progress(feed), 200))


def test_a_waiting_blob_is_named_with_its_last_error() -> None:
    """Exit code 3 leaves nobody guessing which blob it is about."""
    assert waiting_line(WAITING) == (
        f"waiting: {EXCHANGE} 20261124$a$b: 3 tries, next at 2026-11-24 12:05:00Z; got HTTP 503"
    )
