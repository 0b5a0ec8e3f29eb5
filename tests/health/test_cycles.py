"""Pull cycles: the statistics that Devo's operators know, without a flood of them."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from m365watch.common.model import ContentType, Feed, TenantId
from m365watch.sources.pull_cycles import PullCycles
from m365watch_testing.clock import START, FakeClock

TENANT = TenantId("3f0c1c52-0000-4000-8000-000000000001")
FEED = Feed(TENANT, ContentType.EXCHANGE)
OTHER = Feed(TENANT, ContentType.DLP)
FIRST_ID = int(START.timestamp() * 1000)


class Desk:
    """Pull cycles with a period of 300 s, and a clock to move."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cycles = PullCycles(self.clock)

    def begin(self, feed: Feed = FEED) -> int:
        return self.cycles.begin(feed, period_s=300.0)

    def wait(self, seconds: float) -> None:
        asyncio.run(self.clock.advance(seconds))


def test_a_cycle_ends_with_its_statistics() -> None:
    """Word for word what Devo's collectors say, after the name of the feed."""
    desk = Desk()
    with capture_logs() as lines:
        desk.begin()
        for _ in range(3):
            desk.cycles.count_request(str(FEED))
        desk.cycles.count_received(FEED, 52)
        desk.wait(2)
        desk.cycles.count_duplicates(FEED, 2)
        desk.cycles.count_sent(FEED, 50)
        desk.wait(298)
        desk.begin()

    assert lines == [
        {
            "log_level": "info",
            "event": f"{FEED}: Statistics for this pull cycle (@devo_pulling_id={FIRST_ID}):"
            "Number of requests made: 3; Number of events received: 52; "
            "Number of duplicated events filtered out: 2; Number of events generated and sent: 50; "
            "Average of events per second: 25.000.",
        }
    ]


def test_a_cycle_is_numbered_by_its_beginning() -> None:
    """In milliseconds since 1970, for each feed alone; 0 before the first."""
    desk = Desk()

    assert desk.cycles.pulling_id(FEED) == 0
    assert desk.begin() == FIRST_ID
    desk.wait(300)
    assert desk.begin(OTHER) == FIRST_ID + 300_000
    assert desk.cycles.pulling_id(FEED) == FIRST_ID


def test_a_poll_that_is_tried_again_is_no_new_cycle() -> None:
    """In an outage polls come every few seconds, and their statistics once a period."""
    desk = Desk()
    with capture_logs() as lines:
        ids = []
        for _ in range(31):
            ids.append(desk.begin())
            desk.cycles.count_received(FEED, 1)
            desk.wait(10)

    assert set(ids) == {FIRST_ID, FIRST_ID + 300_000}
    assert [line["log_level"] for line in lines] == ["info"]


def test_a_long_cycle_tells_how_it_stands_once_a_period() -> None:
    """A first backfill takes hours; its figures go on growing."""
    desk = Desk()
    with capture_logs() as lines:
        desk.begin()
        for _ in range(1_000):
            desk.wait(1)
            desk.cycles.count_received(FEED, 10)
            desk.cycles.count_sent(FEED, 10)
        desk.cycles.close(FEED)

    found = [line["event"].partition(" for ")[0].removeprefix(f"{FEED}: ") for line in lines]
    assert found == ["(Partial) Statistics"] * 3 + ["Statistics"]
    assert "events received: 10000; " in lines[-1]["event"]


def test_what_comes_late_counts_in_the_cycle_in_which_it_comes() -> None:
    """Over all cycles the sums are exact."""
    desk = Desk()
    with capture_logs() as lines:
        desk.begin()
        desk.cycles.count_received(FEED, 7)
        desk.wait(300)
        desk.begin()
        desk.cycles.count_sent(FEED, 7)
        desk.cycles.close(FEED)

    assert ["received: 7; " in line["event"] for line in lines] == [True, False]
    assert ["sent: 7; " in line["event"] for line in lines] == [False, True]


def test_a_quiet_cycle_is_no_news() -> None:
    """Five feeds without a record would else be 1,440 lines a day."""
    desk = Desk()
    with capture_logs() as lines:
        desk.begin()
        for _ in range(5):
            desk.cycles.count_request(str(FEED))
            desk.wait(300)
            desk.begin()

    assert {line["log_level"] for line in lines} == {"debug"}


def test_being_up_to_date_is_told_when_it_is_new() -> None:
    """Once at first, and again after a failure; not before the cycle's end, when it has arrived."""
    desk = Desk()
    told = []
    for fails in (False, False, True, False):
        with capture_logs() as lines:
            desk.begin()
            (desk.cycles.fall_behind if fails else desk.cycles.complete)(FEED)
            assert "up to date" not in str(lines)
            desk.cycles.close(FEED)
        told.append(sum(line["event"] == f"{FEED}: The data is up to date!" for line in lines))

    assert told == [1, 0, 0, 1]


def test_what_belongs_to_no_cycle_is_not_counted() -> None:
    """Requests for a tenant's subscriptions, and what comes before the first poll."""
    desk = Desk()
    with capture_logs() as lines:
        desk.cycles.count_request(f"{TENANT}/subscriptions")
        desk.cycles.count_sent(FEED, 1)
        desk.cycles.close(FEED)

    assert lines == []
