from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from promises import guarantee

from m365watch.cli.run.run_display import account_lines, collect, show_outcome
from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.live_progress import Nothing, Reports
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common.errors import LedgerHeld
from run_figures import WAITING, FakeClock, FakeCollector, feed_progress, outcome, run_progress


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_the_exit_code_is_that_of_the_outcome() -> None:
    """The collector decides what its run was worth."""
    ending = asyncio.run(collect(FakeCollector(outcome(3)), once=True, view=Nothing()))

    assert (ending.exit_code, ending.signal_code) == (3, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_collector_that_is_told_to_stop_exits_with_0(number: signal.Signals) -> None:
    """The signal lets it finish what is in flight."""
    collector = FakeCollector(outcome(), until_stopped=True, on_start=lambda: send(number))

    ending = asyncio.run(collect(collector, once=False, view=Nothing()))

    assert (ending.exit_code, ending.signal_code) == (0, 128 + number)


@guarantee(28)
def test_a_signal_before_start_up_is_complete_shows_in_the_exit_code() -> None:
    """130 and 143 as shells have them: nothing was collected."""
    collector = FakeCollector(
        outcome(has_started=False), until_stopped=True, on_start=lambda: send(signal.SIGTERM)
    )

    assert asyncio.run(collect(collector, once=False, view=Nothing())).exit_code == 143


def test_a_signal_before_the_first_listing_is_a_stop_in_order() -> None:
    """It had said that it had started; that no feed is known yet is no failure."""
    nothing = outcome(progress=run_progress())
    collector = FakeCollector(nothing, until_stopped=True, on_start=lambda: send(signal.SIGTERM))

    assert asyncio.run(collect(collector, once=False, view=Nothing())).exit_code == 0


def test_a_run_that_cannot_start_raises_and_leaves_the_signals_alone() -> None:
    """The command line tells the error; Ctrl-C works as before."""
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(LedgerHeld):
        asyncio.run(collect(FakeCollector(LedgerHeld("held", fix="stop it")), once=True, view=Nothing()))

    assert signal.getsignal(signal.SIGINT) is before


def test_the_end_names_problems_waiting_blobs_and_the_account(capsys: pytest.CaptureFixture[str]) -> None:
    """All on stderr, a line each, in that order."""
    told = configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    show_outcome(outcome(3, waiting=(WAITING,), problems=("a/b: refused; fix it",)), told=told)

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["error", "waiting"]
    assert lines[2].startswith("1,200 blobs listed")


def test_each_blob_that_waits_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Also at the end of an outage, when there are thousands: exit code 3 promises it."""
    told = configure_diagnostics(line_format=LineFormat.TEXT, level=logging.INFO, colour=False)
    show_outcome(outcome(3, waiting=(WAITING,) * 3_000), told=told)

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("waiting")]
    assert len(lines) == 3_000


def test_the_account_of_a_later_run_tells_it_from_those_before() -> None:
    """What this run did comes first; the sums of all runs are labelled as such."""
    progress = run_progress(feed_progress(blobs_delivered=1_250, records_delivered=35_000))
    progress.before = [feed_progress(blobs_waiting=3)]

    assert account_lines(progress) == [
        (
            "this run: 47 blobs listed, 50 delivered, 0 lost, 0 quarantined; 433 records, "
            "0 duplicates left out; 3 blobs waited from before"
        ),
        (
            "in all: 1,250 blobs listed, 1,250 delivered, 0 lost, 0 quarantined; 35,000 records, "
            "89 duplicates left out"
        ),
    ]


def test_the_account_of_a_first_run_is_one_line() -> None:
    """There is nothing before it that it could be taken for."""
    assert len(account_lines(run_progress(feed_progress()))) == 1


def test_quiet_keeps_problems_and_leaves_out_the_account(capsys: pytest.CaptureFixture[str]) -> None:
    """`--quiet` is for whoever wants to hear of trouble only."""
    told = configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False)
    show_outcome(outcome(3, waiting=(WAITING,)), told=told)

    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == ["waiting"]


def test_without_a_terminal_the_account_is_told_every_period(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines, not bars, where nobody looks at bars."""

    async def follow_for_a_while() -> None:
        following = asyncio.create_task(Reports(clock=FakeClock()).follow(lambda: outcome().progress))
        await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(follow_for_a_while())

    assert "1,200 blobs listed, 1,200 delivered" in "".join(capsys.readouterr())


def test_with_json_lines_the_end_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads lines of JSON never meets another one."""
    told = configure_diagnostics(line_format=LineFormat.JSON, level=logging.INFO, colour=False)
    show_outcome(outcome(3, waiting=(WAITING,)), told=told)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["level"] for line in lines] == ["warning", "info"]
    assert set(lines[0]) == {"event", "level", "timestamp"}


def test_a_problem_that_was_told_is_not_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    """One failure, one line."""
    told = configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False)
    structlog.get_logger().error("a/b: refused; fix it")
    show_outcome(outcome(1, problems=("a/b: refused; fix it",)), told=told)

    assert len(capsys.readouterr().err.splitlines()) == 1
