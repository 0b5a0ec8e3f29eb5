"""What is kept of a group's alerts becomes what was found of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS, make_alert
from m365watch.detection.alerts.alert_exceptions import AlertException, Exceptions
from m365watch.detection.alerts.reconciler import Reconciling
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert, News
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.engine.detection_engine import Engine
from m365watch.detection.engine.group_tallies import Tallies
from m365watch.detection.engine.record_batch import Portion
from m365watch.detection.engine.unit_of_work import Touched, Work
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.records.headers import headers_of
from rules import TENANT, load_good, rule_text
from test_joined_correlations import NOW, ONE

ANOTHER = AlertId("0" * 32)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[DetectionState]:
    """A file that knows nothing yet."""
    opened = DetectionState(tmp_path / "detections.sqlite", survives_power_cuts=False)
    yield opened
    opened.close()


@pytest.fixture
def rule(tmp_path: Path) -> Rule:
    """A rule of one record."""
    return load_good(tmp_path, ONE).rules[0]


def episode_at(rule: Rule, second: int, *, start: str = "") -> Episode:
    """One match, of an alert whose id may be made of another time."""
    identity = f"{second:032x}"
    at_ms = ms_of(NOW) + second * 1000
    match = Match(rule.id, rule.id, TENANT, ("ann",), at_ms, identity, f"record-{second}", Severity.HIGH)
    return Episode([match], at_ms, start=start)


def reconciled(
    state: DetectionState, rule: Rule, before: Sequence[KeptAlert], episode: Episode
) -> list[tuple[News, Alert]]:
    """What is told where this alone was found, and that was kept there."""
    work = Work(ms_of(NOW), {rule.id: 0})
    reconciling = Reconciling([rule], state, Tallies(state), NO_EXCEPTIONS)
    found = [(episode, make_alert(rule, episode), episode.matches)]
    with state.transaction():
        reconciling.make_it_so(rule, before, found, Touched(0, ms_of(NOW)), work)
    return [(change.what, change.alert) for change in work.changes]


def test_an_alert_that_has_moved_is_the_one_that_is_kept(state: DetectionState, rule: Rule) -> None:
    """Its own matches lie elsewhere now, so that it was not kept there: it is not new by that."""
    known = KeptAlert(make_alert(rule, episode_at(rule, 9_000, start="first")), shown=True)
    with state.transaction():
        state.alerts.put(replace(known, state=AlertState.ACKNOWLEDGED, changed_by="ann", changed_at_ms=1))

    told = reconciled(state, rule, [], episode_at(rule, 100, start="first"))
    [kept] = state.alerts.list()

    assert [(what, alert.id) for what, alert in told] == [(News.UPDATED, known.alert.id)]
    assert (kept.state, kept.changed_by) == (AlertState.ACKNOWLEDGED, "ann")


def test_an_alert_is_formerly_none_that_stands_elsewhere(state: DetectionState, rule: Rule) -> None:
    """It may be of another part of what goes on for long, of which nothing was found here."""
    elsewhere = KeptAlert(make_alert(rule, episode_at(rule, 9_000)), shown=True)
    before = KeptAlert(
        replace(make_alert(rule, episode_at(rule, 100)), formerly=(elsewhere.alert.id, ANOTHER), count=2),
        shown=True,
    )
    with state.transaction():
        state.alerts.put(elsewhere)
        state.alerts.put(before)

    told = reconciled(state, rule, [before], episode_at(rule, 100))

    assert [(what, alert.formerly) for what, alert in told] == [(News.UPDATED, (ANOTHER,))]


def test_what_is_withdrawn_is_formerly_no_alert_that_stands(state: DetectionState, rule: Rule) -> None:
    """Whoever follows alerts by their former ids would take the one that is there for gone."""
    again = episode_at(rule, 100)
    alert = make_alert(rule, episode_at(rule, 9_000))
    gone = KeptAlert(replace(alert, formerly=(make_alert(rule, again).id, ANOTHER)), shown=True)
    with state.transaction():
        state.alerts.put(gone)

    told = reconciled(state, rule, [gone], again)

    assert [(what, alert.formerly) for what, alert in told] == [
        (News.NEW, ()),
        (News.WITHDRAWN, (ANOTHER,)),
    ]


def test_an_alert_of_many_ids_is_noted_as_closed_once(state: DetectionState, rule: Rule) -> None:
    """It gets another id with each earlier record; who had closed it is not lost among the engine's words."""
    first = replace(KeptAlert(make_alert(rule, episode_at(rule, 1_000)), shown=True), state=AlertState.OPEN)
    with state.transaction():
        state.alerts.put(first)
        state.alerts.set_state(first.alert.id, AlertState.CLOSED, reason="a drill", by="ann", at_ms=1)
    for second in range(999, 900, -1):
        [kept] = state.alerts.list()
        matches = [match for one in range(second, 1_001) for match in episode_at(rule, one).matches]
        reconciled(state, rule, [kept], replace(episode_at(rule, second), matches=matches))
    [kept] = state.alerts.list()
    said = [(one.by, one.reason) for one in state.history.list(kept.alert.id)]

    assert len(kept.alert.formerly) == 99
    assert said[0] == ("ann", "a drill")
    assert len(said) == 2


LEAVE = Exceptions((AlertException("X1", "leave", {"user": "ann@*"}),))


@guarantee(35)
@pytest.mark.parametrize(
    ("last", "what"), [(NO_EXCEPTIONS, News.UPDATED), (LEAVE, News.WITHDRAWN)], ids=["gone", "back"]
)
def test_what_joins_a_hidden_alert_and_a_told_one_was_told(
    tmp_path: Path, last: Exceptions, what: News
) -> None:
    """The first was excepted, the second not any more; a late record makes one of both."""
    extension = {"quiet": "12h", "detection": "X1", "entity": {"user": "UserId"}}
    rules = load_good(
        tmp_path, rule_text({"s": {"Operation": "A"}, "condition": "s"}, m365watch=extension)
    ).rules
    state = DetectionState(tmp_path / "d.sqlite", survives_power_cuts=False)
    told = []
    for number, (hour, exceptions) in enumerate(((0, LEAVE), (20, NO_EXCEPTIONS), (10, last)), 1):
        fields = {"CreationTime": f"2026-11-02T{hour:02}:00:00", "Operation": "A", "UserId": "ann@x"}
        batch = [json.dumps({"Id": f"r{number}", **fields}).encode()]
        engine = Engine(rules, state, exceptions=exceptions)
        now = datetime(2026, 11, 2, 20 + number, tzinfo=UTC)
        told += engine.take([Portion(TENANT, now, batch, headers_of(batch))], number=number, now=now)
    state.close()

    assert [one.what for one in told] == [News.NEW, what]
