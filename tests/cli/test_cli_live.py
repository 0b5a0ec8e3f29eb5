from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from m365watch.cli.terminal.live_progress import (
    Bars,
    Nothing,
    Reports,
    Speed,
    report_line,
    rows_to_show,
    view_for,
)
from m365watch.common.model import ContentType
from m365watch.common.progress import RunProgress
from run_figures import EXCHANGE, FakeClock, feed_progress, outcome, run_progress


def drawn(progress: RunProgress, *, columns: int) -> str:
    """What a terminal without colour has been sent after a few redraws."""
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=True, width=columns, height=40, color_system=None)

    async def follow_for_a_while() -> None:
        following = asyncio.create_task(Bars(console, clock=FakeClock()).follow(lambda: progress))
        await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(follow_for_a_while())
    return sink.getvalue()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_shows_blobs_speed_lag_and_what_is_still_to_list(columns: int) -> None:
    """All that tells whether a run is getting on, on one line a feed."""
    progress = run_progress(feed_progress(blobs_waiting=300, windows_planned=4))

    line = next(line for line in drawn(progress, columns=columns).splitlines() if "Exchange" in line)

    assert "1,200/1,500 blobs" in line
    assert "0 rec/s" in line
    assert "lag 5 min" in line
    assert "4 to list" in line
    assert len(line.rpartition("\x1b[2K")[2].removeprefix("\x1b[?25l").rstrip()) <= columns


def test_loss_is_never_left_off_the_screen() -> None:
    """Lost and quarantined blobs and pieces appear beside the totals as soon as there are any."""
    feed = feed_progress(blobs_lost=2, blobs_quarantined=1, records_quarantined=3)

    assert "2 blobs lost, 1 blob quarantined, 3 pieces kept" in drawn(run_progress(feed), columns=140)


def test_feeds_of_several_tenants_are_told_apart() -> None:
    """The first part of the tenant's id is enough to tell two tenants apart."""
    one, other = feed_progress(), feed_progress()
    other.feed = type(EXCHANGE)(
        type(EXCHANGE.tenant_id)("11112222-0000-0000-0000-000000000000"), EXCHANGE.content_type
    )

    text = drawn(run_progress(one, other), columns=120)

    assert "8b1f6a70 Exchange" in text
    assert "11112222 Exchange" in text


def test_a_screen_that_is_too_small_shows_the_busiest_feeds() -> None:
    """Five hundred tenants have more feeds than a terminal has lines."""
    feeds = [feed_progress(content_type, blobs_waiting=n) for n, content_type in enumerate(ContentType)]

    assert [row.blobs_waiting for row in rows_to_show(feeds, lines_max=2)] == [4, 3]
    assert rows_to_show(feeds, lines_max=5) == feeds
    assert len(rows_to_show(feeds, lines_max=-3)) == 1


def test_speed_is_measured_over_the_last_seconds() -> None:
    """An average from the start would hide that a run has come to a halt."""
    speed = Speed()
    for second in range(10):
        speed.observe(run_progress(feed_progress(records_delivered=min(second, 4) * 100)), at_s=float(second))
        if second == 2:
            assert speed.of(EXCHANGE) == 100.0

    assert speed.of(EXCHANGE) == 0.0
    assert speed.of(None) == 0.0
    assert Speed().of(EXCHANGE) == 0.0


def test_a_report_says_how_late_the_slowest_feed_is() -> None:
    """One line has to do where there is no screen."""
    assert report_line(outcome().progress, clock=FakeClock()).endswith("; largest lag 5 min")
    assert report_line(run_progress(), clock=FakeClock()).endswith("; nothing listed yet")


def test_bars_are_for_terminals_only() -> None:
    """A file full of redrawn bars is of no use to anybody."""
    terminal = Console(file=io.StringIO(), force_terminal=True)
    pipe = Console(file=io.StringIO(), force_terminal=False)

    def kind_of(console: Console, *, quiet: bool = False, bars: bool = True) -> type:
        return type(view_for(console, clock=FakeClock(), quiet=quiet, bars=bars))

    assert kind_of(terminal) is Bars
    assert kind_of(pipe) is Reports
    assert kind_of(terminal, bars=False) is Reports
    assert kind_of(terminal, quiet=True) is Nothing
