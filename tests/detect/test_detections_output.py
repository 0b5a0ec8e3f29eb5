"""The engine as an output: the contract of all outputs, and what is its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from m365watch.detect.drawing import identify_record
from m365watch.detect.engine import Change
from m365watch.detect.fields import View
from m365watch.detect.kept import News
from m365watch.detect.looks import decode_record
from m365watch.detect.output import FILE_NAME, LOOK_EVERY_S, DetectionOutput
from m365watch.detect.rule import Rule
from m365watch.detect.state import DetectionState
from m365watch.errors import OutputUnusable
from m365watch.model import Batch, Receipt
from m365watch.outputs.port import Output
from m365watch.testing.batches import TENANT, make_records, make_simple_batch
from m365watch.testing.clock import FakeClock
from m365watch.testing.output_contract import OutputContract
from rules import load_good, rule_text


def everything(directory: Path) -> tuple[Rule, ...]:
    """A rule that every record fulfils, each by itself."""
    detection = {"s": {"Id|exists": True}, "condition": "s"}
    return load_good(directory, rule_text(detection, m365watch={"group_by": ["Id"]})).rules


class NotingOutput(DetectionOutput):
    """Remembers which record has which identity: the file keeps identities alone."""

    seen: dict[str, bytes]

    async def deliver(self, batch: Batch) -> Receipt:
        for part in batch.parts:
            for record in part.records:
                view = View(decode_record(record) or {}, tenant=part.feed.tenant_id)
                self.seen[identify_record(view, record)] = record
        return await super().deliver(batch)


class DetectionPlace:
    """A directory; what can be read of it are the records that have matched."""

    can_undo = False
    exactly_once = False
    keeps_order = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "state"
        self.rules = everything(directory)
        self.seen: dict[str, bytes] = {}

    def make(self) -> NotingOutput:
        output = NotingOutput(
            "detections", self.directory, rules=lambda: self.rules, clock=FakeClock(), risk_points=None
        )
        output.seen = self.seen
        return output

    async def kill(self, output: Output) -> None:
        assert isinstance(output, NotingOutput)
        if output._looking is not None:
            output._looking.cancel()
        assert output._state is not None
        await output._in_thread(output._state._database.close)
        output._thread.shutdown()

    def records_in(self) -> list[bytes]:
        if not (self.directory / FILE_NAME).exists():
            return []
        database = sqlite3.connect(self.directory / FILE_NAME)
        rows = database.execute("SELECT identity FROM match").fetchall()
        database.close()
        return [self.seen[identity] for (identity,) in rows]

    def refusable_record(self) -> bytes | None:
        return None

    def filled(self) -> AbstractContextManager[None] | None:
        return None


class TestDetections(OutputContract):
    """Every promise of an output; repetitions are harmless."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> DetectionPlace:
        return DetectionPlace(tmp_path)


def test_what_a_batch_changes_is_told_once_it_is_durable(tmp_path: Path) -> None:
    """Each alert by itself; a repetition tells nothing."""
    told: list[Change] = []

    async def deliver() -> None:
        output = DetectionOutput(
            "d", tmp_path / "state", rules=lambda: everything(tmp_path), clock=FakeClock(), tell=told.extend
        )
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        await output.deliver(make_simple_batch(2, make_records(3), output="d"))
        await output.close()

    asyncio.run(deliver())

    assert [change.what for change in told] == [News.NEW] * 3
    assert {change.alert.tenant for change in told} == {TENANT}


def test_a_ledger_that_starts_anew_is_not_passed_over(tmp_path: Path) -> None:
    """Its first batch has a number that another ledger has had, and other records."""
    place = DetectionPlace(tmp_path)

    async def run(number: int, records: Sequence[bytes]) -> None:
        output = place.make()
        await output.open(last_batch=0, position="", newest_batch=0)
        await output.deliver(make_simple_batch(number, records, output="detections"))
        await output.close()

    asyncio.run(run(7, make_records(3)))
    asyncio.run(run(1, make_records(3, start=3)))

    assert sorted(place.records_in()) == sorted(make_records(6))


def test_silence_is_told_although_nothing_comes(tmp_path: Path) -> None:
    """Time alone is let count every minute."""
    detection = {"s": {"Id|exists": True}, "condition": "s"}
    low = {"low": {"period": "1h"}, "group_by": ["Workload"]}
    rules = load_good(tmp_path, rule_text(detection, m365watch=low)).rules
    told: list[Change] = []

    async def wait() -> None:
        clock = FakeClock()
        output = DetectionOutput("d", tmp_path / "state", rules=lambda: rules, clock=clock, tell=told.extend)
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        await clock.advance(timedelta(hours=5).total_seconds())
        for _ in range(500):
            if told:
                break
            await clock.advance(LOOK_EVERY_S)
            await asyncio.sleep(0.01)
        await output.close()

    asyncio.run(wait())

    assert [change.what for change in told][:1] == [News.NEW]
    kept = DetectionState(tmp_path / "state" / FILE_NAME).list_alerts()
    assert [one.alert.group for one in kept] == [("exchange",)]


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "file").write_text("")
    output = DetectionOutput("d", tmp_path / "file" / "state", rules=tuple, clock=FakeClock())

    with pytest.raises(OutputUnusable, match="make it, or name another state directory"):
        asyncio.run(output.open(last_batch=0, position=""))


def test_a_batch_that_waited_on_disk_counts_like_any_other(tmp_path: Path) -> None:
    """It comes without the headers that its records had in memory."""
    place = DetectionPlace(tmp_path)

    async def deliver() -> None:
        output = place.make()
        await output.open(last_batch=0, position="")
        batch = make_simple_batch(1, make_records(3), output="detections")
        await output.deliver(Batch(1, [replace(part, headers=[]) for part in batch.parts]))
        await output.close()

    asyncio.run(deliver())

    assert sorted(place.records_in()) == sorted(make_records(3))


def test_a_run_goes_on_while_the_rules_are_read(tmp_path: Path) -> None:
    """Opening does not wait for them; the first batch does."""
    let_go = threading.Event()

    def slow_rules() -> tuple[Rule, ...]:
        assert let_go.wait(10)
        return everything(tmp_path)

    async def use() -> tuple[bool, int]:
        output = DetectionOutput("d", tmp_path / "state", rules=slow_rules, clock=FakeClock())
        await output.open(last_batch=0, position="")
        delivering = asyncio.create_task(output.deliver(make_simple_batch(1, make_records(3), output="d")))
        await asyncio.sleep(0.05)
        was_done = delivering.done()
        let_go.set()
        await delivering
        matches = output.engine.figures.matches if output.engine else 0
        await output.close()
        return was_done, matches

    assert asyncio.run(use()) == (False, 3)
