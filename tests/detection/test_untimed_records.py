"""A record whose CreationTime is no time counts when it was fetched, whoever looks at it."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.model import Window
from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.retro_hunt import HuntAsked, hunt
from rules import record
from test_any_order import KNOWLEDGE, NOW, START, load_rules, make_records
from test_rebuilding import Site

UNREADABLE = [None, "", "soon", "2026-13-45T00:00:00", 5, f" {START + timedelta(days=1):%Y-%m-%dT%H:%M:%S} "]


def told(alerts: list[KeptAlert]) -> list[Any]:
    """What does not depend on the way: not what an alert was called before."""
    found = [one.alert for one in alerts]
    return sorted(
        (one.id, one.first_at_ms, one.last_at_ms, one.count, one.evidence, one.explanation) for one in found
    )


def run_again(place: Site) -> list[KeptAlert]:
    """The alerts of the file after it was lost and made anew."""
    place.lose()
    place.rebuild()
    return place.alerts()


def look_back(place: Site) -> list[KeptAlert]:
    """The alerts of a look back over the lake."""
    period = Window(START, place.now + timedelta(seconds=1))
    wanted = frozenset(rule.id for rule in place.rules)
    asked = HuntAsked(place.lake, period, place.rules, wanted, knowledge=KNOWLEDGE)
    return hunt(asked, progress=lambda *_: None).alerts


@guarantee(34, 37)
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_record_without_a_readable_time_counts_the_same_everywhere(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """In the run, in a look back and in a file that is made anew: with rules of every kind."""
    dice = random.Random(seed)
    place = Site(tmp_path_factory.mktemp("site"), load_rules(tmp_path_factory.getbasetemp()))
    records = make_records(dice, 80)
    for at in dice.sample(range(80), 30):
        records[at] = json.dumps(json.loads(records[at]) | {"CreationTime": dice.choice(UNREADABLE)}).encode()
    # They are fetched one after the other, as far apart as records are made.
    for at in range(0, 80, 20):
        place.now = NOW - timedelta(hours=dice.choice([0, 1, 2, 30]) + (80 - at) // 20, seconds=at)
        place.collect(records[at : at + 20])
    place.now = NOW
    place.collect([record(0, Operation="none")])
    before = told(place.alerts())

    assert told(look_back(place)) == before
    assert told(run_again(place)) == before


def test_a_record_without_a_readable_time_is_as_old_as_its_fetching(tmp_path: Path) -> None:
    """It is no reason to leave it out: a broken time would hide whatever the record tells."""
    place = Site(tmp_path, load_rules(tmp_path))
    place.collect([record(0, Operation="C", CreationTime="soon")])

    assert ms_of(NOW) in {kept.alert.first_at_ms for kept in place.alerts()}
    assert ms_of(NOW) in {kept.alert.first_at_ms for kept in look_back(place)}
