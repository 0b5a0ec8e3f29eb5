"""A deviation is judged from when the tenant is watched, and stays when what it was judged by is gone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN
from m365watch.detection.rule_test_cases import find_alerts
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store import match_store as kept_matches
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record, rule_text

HOUR = 3_600
DAY = 24 * HOUR
START = datetime(2026, 11, 2, tzinfo=UTC)
QUIET = "quiet@contoso.example"


def rules_of(directory: Path, **deviation: Any) -> Sequence[Rule]:
    """A rule about the operation One, by account."""
    wanted = {"period": "1h", "periods": 24, "threshold": 3, "at_least": 10} | deviation
    extension = {"deviation": wanted, "group_by": ["UserId"]}
    text = rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch=extension)
    return load_good(directory, text).rules


def burst(at_s: int, count: int = 20, user: str = QUIET) -> list[bytes]:
    """So many records of an account within minutes."""
    return [record(at_s + place, Operation="One", UserId=user) for place in range(count)]


def judged(rules: Sequence[Rule], records: Sequence[bytes], *, hours: int) -> list[Alert]:
    """The alerts of the set, so many hours after the start."""
    now = START + timedelta(hours=hours)
    return find_alerts(rules, records, knowledge=NOTHING_KNOWN, tenant=TENANT, now=now)


def portions(records: Sequence[bytes], *, size: int) -> Iterator[list[bytes]]:
    """The records, so many at a time."""
    ends = [*range(0, len(records), size), len(records)]
    return (list(records[low:high]) for low, high in pairwise(ends))


@pytest.mark.parametrize(("hours", "alerts"), [(24, 1), (25, 1), (23, 0)])
def test_whoever_was_never_there_is_judged_by_that(tmp_path: Path, hours: int, alerts: int) -> None:
    """An account's first records are far above nothing, once the tenant has been watched for long enough."""
    records = [record(0, Operation="Other"), *burst(hours * HOUR)]

    found = judged(rules_of(tmp_path), records, hours=hours + 4)

    assert [alert.entity("user") for alert in found] == [QUIET] * alerts


def test_periods_without_a_record_are_nothing(tmp_path: Path) -> None:
    """They belong to the mean: so much at once is told of whoever does it once, and not twice a day."""
    rules, start = rules_of(tmp_path, threshold=4), record(0, Operation="Other")
    bursts = [burst(hour * HOUR) for hour in range(0, 97, 12)]

    assert judged(rules, [*chain(*bursts)], hours=100) == []
    assert len(judged(rules, [start, *bursts[-1]], hours=100)) == 1


@pytest.mark.parametrize("is_newest_first", [False, True])
@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_same_comes_of_any_order(tmp_path: Path, size: int, *, is_newest_first: bool) -> None:
    """A backfill brings the newest first, and its last record tells since when the tenant is watched."""
    rules = rules_of(tmp_path)
    records = [record(0, Operation="Other"), *burst(30 * HOUR), *burst(31 * HOUR, 5, "ann@contoso.example")]
    now = START + timedelta(hours=40)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules, state)

    ordered = records[::-1] if is_newest_first else records
    for number, some in enumerate(portions(ordered, size=size), 1):
        engine.take([Portion(TENANT, now, some, headers_of(some))], number=number, now=now)
    engine.look(now=now)

    assert [kept.alert.entity("user") for kept in state.alerts.list()] == [QUIET]
    assert [kept.alert for kept in state.alerts.list()] == judged(rules, records, hours=40)
    state.close()


@pytest.mark.parametrize("periods", [3, 168])
def test_an_alert_stays_when_the_periods_before_it_are_forgotten(tmp_path: Path, periods: int) -> None:
    """It was withdrawn nine days later, when there was no week any more to judge it by."""
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules_of(tmp_path, periods=periods), state)
    told = []
    for day in range(28):
        now = START + timedelta(days=day + 1)
        hours = [burst(day * DAY + hour * HOUR, 60 if (day, hour) == (9, 5) else 2) for hour in range(24)]
        some = [*chain(*hours)]
        told += engine.take([Portion(TENANT, now, some, headers_of(some))], number=day + 1, now=now)
        told += engine.look(now=now)
    kept = state.alerts.list()
    state.close()

    assert [str(change.what) for change in told] == ["new"]
    assert [one.alert.first_seen_at for one in kept] == [START + timedelta(days=9, hours=5)]


def test_an_alert_that_goes_on_while_nobody_collects_has_all_of_it(tmp_path: Path) -> None:
    """It began more than ten days before the return."""
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    rules = rules_of(tmp_path, period="1d", periods=5, threshold=2)
    engine = Engine(rules, state)
    days = [burst(day * DAY, {12: 30, 13: 90}.get(day, 2 + day % 2)) for day in range(20)]
    comes = [*((day + 1, days[day]) for day in range(13)), (22, [*chain(*days[13:])])]
    ends = []
    for day, some in comes:
        now = START + timedelta(days=day, hours=12)
        engine.take([Portion(TENANT, now, some, headers_of(some))], number=day, now=now)
        engine.look(now=now)
        ends.append([one.alert.last_seen_at for one in state.alerts.list()])
    kept = [one.alert for one in state.alerts.list()]
    state.close()

    assert ends[-2:] == [[START + timedelta(days=13)], [START + timedelta(days=14)]]
    assert kept == judged(rules, [one for _, some in comes for one in some], hours=22 * 24 + 12)


def test_a_group_of_which_not_all_is_read_is_judged_by_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies before the latest ones is not nothing."""
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", 500)
    records = [one for hour in range(100) for one in burst(hour * HOUR, 12 + hour % 3)]
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(rules_of(tmp_path), state)
    now = START + timedelta(hours=110)

    engine.take([Portion(TENANT, now, records, headers_of(records))], number=1, now=now)
    engine.look(now=now)

    assert state.alerts.list() == []
    state.close()
