"""The list of alerts that have changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from m365watch.detection.alerts.alert import Alert
from m365watch.detection.alerts.stored_alert import AlertState
from m365watch.detection.store.detection_erasure import Naming, forget_named
from m365watch.notifications.alert_changes import Changes
from m365watch.storage.database import connect
from notify_scene import START_MS, Detections, make_alert

WITNESSES = """
CREATE TABLE changed (alert TEXT PRIMARY KEY);
CREATE TRIGGER made AFTER INSERT ON alert BEGIN INSERT OR IGNORE INTO changed VALUES (new.id); END;
CREATE TRIGGER altered AFTER UPDATE ON alert BEGIN INSERT OR IGNORE INTO changed VALUES (new.id); END;
CREATE TRIGGER gone AFTER DELETE ON alert BEGIN INSERT OR IGNORE INTO changed VALUES (old.id); END;
"""
"""SQLite itself says which alerts change."""
FIRST, SECOND, THIRD = (make_alert(number) for number in (1, 2, 3))


def test_what_is_there_comes_before_what_is_gone(tmp_path: Path) -> None:
    """Whoever knew the alert that is gone is to know first that another has taken its place."""
    detections = Detections(tmp_path)
    changes = Changes(detections.path, survives_power_cuts=False)
    changes.begin(lambda: None)
    first, second = make_alert(1), make_alert(2)
    detections.put(first)
    changes.forget(changes.take()[1])

    detections.drop(first)
    detections.put(second)
    found, _ = changes.take()

    assert [(alert, standing is None) for alert, standing in found] == [(second.id, False), (first.id, True)]
    changes.close()
    detections.state.close()


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda it: it.put(THIRD), [THIRD]),
        (lambda it: it.put(FIRST), [FIRST]),
        (lambda it: it.drop(FIRST), [FIRST]),
        (lambda it: it.drop(FIRST, became=SECOND), [FIRST, SECOND]),
        (lambda it: it.set(FIRST, AlertState.CLOSED), [FIRST]),
        (lambda it: it.state.alerts.forget(before_ms=START_MS + 1), [FIRST, SECOND]),
        (lambda it: forget_named(it.path, Naming(lambda body: b"203.0.113.9" in body)), [FIRST, SECOND]),
        (lambda it: forget_named(it.path, Naming(lambda body: b"mallory" in body)), [SECOND]),
    ],
    ids=["new", "again", "dropped", "joined", "decided", "too old", "erased", "reason erased"],
)
def test_each_change_of_an_alert_is_noted_with_it(
    tmp_path: Path, change: Callable[[Detections], None], changed: list[Alert]
) -> None:
    """Whoever makes it, in the same transaction; and nothing is noted until somebody wants it."""
    detections = Detections(tmp_path)
    detections.put(FIRST)
    detections.put(SECOND)
    detections.set(SECOND, AlertState.CLOSED, reason="mallory did")
    with closing(Changes(detections.path, survives_power_cuts=False)) as changes:
        assert changes.take() == ([], 0)
        changes.begin(lambda: None)
        with closing(connect(detections.path)) as witness:
            witness.executescript(WITNESSES)
            change(detections)
            seen = {alert for (alert,) in witness.execute("SELECT alert FROM changed")}
        noted = {alert for alert, _ in changes.take()[0]}
    detections.state.close()

    assert noted == seen == {alert.id for alert in changed}
