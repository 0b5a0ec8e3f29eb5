"""The engine as an output: the contract of all outputs, and what is its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from patience import PATIENCE_S
from promises import guarantee

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch, Receipt
from m365watch.detection.alerts.stored_alert import News
from m365watch.detection.detection_output import (
    FILE_NAME,
    LOOK_EVERY_S,
    REBUILD_AGAIN_S,
    DetectionOutput,
    Surroundings,
)
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import MakesEngine
from m365watch.detection.engine.lazy_decoder import decode_record
from m365watch.detection.engine.match_extractor import identify_record
from m365watch.detection.engine.record_batch import Incoming
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.database_recovery import RebuildStopped, set_aside_if_damaged
from m365watch.detection.store.detection_database import DETECTIONS
from m365watch.detection.store.detection_erasure import Naming, forget_named
from m365watch.detection.store.detection_store import DetectionState
from m365watch.registry.outputs import Output
from m365watch_testing.batches import TENANT, make_records, make_simple_batch
from m365watch_testing.clock import FakeClock
from m365watch_testing.output_contract import OutputContract
from rules import load_good, rule_text

NAME = "detections"


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

    def make(self, *, engine: MakesEngine = Engine) -> NotingOutput:
        rules = self.rules
        output = NotingOutput(
            NAME, self.directory, rules=lambda: rules, clock=FakeClock(), risk_points=0, engine=engine
        )
        output.seen = self.seen
        return output

    async def kill(self, output: Output) -> None:
        assert isinstance(output, NotingOutput)
        for task in output._tasks:
            task.cancel()
        assert output._state is not None
        await output._thread(output._state._database.close)
        output._thread.close()

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


@guarantee(12, 37)
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


def test_what_is_expected_before_there_is_an_engine_is_told_to_it_then(tmp_path: Path) -> None:
    """Records come while rules are read: who gets ready only for the next has lost a batch's time."""
    expected: list[int] = []

    class Expecting(Engine):
        def expect(self, records: int, *, now: datetime) -> None:
            expected.append(records)

    async def run() -> None:
        is_asked = threading.Event()

        def read_rules() -> tuple[Rule, ...]:
            assert is_asked.wait(PATIENCE_S)
            return rules

        output = DetectionOutput(
            NAME, tmp_path / "state", rules=read_rules, clock=FakeClock(), engine=Expecting, risk_points=0
        )
        await output.open(last_batch=0, position="")
        output.expect(2_000)
        is_asked.set()
        await output.deliver(make_simple_batch(1, make_records(3), output=NAME))
        output.expect(3_000)
        await output.close()

    rules = everything(tmp_path)
    asyncio.run(run())

    assert expected == [2_000, 3_000]


@guarantee(37)
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
        async with asyncio.timeout(PATIENCE_S):
            while not told:
                await clock.advance(LOOK_EVERY_S)
                await asyncio.sleep(0.01)
        await output.close()

    asyncio.run(wait())

    assert [change.what for change in told][:1] == [News.NEW]
    kept = DetectionState(tmp_path / "state" / FILE_NAME).alerts.list()
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
        assert let_go.wait(PATIENCE_S)
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


class SlowRebuilder:
    """Makes a file anew when it is told to; fails first, as often as it is told to."""

    def __init__(self, *, failures: int = 0, is_waited_for: bool = False) -> None:
        self.is_waited_for = is_waited_for
        self.failures = failures
        self.let_go = threading.Event()
        self.begun = 0

    def is_needed(self, *, was_damaged: bool, last_batch: int) -> bool:
        return was_damaged or last_batch > 0

    def run(self, rules: Sequence[Rule], is_stopping: Callable[[], bool]) -> None:
        del rules
        self.begun += 1
        if self.begun <= self.failures:
            raise OutputUnavailable("the lake is away", where="lake")
        while not self.let_go.wait(0.005):
            if is_stopping():
                raise RebuildStopped


def with_rebuilder(tmp_path: Path, rebuilder: SlowRebuilder, clock: FakeClock) -> DetectionOutput:
    return DetectionOutput(
        "d",
        tmp_path / "state",
        rules=lambda: everything(tmp_path),
        clock=clock,
        around=Surroundings(rebuilder=rebuilder),
    )


@guarantee(37)
def test_a_run_goes_on_while_the_file_is_made_anew(tmp_path: Path) -> None:
    """Opening does not wait for it, the first batch does; a lake that is away is asked again."""
    rebuilder = SlowRebuilder(failures=2)

    async def use() -> tuple[bool, int]:
        clock = FakeClock()
        output = with_rebuilder(tmp_path, rebuilder, clock)
        await output.open(last_batch=7, position="")
        delivering = asyncio.create_task(output.deliver(make_simple_batch(8, make_records(3), output="d")))
        while rebuilder.begun < 3:
            await asyncio.sleep(0.01)
            await clock.advance(REBUILD_AGAIN_S)
        was_done = delivering.done()
        rebuilder.let_go.set()
        await delivering
        matches = output.engine.figures.matches if output.engine else 0
        await output.close()
        return was_done, matches

    assert asyncio.run(use()) == (False, 3)


def test_a_run_that_ends_by_itself_has_a_whole_file(tmp_path: Path) -> None:
    """There may be no batch that waits for it."""
    rebuilder = SlowRebuilder(is_waited_for=True)

    async def use() -> tuple[bool, bool]:
        output = with_rebuilder(tmp_path, rebuilder, FakeClock())
        opening = asyncio.create_task(output.open(last_batch=7, position=""))
        await asyncio.sleep(0.05)
        was_open = opening.done()
        rebuilder.let_go.set()
        await opening
        is_ready = output.engine is not None
        await output.close()
        return was_open, is_ready

    assert asyncio.run(use()) == (False, True)


@pytest.mark.parametrize("failures", [0, 1_000])
def test_a_stop_does_not_wait_for_a_file_that_is_made_anew(tmp_path: Path, failures: int) -> None:
    """What was done stays done; the next run goes on."""

    async def use() -> bool:
        output = with_rebuilder(tmp_path, SlowRebuilder(failures=failures), FakeClock())
        await output.open(last_batch=7, position="")
        await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_S):
            await output.close()
        return (tmp_path / "state" / FILE_NAME).exists()

    assert asyncio.run(use()) is False


def test_a_damaged_file_is_set_aside_at_start(tmp_path: Path) -> None:
    """Even where nothing can make it anew; detection begins with what comes then."""
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE_NAME).write_bytes(b"this is no database at all" * 100)

    async def use() -> int:
        output = DetectionOutput("d", state, rules=lambda: everything(tmp_path), clock=FakeClock())
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(3), output="d"))
        await output.close()
        return len(DetectionState(state / FILE_NAME).alerts.list())

    assert asyncio.run(use()) == 3
    assert len(list(state.glob("detections-*.damaged.sqlite"))) == 1


def test_damage_that_a_run_meets_is_looked_for_at_the_next_start(tmp_path: Path) -> None:
    """All of the file then, however long that takes; and it says what to do."""
    path = tmp_path / FILE_NAME
    state = DetectionState(path)
    with state.transaction():
        state.write("key", "x" * 20_000)
    state.close()
    body = path.read_bytes()
    page = body.rindex(b"x" * 1_000) // 4096
    path.write_bytes(body[: 4096 * (page - 3)] + bytes([255]) * 4096 * 4 + body[4096 * (page + 1) :])
    state = DetectionState(path)
    with pytest.raises(OutputUnavailable, match="start m365watch again"):
        read_in_transaction(state)
    state.close()

    assert path.with_suffix(".suspect").exists()
    assert set_aside_if_damaged(path, clock=FakeClock())
    assert not path.with_suffix(".suspect").exists()


def read_in_transaction(state: DetectionState) -> None:
    with state.transaction():
        state.read("key")


@guarantee(20)
@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("looks_only", [False, True])
def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path, step: int, looks_only: bool) -> None:
    """It stays as it is; an older one can be moved aside, and is made anew from the lake."""
    path = tmp_path / FILE_NAME
    state = DetectionState(path)
    state._database.execute(f"PRAGMA user_version = {DETECTIONS.version + step}")
    state.close()
    before = path.read_bytes()

    with pytest.raises(OutputUnusable, match=f"has schema {DETECTIONS.version + step}") as refused:
        DetectionState(path, looks_only=looks_only)
    with pytest.raises(OutputUnavailable, match="has schema"):
        forget_named(path, Naming(lambda _: True))

    assert ("makes it anew" in refused.value.fix) == (step < 0)
    assert path.read_bytes() == before


class FailingEngine(Engine):
    """One that cannot write the first batch that it is given."""

    has_failed = False

    def take(self, portions: Sequence[Incoming], *, number: int, now: datetime) -> list[Change]:
        if not self.has_failed:
            self.has_failed = True
            raise OutputUnavailable("the disk is full", where="d")
        return super().take(portions, number=number, now=now)


@pytest.mark.parametrize("together", [True, False])
def test_a_batch_that_did_not_count_is_not_passed_over(tmp_path: Path, together: bool) -> None:
    """The one after it does not count either if it was there already; where it does, the first still will."""
    place = DetectionPlace(tmp_path)
    first, second = make_records(3), make_records(3, start=3)

    async def use() -> None:
        output = place.make(engine=FailingEngine)
        await output.open(last_batch=0, position="")
        batches = [make_simple_batch(1, first, output=NAME), make_simple_batch(2, second, output=NAME)]
        if together:
            failed = await asyncio.gather(*map(output.deliver, batches), return_exceptions=True)
            assert [type(one) for one in failed] == [OutputUnavailable] * 2
        else:
            with pytest.raises(OutputUnavailable, match="full"):
                await output.deliver(batches[0])
            await output.deliver(batches[1])
        for batch in batches:
            await output.deliver(batch)
        await output.close()

    asyncio.run(use())

    assert sorted(place.records_in()) == sorted([*first, *second])
