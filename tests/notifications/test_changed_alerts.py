"""The list of alerts that have changed."""

from __future__ import annotations

from pathlib import Path

from m365watch.notifications.alert_changes import Changes
from notify_scene import Detections, make_alert


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
