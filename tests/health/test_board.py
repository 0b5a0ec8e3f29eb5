"""The notice board: bounded, quick, and in nobody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from made_outputs import console, lake_in, syslog_to
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.cli.terminal.console import LineFormat
from m365watch.cli.terminal.log_output import configure_diagnostics
from m365watch.common.collector_events import Notice, Speaker
from m365watch.common.errors import OutputUnavailable
from m365watch.health.event_log import HEARTBEAT_S, REST_TRIES_MAX, NoticeBoard, takers_among
from m365watch_testing.loop import LoopClock, run_jumping

SPEAKER = Speaker(collector_name="audit", collector_image="office365")


class FakeTaker:
    """Keeps what it is given; fails as often as it is told."""

    def __init__(
        self,
        *,
        name: str = "fake",
        every_s: float = 1.0,
        failures: int = 0,
        answers_after_s: float = 0.0,
    ) -> None:
        self.name = name
        self.notices_every_s = every_s
        self.failures = failures
        self.answers_after_s = answers_after_s
        self.calls: list[float] = []
        self.taken: list[Notice] = []

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        self.calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.answers_after_s)
        if self.failures:
            self.failures -= 1
            raise OutputUnavailable("away", where="output devo")
        self.taken += notices

    @property
    def texts(self) -> list[str]:
        return [notice.msg for notice in self.taken]


def board(*, notices_max: int = 100) -> NoticeBoard:
    return NoticeBoard(SPEAKER, clock=LoopClock(), notices_max=notices_max)


def say(on: NoticeBoard, *texts: str, level: str = "info") -> None:
    for text in texts:
        on.put(level, text, module="app")


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_every_taker_gets_every_line_at_its_own_pace() -> None:
    """What was said before a taker was there counts too; each is asked at most once in its time."""
    quick, slow = FakeTaker(), FakeTaker(every_s=5.0)

    async def main() -> None:
        on = board()
        say(on, "before")
        async with on.posting([quick, slow]):
            for number in range(10):
                await asyncio.sleep(1.0625)
                say(on, f"line {number}")

    run_jumping(main())

    assert quick.texts == slow.texts == ["before", *(f"line {number}" for number in range(10))]
    assert slow.calls == [0, 5, 10, 10.625]
    assert len(quick.calls) > 5


def test_a_taker_that_fails_gets_the_same_lines_again() -> None:
    """A Devo output whose connection broke is told of it once it is back."""
    taker = FakeTaker(failures=3)

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            say(on, "a", "b")
            await asyncio.sleep(10)

    run_jumping(main())

    assert taker.texts == ["a", "b"]


@guarantee(30)
def test_a_failing_taker_makes_no_notice_and_delays_no_other() -> None:
    """Else every failure would be a line, and every line a failure."""
    failing, other = FakeTaker(failures=1_000), FakeTaker()

    async def main() -> None:
        on = board()
        async with on.posting([failing, other]):
            say(on, "a")
            await asyncio.sleep(60)

    run_jumping(main())

    assert (failing.taken, other.texts) == ([], ["a"])
    assert len(failing.calls) <= 60 + REST_TRIES_MAX


@guarantee(30)
def test_the_oldest_lines_make_room_and_are_counted() -> None:
    """Memory is bounded, and a gap is told in front of what comes after it."""
    taker = FakeTaker(failures=1)

    async def main() -> None:
        on = board(notices_max=3)
        async with on.posting([taker]):
            say(on, "0")
            await asyncio.sleep(0.5)
            say(on, *(f"{number}" for number in range(1, 8)))
            await asyncio.sleep(2)
            say(on, "8")

    run_jumping(main())

    assert taker.texts == [
        "notices dropped because this output took none for too long: 5",
        "5",
        "6",
        "7",
        "8",
    ]
    assert taker.taken[0].level == "warning"


@guarantee(30)
def test_a_line_repeated_within_a_minute_is_counted() -> None:
    """A hundred equal lines are two: the first, and how many came after it."""
    taker = FakeTaker()

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            for _ in range(100):
                say(on, "again")
                await asyncio.sleep(0.5)
            say(on, "other")
            await asyncio.sleep(60)
            say(on, "again")

    run_jumping(main())

    assert taker.texts == ["again", "other", "again (said 99 more times within a minute)", "again"]


@guarantee(30)
def test_a_board_is_never_silent_for_long() -> None:
    """An alert on silence means a dead collector, also where outputs report no figures."""
    taker = FakeTaker()

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            for _ in range(5):
                await asyncio.sleep(200)
                say(on, "spoken")
            await asyncio.sleep(650)

    run_jumping(main())

    assert [(one.level, "is running" in one.msg) for one in taker.taken] == [("info", False)] * 5 + [
        ("info", True)
    ] * 2
    assert max(b - a for a, b in pairwise(taker.calls)) <= HEARTBEAT_S + 2


@guarantee(30)
def test_a_period_that_is_shortened_holds_from_then_on() -> None:
    """Whoever looks for silence goes by the configuration as it is now."""
    taker = FakeTaker()

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            on.change(SPEAKER, hide=(), heartbeat_s=60)
            await asyncio.sleep(650)

    run_jumping(main())

    assert len(taker.taken) == 10
    assert max(b - a for a, b in pairwise(taker.calls)) <= 62


def test_the_rest_is_written_when_the_run_ends() -> None:
    """Its last words, and what was only counted so far."""
    taker = FakeTaker(every_s=100.0)

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            await asyncio.sleep(1)
            say(on, "last words", "last words")

    run_jumping(main())

    assert taker.texts == ["last words", "last words (said 1 more times within a minute)"]


class TalkingTaker(FakeTaker):
    """Says something while it writes, as an output does that had to wait for its lock."""

    name = "talking"

    def __init__(self, on: NoticeBoard, **options: Any) -> None:
        super().__init__(**options)
        self._on = on

    async def write_notices(self, notices: Sequence[Notice]) -> None:
        await super().write_notices(notices)
        say(self._on, "the lake had to wait for its lock")


@pytest.mark.parametrize("answers_after_s", [0.0, 0.5])
def test_what_is_said_while_the_rest_is_written_is_no_loss(answers_after_s: float) -> None:
    """Seen once at the end of a run: "1 notice dropped", where every output had taken all it was offered."""

    async def main() -> tuple[FakeTaker, FakeTaker]:
        on = board()
        quick, talking = (
            FakeTaker(every_s=100.0),
            TalkingTaker(on, every_s=100.0, answers_after_s=answers_after_s),
        )
        async with on.posting([quick, talking]):
            await asyncio.sleep(1)
            say(on, "last words")
        return quick, talking

    with capture_logs() as lines:
        both = run_jumping(main())

    assert lines == []
    assert [one.texts for one in both] == [["last words", "the lake had to wait for its lock"]] * 2


def test_the_rest_is_offered_again_to_whoever_fails_once() -> None:
    """A lake of which the upkeep writes a version just now takes it a moment later."""
    taker = FakeTaker(every_s=100.0)

    async def main() -> None:
        on = board()
        async with on.posting([taker]):
            await asyncio.sleep(1)
            say(on, "last words")
            taker.failures = 2

    with capture_logs() as lines:
        run_jumping(main())

    assert (taker.texts, lines) == (["last words"], [])


@pytest.mark.parametrize("answers_after_s", [0.0, 60.0])
def test_what_no_taker_took_by_the_end_is_counted(answers_after_s: float) -> None:
    """The receiver is away, or hangs: what it will never get is said where a person can see it."""
    away = FakeTaker(failures=1_000, answers_after_s=answers_after_s)
    there = FakeTaker()
    there.name = "other"

    async def main() -> None:
        on = board(notices_max=5)
        async with on.posting([away, there]):
            say(on, *(f"line {number}" for number in range(8)))

    with capture_logs() as lines:
        run_jumping(main())

    assert len(there.texts) == 6, "the latest five, and how many had made room"
    [line] = lines
    assert line["event"].startswith("output fake: 8 notices of this run dropped")
    assert line["log_level"] == "warning"


@guarantee(30)
def test_a_taker_that_hangs_does_not_keep_the_run_from_ending() -> None:
    """Notices are best effort."""
    taker = FakeTaker(answers_after_s=10_000.0)

    async def main() -> float:
        on = board()
        async with on.posting([taker]):
            say(on, "a")
            await asyncio.sleep(1)
        return asyncio.get_running_loop().time()

    assert run_jumping(main()) < 5


def test_the_collectors_lines_become_notices(capsys: pytest.CaptureFixture[str]) -> None:
    """At INFO and above, whatever the terminal shows; lines for the person there are not among them."""
    taker = FakeTaker()

    async def main() -> None:
        on = board()
        configure_diagnostics(line_format=LineFormat.TEXT, level=logging.WARNING, colour=False, board=on)
        log = structlog.get_logger("m365watch.sources.management_api.feed_poller")
        async with on.posting([taker]):
            log.debug("a step")
            log.info("goes on")
            log.warning("HTTP 429", code="throttled", password="swordfish")
            structlog.get_logger().warning("for your eyes")

    run_jumping(main())

    assert [(one.level, one.module_name, one.msg) for one in taker.taken] == [
        ("info", "sources.management_api.feed_poller", "goes on"),
        ("warning", "sources.management_api.feed_poller", "ApiError [CODE:0429] reason: HTTP 429"),
    ]
    shown = capsys.readouterr().err
    assert "goes on" not in shown
    assert "for your eyes" in shown


@pytest.mark.parametrize("told", [True, False])
def test_only_outputs_that_take_notices_get_any(*, told: bool) -> None:
    """A table of its own, or a tag where that is not switched off; other outputs are left alone."""
    taker = FakeTaker()

    class Wire:
        name = "wire"

        async def write_tagged(self, tagged: Sequence[tuple[str, bytes]], /) -> None:
            raise NotImplementedError

    takers = takers_among(
        [
            (console(), object()),
            (lake_in(Path("lake")), taker),
            (syslog_to("127.0.0.1", 514, collectors_out=told), Wire()),
        ]
    )

    assert takers[0] is taker
    assert len(takers) == (2 if told else 1)


@guarantee(31)
def test_a_taker_of_the_next_posting_goes_on_where_it_was() -> None:
    """A collector that is built anew tells nobody anything twice; one that is new begins there."""
    lake, other = FakeTaker(name="lake"), FakeTaker(name="other")

    async def main() -> None:
        on = board()
        say(on, "before")
        async with on.posting([lake], is_last=lambda: False):
            say(on, "first")
        say(on, "between")
        async with on.posting([lake, other]):
            say(on, "second")

    run_jumping(main())

    assert lake.texts == ["before", "first", "between", "second"]
    assert other.texts == ["between", "second"]


def test_what_a_taker_still_gets_is_not_told_as_dropped() -> None:
    """It is offered again once the collector was built anew."""
    taker = FakeTaker(name="devo", failures=4)

    async def main() -> None:
        on = board()
        async with on.posting([taker], is_last=lambda: False):
            say(on, "first")
        async with on.posting([taker]):
            await asyncio.sleep(10)

    with capture_logs() as lines:
        run_jumping(main())

    assert taker.texts == ["first"]
    assert lines == []
