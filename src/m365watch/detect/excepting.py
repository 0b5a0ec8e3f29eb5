"""A new exception is also about what is open already: such alerts are closed, with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.detect.exceptions import Exceptions
from m365watch.detect.kept import AlertState
from m365watch.detect.rule import Rule
from m365watch.detect.state import DetectionState

BY = "exceptions_file"
"""Who has closed them, as their history says."""


def close_excepted(
    state: DetectionState, rules: Mapping[str, Rule], exceptions: Exceptions, *, at_ms: int
) -> int:
    """Close the alerts that an exception holds for and nobody has closed; how many.

    Raises: OutputUnavailable: none is closed.
    """
    if not exceptions.every:
        return 0
    with state.transaction():
        found = {
            kept.alert.id: excepted.reason
            for kept in state.list_alerts()
            if kept.state is not AlertState.CLOSED
            and (rule := rules.get(kept.alert.rule_id)) is not None
            and (excepted := exceptions.find(rule, kept.alert)) is not None
        }
        for alert_id, reason in found.items():
            state.set_state(alert_id, AlertState.CLOSED, reason=f"exception: {reason}", by=BY, at_ms=at_ms)
    return len(found)
