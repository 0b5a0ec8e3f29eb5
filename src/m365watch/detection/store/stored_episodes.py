"""Episodes found again in the file of detections: the matches that an alert there is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.alert_builder import id_of
from m365watch.detection.alerts.stored_alert import GroupKey, KeptAlert, Span
from m365watch.detection.correlation.alert_links import Inner, alert_of
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.episode_finder import PERIOD_KINDS, Moment, find_episodes, reach_s
from m365watch.detection.correlation.period_rules import DAY_MS, PERIODS_MAX, SETTLED_S
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState

HORIZON_MS = 10 * DAY_MS
"""What is older than this takes no part any more: the feed serves 7 days, newest first, of what came to it
up to 72 hours late."""


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


def moment_with(moment: Moment, rule: Rule, span: Span, alerts: Sequence[KeptAlert]) -> Moment:
    """The moment, with the past of alerts that go on: as long as they do, what they are judged by is kept."""
    if span.is_cut:
        return moment
    from_ms = min([moment.from_ms, *(kept.alert.first_at_ms for kept in alerts)])
    deviation = rule.extension.deviation
    if deviation is not None:
        # More periods are not looked at.
        looked_at_s = (PERIODS_MAX - deviation.periods - 2) * deviation.period
        from_ms = max(from_ms, moment.now_ms - (SETTLED_S + looked_at_s) * 1000)
    return replace(moment, from_ms=from_ms)


def part_judged(span: Span, alerts: list[KeptAlert]) -> tuple[Span, list[KeptAlert]]:
    """Of a span that is cut, the part beside alerts that go on beyond it; and the alerts that lie inside.

    What goes on beyond stays as it was told, and what comes after it, or before, is told as another alert:
    the part begins elsewhere each time, and an alert that began with it would be a new one each time.
    """
    if not span.is_cut:
        return span, alerts
    # What began before the first of all has lost its beginning, and is judged like any other.
    from_ms, to_ms = 0 if span.begins else span.matches[0].at_ms, span.matches[-1].at_ms
    inside = [one for one in alerts if from_ms <= one.low_ms and one.alert.last_at_ms <= to_ms]
    low_ms = max((one.alert.last_at_ms + 1 for one in alerts if one.low_ms < from_ms), default=from_ms)
    low_ms = min([low_ms, *(one.low_ms for one in inside)])
    high_ms = min((one.low_ms - 1 for one in alerts if one.alert.last_at_ms > to_ms), default=to_ms)
    high_ms = max([high_ms, *(one.alert.last_at_ms for one in inside)])
    return Span(_between(span, low_ms, high_ms), is_cut=True), inside


def episodes_judged(
    episodes: Sequence[Episode], alerts: Sequence[KeptAlert], over: Sequence[KeptAlert], *, known_ms: int
) -> list[Episode]:
    """Those that end then or later, or that have more in common with one of `alerts` than with any of `over`.

    Of what is over for longer, something that it depends on may be gone: the sighting before it, for one,
    without which everything is seen for the first time.
    """
    return [
        one for one in episodes if _end_of(one) >= known_ms or 0 <= _most(one, alerts) >= _most(one, over)
    ]


def alerts_judged(
    rule: Rule, alerts: list[KeptAlert], episodes: Sequence[Episode], times_ms: Sequence[int], moment: Moment
) -> list[KeptAlert]:
    """Of a group's alerts about whole periods those of which something can still be said.

    A change is from the period before. Where that is let go of, nothing is found, and the alert stays.
    """
    if rule.extension.deviation is not None:
        return [kept for kept in alerts if kept.alert.first_at_ms >= moment.from_ms]
    if rule.extension.gradient is None or not times_ms:
        return alerts
    width_ms = rule.extension.gradient.period * 1000
    second_ms = (times_ms[0] // width_ms + 1) * width_ms
    return [
        kept
        for kept in alerts
        if kept.alert.first_at_ms >= second_ms or any(_common_ms(one, kept) >= 0 for one in episodes)
    ]


def _end_of(episode: Episode) -> int:
    return max(episode.matches[-1].at_ms, episode.until_ms)


def _most(episode: Episode, alerts: Sequence[KeptAlert]) -> int:
    """How long it and one of the alerts go on together at most; below 0 where no time is common."""
    return max((_common_ms(episode, one) for one in alerts), default=-1)


def _common_ms(episode: Episode, kept: KeptAlert) -> int:
    first_ms = episode.from_ms or episode.matches[0].at_ms
    return min(_end_of(episode), kept.alert.last_at_ms) - max(first_ms, kept.low_ms)


def _between(span: Span, low_ms: int, high_ms: int) -> list[Match]:
    return [one for one in span.matches if low_ms <= one.at_ms <= high_ms]


def episode_of(state: DetectionState, rule: Rule, kept: KeptAlert, *, now_ms: int) -> Episode | None:
    """The alert's matches, as far as they are still kept."""
    alert = kept.alert
    key = GroupKey(rule.id, alert.tenant, alert.group)
    span = read_neighbours(state, rule, key, low_ms=kept.low_ms, high_ms=alert.last_at_ms)
    moment = moment_of(state, rule, key, span, now_ms=now_ms)
    # Of a part it was told without what another alert has before it.
    matches = _between(span, kept.low_ms, alert.last_at_ms) if span.is_cut else span.matches
    for episode in find_episodes(rule, matches, moment) if matches else ():
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
