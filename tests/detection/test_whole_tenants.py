"""Rules without a group look at a whole tenant, under one name, however its records come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.alerts.alert import Alert, make_alert_id
from m365watch.detection.alerts.stored_alert import AlertState, News
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Change
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, alerts_of, load_good, record, rule_text
from test_joined_correlations import HOUR, NOW, ONE, TWO, joint, many, ones

START = [*ones(60, 70, 80), record(200, Operation="Two")]


@pytest.fixture
def joining(tmp_path: Path) -> Library:
    """A correlation over a whole tenant that joins another."""
    return load_good(
        tmp_path, ONE, TWO, many(), joint("outer", "temporal", ["many", "two"], **{"group-by": []})
    )


def opened(folder: Path, library: Library) -> Engine:
    """An engine on the folder's file."""
    return Engine(library.rules, DetectionState(folder / "detections.sqlite", survives_power_cuts=False))


def take(engine: Engine, *batches: list[bytes]) -> list[list[Change]]:
    """What each batch changes of the alerts without a group."""
    told = []
    for batch in batches:
        number = engine.last_batch + 1
        changes = engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
        told.append([one for one in changes if not any(one.alert.group)])
    return told


def kept(engine: Engine) -> list[Alert]:
    """The alerts without a group."""
    return [one.alert for one in engine.state.alerts.list() if not any(one.alert.group)]


@guarantee(34)
def test_what_joins_over_a_whole_tenant_has_one_name(tmp_path: Path, joining: Library) -> None:
    """A late record moves what is joined: one alert, told once a batch, and the set's."""
    late = ones(30)
    engine = opened(tmp_path, joining)
    told = take(engine, START, late, ones(90))

    [expected] = [one for one in alerts_of(joining, [*START, *late, *ones(90)]) if one.title == "outer"]
    assert [len(changes) for changes in told] == [1, 1, 1]
    assert [replace(one, formerly=()) for one in kept(engine)] == [expected]


@guarantee(34)
def test_a_silence_of_a_whole_tenant_has_one_name(tmp_path: Path) -> None:
    """Whether a record or time alone made it known."""
    low = {"low": {"period": "1h", "learn": "2h"}}
    library = load_good(tmp_path, rule_text({"s": {"Operation": "One"}, "condition": "s"}, m365watch=low))
    engine = opened(tmp_path, library)
    take(engine, [record(0, Operation="Zero"), *ones(*range(0, 6 * HOUR, 600))])
    [first] = kept(engine)

    engine.look(now=NOW)
    engine.look(now=NOW + timedelta(hours=1))

    assert [one.id for one in kept(engine)] == [first.id]


@guarantee(35)
def test_a_name_that_an_older_version_gave_becomes_the_right_one(tmp_path: Path, joining: Library) -> None:
    """It took the group of a whole tenant for one whose only field is absent: what was made of it stays."""
    engine = opened(tmp_path, joining)
    take(engine, START)
    [right] = engine.state.alerts.list()[:1]
    assert right.alert.title == "outer"
    first = "period"
    wrong = replace(right.alert, group=("",), id=make_alert_id(right.alert.rule_id, TENANT, ("",), first))
    with engine.state.transaction():
        engine.state.alerts.drop(right.alert.id, became=None)
        engine.state.alerts.put(replace(right, alert=wrong, state=AlertState.ACKNOWLEDGED, reason="looking"))
    [[change]] = take(engine, ones(90))

    [now] = [one for one in engine.state.alerts.list() if one.alert.title == "outer"]
    assert (now.alert.id, now.alert.group, now.alert.formerly) == (right.alert.id, (), (wrong.id,))
    assert (now.state, now.reason) == (AlertState.ACKNOWLEDGED, "looking")
    assert (change.what, change.alert.id) == (News.UPDATED, right.alert.id)
