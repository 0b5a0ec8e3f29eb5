"""Kinds that look at whole periods find what looking at each of them finds, however short these are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.stored_alert import News
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.period_rules import (
    SETTLED_S,
    gradient_episodes,
    low_episodes,
    rolling_episodes,
)
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.rules.extension import Change, Low, Rolling, Severity
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text

HOUR = 3_600
START = datetime(2026, 11, 2, tzinfo=UTC)
Runs = list[tuple[int, int]]
"""From which period on, and up to which, by their numbers."""


def make_matches(dice: random.Random) -> list[Match]:
    """Of one group, over hours or weeks."""
    over = dice.choice([10, 80, 700]) * HOUR
    times = sorted(dice.randrange(over) for _ in range(dice.choice([1, 2, 5, 20, 60])))
    return [
        Match("rule", "rule", TENANT, ("ann",), at_s * 1000, f"{place:032x}", f"r{place}", Severity.LOW)
        for place, at_s in enumerate(times)
    ]


def runs_of(holds: Callable[[int], bool], matches: Sequence[Match], period_s: int, now_s: int) -> Runs:
    """Neighbouring periods of which it holds, after that of the first match; looked at one by one."""
    last = (now_s - SETTLED_S) // period_s - 1
    runs: Runs = []
    for period in range(matches[0].at_ms // 1000 // period_s, last + 1):
        if holds(period):
            if runs and runs[-1][1] == period:
                runs[-1] = (runs[-1][0], period + 1)
            else:
                runs.append((period, period + 1))
    return runs


def found(episodes: Sequence[Episode], period_s: int) -> Runs:
    return [(one.from_ms // 1000 // period_s, one.until_ms // 1000 // period_s) for one in episodes]


@pytest.mark.parametrize("seed", range(60))
def test_periods_are_found_as_if_each_was_looked_at(seed: int) -> None:
    """Of one group of matches, at any time, for any numbers."""
    dice = random.Random(seed)
    matches = make_matches(dice)
    now_s = dice.randrange(720 * HOUR)
    period_s = dice.choice([900, HOUR, 5 * HOUR, 24 * HOUR])
    times = [one.at_ms // 1000 for one in matches]

    def count(low_s: int, high_s: int) -> int:
        return sum(low_s <= at_s < high_s for at_s in times)

    @cache
    def within(period: int) -> int:
        return count(period * period_s, (period + 1) * period_s)

    low = Low(period_s, dice.choice([0, 1, 3]), dice.choice([HOUR, 24 * HOUR, 120 * HOUR]))
    back = dice.choice([HOUR // 2, HOUR, 24 * HOUR, 72 * HOUR])
    rolling = Rolling(period_s, back, dice.choice([1, 2, 5, 12]))
    change = Change(
        period_s, dice.choice([0.5, 1, 2]), absolute=dice.random() < 0.5, at_least=dice.choice([0, 2])
    )

    def is_low(period: int) -> bool:
        reach = range(period - low.learn // period_s, period)
        return within(period) <= low.threshold and any(within(one) > low.threshold for one in reach)

    def is_full(period: int) -> bool:
        end_s = (period + 1) * period_s
        return count(end_s - back, end_s) >= rolling.threshold

    def is_change(period: int) -> bool:
        before, after = within(period - 1), within(period)
        rises = after - before > change.threshold if change.absolute else after > before * change.threshold
        is_first = period == times[0] // period_s
        return rises and not is_first and max(before, after) >= change.at_least

    for episodes, holds in (
        (low_episodes(matches, low, now_ms=now_s * 1000), is_low),
        (rolling_episodes(matches, rolling, now_ms=now_s * 1000), is_full),
        (gradient_episodes(matches, change, now_ms=now_s * 1000), is_change),
    ):
        assert found(episodes, period_s) == runs_of(holds, matches, period_s, now_s), holds


@pytest.mark.parametrize(
    "extension",
    [
        {"rolling": {"period": "1m", "back_period": "1h", "threshold": 10}},
        {"gradient": {"period": "1m", "threshold": 2, "at_least": 2}},
        {"deviation": {"period": "1m", "periods": 14, "threshold": 2, "at_least": 3}},
        {"low": {"period": "1m", "learn": "7d"}},
    ],
    ids=lambda one: next(iter(one)),
)
def test_an_alert_about_minutes_stays(tmp_path: Path, extension: dict[str, object]) -> None:
    """It was withdrawn after 2,000 periods, a day and a half of minutes."""
    text = rule_text({"s": {"Operation": "A"}, "condition": "s"}, m365watch=extension)
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    engine = Engine(load_good(tmp_path, text).rules, state)
    seconds = [0, *(6 * HOUR + place * 10 for place in range(30))]
    batch = [
        json.dumps(
            {"Id": f"r{second}", "CreationTime": f"{START + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"}
            | {"Operation": "A", "UserId": "ann@x"}
        ).encode()
        for second in seconds
    ]
    now = START + timedelta(hours=7)
    told = engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=1, now=now)
    for hours in range(8, 4 * 24, 4):
        told += engine.look(now=START + timedelta(hours=hours))
    kept = state.alerts.list()
    state.close()

    news = [one.what for one in told]
    assert News.WITHDRAWN not in news
    assert news.count(News.NEW) == len(kept) > 0
