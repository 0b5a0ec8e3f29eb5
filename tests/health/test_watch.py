"""The silence alarm over a ledger: learned, raised once, ended once, over restarts too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import Unavailable
from m365watch.common.model import BlobRef, ContentType, Feed, TenantId, Window
from m365watch.health.completeness.content_gaps import GapsFound, find_gaps
from m365watch.health.completeness.silence_monitor import SilenceWatch
from m365watch.ledger.queries import ledger_for_reading
from m365watch.ledger.sqlite_ledger import SqliteLedger
from m365watch_testing.loop import CallsInLine, LoopClock, run_jumping

Result = TypeVar("Result")
TENANT = TenantId("11111111-1111-1111-1111-111111111111")
EXCHANGE, SHAREPOINT = Feed(TENANT, ContentType.EXCHANGE), Feed(TENANT, ContentType.SHAREPOINT)
LEARN_H = 17 * 24
HOUR = timedelta(hours=1)


class Ward:
    """A ledger that is filled hour by hour, as a collector would, and the alarm that watches it."""

    def __init__(self, folder: Path) -> None:
        self.clock = LoopClock()
        self.calls = CallsInLine()
        self.ledger = SqliteLedger(folder, outputs=frozenset({"lake"}), now=self.clock.now())
        # Nothing here crashes, so the disk need not be waited for.
        self.ledger._connection.execute("PRAGMA synchronous = OFF")
        self.watch = self.new_watch()

    def new_watch(self) -> SilenceWatch:
        return SilenceWatch((EXCHANGE, SHAREPOINT), ledger=self.ledger, calls=self.calls, clock=self.clock)

    async def live(self, hours: int, *, silent: frozenset[Feed] = frozenset(), looks: bool = True) -> None:
        """So many hours pass, in each of which every feed has ten blobs that are not in `silent`."""
        for _ in range(hours):
            now = self.clock.now()
            for feed in (EXCHANGE, SHAREPOINT):
                refs = [
                    BlobRef(feed, f"{now:%d%H}-{number}", at, at + timedelta(days=7))
                    for number in range(0 if feed in silent else 10)
                    for at in [now + number * timedelta(minutes=5)]
                ]
                self.ledger.commit_listing(feed, Window(now, now + HOUR), refs, complete=True, at=now + HOUR)
            await self.clock.sleep(3_600)
            if looks:
                await self.watch.look()

    def gaps(self) -> GapsFound:
        with ledger_for_reading(self.ledger.path) as connection:
            return find_gaps(connection, (EXCHANGE, SHAREPOINT), now=self.clock.now(), days=7)


def run(folder: Path, use: Callable[[Ward], Awaitable[Result]]) -> tuple[Result, list[tuple[str, str]]]:
    """What `use` gives, and the level and text of each line."""

    async def main() -> Result:
        ward = Ward(folder)
        try:
            return await use(ward)
        finally:
            ward.ledger.close()

    with capture_logs() as lines:
        result = run_jumping(main())
    return result, [(line["log_level"], line["event"]) for line in lines]


@guarantee(6)
@pytest.mark.slow
def test_a_silence_is_told_once_and_its_end_once(tmp_path: Path) -> None:
    """With a stable code; a restart in the middle tells it no second time."""

    async def use(ward: Ward) -> None:
        await ward.live(LEARN_H)
        await ward.live(12, silent=frozenset({EXCHANGE}))
        ward.watch = ward.new_watch()
        await ward.live(12, silent=frozenset({EXCHANGE}))
        await ward.live(12)

    _, lines = run(tmp_path, use)

    assert [level for level, _ in lines] == ["warning", "info"]
    assert lines[0][1].startswith(f"{EXCHANGE}: no content since ")
    assert lines[1][1].startswith(f"{EXCHANGE}: content again")


@pytest.mark.slow
def test_the_notice_has_its_code(tmp_path: Path) -> None:
    """By which it is found among the notices at Devo."""

    async def main() -> None:
        ward = Ward(tmp_path)
        await ward.live(LEARN_H)
        await ward.live(12, silent=frozenset({EXCHANGE, SHAREPOINT}))
        ward.ledger.close()

    with capture_logs() as lines:
        run_jumping(main())

    assert {line["code"] for line in lines} == {"silent"}
    assert len(lines) == 2
    assert all("service health" in line["event"] for line in lines)


@guarantee(6)
@pytest.mark.slow
def test_a_feed_with_an_error_of_its_own_raises_no_alarm(tmp_path: Path) -> None:
    """Its error has been told; once that has passed, the silence is news."""

    async def use(ward: Ward) -> None:
        await ward.live(LEARN_H)
        ward.ledger.note_error(EXCHANGE, Unavailable("HTTP 503"), at=ward.clock.now())
        await ward.live(12, silent=frozenset({EXCHANGE}))

    _, lines = run(tmp_path, use)

    assert lines == []


@pytest.mark.slow
def test_what_was_not_listed_raises_no_alarm(tmp_path: Path) -> None:
    """A feed that is not caught up says nothing about what there is."""

    async def use(ward: Ward) -> None:
        await ward.live(LEARN_H)
        await ward.clock.sleep(20 * 3_600)
        await ward.watch.look()

    assert run(tmp_path, use)[1] == []


def test_nothing_is_told_while_too_little_is_known(tmp_path: Path) -> None:
    """A week is not enough to know a week by."""

    async def use(ward: Ward) -> None:
        await ward.live(8 * 24)
        await ward.live(20, silent=frozenset({EXCHANGE}))

    assert run(tmp_path, use)[1] == []


@pytest.mark.slow
def test_gaps_names_the_silence_with_its_reason(tmp_path: Path) -> None:
    """Afterwards too, and without a collector that had learned anything."""

    async def use(ward: Ward) -> tuple[GapsFound, GapsFound]:
        await ward.live(LEARN_H)
        await ward.live(8, silent=frozenset({EXCHANGE}))
        await ward.live(30)
        learned = ward.gaps()
        ward.ledger._connection.execute("DELETE FROM memory")
        return learned, ward.gaps()

    (learned, fresh), _ = run(tmp_path, use)

    assert [(gap.feed, gap.reason, gap.is_unusual) for gap in learned.gaps] == [(EXCHANGE, "alone", True)]
    assert learned.gaps[0].end - learned.gaps[0].start == 8 * HOUR
    assert all(gap.feed == EXCHANGE for gap in fresh.gaps)


def test_gaps_tells_what_is_not_listed_from_what_is_silent(tmp_path: Path) -> None:
    """Hours that the collector was off for are named as such."""

    async def use(ward: Ward) -> GapsFound:
        await ward.live(48)
        await ward.clock.sleep(5 * 3_600)
        await ward.live(10)
        return ward.gaps()

    found, _ = run(tmp_path, use)

    assert [(gap.feed, gap.reason, gap.is_unusual) for gap in found.gaps] == [
        (EXCHANGE, "not-listed", False),
        (SHAREPOINT, "not-listed", False),
    ]
    assert found.gaps[0].end - found.gaps[0].start == 5 * HOUR
