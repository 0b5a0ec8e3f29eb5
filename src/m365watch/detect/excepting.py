"""A new exception is also about what is open already: such alerts are closed, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from m365watch.detect.alert import Alert, AlertId
from m365watch.detect.correlation.episode import Episode
from m365watch.detect.exceptions import Exceptions, Part, Verdict
from m365watch.detect.judging import (
    NO_VERDICT,
    Moment,
    find_episodes,
    judge_exceptions,
    make_alert,
    reach_s,
    why_excepted,
)
from m365watch.detect.kept import AlertState, GroupKey, KeptAlert
from m365watch.detect.rule import Rule
from m365watch.detect.state import DetectionState

BY = "exceptions_file"
"""Who has closed them, as their history says."""


def close_excepted(
    state: DetectionState, rules: Mapping[str, Rule], exceptions: Exceptions, *, at_ms: int
) -> int:
    """Close the alerts that an exception holds for and nobody has closed; how many.

    So are those that join others of which each is closed so: what is left of them is what somebody expects.

    Raises: OutputUnavailable: none is closed.
    """
    if not exceptions.every:
        return 0
    with state.transaction():
        every = state.alerts.list()
        standing = [kept.alert for kept in every if kept.state is not AlertState.CLOSED]
        found = {
            alert.id: verdict.reason
            for alert in standing
            if (rule := rules.get(alert.rule_id)) is not None
            and (verdict := _judge(state, rule, alert, exceptions, rules, now_ms=at_ms)).is_whole
        }
        known = found | {one.alert.id: _reason_of(one) for one in every if one.changed_by == BY}
        left = [one for one in standing if one.id not in found]
        found |= _resting_on(known, left, state, rules, exceptions, now_ms=at_ms)
        for alert_id, reason in found.items():
            state.alerts.set_state(
                alert_id, AlertState.CLOSED, reason=f"exception: {reason}", by=BY, at_ms=at_ms
            )
    return len(found)


def _reason_of(kept: KeptAlert) -> str:
    return kept.reason.removeprefix("exception: ") if kept.state is AlertState.CLOSED else ""


def _resting_on(
    excepted: Mapping[AlertId, str],
    standing: Sequence[Alert],
    state: DetectionState,
    rules: Mapping[str, Rule],
    exceptions: Exceptions,
    *,
    now_ms: int,
) -> dict[AlertId, str]:
    """The alerts that join others alone that are excepted, with the reason of the first; also over others."""
    known = {alert_id: reason for alert_id, reason in excepted.items() if reason}
    found: dict[AlertId, str] = {}
    left = list(standing)
    while True:
        new: dict[AlertId, str] = {}
        for alert in left:
            rule = rules.get(alert.rule_id)
            episode = None if rule is None else _episode_of(state, rule, alert, now_ms=now_ms)
            if rule is not None and rule.correlation is not None and episode is not None:
                reasons = [
                    known.get(AlertId(match.identity)) or why_excepted(match, exceptions, rules)
                    for match in episode.matches
                ]
                if all(reasons):
                    new[alert.id] = reasons[0]
        if not new:
            return found
        found |= new
        known |= new
        left = [one for one in left if one.id not in new]


def _judge(
    state: DetectionState,
    rule: Rule,
    alert: Alert,
    exceptions: Exceptions,
    rules: Mapping[str, Rule],
    *,
    now_ms: int,
) -> Verdict:
    """What they say of the alert's records; of what it names itself where those are not kept any more."""
    if rule.correlation is None and not exceptions.concern(rule, alert.tenant):
        return NO_VERDICT
    episode = _episode_of(state, rule, alert, now_ms=now_ms)
    if episode is not None:
        return judge_exceptions(rule, episode, exceptions, rules)
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    known = Part(alert.last_at_ms, {kind: alert.named(kind) for kind in kinds})
    return NO_VERDICT if alert.unnamed else exceptions.judge(rule, alert.tenant, [known])


def _episode_of(state: DetectionState, rule: Rule, alert: Alert, *, now_ms: int) -> Episode | None:
    """The alert's matches, as far as they are still kept."""
    key = GroupKey(rule.id, alert.tenant, alert.group)
    reach_ms = reach_s(rule) * 1000
    span = state.matches.read_span(key, low_ms=alert.first_at_ms, high_ms=alert.last_at_ms, reach_ms=reach_ms)
    moment = Moment(now_ms, state.since_ms(alert.tenant) or 0)
    for episode in find_episodes(rule, span.matches, moment) if span.matches else ():
        if make_alert(rule, episode).id == alert.id:
            return episode
    return None
