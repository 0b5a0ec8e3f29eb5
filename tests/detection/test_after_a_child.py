"""What the engine here knows after another process has worked, and that one after the engine here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from structlog.testing import capture_logs

from m365watch.config.models.detections import DetectionsSection
from m365watch.config.models.enrichment import EnrichSection
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.alerts.triage import read_standing
from m365watch.detection.engine.detection_engine import HOUR_MATCHES_MAX, Engine
from m365watch.detection.engine.engine_port import Detects
from m365watch.detection.engine.engine_process import QUIET_LOOKS, AsideEngine, Child, ChildLost
from m365watch.detection.engine.engine_worker import Told
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.factory import knowledge_of
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BUSY_RECORDS = 10
"""More go to another process."""
Make = Callable[[Sequence[Rule], DetectionState], Detects]


def record(name: str, *, ago: timedelta, **fields: Any) -> bytes:
    created = f"{NOW - ago:%Y-%m-%dT%H:%M:%S}"
    plain = {"Id": name, "CreationTime": created, "Operation": "A", "UserId": "ann@x"}
    return json.dumps({**plain, "ClientIP": "192.0.2.1", **fields}).encode()


def as_batch(*records: bytes) -> list[Portion]:
    return [Portion(TENANT, NOW, records, headers_of(records))]


def open_state(folder: Path) -> DetectionState:
    return DetectionState(folder / "d.sqlite", survives_power_cuts=False)


def aside(rules: Sequence[Rule], state: DetectionState) -> AsideEngine:
    return AsideEngine(rules, state, busy_records=BUSY_RECORDS)


def alerts_over_two_engines(
    folder: Path, make: Make, batches: Sequence[Sequence[bytes]], **extension: object
) -> list[KeptAlert]:
    """The alerts of a rule, where rules are read again, and change in nothing, before the last batch."""
    detection = {"s": {"Operation": "A"}, "condition": "s"}
    rules = load_good(folder, rule_text(detection, m365watch=extension)).rules
    state = open_state(folder)
    engine = make(rules, state)
    for number, records in enumerate(batches, start=1):
        if number == len(batches):
            before, engine = engine, make(rules, state)
            before.close()
        engine.take(as_batch(*records), number=number, now=NOW)
        engine.look(now=NOW)
    found = state.alerts.list()
    engine.close()
    state.close()
    return found


@pytest.mark.parametrize("make", [Engine, aside])
def test_rules_read_again_know_since_when_another_process_has_watched(tmp_path: Path, make: Make) -> None:
    """Here a tenant was watched for an hour; there came a week: nothing is learned any more."""
    backlog = [record(f"old {hour}", ago=timedelta(days=7, hours=-hour)) for hour in range(2 * BUSY_RECORDS)]
    batches = [
        [record("first", ago=timedelta(hours=1))],
        backlog,
        [record("new", ago=timedelta(minutes=5), ClientIP="203.0.113.9")],
    ]
    first_seen = {"key": ["UserId", "ClientIP"], "period": "14d", "learn": "3d"}

    [kept] = alerts_over_two_engines(tmp_path, make, batches, first_seen=first_seen)

    assert kept.alert.count == 1


@pytest.mark.parametrize("make", [Engine, aside])
def test_rules_read_again_know_which_hours_were_full_for_another_process(tmp_path: Path, make: Make) -> None:
    """The alert says on that its count is only the least there was."""
    flood = [
        record(f"flood {second}", ago=timedelta(minutes=59, seconds=-second))
        for second in range(HOUR_MATCHES_MAX * 3 // 2)
    ]
    batches = [
        [record("first", ago=timedelta(minutes=61))],
        flood,
        [record("last", ago=timedelta(minutes=5))],
    ]

    [kept] = alerts_over_two_engines(tmp_path, make, batches, quiet="2h")

    assert [note for note in kept.alert.notes if "the count is at least this" in note]


def batch_of(count: int, *, number: int) -> list[Portion]:
    return as_batch(*(record(f"{number} {one}", ago=timedelta(hours=1)) for one in range(count)))


class Asker:
    """An engine whose rule finds Ann where a list has her."""

    def __init__(self, folder: Path) -> None:
        self.vips = folder / "vips.txt"
        self.vips.write_text("ann@x\n", encoding="utf-8")
        detection = {"s": {"Operation": "A", "m365.vip": "true"}, "condition": "s"}
        self.rules = load_good(folder, rule_text(detection)).rules
        settings = DetectionsSection(enrich=EnrichSection(vip_lists=(self.vips,)))
        self.recipe = partial(knowledge_of, settings)
        self.state = open_state(folder)
        self.engine = AsideEngine(
            self.rules, self.state, knowledge=self.recipe(), recipe=self.recipe, busy_records=BUSY_RECORDS
        )
        self._batches = 0

    def found_of(self, count: int) -> int:
        """How many of so many records of hers are found."""
        before = self.state.count()["matches"]
        self._batches += 1
        self.engine.take(batch_of(count, number=self._batches), number=self._batches, now=NOW)
        return self.state.count()["matches"] - before

    def let_go(self) -> None:
        """Have quiet minutes."""
        for _ in range(QUIET_LOOKS + 1):
            self.engine.look(now=NOW)
        assert self.engine.child is None

    def child_told(self, *files: Path) -> Child:
        """A process that is told of these files that they were read here."""
        hold = self.state.take_hold()
        told = Told(self.state.path, hold, False, self.rules, self.recipe, Exceptions(), frozenset(files))
        return Child(told, may_match=lambda _kind: True)


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[Asker]:
    found = Asker(tmp_path)
    yield found
    found.engine.close()
    found.state.close()


def put_a_folder_there(path: Path) -> None:
    path.unlink()
    path.mkdir()


@guarantee(36)
@pytest.mark.parametrize("harm", [Path.unlink, put_a_folder_there])
def test_what_a_file_said_counts_on_however_much_is_to_be_done(
    asker: Asker, harm: Callable[[Path], None]
) -> None:
    """Another process would read it as it is now: none is started, which is said once, until it is back."""
    many, vips = 2 * BUSY_RECORDS, asker.vips
    assert asker.found_of(1) == 1
    harm(vips)

    with capture_logs() as lines:
        assert [asker.found_of(many), asker.found_of(many)] == [many, many]
    assert asker.engine.child is None
    told = f"is started when much is to be done and {vips} can be read"
    assert [line["event"] for line in lines] == [
        f"detections: the process that does them {told}; the collector does it itself now"
    ]
    assert read_standing(asker.state.path).trouble == told
    if vips.is_dir():
        vips.rmdir()
    vips.write_text("ann@x\n", encoding="utf-8")
    assert asker.found_of(many) == many
    assert asker.engine.child is not None
    assert read_standing(asker.state.path).trouble == ""


@guarantee(36)
def test_what_a_file_said_while_another_process_was_at_work_counts_here(asker: Asker) -> None:
    """It was changed meanwhile, and then lost: the engine here had never asked it as it was last."""
    assert asker.found_of(2 * BUSY_RECORDS) == 2 * BUSY_RECORDS
    asker.vips.write_text("ann.other@x\n", encoding="utf-8")
    asker.found_of(1)  # the next batch knows what has changed, as in any engine
    assert asker.found_of(1) == 0
    asker.vips.unlink()
    asker.let_go()

    assert asker.found_of(1) == 0


@pytest.mark.slow
def test_a_process_that_lacks_what_was_known_here_ends(asker: Asker) -> None:
    """The file was there a moment ago, when it was started; what was never there it need not know."""
    asker.vips.unlink()
    child = asker.child_told(asker.vips)
    with pytest.raises(ChildLost, match="has ended"):
        child.look(now=NOW)
    child.stop()
    child = asker.child_told()

    assert child.look(now=NOW).trouble is None
    child.stop()
