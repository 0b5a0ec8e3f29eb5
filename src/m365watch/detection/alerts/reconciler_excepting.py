"""A new exception is also about what is open already: such alerts are closed, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from m365watch.detection.alerts.alert import AlertId
from m365watch.detection.alerts.alert_builder import NO_VERDICT, judge_exceptions, why_excepted
from m365watch.detection.alerts.alert_exceptions import Exceptions, Part, Verdict
from m365watch.detection.alerts.stored_alert import AlertState, KeptAlert
from m365watch.detection.correlation.alert_links import alert_of
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState
from m365watch.detection.store.stored_episodes import KeptMembers, episode_of

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
        standing = [kept for kept in every if kept.state is not AlertState.CLOSED]
        found = {
            kept.alert.id: verdict.reason
            for kept in standing
            if (rule := rules.get(kept.alert.rule_id)) is not None
            and (verdict := _judge(state, rule, kept, exceptions, rules, now_ms=at_ms)).is_whole
        }
        known = found | {one.alert.id: _reason_of(one) for one in every if one.changed_by == BY}
        left = [one for one in standing if one.alert.id not in found]
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
    standing: Sequence[KeptAlert],
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
        for kept in left:
            rule = rules.get(kept.alert.rule_id)
            episode = None if rule is None else episode_of(state, rule, kept, now_ms=now_ms)
            if rule is not None and rule.correlation is not None and episode is not None:
                reasons = [
                    known.get(alert_of(match.identity)) or why_excepted(match, exceptions, rules)
                    for match in episode.matches
                ]
                if all(reasons):
                    new[kept.alert.id] = reasons[0]
        if not new:
            return found
        found |= new
        known |= new
        left = [one for one in left if one.alert.id not in new]


def _judge(
    state: DetectionState,
    rule: Rule,
    kept: KeptAlert,
    exceptions: Exceptions,
    rules: Mapping[str, Rule],
    *,
    now_ms: int,
) -> Verdict:
    """What they say of the alert's records; of what it names itself where those are not kept any more."""
    alert = kept.alert
    if rule.correlation is None and not exceptions.concern(rule, alert.tenant):
        return NO_VERDICT
    episode = episode_of(state, rule, kept, now_ms=now_ms)
    if episode is not None:
        inner = KeptMembers(state, rules, now_ms=now_ms).inner
        return judge_exceptions(rule, episode, exceptions, inner)
    kinds = dict.fromkeys(kind for kind, _ in alert.entities)
    known = Part(alert.last_at_ms, {kind: alert.named(kind) for kind in kinds})
    return NO_VERDICT if alert.unnamed else exceptions.judge(rule, alert.tenant, [known])
