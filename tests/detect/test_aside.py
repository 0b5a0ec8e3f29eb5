"""Matches found in another process are those that are found here, and its end costs nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S

from m365watch.detect.alert import Alert
from m365watch.detect.aside import QUIET_RESTS, AsideFinder
from m365watch.detect.engine import Engine, Portion
from m365watch.detect.finding import Found
from m365watch.detect.knowledge import NOTHING_KNOWN
from m365watch.detect.library import load_packs
from m365watch.detect.risk import make_risk_rule
from m365watch.detect.state import DetectionState
from m365watch.records.headers import headers_of
from m365watch.simulator.organisation import Organisation
from rules import TENANT

START = datetime(2024, 3, 5, 8, tzinfo=UTC)
HOURS = 6
WAITS_S = PATIENCE_S


class Aside(AsideFinder):
    """One whose child is started by any batch, and waited for."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given, busy_records=1)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Return once the child is ready, or has ended."""
        end = time.monotonic() + WAITS_S
        while self.child is not None and not self.child.is_ready:
            assert time.monotonic() < end
            time.sleep(0.02)


def batches() -> list[list[Portion]]:
    """Some hours of an organisation, each a batch of small portions."""
    organisation = Organisation(3, TENANT, users=40, records_per_day=6_000)
    found = []
    for hour in range(HOURS):
        at = START + timedelta(hours=hour)
        bodies = [one.body for one in organisation.records_between(at, at + timedelta(hours=1))]
        cut = [bodies[start : start + 60] for start in range(0, len(bodies), 60)]
        found.append([Portion(TENANT, at + timedelta(hours=1), part, headers_of(part)) for part in cut])
    return found


def make_engine(path: Path, finder: type[AsideFinder] | None = None) -> Engine:
    rules = [*load_packs().rules, make_risk_rule()]
    return Engine(
        rules, DetectionState(path, survives_power_cuts=False), knowledge=NOTHING_KNOWN, finder=finder
    )


def take_all(engine: Engine, before: dict[int, object] | None = None) -> list[Alert]:
    """What the engine makes of all batches; `before` has what is done before one of them."""
    for number, portions in enumerate(batches(), start=1):
        act = (before or {}).get(number)
        if callable(act):
            act()
        engine.take(portions, number=number, now=START + timedelta(hours=HOURS))
        if isinstance(engine.finder, Aside):
            engine.finder.wait()
    alerts = [kept.alert for kept in engine.state.list_alerts()]
    engine.close()
    engine.state.close()
    return sorted(alerts, key=lambda one: one.id)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Alert]:
    """What one process finds."""
    found = take_all(make_engine(tmp_path_factory.mktemp("own") / "d.sqlite"))
    assert len(found) > 3
    return found


def test_another_process_finds_the_same(tmp_path: Path, expected: list[Alert]) -> None:
    """Of the first batch this process finds the matches, of the others the child."""
    engine = make_engine(tmp_path / "d.sqlite", Aside)
    pids: list[int] = []

    def note() -> None:
        assert isinstance(engine.finder, Aside)
        assert engine.finder.child is not None
        pids.append(engine.finder.child.pid)

    assert take_all(engine, {2: note, HOURS: note}) == expected
    assert pids[0] == pids[1]
    assert pids[0] != os.getpid()


def test_a_child_that_is_killed_is_done_without(tmp_path: Path, expected: list[Alert]) -> None:
    """Between two batches: this process takes the rest over."""
    engine = make_engine(tmp_path / "d.sqlite", Aside)

    def kill() -> None:
        assert isinstance(engine.finder, Aside)
        assert engine.finder.child is not None
        os.kill(engine.finder.child.pid, signal.SIGKILL)

    assert take_all(engine, {4: kill}) == expected
    assert isinstance(engine.finder, Aside)
    assert engine.finder.child is None


def test_a_child_that_ends_within_a_batch_loses_nothing(tmp_path: Path, expected: list[Alert]) -> None:
    """What it had found already is found once more, which changes nothing."""

    class Ending(Aside):
        def find(self, portions: Sequence[Portion]) -> Iterator[Found]:
            for number, found in enumerate(super().find(portions)):
                yield found
                if number == 0 and self.child is not None and self.child.is_ready:
                    os.kill(self.child.pid, signal.SIGKILL)

    assert take_all(make_engine(tmp_path / "d.sqlite", Ending)) == expected


def test_a_batch_that_breaks_off_leaves_nothing_behind(tmp_path: Path, expected: list[Alert]) -> None:
    """The child's other answers to it are no answers to the next one."""

    class Full(DetectionState):
        left = 0

        def write(self, key: str, value: str) -> None:
            if key == "batch" and self.left:
                self.left -= 1
                raise OSError
            super().write(key, value)

    rules = [*load_packs().rules, make_risk_rule()]
    state = Full(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules, state, finder=Aside)
    for number, portions in enumerate(batches(), start=1):
        state.left = 1
        with pytest.raises(OSError):
            engine.take(portions, number=number, now=START + timedelta(hours=HOURS))
        engine.take(portions, number=number, now=START + timedelta(hours=HOURS))
        assert isinstance(engine.finder, Aside)
        engine.finder.wait()
    found = sorted((kept.alert for kept in state.list_alerts()), key=lambda one: one.id)
    engine.close()
    state.close()

    assert found == expected


def test_a_child_imports_little() -> None:
    """It is started while much is to be done: what reads rules and settings is not imported for it."""
    code = "import sys, m365watch.detect.seeking; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())

    assert "m365watch.detect.matching" in loaded
    assert not loaded & {"pydantic", "structlog", "yaml", "sqlite3", "asyncio", "m365watch.config.settings"}


def test_a_quiet_collector_has_no_child(tmp_path: Path) -> None:
    """It takes memory, and is worth that while much is to be done."""
    engine = make_engine(tmp_path / "d.sqlite", AsideFinder)
    portions = batches()[0]
    engine.take(portions, number=1, now=START)
    assert isinstance(engine.finder, AsideFinder)
    assert engine.finder.child is None
    many = [portion for _ in range(20) for portion in portions]
    engine.take(many, number=2, now=START)
    child = engine.finder.child
    assert child is not None
    for _ in range(QUIET_RESTS + 1):
        engine.finder.rest()

    assert engine.finder.child is None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    engine.close()
    engine.state.close()
