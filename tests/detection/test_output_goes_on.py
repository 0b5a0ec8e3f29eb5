"""Detections go on after whatever has failed once: it is said, and tried again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S
from structlog.testing import capture_logs

from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS
from m365watch.detection.detection_output import FILE_NAME, DetectionOutput, RulesRead, Surroundings
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import MakesEngine
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.store.lake_outbox import Due
from m365watch_testing.batches import make_records, make_simple_batch
from m365watch_testing.clock import FakeClock
from test_detections_output import everything


class Trouble(Exception):
    """Nobody has thought of it."""


class Times:
    """Fails so often, and counts how often it was tried."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried = 0

    def try_once(self) -> None:
        self.tried += 1
        if self.tried <= self.failures:
            raise Trouble


class Site:
    """An output, and what it says while it is open."""

    def __init__(self, folder: Path, *, engine: MakesEngine = Engine, around: Surroundings) -> None:
        self.clock = FakeClock()
        self.path = folder / "state" / FILE_NAME
        self.output = DetectionOutput(
            "d",
            folder / "state",
            rules=lambda: everything(folder),
            clock=self.clock,
            engine=engine,
            around=around,
        )
        self.heard: list[MutableMapping[str, Any]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Three alerts are there within the block."""
        with capture_logs() as self.heard:
            await self.output.open(last_batch=0, position="")
            await self.output.deliver(make_simple_batch(1, make_records(3), output="d"))
            try:
                yield
            finally:
                await self.output.close()

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Let time pass, step by step."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                await self.clock.advance(1.0)
                await asyncio.sleep(0.002)

    @property
    def lines(self) -> list[tuple[str, str]]:
        """How grave each line was, and its text."""
        return [(level, line["event"]) for line in self.heard if (level := line["log_level"]) != "debug"]

    def said_one_defect(self) -> bool:
        [(level, text)] = self.lines
        is_one_line = text.startswith("d: unexpected Trouble in ") and "; report Trouble in " in text
        return level == "error" and is_one_line


def test_looks_go_on_after_a_defect(tmp_path: Path) -> None:
    """It is said once, however often it comes again, and in one line."""
    times = Times(3)

    class Troubled(Engine):
        def look(self, *, now: datetime) -> list[Change]:
            times.try_once()
            return super().look(now=now)

    async def use() -> None:
        async with site.running():
            await site.until(lambda: times.tried > times.failures)

    site = Site(tmp_path, engine=Troubled, around=Surroundings())
    asyncio.run(use())

    assert site.said_one_defect()


class Lake:
    """A shelf that cannot tell at first how far it is."""

    name = "lake"

    def __init__(self, times: Times) -> None:
        self.times = times
        self.brought = 0

    def takes(self, _tenant: str) -> bool:
        return True

    def last_number(self) -> int:
        self.times.try_once()
        return 0

    def put(self, due: Sequence[Due], *, number: int) -> bool:
        assert number
        self.brought += len(due)
        return True


@pytest.mark.parametrize("failures", [2, 1_000_000])
def test_alerts_are_brought_to_a_lake_after_a_defect(tmp_path: Path, failures: int) -> None:
    """At the next time; and one that is still there at the end does not keep it from being one."""
    lake = Lake(Times(failures))
    site = Site(tmp_path, around=Surroundings(shelves=(lake,)))

    async def use() -> None:
        async with site.running():
            await site.until(lambda: lake.times.tried > 3)

    asyncio.run(use())

    assert site.said_one_defect()
    assert lake.brought == (3 if failures == 2 else 0)


def test_alerts_are_brought_to_a_lake_once_the_file_can_be_read_again(tmp_path: Path) -> None:
    """What the file itself has against it is told as such, and is no defect."""
    lake = Lake(Times(0))
    site = Site(tmp_path, around=Surroundings(shelves=(lake,)))

    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(site.path, timeout=PATIENCE_S)) as database:
            database.execute(f"ALTER TABLE {old} RENAME TO {new}")

    async def use() -> None:
        async with site.running():
            rename("lake_due", "away")
            await site.until(lambda: bool(site.lines))
            rename("away", "lake_due")
            await site.until(lambda: lake.brought == 3)

    asyncio.run(use())

    [(level, text)] = site.lines
    assert level == "warning"
    assert text.startswith(f"{site.path}: the file of detections cannot be read: no such table")


class OneRule:
    """A file of rules that cannot be read at first, in a way that nobody has thought of."""

    def __init__(self, folder: Path, times: Times, *, looks: Times | None = None) -> None:
        self.times = times
        self.looks = looks
        self.found = RulesRead(everything(folder), NO_EXCEPTIONS)

    def look(self) -> str:
        if self.looks is not None:
            self.looks.try_once()
        return ""

    def read(self) -> RulesRead:
        self.times.try_once()
        return self.found


def test_changed_rules_are_taken_up_after_a_defect(tmp_path: Path) -> None:
    """They are read again although nothing changes once more; till then the ones before are in force."""
    files = OneRule(tmp_path, Times(2))
    site = Site(tmp_path, around=Surroundings(rule_files=files, watches_files=False))

    async def use() -> bool:
        async with site.running():
            before = site.output.engine
            site.output.reread()
            await site.until(lambda: site.output.engine is not before)
            return files.times.tried == 3

    assert asyncio.run(use())
    assert site.said_one_defect()


@pytest.mark.parametrize("is_asked", [True, False])
def test_changed_rules_are_taken_up_after_their_files_could_not_be_looked_at(
    tmp_path: Path, is_asked: bool
) -> None:
    """Whoever asked for it was not heard any more; else they were read, and said to be, every two seconds."""
    files = OneRule(tmp_path, Times(0), looks=Times(0))
    looks = files.looks
    assert looks is not None
    site = Site(tmp_path, around=Surroundings(rule_files=files))

    async def use() -> int:
        async with site.running():
            before = site.output.engine
            looks.tried, looks.failures = 0, 3
            if is_asked:
                site.output.reread()
            await site.until(lambda: site.output.engine is not before)
            await site.until(lambda: looks.tried > 6)
            return files.times.tried

    assert asyncio.run(use()) == 1
    # They are looked at in two places.
    assert 1 <= len(site.lines) <= 2
    assert all(level == "error" and "unexpected Trouble in " in text for level, text in site.lines)
