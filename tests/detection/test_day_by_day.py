"""Two months day by day, with absences, restarts and late records, give what all at once gives."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.timestamps import instant_of_ms, ms_of
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import load_library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT
from test_any_order import COUNTRIES, KNOWLEDGE, joint, single

START = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 60
FED_DAYS = 7
"""The collector begins with all that the feed still has, newest first."""
AWAY_DAYS = 6
HALF_DAY = timedelta(hours=12)
LATE_DAYS = 3


@cache
def load_rules(directory: Path) -> tuple[Rule, ...]:
    """A rule of every kind over days, and correlations of them over more days."""
    texts = [
        single(1, "A", quiet="12h", entity={"user": "UserId"}, detection="X1"),
        single(2, "B", quiet="2h", risk=30, entity={"user": "UserId"}, detection="X2"),
        single(3, "C", entity={"user": "UserId"}, detection="X3"),
        joint(10, "event_count", ["rule_1"], {"gte": 4}, timespan="7d", generate=True),
        joint(11, "value_count", ["rule_1", "rule_2"], {"gte": 2, "field": "ClientIP"}, timespan="3d"),
        joint(12, "value_sum", ["rule_2"], {"gt": 20, "field": "Size"}, timespan="5d", generate=True),
        joint(14, "value_median", ["rule_2"], {"lt": 4, "field": "Size"}, timespan="4d"),
        joint(16, "temporal", ["rule_1", "rule_2", "rule_3"], timespan="4d", generate=True),
        joint(17, "temporal_ordered", ["rule_1", "rule_2"], timespan="3d"),
        joint(18, "temporal", ["rule_1", "rule_3"], "rule_1 and not rule_3", timespan="3d"),
        joint(19, "event_count", ["rule_3"], {"eq": 2}, timespan="5d"),
        joint(20, "temporal_ordered", ["rule_10", "rule_2"], timespan="8d", generate=True),
        joint(21, "event_count", ["rule_20"], {"gte": 1}, timespan="10d"),
        joint(22, "temporal", ["rule_16", "rule_12"], timespan="14d"),
        single(30, "D", first_seen={"key": ["UserId", "ClientIP"], "period": "14d", "learn": "7d"}),
        single(40, "A", travel={"within": "12h"}, quiet="6h"),
        single(41, "B", several={"threshold": 4, "period": "5d", "keys": ["UserId"]}),
        single(42, "C", low={"period": "1d", "learn": "7d"}, group_by=["UserId"]),
        single(45, "C", deviation={"period": "1d", "periods": 14, "threshold": 2, "value": "Size"}),
    ]
    path = directory / "days.yml"
    path.write_text("---\n".join(texts))
    library = load_library([path])
    assert [str(one) for one in library.mistakes] == []
    return (*library.rules, make_risk_rule(40))


def make_records(dice: random.Random) -> list[tuple[float, bytes]]:
    """Each with the day, and part of a day, on which it happened."""
    found: list[tuple[float, bytes]] = []
    for user in ("ann@contoso.example", "bob@contoso.example"):
        for operation in "ABCD":
            a_day = dice.choice([0, 0.15, 0.5, 1])
            day = dice.expovariate(a_day) if a_day else DAYS
            while day < DAYS:
                fields = {
                    "Id": f"r{len(found)}",
                    "CreationTime": f"{START + timedelta(days=day):%Y-%m-%dT%H:%M:%S}",
                    "Operation": operation,
                    "UserId": user,
                    "ClientIP": dice.choice([*COUNTRIES, *["192.0.2.1"] * 6]),
                    "Size": dice.randrange(10),
                }
                found.append((day, json.dumps(fields).encode()))
                day += dice.expovariate(a_day)
    return found


def half_days(records: Sequence[tuple[float, bytes]], dice: random.Random) -> dict[int, list[bytes]]:
    """What comes on each half day on which the collector runs; after an absence, the newest first."""
    late = dice.choice([0, 0.5, LATE_DAYS])
    away = [dice.randrange(30, 50), dice.randrange(75, 95)]
    ends = {0: 2 * FED_DAYS} | {first: first + 2 * AWAY_DAYS for first in away}
    comes_in = {half: end for first, end in ends.items() for half in range(first, end)}
    halves = range(2 * (DAYS + LATE_DAYS + 1))
    coming: dict[int, list[tuple[float, bytes]]] = {half: [] for half in halves if half not in comes_in}
    for day, record in records:
        half = int(2 * (day + dice.uniform(0, late)))
        coming[comes_in.get(half, half)].append((day, record))
    for half, some in coming.items():
        if half in ends.values():
            some.sort(reverse=True)
        else:
            dice.shuffle(some)
    return {half: [record for _, record in some] for half, some in coming.items()}


def live(
    path: Path, rules: Sequence[Rule], coming: dict[int, list[bytes]], dice: random.Random
) -> tuple[DetectionState, list[tuple[datetime, Change]]]:
    """The file after all of it, and what was told when; with restarts, and decisions of somebody."""
    state = DetectionState(path, survives_power_cuts=False)
    engine = Engine(rules, state, knowledge=KNOWLEDGE)
    told: list[tuple[datetime, Change]] = []
    number = 0
    for half, records in coming.items():
        now = START + (half + 1) * HALF_DAY
        for first in range(0, len(records), 7):
            number += 1
            part = records[first : first + 7]
            changes = engine.take([Portion(TENANT, now, part, headers_of(part))], number=number, now=now)
            told += [(now, one) for one in changes]
        told += [(now, one) for one in engine.look(now=now)]
        if dice.random() < 0.1:
            state.close()
            state = DetectionState(path, survives_power_cuts=False)
            engine = Engine(rules, state, knowledge=KNOWLEDGE)
        kept = [one.alert.id for one in state.alerts.list()]
        if kept and dice.random() < 0.2:
            made = dice.choice(list(AlertState))
            with state.transaction():
                state.alerts.set_state(dice.choice(kept), made, reason="seen", by="ann", at_ms=ms_of(now))
    return state, told


@guarantee(34)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_two_months_day_by_day_give_what_all_at_once_gives(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Nothing that is let go of meanwhile changes an alert, and nothing of long ago is told as new.

    Risk that goes on for longer than its matches are kept is cut elsewhere, and is not compared.
    """
    dice = random.Random(seed)
    rules = load_rules(tmp_path_factory.getbasetemp())
    records = make_records(dice)
    state, told = live(tmp_path / "d.sqlite", rules, half_days(records, dice), dice)
    kept = {one.alert for one in state.alerts.list() if one.alert.rule_id != RISK_RULE_ID}
    state.close()
    once = find_alerts(
        rules, [one for _, one in records], knowledge=KNOWLEDGE, tenant=TENANT, now=told[-1][0]
    )

    parts = {(one.id, one.first_at_ms, one.last_at_ms, one.count) for one in kept}
    expected = {
        (one.id, one.first_at_ms, one.last_at_ms, one.count) for one in once if one.rule_id != RISK_RULE_ID
    }
    assert parts == expected
    longest = timedelta(days=FED_DAYS + LATE_DAYS)
    new = [(at, one.alert) for at, one in told if one.what is News.NEW]
    assert [alert.id for at, alert in new if at - instant_of_ms(alert.last_at_ms) > longest] == []
