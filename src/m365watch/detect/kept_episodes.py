"""Episodes found again in the file of detections: the matches that an alert there is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from m365watch.detect.alert import Match
from m365watch.detect.correlation.episode import Episode
from m365watch.detect.correlation.novelty import DAY_MS
from m365watch.detect.finding import PERIOD_KINDS, Moment, find_episodes, reach_s
from m365watch.detect.inner import Inner
from m365watch.detect.judging import id_of
from m365watch.detect.kept import GroupKey, KeptAlert, Span
from m365watch.detect.linking import alert_of
from m365watch.detect.rule import Rule
from m365watch.detect.state import DetectionState

HORIZON_MS = 8 * DAY_MS
"""What is older than this takes no part any more: the feed serves 7 days, newest first."""


def read_neighbours(state: DetectionState, rule: Rule, key: GroupKey, *, low_ms: int, high_ms: int) -> Span:
    """The matches that have to do with what happened between the two times; of periods, all of the group."""
    if rule.kind in PERIOD_KINDS and rule.correlation is None:
        return state.matches.read_group(key, since_ms=0)
    return state.matches.read_span(key, low_ms=low_ms, high_ms=high_ms, reach_ms=reach_s(rule) * 1000)


def moment_of(state: DetectionState, rule: Rule, key: GroupKey, span: Span, *, now_ms: int) -> Moment:
    """What the alerts of these matches depend on beside them."""
    from_ms = now_ms - HORIZON_MS
    if span.is_cut:
        from_ms = max(from_ms, span.matches[0].at_ms + reach_s(rule) * 1000)
    return Moment(now_ms, state.since_ms(key.tenant) or 0, from_ms)


def judged_by(span: Span, episodes: Sequence[Episode], alerts: list[KeptAlert]) -> list[KeptAlert]:
    """Of these alerts, those that the matches of the span can judge.

    What began before the part that was read, where that is not all, stays as it was unless it goes on there.
    """
    if not span.is_cut:
        return alerts
    from_ms = span.matches[0].at_ms
    on_ms = min((one.matches[0].at_ms for one in episodes if one.matches), default=inf)
    return [kept for kept in alerts if kept.low_ms >= from_ms or kept.alert.last_at_ms >= on_ms]


def episode_of(state: DetectionState, rule: Rule, kept: KeptAlert, *, now_ms: int) -> Episode | None:
    """The alert's matches, as far as they are still kept."""
    alert = kept.alert
    key = GroupKey(rule.id, alert.tenant, alert.group)
    span = read_neighbours(state, rule, key, low_ms=kept.low_ms, high_ms=alert.last_at_ms)
    moment = moment_of(state, rule, key, span, now_ms=now_ms)
    for episode in find_episodes(rule, span.matches, moment) if span.matches else ():
        if id_of(rule, episode) == alert.id:
            return episode
    return None


class KeptMembers:
    """The records of alerts that others join, out of the file."""

    def __init__(self, state: DetectionState, rules: Mapping[str, Rule], *, now_ms: int) -> None:
        """`rules` by their ids."""
        self._state = state
        self._now_ms = now_ms
        self.inner = Inner(rules, self)
        self.notes: dict[str, None] = {}
        """What has to be kept in mind of those that were asked for."""

    def __call__(self, link: Match) -> Sequence[Match]:
        """The records of the alert that a match stands for, and of those that this one joins in turn."""
        kept = self._state.alerts.find_itself(alert_of(link.identity))
        rule = self.inner.rules.get(link.source_id)
        if kept is None or rule is None:
            return ()
        self.notes |= dict.fromkeys(kept.alert.notes)
        episode = episode_of(self._state, rule, kept, now_ms=self._now_ms)
        return () if episode is None else self.inner.told(rule, episode).matches
