"""What happens day by day for weeks, so that the oldest matches are let go of meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.model import Window
from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.correlation.risk_score import RISK_RULE_ID, make_risk_rule
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.retro_hunt import HuntAsked, hunt
from m365watch.detection.store.detection_erasure import Forgotten, Naming, find_named
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.records.headers import headers_of
from m365watch_testing.batches import make_batch, make_part
from rules import TENANT, load_good, rule_text
from test_joined_correlations import joint

START = datetime(2026, 9, 1, 9, tzinfo=UTC)
SIGNS = 5
DAYS = 50


@guarantee(35)
@pytest.mark.parametrize("every_days", [1.0, 1.5])
def test_signs_that_go_on_for_weeks_are_told_once_in_weeks(tmp_path: Path, every_days: float) -> None:
    """Not as new with each of them; and what is over stays, though its matches are let go of."""
    texts = [
        rule_text(
            {"s": {"Operation": f"Op{number}"}, "condition": "s"},
            title=f"Rule {number}",
            id=f"5f1c6c0e-7d0b-4a51-9a4e-{number:012}",
            level="medium",
            m365watch={"detection": f"X{number}", "entity": {"user": "UserId"}},
        )
        for number in range(SIGNS)
    ]
    rules = (*load_good(tmp_path, *texts).rules, make_risk_rule())
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules, state)
    told: Counter[News] = Counter()
    for number in range(int(DAYS / every_days)):
        at = START + timedelta(days=number * every_days)
        record = {
            "Id": f"r{number}",
            "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
            "Operation": f"Op{number % SIGNS}",
            "UserId": "ann@contoso.example",
        }
        batch = [json.dumps(record).encode()]
        now = at + timedelta(hours=1)
        changes = engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=number + 1, now=now)
        changes += engine.look(now=now)
        risks = [one for one in changes if one.alert.rule_id == RISK_RULE_ID]
        told.update(one.what for one in risks)
        if told[News.NEW] == 1 and risks and risks[0].what is News.NEW:
            with state.transaction():
                made = AlertState.ACKNOWLEDGED
                state.alerts.set_state(risks[0].alert.id, made, reason="a script", by="ann", at_ms=1)
    kept = [one for one in state.alerts.list() if one.alert.rule_id == RISK_RULE_ID]
    state.close()

    assert told[News.NEW] == len(kept) == 2
    assert told[News.WITHDRAWN] == 0
    assert [one.state for one in kept] == [AlertState.OPEN, AlertState.ACKNOWLEDGED]
    assert kept[0].alert.first_at_ms < kept[1].alert.last_at_ms


@guarantee(35)
@pytest.mark.parametrize(("period", "days"), [("7d", 30), ("14d", 45)])
@pytest.mark.parametrize("every_days", [0.5, 1.0, 2.0])
def test_what_was_known_all_the_time_is_never_seen_first(
    tmp_path: Path, period: str, days: int, every_days: float
) -> None:
    """A person with one address. The sighting before the oldest that is kept is gone, day by day."""
    first_seen = {"key": ["UserId", "ClientIP"], "period": period, "learn": "1d"}
    extension = {"first_seen": first_seen, "entity": {"user": "UserId"}}
    text = rule_text({"s": {"Operation": "D"}, "condition": "s"}, m365watch=extension)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(tmp_path, text).rules, state)
    told = []
    for number in range(int(days / every_days)):
        at = START + timedelta(days=number * every_days)
        record = {
            "Id": f"r{number}",
            "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
            "Operation": "D",
            "UserId": "ann@contoso.example",
            "ClientIP": "192.0.2.1",
        }
        batch = [json.dumps(record).encode()]
        now = at + timedelta(hours=1)
        told += engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=number + 1, now=now)
        told += engine.look(now=now)
    state.close()

    assert told == []


def test_a_gradient_after_a_gap_outlives_what_it_rose_from(tmp_path: Path) -> None:
    """The match before the gap is let go of first, and then nothing says any more that there was a change."""
    gradient = {"gradient": {"period": "1d", "threshold": 2}}
    told, kept = over_days(tmp_path, gradient, range(0, 24, 4), a_day=1, until=24)

    assert [one.what for one in told] == [News.NEW] * kept
    assert kept == 5


def test_a_change_after_a_free_day_outlives_what_it_rose_from(tmp_path: Path) -> None:
    """Two a day, Mondays to Fridays: each Monday is a change."""
    gradient = {"gradient": {"period": "1d", "threshold": 2}}
    days = [day for day in range(40) if day % 7 < 5]
    told, kept = over_days(tmp_path, gradient, days, a_day=2, until=45)

    assert [one.what for one in told] == [News.NEW] * kept
    assert kept == 5


@guarantee(35)
@pytest.mark.parametrize(("days", "alerts"), [(26, 1), (80, 3)])
def test_what_rolls_on_for_weeks_is_an_alert_a_month(tmp_path: Path, days: int, alerts: int) -> None:
    """From its beginning to its end, and no other each day, nor told as new again."""
    rolling = {"rolling": {"period": "1d", "back_period": "2d", "threshold": 8}, "group_by": ["UserId"]}
    told, kept = over_days(tmp_path, rolling, range(days), a_day=6, until=days + 20)
    counts = [one.alert.count for one in told]
    shrunk = [after for before, after in pairwise(counts) if after < before]

    assert (Counter(one.what for one in told)[News.NEW], kept) == (alerts, alerts)
    assert News.WITHDRAWN not in {one.what for one in told}
    assert len(shrunk) == alerts - 1
    assert len({one.alert.id for one in told}) <= 2 * alerts - 1


def test_rises_on_one_day_after_the_other_stay_together(tmp_path: Path) -> None:
    """Twelve days after it, what the first of them rose from is gone."""
    gradient = {"gradient": {"period": "1d", "threshold": 2}}
    text = rule_text({"s": {"Operation": "D"}, "condition": "s"}, m365watch=gradient)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(tmp_path, text).rules, state)
    told = []
    for day, count in enumerate([1, 0, 0, 3, 9, 27, *[1] * 18]):
        at = START + timedelta(days=day)
        record = {"CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
        batch = [json.dumps({"Id": f"r{day}-{one}", **record}).encode() for one in range(count)]
        told += engine.take([Portion(TENANT, at, batch, headers_of(batch))], number=day + 1, now=at)
        told += engine.look(now=at + timedelta(hours=18))
    [kept] = state.alerts.list()
    state.close()

    assert (kept.alert.count, kept.alert.formerly) == (3 + 9 + 27, ())
    assert [one.what for one in told] == [News.NEW, News.UPDATED, News.UPDATED]


def test_a_full_hour_is_told_of_as_long_as_its_alert_goes_on(tmp_path: Path) -> None:
    """That there were more than are kept is true of the alert for as long as it is there."""
    rolling = {"rolling": {"period": "1d", "back_period": "2d", "threshold": 4}}
    text = rule_text({"s": {"Operation": "D"}, "condition": "s"}, m365watch=rolling)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(tmp_path, text).rules, state)
    for day in range(22):
        at = START + timedelta(days=day)
        record = {"CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
        batch = [json.dumps({"Id": f"r{day}-{one}", **record}).encode() for one in range(4 if day else 1_500)]
        engine.take([Portion(TENANT, at, batch, headers_of(batch))], number=day + 1, now=at)
        engine.look(now=at + timedelta(hours=18))
    [kept] = state.alerts.list()
    state.close()

    assert kept.alert.last_seen_at > START + timedelta(days=19)
    assert any("more" in note for note in kept.alert.notes)


def test_what_ended_when_alerts_are_let_go_of_is_not_told_anew(tmp_path: Path) -> None:
    """A correlation of 30 days that holds for months is another alert each few of them."""
    parts = rule_text({"s": {"Operation": "D"}, "condition": "s"}, name="one", m365watch={"quiet": "1h"})
    many = joint("many", "event_count", ["one"], {"gte": 8}, timespan="30d")
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(tmp_path, parts, many).rules, state)
    new = []
    for day in range(265):
        at = START + timedelta(days=day)
        record = {"CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
        batch = [json.dumps({"Id": f"r{day}", **record}).encode()]
        told = engine.take([Portion(TENANT, at, batch, headers_of(batch))], number=day + 1, now=at)
        told += engine.look(now=at + timedelta(hours=18))
        new += [day for one in told if one.what is News.NEW and one.alert.title == "many"]
    state.close()

    assert len(new) > 1
    assert min(after - before for before, after in pairwise(new)) > 90


def over_days(
    folder: Path, extension: dict[str, Any], days: Iterable[int], *, a_day: int, until: int
) -> tuple[list[Change], int]:
    """What is told of so many records on each of these days, and how many alerts there are in the end."""
    text = rule_text({"s": {"Operation": "D"}, "condition": "s"}, m365watch=extension)
    state = DetectionState(folder / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(folder, text).rules, state)
    told: list[Change] = []
    having = set(days)
    for day in range(until):
        at = START + timedelta(days=day)
        record = {"CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
        batch = [json.dumps({"Id": f"r{day}-{one}", **record}).encode() for one in range(a_day)]
        if day in having:
            told += engine.take([Portion(TENANT, at, batch, headers_of(batch))], number=day + 1, now=at)
        for hours in (6, 12, 18):
            told += engine.look(now=at + timedelta(hours=hours))
    kept = len(state.alerts.list())
    state.close()
    return told, kept


@guarantee(17)
def test_an_alert_that_is_let_go_of_leaves_no_name(tmp_path: Path) -> None:
    """After three months; its person was the group that risk is counted by."""
    text = rule_text(
        {"s": {"Operation": "D"}, "condition": "s"}, m365watch={"entity": {"user": "UserId"}}, level="medium"
    )
    path = tmp_path / "d.sqlite"
    state = DetectionState(path, survives_power_cuts=False)
    engine = Engine((*load_good(tmp_path, text).rules, make_risk_rule()), state)
    record = {"Id": "r", "CreationTime": f"{START:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
    batch = [json.dumps(record).encode()]
    told = engine.take([Portion(TENANT, START, batch, headers_of(batch))], number=1, now=START)
    before = find_named(path, Naming(lambda said: b"ann@x" in said))
    engine.look(now=START + timedelta(days=120))
    after = find_named(path, Naming(lambda said: b"ann@x" in said))
    state.close()

    assert [one.what for one in told] == [News.NEW]
    assert before.alerts == 1
    assert before.matches > 1
    assert after == Forgotten(0, 0)


def test_a_record_that_is_served_last_and_came_late_is_judged(tmp_path: Path) -> None:
    """The feed serves seven days, and what came to it 72 hours late is older still."""
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    text = rule_text({"s": {"Operation": "D"}, "condition": "s"})
    record = {"Id": "r", "CreationTime": f"{START:%Y-%m-%dT%H:%M:%S}", "Operation": "D", "UserId": "ann@x"}
    batch = [json.dumps(record).encode()]
    now = START + timedelta(days=9.5)

    engine = Engine(load_good(tmp_path, text).rules, state)
    told = engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=1, now=now)
    state.close()

    assert [one.what for one in told] == [News.NEW]


def test_a_silence_is_found_by_looking_back_though_nothing_came_after_it(tmp_path: Path) -> None:
    """The audit was switched off, or the lake is an old copy: the days without a record pass all the same."""
    low = {"low": {"period": "1d", "learn": "7d"}, "group_by": ["UserId"]}
    rules = load_good(tmp_path, rule_text({"s": {"Operation": "C"}, "condition": "s"}, m365watch=low)).rules
    records = []
    for number in range(40):
        at = START + timedelta(days=number / 2)
        record = {
            "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}",
            "Operation": "C",
            "UserId": "ann@contoso.example",
        }
        records.append(json.dumps({"Id": f"r{number}", **record}).encode())
    part = make_part(records, outputs=["lake"])
    AuditWriter(tmp_path / "lake", app_id="old").append(make_batch(1, [part]))

    asked = HuntAsked(
        tmp_path / "lake",
        Window(START, START + timedelta(days=40)),
        rules,
        frozenset(rule.id for rule in rules),
    )
    shares: list[int] = []
    found = hunt(asked, progress=lambda _, share, __: shares.append(share)).alerts

    assert len(found) == 1
    assert shares == sorted(shares)
    assert max(after - before for before, after in pairwise([0, *shares, 100])) < 10
    assert ms_of(START + timedelta(days=19)) < found[0].alert.first_at_ms < ms_of(START + timedelta(days=21))
