"""What the engine here knows after another process has worked, and that one after the engine here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from m365watch.detect.aside import AsideEngine
from m365watch.detect.engine import HOUR_MATCHES_MAX, Engine
from m365watch.detect.kept import KeptAlert
from m365watch.detect.port import Detects
from m365watch.detect.portions import Portion
from m365watch.detect.rule import Rule
from m365watch.detect.state import DetectionState
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
