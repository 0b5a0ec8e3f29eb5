"""The page of `m365watch status`: everything that matters, at any width, whatever servers say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console
from typer.testing import CliRunner

from m365watch.cli.program import app
from m365watch.cli.status.status_report import print_documents, print_pages
from m365watch.cli.status.status_view import ERRORS_SHOWN_MAX, WAITING_SHOWN_MAX, Standing, status_page
from m365watch.common.model import BlobKey, BlobRef, ContentType, Feed, Header, KnownBlob, TenantId
from m365watch.common.progress import FeedProgress, OutputProgress
from m365watch.pipeline.latency import LatencyBook
from m365watch.registry.ports import WaitingBlob
from m365watch_testing.batches import make_batch, make_part
from run_figures import EXCHANGE, NOW, TENANT, WAITING, FakeClock, feed_progress, run_progress

OTHER = Feed(TenantId("11112222-0000-0000-0000-000000000000"), ContentType.EXCHANGE)
EVERY_FEED = tuple(feed_progress(content_type) for content_type in ContentType)
WIDE_PAGE = """\
tenant 8b1f6a70-3a0e-4c1b-9f43-8f6f7c2d3e10
feed     watermark           lag listed delivered waiting quarantined lost records duplicates pieces
Exchange 2026-11-24 11:55Z 5 min  1,200     1,200       0           0    0  34,567         89      0
DLP      not listed            -  1,200     1,200       0           0    0  34,567         89      0
all                               2,400     2,400       0           0    0  69,134        178      0

in all: 2,400 blobs listed, 2,400 delivered, 0 lost, 0 quarantined; 69,134 records, 178 duplicates left out"""


def drawn(
    *feeds: FeedProgress,
    columns: int,
    waiting: tuple[WaitingBlob, ...] = (),
    on_screen: bool = False,
    latency: LatencyBook | None = None,
    rows: int | None = None,
    outputs: Sequence[OutputProgress] = (),
) -> list[str]:
    """The lines of the page on a terminal so wide."""
    console = Console(width=columns, highlight=False, markup=False, color_system=None)
    progress = run_progress(*feeds)
    progress.outputs = list(outputs)
    standing = Standing(progress, waiting, NOW, "--config 'my tenant.json'", latency=latency)
    with console.capture() as capture:
        console.print(status_page(standing, columns=columns, rows=rows, on_screen=on_screen), crop=False)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_page_of_a_wide_terminal_is_this_one() -> None:
    """Pinned, so that a change of its looks is a decision."""
    feeds = (feed_progress(), feed_progress(ContentType.DLP, watermark=None))

    assert "\n".join(drawn(*feeds, columns=120)) == WIDE_PAGE


def test_the_table_at_80_columns_is_this_one() -> None:
    """The usual terminal shows the watermark and every usual figure whole."""
    assert drawn(*EVERY_FEED, columns=80)[:3] == [
        f"tenant {TENANT}",
        "feed                 watermark      lag delivered waiting records duplicates",
        "AzureActiveDirectory 11-24 11:55Z 5 min     1,200       0  34,567         89",
    ]


def test_sums_that_need_two_lines_are_cut_between_blobs_and_records() -> None:
    """Never between a figure and its word."""
    assert drawn(feed_progress(), columns=80)[-2:] == [
        "in all: 1,200 blobs listed, 1,200 delivered, 0 lost, 0 quarantined;",
        "34,567 records, 89 duplicates left out",
    ]


def busy_book(workloads: int) -> LatencyBook:
    """Blobs of so many workloads, each with one blob more than the one before, delivered to the lake."""
    book = LatencyBook()
    ref = BlobRef(EXCHANGE, "a$b", NOW - timedelta(hours=1), NOW)
    known = KnownBlob(BlobKey(1), ref, 0, frozenset(), NOW)
    for number in range(workloads):
        header = Header(CreationTime="2026-11-24T10:00:00", Workload=f"Work{number}")
        record = b'{"CreationTime":"2026-11-24T10:00:00","Workload":"Work%d"}' % number
        part = make_part([record], outputs=["lake"])
        for _ in range(number + 1):
            book.note_fetched(known, [header], fetched_at=NOW)
            book.note_delivered(make_batch(1, [part]), "lake", at=NOW)
    return book


@pytest.mark.parametrize("rows", [24, 28, 50])
@pytest.mark.parametrize("on_screen", [False, True])
def test_the_page_of_a_tenant_fits_on_a_terminal(rows: int, *, on_screen: bool) -> None:
    """The steps of latency are always there, of workloads the busiest, as many as there is room for."""
    page = drawn(*EVERY_FEED[:5], columns=80, rows=rows, on_screen=on_screen, latency=busy_book(17))

    assert len(page) < rows
    assert (
        sum(line.startswith(("happened to", "published to", "listed to", "fetched to")) for line in page) == 5
    )
    workloads = [line.split()[0] for line in page if line.startswith("  Work")]
    assert workloads == [f"Work{16 - number}" for number in range(len(workloads))]
    assert f"and {17 - len(workloads)} more by workload: --json" in page
    assert len(workloads) == (6 if rows > 24 else 4)


def test_no_figure_of_latency_is_cut_where_it_is_narrow() -> None:
    """At 60 columns names go on below; a figure without its end says nothing."""
    page = drawn(*EVERY_FEED[:1], columns=60, latency=busy_book(2))

    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in page[page.index("") :])
    assert any(re.search(r"median +95 % +longest +counted$", line) for line in page)


def test_workloads_that_all_fit_need_no_note() -> None:
    """Nothing is left out only to say that something is."""
    page = drawn(*EVERY_FEED[:1], columns=80, rows=18, latency=busy_book(4))

    assert sum(line.startswith("  Work") for line in page) == 4
    assert not any("more by workload" in line for line in page)


def test_what_a_narrow_table_has_no_column_for_has_a_line() -> None:
    """Lost and quarantined blobs, and the pieces that are kept, each apart."""
    feed = feed_progress(blobs_lost=1, blobs_quarantined=2, records_quarantined=3, unlisted_s=7200.0)

    assert drawn(feed, columns=80)[3:5] == [
        "Exchange: 1 blob lost, 2 blobs quarantined, 3 pieces in quarantine",
        "Exchange: 2.0 h never listed, and lost",
    ]
    row, gap = drawn(feed, columns=120)[2:4]
    assert row.split()[-8:] == ["1,203", "1,200", "0", "2", "1", "34,567", "89", "3"]
    assert gap == "Exchange: 2.0 h never listed, and lost"


@pytest.mark.parametrize("columns", [60, 80, 100, 117, 118, 120, 131, 132, 200])
def test_no_table_is_wider_than_the_terminal(columns: int) -> None:
    """Also with figures of years and an error that goes on and on."""
    figures = {
        "records_delivered": 9_999_999_999,
        "records_duplicate": 9_999_999,
        "blobs_delivered": 9_999_999,
    }
    grown = feed_progress(ContentType.AZURE_ACTIVE_DIRECTORY, **figures, last_error="word " * 60)

    lines = drawn(*EVERY_FEED, grown, columns=columns)

    assert max(map(len, lines)) <= columns
    assert any("10,000.0 M" in line for line in lines)


def test_an_error_is_followed_by_what_to_do() -> None:
    """Each on its own line, the cure as a hint."""
    feed = feed_progress(
        last_error=f"{EXCHANGE}: AF10001: not permitted; grant ActivityFeed.Read to the application",
        last_error_at=NOW - timedelta(minutes=10),
        fix="grant ActivityFeed.Read to the application",
    )

    assert drawn(feed, columns=200)[4:6] == [
        "error: Exchange: AF10001: not permitted (10 min ago)",
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

    lines = [line for line in drawn(*feeds, columns=200) if "auditing" in line or "hint" in line]
    assert lines == ["error: Exchange, DLP: start: auditing is off", "hint: turn it on"]


def test_an_error_without_a_fix_names_the_command_that_finds_its_cause() -> None:
    feed = feed_progress(last_error="got HTTP 503", last_error_at=NOW)

    told = "hint: m365watch keeps trying; if it lasts, `m365watch why` finds the cause"
    assert drawn(feed, columns=200)[5] == told


def test_of_many_errors_those_that_need_a_person_are_shown() -> None:
    """Five hundred tenants may be in trouble at once, one of them for good."""
    feeds = [
        replace(
            feed_progress(last_error=f"fault {number}"), feed=Feed(TenantId(f"t{number}"), OTHER.content_type)
        )
        for number in range(ERRORS_SHOWN_MAX + 2)
    ]
    feeds[-1].fix, feeds[-1].needs_operator = "grant it", True

    lines = [line for line in drawn(*feeds, columns=200) if line.startswith("error: ")]

    assert lines[0] == f"error: t{ERRORS_SHOWN_MAX + 1} Exchange: fault {ERRORS_SHOWN_MAX + 1}"
    assert lines[-1] == "error: and 2 more: `m365watch status --config 'my tenant.json' --json`"
    assert len(lines) == ERRORS_SHOWN_MAX + 1


def test_control_characters_never_reach_the_terminal() -> None:
    """An error may quote what a server sent, and so may a blob's name."""
    feed = feed_progress(last_error="bad\x1b[2Jbad\rbad\x07")
    blob = replace(WAITING, content_id="id\x1b[2J", last_error="\x9b2J")

    assert "".join(drawn(feed, columns=200, waiting=(blob,))).isprintable()


def test_blobs_that_wait_are_named_and_the_rest_has_a_command() -> None:
    """On lines that are left whole, so that a name can be copied and the command pasted."""
    blobs = tuple(replace(WAITING, content_id=f"{'2026112408' * 9}${number}") for number in range(5))

    lines = [line for line in drawn(feed_progress(), columns=80, waiting=blobs) if line.startswith("waiting")]

    assert lines[0] == (
        f"waiting: Exchange {'2026112408' * 9}$0: 3 tries, next at 2026-11-24 12:05:00Z; got HTTP 503"
    )
    assert lines[WAITING_SHOWN_MAX:] == [
        "waiting: and 2 more: `m365watch blobs --config 'my tenant.json' --state waiting`"
    ]


def test_what_was_set_aside_has_a_command_that_shows_it() -> None:
    """A count alone leads nowhere."""
    kept, lost = feed_progress(records_quarantined=1), feed_progress(blobs_lost=1)

    assert "hint: the pieces kept: `m365watch quarantine --config 'my tenant.json'`" in drawn(
        kept, columns=80
    )
    assert "hint: each blob and its cure: `m365watch blobs --config 'my tenant.json'`" in drawn(
        lost, columns=80
    )


def test_feeds_of_several_tenants_have_tables_of_their_own() -> None:
    """And their errors and blobs say which tenant they are of."""
    feeds = (feed_progress(), replace(feed_progress(last_error="fault"), feed=OTHER))

    lines = drawn(*feeds, columns=200, waiting=(WAITING,))

    assert [line for line in lines if line.startswith("tenant ")] == [
        f"tenant {TENANT}",
        f"tenant {OTHER.tenant_id}",
    ]
    assert f"error: {OTHER.tenant_id} Exchange: fault" in lines
    assert any(line.startswith(f"waiting: {TENANT} Exchange 20261124$a$b: ") for line in lines)


def test_a_screen_begins_with_the_account_and_wraps_every_line() -> None:
    """What does not fit below the edge are tables of feeds, not what is wrong with them."""
    blob = replace(WAITING, content_id="2026112408" * 9)

    lines = drawn(feed_progress(), columns=80, waiting=(blob, blob), on_screen=True)

    assert lines[0].startswith("in all: 1,200 blobs listed")
    assert max(map(len, lines)) <= 80
    assert [line[:20] for line in lines if line.startswith(("waiting", "tenant"))] == [
        "waiting: Exchange",
        "waiting: and 1 more:",
        f"tenant {TENANT[:13]}",
    ]


class ImpatientClock(FakeClock):
    """Sleeps once; at the second time somebody has had enough."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if len(self.sleeps) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("show", [print_pages, print_documents])
def test_watching_into_a_pipe_gives_a_snapshot_each_period(
    show: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, with its instant, and not only when it is over."""
    clock = ImpatientClock()

    with pytest.raises(KeyboardInterrupt):
        show(lambda: Standing(run_progress(feed_progress()), (), NOW, ""), clock, watch=True)

    shown = capsys.readouterr().out
    assert clock.sleeps == [2.0, 2.0]
    if show is print_pages:
        assert shown.count("at 2026-11-24 12:00:00Z\ntenant ") == 2
        assert shown.count("in all: 1,200 blobs listed") == 2
    else:
        assert [json.loads(line)["at"] for line in shown.splitlines()] == ["2026-11-24T12:00:00Z"] * 2


@pytest.mark.parametrize("other", ["--json", "--watch"])
def test_one_format_is_printed_at_a_time(other: str) -> None:
    """Instead of one that silently wins."""
    result = CliRunner().invoke(app, ["status", "--metrics", other], env={"COLUMNS": "120"})

    assert result.exit_code == 2
    assert "--metrics goes with neither --json nor --watch" in result.output


def test_an_output_in_trouble_says_what_to_do_and_until_when_nothing_is_lost() -> None:
    at = datetime(2026, 12, 9, 4, 10, tzinfo=UTC)
    outputs = [
        OutputProgress("lake", 3, 0, "No space left", NOW, fix="make room", safe_until=at),
        OutputProgress("devo", 0, 0, "no answer in time", NOW),
        OutputProgress("siem", 9, 0, "refused", NOW, fix="open port 514", safe_until=NOW),
    ]

    hints = [line for line in drawn(feed_progress(), outputs=outputs, columns=200) if line.startswith("hint")]

    assert hints == [
        "hint: make room; no record is lost before 2026-12-09 04:10 UTC",
        "hint: m365watch keeps trying",
        "hint: open port 514; records may be lost since 2026-11-24 12:00 UTC",
    ]
