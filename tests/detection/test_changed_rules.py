"""Rules that change while a run lasts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS
from m365watch.detection.detection_output import CHANGES_LOOK_EVERY_S as LOOK_AT_FILES_S
from m365watch.detection.detection_output import FILE_NAME, DetectionOutput, RulesRead, Surroundings
from m365watch.detection.store.detection_store import DetectionState
from m365watch_testing.batches import make_records, make_simple_batch
from m365watch_testing.clock import FakeClock
from rules import load_good, rule_text
from test_detections_output import everything


class TwoRules:
    """Files of rules that change when the test says so."""

    def __init__(self) -> None:
        self.version = 0
        self.reads = 0
        self.found: RulesRead | None = None

    def look(self) -> str:
        return str(self.version)

    def read(self) -> RulesRead | None:
        self.reads += 1
        return self.found


@guarantee(36)
def test_rules_are_read_again_when_somebody_asks(tmp_path: Path) -> None:
    """Also where changes are not looked for."""
    files = TwoRules()
    none = load_good(tmp_path, rule_text({"s": {"Id": "nobody"}, "condition": "s"})).rules
    files.found = RulesRead(everything(tmp_path), NO_EXCEPTIONS)

    async def use() -> int:
        around = Surroundings(rule_files=files, watches_files=False)
        output = DetectionOutput(
            "d", tmp_path / "state", rules=lambda: none, clock=FakeClock(), around=around
        )
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        before = output.engine
        output.reread()
        async with asyncio.timeout(PATIENCE_S):
            while output.engine is before:
                await asyncio.sleep(0.005)
        await output.deliver(make_simple_batch(2, make_records(6), output="d"))
        await output.close()
        return len(DetectionState(tmp_path / "state" / FILE_NAME).alerts.list())

    assert asyncio.run(use()) == 6


@guarantee(36)
@pytest.mark.parametrize("is_good", [True, False])
def test_changed_rules_are_taken_up_while_a_run_lasts(tmp_path: Path, is_good: bool) -> None:
    """What is found already stays; with mistakes in it, a change changes nothing."""
    files = TwoRules()
    none = load_good(tmp_path, rule_text({"s": {"Id": "nobody"}, "condition": "s"})).rules
    files.found = RulesRead(everything(tmp_path), NO_EXCEPTIONS) if is_good else None

    async def use() -> int:
        clock = FakeClock()
        around = Surroundings(rule_files=files)
        output = DetectionOutput("d", tmp_path / "state", rules=lambda: none, clock=clock, around=around)
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        before = output.engine
        files.version = 1
        async with asyncio.timeout(PATIENCE_S):
            while output.engine is before if is_good else not files.reads:
                await clock.advance(LOOK_AT_FILES_S)
                await asyncio.sleep(0.005)
        await output.deliver(make_simple_batch(2, make_records(6), output="d"))
        await output.close()
        return len(DetectionState(tmp_path / "state" / FILE_NAME).alerts.list())

    assert asyncio.run(use()) == (6 if is_good else 0)
