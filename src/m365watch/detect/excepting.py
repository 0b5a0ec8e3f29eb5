"""A new exception is also about what is open already: such alerts are closed, with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from m365watch.detect.alert import Alert
from m365watch.detect.exceptions import Exceptions, Part, Verdict
from m365watch.detect.judging import (
    NO_VERDICT,
    Moment,
    find_episodes,
    judge_exceptions,
    make_alert,
    reach_s,
)
from m365watch.detect.kept import AlertState, GroupKey
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
            kept.alert.id: verdict.reason
            for kept in state.alerts.list()
            if kept.state is not AlertState.CLOSED
            and (rule := rules.get(kept.alert.rule_id)) is not None
            and (verdict := _judge(state, rule, kept.alert, exceptions, now_ms=at_ms)).is_whole
        }
        for alert_id, reason in found.items():
            state.alerts.set_state(
                alert_id, AlertState.CLOSED, reason=f"exception: {reason}", by=BY, at_ms=at_ms
            )
    return len(found)


def _judge(
    state: DetectionState, rule: Rule, alert: Alert, exceptions: Exceptions, *, now_ms: int
) -> Verdict:
    """What they say of the alert's records; of what it names itself where those are not kept any more."""
    if not exceptions.concern(rule, alert.tenant):
        return NO_VERDICT
    key = GroupKey(rule.id, alert.tenant, alert.group)
    reach_ms = reach_s(rule) * 1000
    span = state.matches.read_span(key, low_ms=alert.first_at_ms, high_ms=alert.last_at_ms, reach_ms=reach_ms)
    moment = Moment(now_ms, state.since_ms(alert.tenant) or 0)
    for episode in find_episodes(rule, span.matches, moment) if span.matches else ():
        if make_alert(rule, episode).id == alert.id:
            return judge_exceptions(rule, episode, exceptions)
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    known = Part(alert.last_at_ms, {kind: alert.named(kind) for kind in kinds})
    return NO_VERDICT if alert.unnamed else exceptions.judge(rule, alert.tenant, [known])
