"""Detection in another process finds what is found here, and the end of that process costs nothing."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import msgspec
import pytest
from patience import PATIENCE_S
from promises import guarantee
from verdicts import packs

from m365watch.common.errors import OutputUnavailable
from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.triage import DetectionStanding, read_standing
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.engine_port import Detects, Figures
from m365watch.detection.engine.engine_process import (
    PIECE_RECORDS,
    QUIET_LOOKS,
    STEADY_S,
    WAITS_S,
    AsideEngine,
    Child,
    ChildLost,
    KindNumbers,
    Restarts,
    part_of,
)
from m365watch.detection.engine.engine_worker import Piece, Take, Told, write_frame
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.rule_matcher import Kind, kinds_of
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from m365watch_simulator.organization.organization import Organisation
from rules import TENANT, load_good, rule_text

START = datetime(2024, 3, 5, 8, tzinfo=UTC)
HOURS = 6
END = START + timedelta(hours=HOURS)


@cache
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


@cache
def all_rules() -> list[Rule]:
    return [*packs().rules, make_risk_rule()]


def open_state(folder: Path) -> DetectionState:
    return DetectionState(folder / "d.sqlite", survives_power_cuts=False)


def make_aside(folder: Path, *, busy_records: int = 1) -> AsideEngine:
    """One whose child is started by any batch."""
    return AsideEngine(all_rules(), open_state(folder), busy_records=busy_records)


def child_of(engine: AsideEngine) -> Child:
    assert engine.child is not None
    return engine.child


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def take_all(
    engine: Detects,
    before: Mapping[int, Callable[[], object]] | None = None,
    *,
    change: Mapping[int, Callable[[list[Portion]], list[Portion]]] | None = None,
    last: list[Portion] | None = None,
) -> tuple[list[Alert], Figures]:
    """What the engine makes of all batches; `before` and `change` have what is done to one of them."""
    every = [*batches(), *([last] if last else [])]
    for number, portions in enumerate(every, start=1):
        (before or {}).get(number, bool)()
        changed = (change or {}).get(number, list)(portions)
        engine.take(changed, number=number, now=END)
    engine.look(now=END)
    alerts = [kept.alert for kept in engine.state.alerts.list()]
    engine.close()
    engine.state.close()
    return sorted(alerts, key=lambda one: one.id), engine.figures


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Alert], Figures]:
    """What one process finds."""
    alerts, figures = take_all(Engine(all_rules(), open_state(tmp_path_factory.mktemp("own"))))
    assert len(alerts) > 3
    return alerts, figures


def test_a_child_is_started_when_much_is_expected(tmp_path: Path) -> None:
    """It gets ready while the batch is being filled; for little it is not started."""
    engine = make_aside(tmp_path, busy_records=100)
    engine.expect(99, now=END)
    before = engine.child
    engine.expect(100, now=END)
    pid = child_of(engine).pid
    engine.take(batches()[0], number=1, now=END)

    assert (before, child_of(engine).pid) == (None, pid)
    engine.close()
    engine.state.close()


@guarantee(34)
@pytest.mark.slow
def test_another_process_finds_the_same(tmp_path: Path, expected: tuple[list[Alert], Figures]) -> None:
    """Of every batch, from the first on, and it counts the same."""
    engine = make_aside(tmp_path)
    pids: list[int] = []

    assert (
        take_all(engine, {one: lambda: pids.append(child_of(engine).pid) for one in (2, HOURS)}) == expected
    )
    assert pids[0] == pids[1] != os.getpid()
    assert not is_running(pids[0])


@guarantee(34)
@pytest.mark.slow
def test_a_batch_of_many_pieces_is_looked_at_whole(tmp_path: Path) -> None:
    """What was read of the first ones is gone when the last ones are there."""
    rules = load_good(tmp_path, rule_text({"s": {"Operation": "A"}, "condition": "s"})).rules
    at = END - timedelta(hours=1)
    fields = {"CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "A", "Text": "x" * 500}
    portions = []
    for first in range(0, 6 * PIECE_RECORDS, 100):
        records = [
            json.dumps(
                {"Id": f"r{number}", **fields, "UserId": f"{number % 60}@x", "Text": "x" * 500}
            ).encode()
            for number in range(first, first + 100)
        ]
        portions.append(Portion(TENANT, END, records, headers_of(records)))
    (tmp_path / "own").mkdir()
    (tmp_path / "child").mkdir()
    engines: list[Detects] = [
        Engine(rules, open_state(tmp_path / "own")),
        AsideEngine(rules, open_state(tmp_path / "child"), busy_records=1),
    ]
    counts = []
    for engine in engines:
        engine.take(portions, number=1, now=END)
        counts.append([kept.alert.count for kept in engine.state.alerts.list()])
        engine.close()
        engine.state.close()

    assert counts == [[PIECE_RECORDS // 10] * 60] * 2


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 2_048, reason="fewer may be open")
def test_a_collector_with_a_thousand_open_files_hears_its_child(tmp_path: Path) -> None:
    """As that of many tenants may: its pipes have numbers then that not every way to wait takes."""
    engine, [portions, *_] = make_aside(tmp_path), batches()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2_048, limits[1]))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < 1_024:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        engine.take(portions, number=1, now=END)
        heard = engine.child
    finally:
        for one in opened:
            os.close(one)
        engine.close()
        engine.state.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert heard is not None
    assert engine.figures.records == sum(portion.count for portion in portions)


@guarantee(37)
@pytest.mark.slow
def test_a_child_that_is_killed_is_done_without(
    tmp_path: Path, expected: tuple[list[Alert], Figures]
) -> None:
    """Between two batches: this process takes over, knowing what the child has written, and says so."""
    engine = make_aside(tmp_path)

    assert take_all(engine, {4: lambda: os.kill(child_of(engine).pid, signal.SIGKILL)})[0] == expected[0]
    assert engine.child is None
    records = sum(portion.count for portions in batches() for portion in portions)
    again = f"{END + timedelta(seconds=30):%H:%M:%S}Z"
    told = f"has ended and is started again when much is to be done after {again}"
    assert read_standing(engine.state.path) == DetectionStanding(records, told)


@pytest.mark.slow
def test_a_child_that_is_killed_twice_is_started_again_twice(
    tmp_path: Path, expected: tuple[list[Alert], Figures]
) -> None:
    """After half a minute, and then after two: each goes on from the file, and nothing counts twice."""
    engine = make_aside(tmp_path)
    first, second = END + timedelta(seconds=30), END + timedelta(seconds=30 + 120)
    times = {1: END, 2: END, 3: first, 4: first, 5: first, 6: second}
    pids: dict[int, int | None] = {}
    for number, portions in enumerate(batches(), start=1):
        if number in (2, 4):
            os.kill(child_of(engine).pid, signal.SIGKILL)
        engine.take(portions, number=number, now=times[number])
        pids[number] = engine.child.pid if engine.child is not None else None
        standing = read_standing(engine.state.path)
        assert bool(standing.trouble) is (pids[number] is None)
    alerts = sorted((kept.alert for kept in engine.state.alerts.list()), key=lambda one: one.id)
    engine.close()
    engine.state.close()

    assert [number for number, pid in pids.items() if pid is None] == [2, 4, 5]
    assert len({pid for pid in pids.values() if pid is not None}) == 3
    assert alerts == expected[0]


def test_a_child_that_ends_time_and_again_is_given_up() -> None:
    """Each wait is longer than the one before, and in the end there is none; a long run makes up for all."""
    restarts, now = Restarts(), START
    waits = []
    while not restarts.is_over:
        assert restarts.may_start(now)
        restarts.note_start(now)
        restarts.note_end(now)
        if restarts.not_before is not None:
            assert not restarts.may_start(restarts.not_before - timedelta(seconds=1))
            waits.append((restarts.not_before - now).total_seconds())
            now = restarts.not_before

    assert tuple(waits) == WAITS_S
    assert not restarts.may_start(now + timedelta(days=7))
    assert restarts.told.startswith("5 times now, and is started again with the collector")
    steady = Restarts()
    for _ in range(20):
        steady.note_start(now)
        now += timedelta(seconds=STEADY_S)
        steady.note_end(now)
        assert steady.not_before == now + timedelta(seconds=WAITS_S[0])


@guarantee(34)
def test_a_child_that_ends_within_a_batch_loses_nothing(
    tmp_path: Path, expected: tuple[list[Alert], Figures]
) -> None:
    """What it was told of the batch is told anew to the engine here."""
    engine = make_aside(tmp_path)

    class Deadly(Portion):
        """Whoever looks at it kills the child."""

        @property
        def kinds(self) -> Iterable[Kind]:
            if engine.child is not None:
                os.kill(engine.child.pid, signal.SIGKILL)
            return kinds_of(self.headers)

    def deadly(portion: Portion) -> Portion:
        return Deadly(portion.tenant, portion.received_at, portion.records, portion.headers)

    cut = {3: lambda portions: [*portions[:2], deadly(portions[2]), *portions[3:]]}

    assert take_all(engine, change=cut)[0] == expected[0]
    assert engine.child is None


@pytest.mark.slow
def test_an_engine_here_goes_on_where_the_child_was_let_go_of(
    tmp_path: Path, expected: tuple[list[Alert], Figures]
) -> None:
    """After quiet minutes; and the next child goes on where that one ended."""
    engine = make_aside(tmp_path, busy_records=100)
    pids: list[int] = []

    def be_quiet() -> None:
        pids.append(child_of(engine).pid)
        for _ in range(QUIET_LOOKS + 1):
            engine.look(now=END)
        assert engine.child is None
        assert not is_running(pids[0])

    cut = {4: lambda portions: portions[:1], 5: lambda _: batches()[3]}
    every = {4: be_quiet, 5: lambda: pids.append(0 if engine.child is None else 1)}

    assert take_all(engine, every, change=cut, last=batches()[4])[0] == expected[0]
    assert pids[1:] == [0]


def test_a_batch_that_cannot_be_written_counts_when_it_comes_again(
    tmp_path: Path, expected: tuple[list[Alert], Figures]
) -> None:
    """The child says what its disk says, and goes on."""
    engine = make_aside(tmp_path)
    disk = sqlite3.connect(engine.state.path)
    full = "CREATE TRIGGER full BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"

    def refuse() -> None:
        disk.execute(full)
        with pytest.raises(OutputUnavailable, match="the disk is full"):
            engine.take(batches()[2], number=3, now=END)
        disk.execute("DROP TRIGGER full")

    assert take_all(engine, {3: refuse})[0] == expected[0]
    disk.close()


def test_a_batch_that_cannot_be_told_counts_all_the_same(tmp_path: Path) -> None:
    """A number that no message has room for: the batch counts here, and so do those after it."""
    [rule] = load_good(tmp_path, rule_text({"s": {"Operation": "A"}, "condition": "s"})).rules
    engine = AsideEngine([rule], open_state(tmp_path), busy_records=1)
    counts = []
    for number, record_type in enumerate((1, 1 << 64, 2), start=1):
        fields = {"Id": f"r{number}", "CreationTime": f"{END:%Y-%m-%dT%H:%M:%S}", "RecordType": record_type}
        records = [json.dumps({**fields, "Operation": "A", "UserId": "ann@x"}).encode()]
        engine.take([Portion(TENANT, END, records, headers_of(records))], number=number, now=END)
        counts.append((engine.state.last_batch, engine.state.count()["matches"], engine.child is not None))

    assert counts == [(1, 1, True), (2, 2, False), (3, 3, False)]
    engine.close()
    engine.state.close()


@guarantee(37)
def test_a_child_whose_collector_is_gone_writes_nothing_more(tmp_path: Path) -> None:
    """Another run has taken hold of the file: what was left behind ends at its next batch."""
    state = open_state(tmp_path)
    told = Told(state.path, state.take_hold(), False, tuple(all_rules()), NOTHING_KNOWN, Exceptions())
    child = Child(told, may_match=lambda _kind: True)
    assert child.take(batches()[0], number=1, now=END).trouble is None
    state.take_hold()

    with pytest.raises(ChildLost, match="has ended"):
        child.take(batches()[1], number=2, now=END)
    child.stop()

    assert state.last_batch == 1
    state.close()


@guarantee(37)
@pytest.mark.parametrize("after", [(), (Take(2, END), Piece([]))])
def test_a_batch_that_breaks_off_does_not_count(tmp_path: Path, after: tuple[Take | Piece, ...]) -> None:
    """The collector was killed while it told of it, or gave up and tells of another: that is no end of it."""
    state = open_state(tmp_path)
    told = Told(state.path, state.take_hold(), False, tuple(all_rules()), NOTHING_KNOWN, Exceptions())
    parts = [part_of(portion, KindNumbers(lambda _kind: True)) for portion in batches()[0]]
    command = [sys.executable, "-m", "m365watch.detection.engine.engine_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        frames = map(msgspec.msgpack.encode, (Take(1, END), Piece(parts), *after))
        for frame in (pickle.dumps(told), *frames):
            write_frame(process.stdin.fileno(), frame)
        process.stdin.close()

        assert process.wait(PATIENCE_S) == 0

    assert (state.last_batch, state.count()["matches"]) == (0, 0)
    state.close()


def test_a_child_without_memory_for_what_it_is_told_ends(tmp_path: Path) -> None:
    """Nobody would read on, and the collector wait for ever for room to write."""
    state = open_state(tmp_path)
    told = Told(state.path, state.take_hold(), False, tuple(all_rules()), NOTHING_KNOWN, Exceptions())
    command = [sys.executable, "-m", "m365watch.detection.engine.engine_worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        write_frame(process.stdin.fileno(), pickle.dumps(told))
        process.stdin.write((1 << 60).to_bytes(8, "little"))  # as many bytes are said to follow
        process.stdin.flush()
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()

    assert process.returncode == 0
    state.close()


def test_what_no_rule_can_match_is_not_sent() -> None:
    """Of the others each comes with its kind, in its place; however often kinds are numbered."""
    portions = batches()[1]
    wanted = {kind for portion in portions for kind in portion.kinds if (kind[0] or "")[:1] in "FMU"}
    kinds = KindNumbers(wanted.__contains__)
    for portion in (*portions, *portions):
        part = part_of(portion, kinds)
        pairs = zip(portion.records, portion.kinds, strict=True)

        sent = zip(map(bytes, part.records), part.kinds, strict=True)
        assert [*sent] == [one for one in pairs if one[1] in wanted]
        assert (part.count, part.earliest_ms) == (portion.count, portion.earliest_ms)


def test_a_child_imports_little() -> None:
    """It is started while much is to be done: what reads rules and settings is not imported for it."""
    code = "import sys, m365watch.detection.engine.engine_worker; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())

    assert "m365watch.detection.engine.detection_engine" in loaded
    assert not loaded & {
        "pydantic",
        "structlog",
        "yaml",
        "asyncio",
        "sigma",
        "m365watch.config.models.settings",
    }


def test_a_quiet_collector_has_no_child(tmp_path: Path) -> None:
    """It takes memory, and is worth that while much is to be done."""
    engine = AsideEngine(all_rules(), open_state(tmp_path))
    engine.take(batches()[0], number=1, now=START)

    assert engine.child is None
    engine.close()
    engine.state.close()
