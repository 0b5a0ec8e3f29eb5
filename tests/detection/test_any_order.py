"""The same set of records gives the same alerts, whatever happens on the way."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from promises import guarantee

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.correlation.risk_score import make_risk_rule
from m365watch.detection.engine import detection_engine as engines
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import load_library
from m365watch.detection.store import match_sampling as thinning
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, rule_text

START = datetime(2026, 11, 2, 0, 0, tzinfo=UTC)
NOW = START + timedelta(days=4)
COUNTRIES = {
    "192.0.2.1": ("NL", 52.4, 4.9),
    "192.0.2.2": ("AU", -33.9, 151.2),
    "192.0.2.3": ("NL", 51.9, 4.5),
}


class Crash(Exception):
    """The process has died here."""


class Mortal(DetectionState):
    """A file whose process dies before, or just after, a commit."""

    deadly_in = -1

    def write(self, key: str, value: str) -> None:
        super().write(key, value)
        if key == "batch":
            self.deadly_in -= 1
            if self.deadly_in == 0:
                raise Crash


class Places:
    def locate(self, address: str) -> Whereabouts:
        country, latitude, longitude = COUNTRIES.get(address, ("", None, None))
        return Whereabouts(country, "64500", latitude, longitude)


KNOWLEDGE = Knowledge(enrichment=Places())


def single(number: int, name: str, **extension: Any) -> str:
    """A rule on one of the operations A to D."""
    return rule_text(
        {"s": {"Operation": name}, "large": {"Size|gte": 7}, "condition": "s"},
        title=f"rule {number}",
        name=f"rule_{number}",
        id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
        level=extension.pop("level", "medium"),
        m365watch={"explanation": "{user} {count} {first} {last}", **extension},
    )


def joint(number: int, kind: str, rules: list[str], condition: Any = None, **keys: Any) -> str:
    """A correlation of such rules."""
    correlation: dict[str, Any] = {
        "type": kind,
        "rules": rules,
        "group-by": ["UserId"],
        "timespan": "30m",
    }
    extension: dict[str, Any] = {
        "explanation": "{user} {ClientIP} {count} {first} {last} {rules}",
        "entity": {"user": "UserId", "address": "ClientIP"},
        **{key: keys.pop(key) for key in ("once", "trusted", "from_severity") if key in keys},
    }
    correlation |= keys
    if condition is not None:
        correlation["condition"] = condition
    return yaml.safe_dump(
        {
            "title": f"rule {number}",
            "name": f"rule_{number}",
            "id": f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            "level": "high",
            "correlation": correlation,
            "m365watch": extension,
        }
    )


def joined_texts() -> list[str]:
    """Correlations of correlations of every kind, over some that hold for long and on and off."""
    return [
        joint(50, "event_count", ["rule_1"], {"gte": 3}, timespan="12h", generate=True),
        joint(51, "temporal_ordered", ["rule_50", "rule_2"], timespan="10m", generate=True),
        joint(52, "temporal_ordered", ["rule_2", "rule_50"], timespan="10m"),
        joint(53, "temporal", ["rule_50", "rule_3"], "rule_50 and not rule_3", timespan="1m"),
        joint(54, "event_count", ["rule_50", "rule_3"], {"gte": 3}, timespan="1h"),
        joint(55, "value_count", ["rule_50"], {"gte": 1, "field": "UserId"}, **{"group-by": ["ClientIP"]}),
        joint(56, "temporal", ["rule_51", "rule_11"], timespan="5m"),
        joint(57, "temporal", ["rule_40", "rule_41", "rule_22"], "rule_40 and (rule_41 or rule_22)"),
        joint(58, "value_avg", ["rule_50"], {"gte": 0, "field": "Size"}),
        joint(60, "value_count", ["rule_1"], {"gte": 2, "field": "UserId"}, **{"group-by": ["ClientIP"]}),
        joint(61, "temporal", ["rule_60", "rule_2"], timespan="20m"),
        joint(62, "temporal", ["rule_60", "rule_50"], timespan="20m", **{"group-by": [], "generate": True}),
        joint(63, "temporal", ["rule_62", "rule_3"], timespan="20m"),
        joint(59, "temporal", ["rule_50", "rule_2"], timespan="10m", **{"group-by": []}),
    ]


@cache
def load_rules(directory: Path) -> tuple[Rule, ...]:
    """A rule of every kind, and every way of joining them."""
    path = directory / "all.yml"
    texts = [
        single(1, "A", quiet="1h"),
        single(2, "B", quiet="20m", risk=30),
        single(3, "C"),
        single(4, "A", level="low", **{"raise": {"to": "high", "when": "large"}}),
        joint(10, "event_count", ["rule_1"], {"gte": 3}, generate=True),
        joint(11, "value_count", ["rule_1", "rule_2"], {"gte": 2, "field": "ClientIP"}, generate=True),
        joint(22, "value_count", ["rule_1", "rule_2"], {"gte": 2, "field": "ClientIP"}, once="10m"),
        joint(23, "value_count", ["rule_1"], {"gte": 2, "field": "ClientIP"}, trusted="Managed"),
        joint(24, "temporal", ["rule_4", "rule_2"], from_severity="medium"),
        joint(12, "value_sum", ["rule_2"], {"gt": 12, "field": "Size"}, generate=True),
        joint(13, "value_avg", ["rule_2"], {"gte": 6, "field": "Size"}),
        joint(14, "value_median", ["rule_2"], {"lt": 4, "field": "Size"}),
        joint(15, "value_percentile", ["rule_2"], {"gte": 7, "field": "Size", "percentile": 90}),
        joint(16, "temporal", ["rule_1", "rule_2", "rule_3"], generate=True),
        joint(17, "temporal_ordered", ["rule_1", "rule_2"]),
        joint(18, "temporal", ["rule_1", "rule_2", "rule_3"], "rule_1 and rule_2 and not rule_3"),
        joint(19, "event_count", ["rule_3"], {"eq": 2}),
        joint(20, "temporal_ordered", ["rule_10", "rule_2"], timespan="2h", generate=True),
        joint(21, "event_count", ["rule_20"], {"gte": 1}, timespan="6h"),
        *joined_texts(),
        single(30, "D", first_seen={"key": ["UserId", "ClientIP"], "period": "1d", "learn": "12h"}),
        single(31, "A", first_seen={"key": ["ClientIP"], "period": "2h", "learn": "2h"}),
        single(33, "D", first_seen={"key": ["ClientIP"], "period": "1d", "learn": "12h"}, trusted="Managed"),
        joint(32, "temporal", ["rule_31", "rule_2"], **{"group-by": ["ClientIP"], "generate": True}),
        single(40, "A", travel={"within": "12h"}, quiet="6h"),
        single(46, "A", travel={"within": "12h"}, quiet="6h", trusted="Managed"),
        single(41, "B", several={"threshold": 2, "period": "1h", "keys": ["UserId"]}),
        single(42, "C", low={"period": "3h", "learn": "1d"}, group_by=["UserId"]),
        single(47, "C", low={"period": "3h", "learn": "1d"}),
        single(43, "A", rolling={"period": "2h", "back_period": "4h", "threshold": 4}),
        single(44, "B", gradient={"period": "2h", "threshold": 2}, group_by=["UserId"]),
        single(45, "C", deviation={"period": "1h", "periods": 6, "threshold": 2, "value": "Size"}),
    ]
    path.write_text("---\n".join(texts))
    library = load_library([path])
    assert [str(one) for one in library.mistakes] == []
    return (*library.rules, make_risk_rule(40))


def make_records(dice: random.Random, count: int) -> list[bytes]:
    """Records in bursts, many of them within the same second."""
    records = []
    centres = [dice.uniform(0, 3 * 86_400) for _ in range(6)]
    for number in range(count):
        second = int(dice.choice(centres) + dice.choice([0, 5, 60, 900, 1_800, 4_000]) + dice.randrange(3))
        fields = {
            "Id": f"r{number}",
            "CreationTime": f"{START + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}",
            "Operation": dice.choice("AABBCDE"),
            "UserId": dice.choice(["ann@contoso.example", "Bob@contoso.example", "bob@contoso.example"]),
            "ClientIP": dice.choice(list(COUNTRIES)),
            "Size": dice.randrange(10),
            "Managed": number % 3 > 0,
        }
        records.append(json.dumps(fields).encode())
    return records


def run_engine(
    path: Path, rules: Sequence[Rule], records: Sequence[bytes], dice: random.Random, *, after: int = 0
) -> Engine:
    """The engine over the records in any order, cut anyhow, some twice, with crashes around commits.

    The first batch comes `after` one that the file has.
    """
    shuffled = [*records, *dice.sample(records, len(records) // 4)]
    dice.shuffle(shuffled)
    batches = []
    while shuffled:
        size = dice.choice([1, 2, 5, 17, 40])
        batches.append(shuffled[:size])
        shuffled = shuffled[size:]
    engine = Engine(rules, Mortal(path, survives_power_cuts=False), knowledge=KNOWLEDGE)
    engine.large_from = large_from = dice.choice([0, 3, 200])
    number = 1
    while number <= len(batches):
        assert isinstance(engine.state, Mortal)
        engine.state.deadly_in = dice.choice([-1, -1, -1, 1, 2])
        batch = batches[number - 1]
        try:
            engine.take([portion_of(batch)], number=after + number, now=NOW)
            if dice.random() < 0.2:
                engine.look(now=NOW)
            if dice.random() < 0.2:
                number = max(1, number - 1)  # The ledger lost the acknowledgement.
                continue
            number += 1
        except Crash:
            engine.state.close()
            engine = Engine(rules, Mortal(path, survives_power_cuts=False), knowledge=KNOWLEDGE)
            engine.large_from = large_from
            assert engine.last_batch in {after + number - 1, after + number}
    engine.look(now=NOW)
    return engine


def portion_of(batch: Sequence[bytes]) -> Portion:
    """The records as the collector hands them over."""
    return Portion(TENANT, NOW, batch, headers_of(batch))


def plain(alerts: Sequence[Alert]) -> list[Alert]:
    """Alerts without their history, which may differ."""
    return sorted((replace(alert, formerly=()) for alert in alerts), key=lambda one: (one.rule_id, one.id))


@guarantee(34)
@pytest.mark.parametrize("seed", range(14))
def test_any_order_and_any_crash_give_the_same_alerts(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Order, cuts, repetitions, late records, crashes: the end is that of the set."""
    dice = random.Random(seed)
    rules = load_rules(tmp_path_factory.getbasetemp())
    records = make_records(dice, dice.choice([10, 50, 100]))
    expected = find_alerts(rules, records, knowledge=KNOWLEDGE, tenant=TENANT, now=NOW)

    engine = run_engine(tmp_path_factory.mktemp("state") / "d.sqlite", rules, records, dice)

    assert plain([kept.alert for kept in engine.state.alerts.list()]) == plain(expected)


@pytest.mark.slow
def test_the_histories_reach_every_kind(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The property above would hold as well of rules that never fire."""
    rules = load_rules(tmp_path_factory.getbasetemp())
    seen: set[str] = set()
    for seed in range(12):
        records = make_records(random.Random(seed), 120)
        seen |= {
            alert.title for alert in find_alerts(rules, records, knowledge=KNOWLEDGE, tenant=TENANT, now=NOW)
        }

    assert {rule.title for rule in rules if rule.alerts} - seen == set()


@guarantee(35)
@pytest.mark.parametrize("seed", range(3))
def test_what_was_closed_is_open_by_the_same_records_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Half of the records, somebody who closes some alerts, then the rest in two orders, with crashes."""
    dice = random.Random(seed)
    rules = load_rules(tmp_path_factory.getbasetemp())
    records = make_records(dice, 60)
    ends = []
    for order in range(2):
        path = tmp_path_factory.mktemp("state") / "d.sqlite"
        engine = run_engine(path, rules, records[:30], random.Random(seed))
        ids = sorted(kept.alert.id for kept in engine.state.alerts.list())
        with engine.state.transaction():
            for alert_id in ids[::2]:
                engine.state.alerts.set_state(
                    alert_id, AlertState.CLOSED, reason="a drill", by="ann", at_ms=1
                )
        before = engine.last_batch
        engine.state.close()
        # The rest is counted on from there.
        engine = run_engine(path, rules, records[30:], random.Random(100 + order), after=before)
        ends.append({kept.alert.id: kept.state for kept in engine.state.alerts.list()})

    assert ends[0] == ends[1]
    assert set(ends[0].values()) == {AlertState.OPEN, AlertState.CLOSED}


@guarantee(35)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_adds_up_to_what_is_there(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Whoever follows the changes knows every alert: none twice as new, none that is gone."""
    dice = random.Random(seed)
    rules = load_rules(tmp_path_factory.getbasetemp())
    engine = Engine(
        rules,
        DetectionState(tmp_path_factory.mktemp("state") / "d.sqlite", survives_power_cuts=False),
        knowledge=KNOWLEDGE,
    )
    records = make_records(dice, 120)
    dice.shuffle(records)
    told: dict[str, Alert] = {}
    for number in range(0, len(records), 7):
        changes = engine.take([portion_of(records[number : number + 7])], number=number + 1, now=NOW)
        assert is_told_as_it_is(engine, changes)
        for change in changes:
            formers = [former for former in change.alert.formerly if told.pop(former, None)]
            if change.what is News.WITHDRAWN:
                assert told.pop(change.alert.id, None) or formers
                continue
            assert (change.what is News.UPDATED) == (change.alert.id in told or bool(formers))
            told[change.alert.id] = change.alert
        if dice.random() < 0.5:
            kept = {one.alert.id: one.alert for one in engine.state.alerts.list()}

            assert told == kept


def is_told_as_it_is(engine: Engine, changes: Sequence[Change]) -> bool:
    """Whether each alert is told once in a batch, and what is told of it is what there is then."""
    told = {one.alert.id: one.alert for one in changes}
    gone = {one.alert.id for one in changes if one.what is News.WITHDRAWN}
    kept = {alert_id: engine.state.alerts.find_itself(alert_id) for alert_id in told.keys() - gone}
    return len(told) == len(changes) and all(one and one.alert == told[name] for name, one in kept.items())


CUTS = ((30, 3), (120, 200), (7, 0), (7, 0), (30, 3), (1, 200), (1, 200), (1, 200))
"""By seed, the records in a batch, and from how many on a batch is large.

Batches of one record find most, and cost as much as all others together.
"""


@guarantee(34)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(len(CUTS)))
def test_more_than_an_hour_has_room_for_gives_the_same_alerts_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed serves newest first, in batches; what an hour has room for is the same, and what says so."""
    monkeypatch.setattr(engines, "HOUR_MATCHES_MAX", 2)
    dice = random.Random(seed)
    monkeypatch.setattr(thinning, "MOMENT_MS", dice.choice([600_000, 3_600_000]))
    rules = load_rules(tmp_path_factory.getbasetemp())
    records = sorted(make_records(dice, 120), key=lambda one: json.loads(one)["CreationTime"])
    oldest_first = take_in_order(tmp_path_factory.mktemp("state"), rules, records, size=120, large_from=200)
    assert any("at least" in note for alert in oldest_first for note in alert.notes)
    size, large_from = CUTS[seed]
    newest_first = take_in_order(
        tmp_path_factory.mktemp("state"), rules, records[::-1], size=size, large_from=large_from
    )
    shuffled = run_engine(tmp_path_factory.mktemp("state") / "d.sqlite", rules, records, dice)

    assert newest_first == oldest_first
    assert plain([kept.alert for kept in shuffled.state.alerts.list()]) == oldest_first


def take_in_order(
    folder: Path, rules: Sequence[Rule], records: Sequence[bytes], *, size: int, large_from: int
) -> list[Alert]:
    """The alerts of the records, so many in a batch."""
    engine = Engine(
        rules, DetectionState(folder / "d.sqlite", survives_power_cuts=False), knowledge=KNOWLEDGE
    )
    engine.large_from = large_from
    for number, place in enumerate(range(0, len(records), size), start=1):
        engine.take([portion_of(records[place : place + size])], number=number, now=NOW)
    engine.look(now=NOW)
    return plain([kept.alert for kept in engine.state.alerts.list()])
