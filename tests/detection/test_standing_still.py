"""A process that detects and stands still holds nobody up for long, and that it does is said."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.detection_output import DetectionOutput
from m365watch.detection.engine import engine_process as aside
from m365watch.detection.engine import process_watchdog as standstill
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_process import AsideEngine
from m365watch_testing.batches import make_records, make_simple_batch
from m365watch_testing.clock import FakeClock
from test_aside import END, all_rules, batches, child_of, make_aside, open_state
from test_detections_output import everything


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is some tenths of a second, and a pipe takes next to nothing."""
    monkeypatch.setattr(standstill, "LOOK_S", 0.02)
    monkeypatch.setattr(standstill, "STILL_S", 0.3)
    monkeypatch.setattr(standstill, "HARM_S", 1.5)
    monkeypatch.setattr(aside, "PIPE_BYTES", 4_096)


def start_by(folder: Path, monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    """Have the child begin with these words of a shell."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{before}\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))


def alerts_of(engine: Engine | AsideEngine) -> list[str]:
    return sorted(kept.alert.id for kept in engine.state.alerts.list())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What one process finds in the first two batches."""
    engine = Engine(all_rules(), open_state(tmp_path_factory.mktemp("own")))
    for number in (1, 2):
        engine.take(batches()[number], number=number, now=END)
    found = alerts_of(engine)
    engine.state.close()
    assert found
    return found


@guarantee(37)
@pytest.mark.slow
@pytest.mark.parametrize("pipe_bytes", [4_096, 1 << 20], ids=["told", "asked"])
def test_a_child_that_is_stopped_is_done_without(
    tmp_path: Path, expected: list[str], monkeypatch: pytest.MonkeyPatch, pipe_bytes: int
) -> None:
    """In a batch that is larger than its pipe the collector waited for room, for ever and without a word."""
    monkeypatch.setattr(aside, "PIPE_BYTES", pipe_bytes)
    monkeypatch.setattr(standstill, "LOOK_S", 0.02)
    engine = make_aside(tmp_path)
    engine.take(batches()[1], number=1, now=END)
    os.kill(child_of(engine).pid, signal.SIGSTOP)
    while not standstill.is_stopped(child_of(engine)._process):
        time.sleep(0.005)  # a busy machine takes its time to stop it
    # Not before it stands: one that begins, or works, may be silent for longer on a busy machine.
    monkeypatch.setattr(standstill, "STILL_S", 0.3)

    with capture_logs() as heard:
        engine.take(batches()[2], number=2, now=END)

    # A slow machine may be told of the wait too.
    [line] = [one["event"] for one in heard if "was stopped by a signal" in one["event"]]
    assert engine.child is None
    assert alerts_of(engine) == expected
    assert line.startswith("detections: the process that does them was stopped by a signal, has ")
    assert line.endswith("Z; the collector does it itself now")
    engine.close()
    engine.state.close()


@pytest.mark.usefixtures("_hurried")
def test_a_child_that_takes_nothing_is_said_long_before_it_is_done_without(
    tmp_path: Path, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with its number and what to do: it may be frozen, and goes on when it no more is."""
    start_by(tmp_path, monkeypatch, "exec sleep 1000")
    engine = make_aside(tmp_path)

    with capture_logs() as heard:
        for number in (1, 2):
            engine.take(batches()[number], number=number, now=END)

    still, without = [one["event"] for one in heard if one["log_level"] == "warning"]
    assert " has taken nothing for 0 s; batches wait for it, " in still
    assert "after `kill -9 " in still
    assert "has taken nothing for 2 s, is ended and is started again" in without
    assert alerts_of(engine) == expected
    engine.close()
    engine.state.close()


@pytest.mark.usefixtures("_hurried")
def test_a_child_that_is_slow_is_waited_for(
    tmp_path: Path, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it goes on is said as well."""
    monkeypatch.setattr(standstill, "HARM_S", PATIENCE_S)
    start_by(tmp_path, monkeypatch, "sleep 1")
    engine = make_aside(tmp_path)

    with capture_logs() as heard:
        for number in (1, 2):
            engine.take(batches()[number], number=number, now=END)
            pid = child_of(engine).pid

    lines = [one["event"] for one in heard]
    assert f"detections: the process that does them, {pid}, has " in lines[0]
    assert "detections: the process that does them goes on" in lines
    assert not [one for one in lines if "the collector does it itself now" in one]
    assert alerts_of(engine) == expected
    engine.close()
    engine.state.close()


@guarantee(37)
def test_a_child_that_stands_still_keeps_no_collector_from_ending(tmp_path: Path) -> None:
    """What it had under way does not count, and is left to the next run."""
    engines: list[AsideEngine] = []

    def make(*given: object, **named: object) -> AsideEngine:
        engines.append(AsideEngine(*given, **named, busy_records=1))  # type: ignore[arg-type]
        return engines[-1]

    async def use() -> None:
        output = DetectionOutput(
            "d", tmp_path / "state", rules=lambda: everything(tmp_path), clock=FakeClock(), engine=make
        )
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        os.kill(child_of(engines[0]).pid, signal.SIGSTOP)
        delivering = asyncio.create_task(
            output.deliver(make_simple_batch(2, make_records(3, start=3), output="d"))
        )
        await asyncio.sleep(0.1)
        async with asyncio.timeout(PATIENCE_S):
            await output.close()
        with pytest.raises(OutputUnavailable):
            await delivering

    asyncio.run(use())

    assert engines[0].child is None
