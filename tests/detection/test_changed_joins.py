"""Rules that have changed: what is joined is what the rules of today join."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee

from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.stored_alert import AlertState, GroupKey
from m365watch.detection.engine import group_tallies as tallies
from m365watch.detection.engine import reevaluation as rejoining
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.group_tallies import Tallies
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.reevaluation import Rejoining
from m365watch.detection.engine.unit_of_work import Work
from m365watch.detection.rebuild import restore_alerts
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.store import match_store as kept_matches
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, record
from test_joined_correlations import HOUR, MINUTE, NOW, ONE, TWO, joint, many, ones

ADDRESS = "192.0.2.1"
Told = list[tuple[str, tuple[str, ...], int]]


def session(path: Path, library: Library, batch: Sequence[bytes]) -> Told:
    """Title, group and count of each alert, after an engine with these rules had one more batch."""
    state = DetectionState(path / "detections.sqlite", survives_power_cuts=False)
    engine = Engine(library.rules, state)
    engine.look(now=NOW)
    number = engine.last_batch + 1
    engine.take([Portion(TENANT, NOW, batch, headers_of(batch))], number=number, now=NOW)
    engine.look(now=NOW)
    told = sorted((kept.alert.title, kept.alert.group, kept.alert.count) for kept in state.alerts.list())
    state.close()
    return [one for one in told if one[0] == "outer"]


def over_a_change(
    folder: Path, before: Sequence[str], after: Sequence[str], *, hour: int = 22
) -> tuple[Told, Told]:
    """What is told where the rules change in between, and what where they were so from the beginning."""
    start = hour * HOUR
    many_ones = ones(*range(start, start + 600, 60), ClientIP=ADDRESS)
    two = [record(start + 900, Operation="Two", ClientIP=ADDRESS)]
    (folder / "over").mkdir()
    (folder / "anew").mkdir()
    over = [
        session(folder / "over", load_good(folder, *texts), batch)
        for texts, batch in ((before, many_ones), (after, two))
    ]
    anew = [session(folder / "anew", load_good(folder, *after), batch) for batch in (many_ones, two)]
    return over[-1], anew[-1]


def outer(*rules: str, **keys: object) -> str:
    """Both of them within three hours."""
    return joint("outer", "temporal", list(rules), **{"timespan": "3h", **keys})


def counting(*rules: str) -> str:
    """At least three within three hours."""
    return joint("outer", "event_count", list(rules), {"gte": 3}, timespan="3h")


@guarantee(34)
def test_records_of_a_rule_that_is_no_longer_joined_do_not_count(tmp_path: Path) -> None:
    """Whoever takes a rule out for its noise does not hear of it for another timespan."""
    over, anew = over_a_change(tmp_path, (ONE, TWO, counting("one", "two")), (ONE, TWO, counting("two")))

    assert over == anew == []


def test_values_of_a_rule_that_is_no_longer_joined_do_not_count(tmp_path: Path) -> None:
    """Nor do the different values that it had."""

    def distinct(*rules: str) -> str:
        return joint("outer", "value_count", list(rules), {"gte": 2, "field": "Operation"}, timespan="3h")

    over, anew = over_a_change(tmp_path, (ONE, TWO, distinct("one", "two")), (ONE, TWO, distinct("two")))

    assert over == anew == []


def test_an_alert_that_is_no_longer_joined_does_not_count(tmp_path: Path) -> None:
    """It stands as it is, by itself."""
    before = joint("outer", "event_count", ["many", "two"], {"gte": 2}, timespan="3h")
    after = joint("outer", "event_count", ["two"], {"gte": 2}, timespan="3h")
    over, anew = over_a_change(tmp_path, (ONE, TWO, many(), before), (ONE, TWO, many(), after))

    assert over == anew == []


@guarantee(34)
@pytest.mark.parametrize("hour", [22, 1])
def test_an_alert_that_the_stricter_rule_would_not_make_is_not_joined(tmp_path: Path, hour: int) -> None:
    """Until a record came of its group, what joins it saw it as it was; what follows may come a day late."""
    strict = joint("many", "event_count", ["one"], {"gte": 50}, timespan="5m")
    before, after = (ONE, TWO, many(), outer("many", "two")), (ONE, TWO, strict, outer("many", "two"))
    over, anew = over_a_change(tmp_path, before, after, hour=hour)

    assert over == anew == []


@guarantee(34)
@pytest.mark.parametrize("old", [None, outer("many", "two", **{"group-by": ["UserId", "Workload"]})])
def test_what_goes_on_is_joined_by_a_rule_that_is_new(tmp_path: Path, old: str | None) -> None:
    """Or that groups what it joins in another way."""
    new = outer("many", "two", **{"group-by": ["UserId"]})
    before = (ONE, TWO, many(), *([old] if old else []))
    over, anew = over_a_change(tmp_path, before, (ONE, TWO, many(), new))

    assert over == anew == [("outer", ("ann@contoso.example",), 11)]


def test_rules_that_are_the_same_judge_nothing_again(tmp_path: Path) -> None:
    """A start costs no more for all that is joined of late."""
    library = load_good(tmp_path, ONE, TWO, many(), outer("many", "two"))
    session(tmp_path, library, ones(*range(22 * HOUR, 22 * HOUR + 600, 60)))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    found = []
    for rules in (library.rules, library.rules[:-1], library.rules):
        work = Work(ms_of(NOW), {rule.id: place for place, rule in enumerate(rules)})
        Rejoining(rules, state, Tallies(state)).touch(work)
        touched = work.pop()
        found.append(touched and touched[0].group)
    state.close()

    assert found == [None, None, ("ann@contoso.example",)]


STRICT = joint("many", "event_count", ["one"], {"gte": 50}, timespan="5m")


@guarantee(34)
def test_what_a_stricter_rule_took_is_joined_when_it_is_put_back(tmp_path: Path) -> None:
    """Between the two the file has no alert of it, and its records are there all the time."""
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two"))
    strict = load_good(tmp_path, ONE, TWO, STRICT, outer("many", "two", generate=True))
    session(tmp_path, usual, ones(*range(22 * HOUR, 22 * HOUR + 600, 60)))
    session(tmp_path, strict, [])

    told = session(tmp_path, usual, [record(22 * HOUR + 900, Operation="Two")])

    assert told == [("outer", ("ann@contoso.example",), 11)]


@guarantee(34)
@pytest.mark.parametrize("seed", range(25))
def test_rules_changed_there_and_back_leave_nothing_behind(tmp_path: Path, seed: int) -> None:
    """Whatever was changed of them, and whatever had come by then."""
    dice = random.Random(seed)

    def library() -> Library:
        few = {"gte": dice.choice([2, 3, 4, 50])}
        inner = joint("many", "event_count", ["one"], few, timespan=dice.choice(["1m", "5m", "30m"]))
        return load_good(tmp_path, ONE, TWO, inner, outer("many", "two", timespan=dice.choice(["10m", "3h"])))

    usual, changed = library(), library()
    seconds = sorted(dice.sample(range(20 * HOUR, 22 * HOUR), 60))
    records = [record(one, Operation=dice.choice(["One", "One", "One", "Two"])) for one in seconds]
    (tmp_path / "anew").mkdir()
    session(tmp_path, usual, records[:40])
    session(tmp_path, changed, [])

    assert session(tmp_path, usual, records[40:]) == session(tmp_path / "anew", usual, records)


@guarantee(35)
@pytest.mark.parametrize("made", [AlertState.ACKNOWLEDGED, AlertState.CLOSED])
def test_what_somebody_made_of_an_alert_outlives_a_rule_changed_there_and_back(
    tmp_path: Path, made: AlertState
) -> None:
    """Alerts of both rules went; they come back as somebody left them, and only more records open them."""
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    strict = load_good(tmp_path, ONE, TWO, STRICT, outer("many", "two", generate=True))
    came = ones(*range(22 * HOUR, 22 * HOUR + 600, 60))
    session(tmp_path, usual, [*came, record(22 * HOUR + 700, Operation="Two")])
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    with state.transaction():
        for kept in state.alerts.list():
            state.alerts.set_state(kept.alert.id, made, reason="mine", by="eve", at_ms=ms_of(NOW))
    found = []
    two = [record(22 * HOUR + 800, Operation="Two")]
    for rules, batch in ((strict, []), (usual, []), (usual, two)):
        session(tmp_path, rules, batch)
        joined = [kept for kept in state.alerts.list() if kept.alert.title in ("many", "outer")]
        found.append({kept.alert.title: (kept.state, kept.changed_by) for kept in joined})
    state.close()

    left = made, "eve"
    more = (AlertState.OPEN, "m365watch") if made is AlertState.CLOSED else left
    assert found == [{}, {"many": left, "outer": left}, {"many": left, "outer": more}]


@pytest.mark.parametrize("is_stricter", [True, False])
@pytest.mark.parametrize("hours", [(22,), (19, 20, 22, 23)])
def test_an_alert_whose_records_are_gone_outlives_what_is_judged_around_it(
    tmp_path: Path, hours: Sequence[int], *, is_stricter: bool
) -> None:
    """What was put back out of a lake has no records here to be judged by, be there some on both sides."""
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    session(tmp_path, usual, ones(*range(21 * HOUR, 21 * HOUR + 600, 60)))
    before = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    known = [kept for kept in before.alerts.list() if kept.alert.title == "many"]
    before.close()
    (tmp_path / "anew").mkdir()
    session(tmp_path / "anew", usual, [])
    state = DetectionState(tmp_path / "anew" / "detections.sqlite", survives_power_cuts=False)
    with state.transaction():
        restore_alerts(state, known, trusted_from_ms=0)

    rule = STRICT if is_stricter else many()
    rules = load_good(tmp_path, ONE, TWO, rule, outer("many", "two", generate=True))
    session(tmp_path / "anew", rules, ones(*(hour * HOUR for hour in hours)))
    session(tmp_path / "anew", usual, [])
    left = [kept for kept in state.alerts.list() if kept.alert.title == "many"]
    session(tmp_path / "anew", usual, ones(*range(21 * HOUR, 21 * HOUR + 600, 60)))
    seen = [kept for kept in state.alerts.list() if kept.alert.title == "many"]
    session(tmp_path / "anew", load_good(tmp_path, ONE, TWO, STRICT, outer("many", "two", generate=True)), [])
    judged = [kept for kept in state.alerts.list() if kept.alert.title == "many"]
    state.close()

    assert left == [replace(kept, is_put_back=True) for kept in known] != []
    assert seen == known
    assert judged == []


def test_who_looks_into_an_alert_keeps_it_though_a_part_was_closed_meanwhile(tmp_path: Path) -> None:
    """While the rule was stricter, the part was an alert of its own, and somebody else closed that."""
    dense = joint("many", "event_count", ["one"], {"gte": 5}, timespan="30s")
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    strict = load_good(tmp_path, ONE, TWO, dense, outer("many", "two", generate=True))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)

    def make(made: AlertState, by: str) -> None:
        [kept] = [kept for kept in state.alerts.list() if kept.alert.title == "many"]
        with state.transaction():
            state.alerts.set_state(kept.alert.id, made, reason="mine", by=by, at_ms=ms_of(NOW))

    session(tmp_path, usual, ones(*range(22 * HOUR, 22 * HOUR + 600, 60)))
    make(AlertState.ACKNOWLEDGED, "ann")
    session(tmp_path, strict, ones(*range(22 * HOUR + 600, 22 * HOUR + 610)))
    make(AlertState.CLOSED, "bob")
    session(tmp_path, usual, [])
    found = [(kept.state, kept.changed_by) for kept in state.alerts.list() if kept.alert.title == "many"]
    state.close()

    assert found == [(AlertState.ACKNOWLEDGED, "ann")]


@guarantee(35)
@pytest.mark.parametrize("made", [AlertState.ACKNOWLEDGED, AlertState.CLOSED])
@pytest.mark.parametrize("which", [0, 1])
def test_what_somebody_made_of_one_of_two_is_not_made_of_the_other(
    tmp_path: Path, made: AlertState, which: int
) -> None:
    """A wider timespan makes one alert of two, for a while; the one that nobody looked at stays open."""
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    wide = load_good(tmp_path, ONE, TWO, many(timespan="1h"), outer("many", "two", generate=True))
    early, late = range(20 * HOUR, 20 * HOUR + 600, 60), range(20 * HOUR + 2000, 20 * HOUR + 2600, 60)
    session(tmp_path, usual, ones(*early, *late))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    before = sorted(state.alerts.list(), key=lambda kept: kept.low_ms)
    with state.transaction():
        alert_id = before[which].alert.id
        state.alerts.set_state(alert_id, made, reason="mine", by="ann", at_ms=ms_of(NOW))

    numbers = []
    for rules in (wide, usual, wide, usual):
        session(tmp_path, rules, [])
        kept = sorted(state.alerts.list(), key=lambda kept: kept.low_ms)
        numbers.append(len(kept))
    history = state.history.list(kept[1 - which].alert.id)
    state.close()

    assert numbers == [1, 2, 1, 2]
    assert [one.state for one in kept] == [made if place == which else AlertState.OPEN for place in range(2)]
    assert [bool(one.changed_by) for one in kept] == [place == which for place in range(2)]
    assert history == []


def at_once(folder: Path, *, timespan: str, gte: int = 5) -> Library:
    """So many of One in that time, and what joins them."""
    rule = joint("many", "event_count", ["one"], {"gte": gte}, timespan=timespan)
    return load_good(folder, ONE, TWO, rule, outer("many", "two", generate=True))


THREE = (range(0, 600, 60), range(3000, 3600, 60), range(4800, 5400, 60))
"""Seconds of three bursts, of which an hour joins all and half an hour the last two."""
STEPS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "withdrawn meanwhile": [
        {"timespan": "1h"},
        {"timespan": "1h", "gte": 50},
        {"timespan": "1h", "gte": 51},
        {"timespan": "5m"},
    ],
    "parted in part": [{"timespan": "1h"}, {"timespan": "30m"}],
}


@guarantee(35)
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_what_was_closed_of_one_of_several_closes_no_other(
    tmp_path: Path, steps: Sequence[Mapping[str, Any]]
) -> None:
    """They were one for a while; five records that come to the first open it again."""
    seconds = [20 * HOUR + second for burst in THREE for second in burst]
    session(tmp_path, at_once(tmp_path, timespan="5m"), ones(*seconds))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    with state.transaction():
        for kept in state.alerts.list():
            state.alerts.set_state(
                kept.alert.id, AlertState.CLOSED, reason="mine", by="ann", at_ms=ms_of(NOW)
            )
    for step in steps:
        session(tmp_path, at_once(tmp_path, **step), [])
    more = ones(*range(20 * HOUR + 630, 20 * HOUR + 930, 60))
    session(tmp_path, at_once(tmp_path, **steps[-1]), more)
    first, *_ = sorted(state.alerts.list(), key=lambda kept: kept.low_ms)
    state.close()

    assert (first.state, first.alert.count) == (AlertState.OPEN, 15)


@guarantee(35)
def test_what_a_changed_rule_made_smaller_opens_once_it_has_more_than_was_closed(tmp_path: Path) -> None:
    """Two bursts of ten were closed as one; with the shorter timespan each is an alert of its own."""
    bursts = range(20 * HOUR, 20 * HOUR + 600, 60), range(20 * HOUR + 2000, 20 * HOUR + 2600, 60)
    session(tmp_path, at_once(tmp_path, timespan="1h"), ones(*bursts[0], *bursts[1]))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    (joined,) = state.alerts.list()
    with state.transaction():
        state.alerts.set_state(joined.alert.id, AlertState.CLOSED, reason="mine", by="ann", at_ms=ms_of(NOW))
    smaller = at_once(tmp_path, timespan="5m")
    states = []
    for more in (
        range(0),
        range(20 * HOUR + 630, 20 * HOUR + 930, 60),
        range(20 * HOUR + 900, 20 * HOUR + 1260, 60),
    ):
        session(tmp_path, smaller, ones(*more))
        first = min(state.alerts.list(), key=lambda kept: kept.low_ms)
        states.append((first.alert.count, first.state))
    state.close()

    assert joined.alert.count == 20
    assert states == [(10, AlertState.CLOSED), (15, AlertState.CLOSED), (21, AlertState.OPEN)]


def test_who_looks_into_one_of_two_is_left_that_one_though_both_were_withdrawn(tmp_path: Path) -> None:
    """Joined, withdrawn by a strict rule, and back as they were."""
    seconds = [20 * HOUR + second for burst in THREE[1:] for second in burst]
    session(tmp_path, at_once(tmp_path, timespan="5m"), ones(*seconds))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    before = sorted(state.alerts.list(), key=lambda kept: kept.low_ms)
    with state.transaction():
        made, last = AlertState.ACKNOWLEDGED, before[1].alert.id
        state.alerts.set_state(last, made, reason="mine", by="ann", at_ms=ms_of(NOW))
    for step in STEPS["withdrawn meanwhile"]:
        session(tmp_path, at_once(tmp_path, **step), [])
    after = sorted(state.alerts.list(), key=lambda kept: kept.low_ms)
    state.close()

    assert [one.alert.id for one in after] == [one.alert.id for one in before]
    assert [one.changed_by for one in after] == ["", "ann"]


def test_what_is_not_read_of_a_large_group_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of rules has all of the time judged, and of a flood only the latest part can be."""
    usual = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", generate=True))
    changed = load_good(tmp_path, ONE, TWO, many(), outer("many", "two", timespan="1h", generate=True))
    bursts = [second + hour * HOUR for hour in (20, 21, 22) for second in range(0, 600, 60)]
    session(tmp_path, usual, ones(*bursts))
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    before = [kept.alert.evidence for kept in state.alerts.list()]
    monkeypatch.setattr(kept_matches, "SPAN_MATCHES_MAX", 24)

    session(tmp_path, changed, [])
    after = [kept.alert.evidence for kept in state.alerts.list()]
    state.close()

    assert after == before
    assert len(before) == 3


def test_many_groups_are_no_reason_to_judge_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few of them can come to an alert; their matches are read a portion at a time, and within its bound."""
    monkeypatch.setattr(tallies, "ROWS_MAX", 60)
    monkeypatch.setattr(rejoining, "GROUPS_AT_ONCE", 10)
    library = load_good(tmp_path, ONE, TWO, many(), outer("many", "two"))
    people = [f"person{number}@contoso.example" for number in range(100)]
    several = [one for person in people for one in ones(22 * HOUR, 22 * HOUR + 60, UserId=person)]
    session(tmp_path, library, several)
    state = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    rules = library.rules[:-1]
    work = Work(ms_of(NOW), {rule.id: place for place, rule in enumerate(library.rules)})
    for some in (rules, library.rules):
        Rejoining(some, state, Tallies(state)).touch(work)
    keys = [GroupKey(rule.id, TENANT, (person,)) for rule in library.rules for person in people]
    read = state.matches.read_tallies(keys * 10, most=70)
    state.close()

    assert work.pop() is None
    assert len(read) == 70


@guarantee(34)
def test_an_alert_that_a_shorter_timespan_takes_apart_leaves_all_its_parts(tmp_path: Path) -> None:
    """A record that comes to the last of them has the others judged too: they were one alert."""

    def library(timespan: str) -> Library:
        return load_good(tmp_path, ONE, joint("outer", "event_count", ["one"], {"gte": 3}, timespan=timespan))

    early = [second + start for start in (21 * HOUR, 22 * HOUR) for second in range(3)]
    whole = session(tmp_path, library("3h"), ones(*early))
    parts = session(tmp_path, library("5m"), ones(22 * HOUR + MINUTE))

    assert [count for _, _, count in whole] == [6]
    assert [count for _, _, count in parts] == [3, 4]
