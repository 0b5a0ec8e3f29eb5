"""Which matches of a group one alert tells of: what each kind of rule finds, and how far it looks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.episode import Episode, are_trusted, chain_episodes
from m365watch.detection.correlation.impossible_travel import travel_episodes
from m365watch.detection.correlation.period_rules import (
    SETTLED_S,
    bucket_of,
    deviation_episodes,
    gradient_episodes,
    low_episodes,
    novel_episodes,
    rolling_episodes,
)
from m365watch.detection.correlation.sliding_window import window_episodes
from m365watch.detection.engine.purposes import once_ms
from m365watch.detection.rules.extension import Extension, Kind, Travel
from m365watch.detection.rules.rule import Correlation, Joined, Rule

PERIOD_KINDS = frozenset({Kind.LOW, Kind.ROLLING, Kind.GRADIENT, Kind.DEVIATION})
"""Kinds whose alerts come with time alone."""
FAR_MS = 1 << 60
"""Later than anything."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an alert depends on beside matches."""

    now_ms: int
    """Until when silence can be told."""
    since_ms: int = 0
    """The earliest time at which the tenant was watched."""
    from_ms: int = 0
    """Since when everything is kept that periods are compared with."""


def find_episodes(rule: Rule, ordered: Sequence[Match], moment: Moment) -> list[Episode]:
    """The episodes of one group; `ordered` as `sort_matches` gives them."""
    trusted = rule.extension.trusted
    return [one for one in _every_episode(rule, ordered, moment) if not are_trusted(one.matches, trusted)]


def _every_episode(rule: Rule, ordered: Sequence[Match], moment: Moment) -> list[Episode]:
    if rule.correlation is not None:
        return window_episodes(counting(rule, ordered), rule.correlation)
    extension = rule.extension
    if extension.several is not None:
        several = extension.several
        counted = Correlation(Joined.COUNT, (rule.id,), several.period, threshold=several.threshold + 1)
        return window_episodes(ordered, counted)
    if extension.first_seen is not None:
        return novel_episodes(ordered, extension.first_seen, since_ms=moment.since_ms)
    if rule.kind is Kind.TRAVEL:
        wanted = extension.travel or Travel()
        return travel_episodes(ordered, wanted, quiet_s=extension.quiet, trusted=extension.trusted)
    if rule.kind in PERIOD_KINDS:
        return _period_episodes(rule, ordered, moment)
    return chain_episodes(ordered, quiet_s=extension.quiet)


def counting(rule: Rule, ordered: Sequence[Match]) -> Sequence[Match]:
    """What is joined and grave enough; of a counted value, by `once`, the first of each stretch."""
    # What is kept may be of a rule that is no longer joined; risk joins whatever has points.
    sources = frozenset(rule.correlation.sources if rule.correlation is not None else ())
    ordered = [match for match in ordered if match.source_id in sources] if sources else ordered
    least = rule.extension.from_severity.rank
    ordered = [match for match in ordered if match.severity.rank >= least] if least else ordered
    stretch_ms = once_ms(rule)
    if not stretch_ms:
        return ordered
    first: dict[tuple[str, int], Match] = {}
    for match in ordered:
        first.setdefault((match.counted, match.at_ms // stretch_ms), match)
    return list(first.values())


def _period_episodes(rule: Rule, ordered: Sequence[Match], moment: Moment) -> list[Episode]:
    extension, now_ms = rule.extension, moment.now_ms
    if extension.low is not None:
        return low_episodes(ordered, extension.low, now_ms=now_ms)
    if extension.rolling is not None:
        return rolling_episodes(ordered, extension.rolling, now_ms=now_ms)
    if extension.gradient is not None:
        return gradient_episodes(ordered, extension.gradient, now_ms=now_ms)
    if extension.deviation is not None:
        return deviation_episodes(
            ordered, extension.deviation, now_ms=now_ms, since_ms=moment.since_ms, from_ms=moment.from_ms
        )
    return []


def period_of(rule: Rule) -> int:
    """Seconds of the periods that the rule looks at; 0 for a rule that looks at none."""
    extension = rule.extension
    every = (extension.low, extension.rolling, extension.gradient, extension.deviation)
    return next((one.period for one in every if one is not None), 0) if rule.correlation is None else 0


def reach_s(rule: Rule) -> int:
    """Seconds over which matches of one group can have to do with each other; more apart, they never do."""
    extension = rule.extension
    if rule.correlation is not None:
        return rule.correlation.timespan_s
    if extension.several is not None:
        return extension.several.period
    if extension.first_seen is not None:
        return extension.first_seen.period + 2 * bucket_of(extension.first_seen) // 1000
    if rule.kind is Kind.TRAVEL:
        return max(extension.quiet, (extension.travel or Travel()).within)
    return _period_reach_s(extension) if rule.kind in PERIOD_KINDS else extension.quiet


def _period_reach_s(extension: Extension) -> int:
    if extension.low is not None:
        return extension.low.learn + extension.low.period
    if extension.rolling is not None:
        return extension.rolling.back_period + extension.rolling.period
    if extension.gradient is not None:
        return 2 * extension.gradient.period
    return (extension.deviation.periods + 1) * extension.deviation.period if extension.deviation else 0


def stretch_ms(rule: Rule) -> int:
    """The stretch of time of which one sighting is kept; 0 where every match is."""
    first_seen = rule.extension.first_seen
    if rule.correlation is not None or first_seen is None:
        return once_ms(rule)
    return bucket_of(first_seen)


def settled_ms(rule: Rule, now_ms: int) -> int:
    """Until when the rule can say something by now; what comes later is told when its period is over."""
    period_ms = period_of(rule) * 1000
    return (now_ms - SETTLED_S * 1000) // period_ms * period_ms if period_ms else FAR_MS
