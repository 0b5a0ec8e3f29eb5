"""What became of an alert, change by change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.detection.alerts.alert import Alert, AlertId
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.alerts.triage import list_history, set_states
from m365watch.detection.rules.extension import Severity
from m365watch.detection.store.alert_history import CHANGES_MAX, StateChange
from m365watch.detection.store.detection_store import DetectionState

OPEN, SEEN, CLOSED = AlertState.OPEN, AlertState.ACKNOWLEDGED, AlertState.CLOSED


def alert_of(name: str, *, last_at_ms: int = 2_000) -> KeptAlert:
    alert = Alert(
        id=AlertId(name * 32),
        rule_id="rule",
        title="Something",
        severity=Severity.HIGH,
        tenant="t",
        group=("ann",),
        entities=(("user", "ann@contoso.example"),),
        first_at_ms=1_000,
        last_at_ms=last_at_ms,
        count=1,
        evidence=("r1",),
        explanation="",
    )
    return KeptAlert(alert, shown=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    state = DetectionState(tmp_path / "detections.sqlite")
    with state.transaction():
        state.alerts.put(alert_of("a"))
        state.alerts.put(alert_of("b", last_at_ms=9_000))
    state.close()
    return state.path


@guarantee(43)
def test_every_change_is_known_with_who_made_it(path: Path) -> None:
    """The alert has the last one; the history has all of them, the first one first."""
    set_states(path, ["aaaa"], SEEN, reason="", by="ann", at_ms=5)
    set_states(path, ["aaaa"], CLOSED, reason="a drill", by="bob", at_ms=6)

    assert list_history(path, "a" * 32) == [
        StateChange(5, SEEN, "", "ann"),
        StateChange(6, CLOSED, "a drill", "bob"),
    ]
    assert list_history(path, "b" * 32) == []


def test_the_history_goes_where_the_alert_goes(path: Path) -> None:
    """An alert that became another takes it along; one that is forgotten is forgotten with it."""
    set_states(path, ["aaaa"], SEEN, reason="", by="ann", at_ms=5)
    state = DetectionState(path)
    with state.transaction():
        state.alerts.drop(AlertId("a" * 32), became=AlertId("b" * 32))
    assert [one.by for one in state.history.list("b" * 32)] == ["ann"]

    with state.transaction():
        state.alerts.forget(before_ms=10_000)
    assert state.history.list("b" * 32) == []
    state.close()


def test_the_history_of_a_withdrawn_alert_waits_for_it_and_is_forgotten_in_the_end(path: Path) -> None:
    """Also where the alert came out of a lake, with its last change alone."""
    seen = replace(alert_of("c"), state=SEEN, changed_by="ann", changed_at_ms=5)
    state = DetectionState(path)
    with state.transaction():
        state.alerts.put(seen)
        state.alerts.drop(seen.alert.id, became=None)
    left = []
    for before_ms in (5, 6):
        with state.transaction():
            state.alerts.forget(before_ms=before_ms)
        left.append(state.alerts.recall(alert_of("c")))
    state.close()

    assert left == [seen, None]


def test_the_history_is_bounded(path: Path) -> None:
    """An alert that is opened and closed for ever keeps the latest changes."""
    state = DetectionState(path)
    with state.transaction():
        for at_ms in range(CHANGES_MAX + 5):
            state.alerts.set_state("a" * 32, CLOSED if at_ms % 2 else OPEN, reason="", by="ann", at_ms=at_ms)

    kept = state.history.list("a" * 32)
    state.close()

    assert (len(kept), kept[-1].at_ms) == (CHANGES_MAX, CHANGES_MAX + 4)
