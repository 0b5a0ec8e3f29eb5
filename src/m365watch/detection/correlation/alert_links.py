"""What an episode is for the correlations that join its rule: matches, for as long as it holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from m365watch.detection.alerts.alert import Alert, AlertId, Match
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.sliding_window import beginners_of
from m365watch.detection.engine.purposes import links
from m365watch.detection.rules.rule import Correlation, Joined, Rule

STRETCHES = 6
"""In so many stretches a timespan is cut: of each, the first and the last time of those are joined."""
STRETCH_MS_MIN = 10_000
"""A stretch is no shorter, unless the timespan is."""
ID_CHARACTERS = 32
"""Of an alert's id, as of a record's identity: that of what stands for an alert begins so, and is longer."""
FIRST = "."
"""Ends the identity of the first that stands for an alert; those of later ones end in their time."""
GROUPS_MAX = 200
"""In no more groups is an alert joined, by values that its records have of fields that are not its own.

The first ones: of the last ones each would go again as it goes on, and with it what was told of it.
"""
_ONE_NUMBER = frozenset({Joined.SUM, Joined.AVERAGE, Joined.PERCENTILE, Joined.MEDIAN})
"""What an alert adds to these is one number, however long it goes on."""


def links_of(
    rule: Rule, episode: Episode, alert: Alert, rules: Sequence[Rule], records: Sequence[Match]
) -> list[Match]:
    """What an episode is for the correlations that join its rule: matches, at times when its condition held.

    A rule of kind each has none: its matches themselves are joined. `records` are all that the alert tells.
    """
    if not links(rule):
        return []
    found: list[Match] = []
    values = {name: value for match in reversed(episode.matches) for name, value in match.values.items()}
    grouped = rule.correlation.group_by if rule.correlation is not None else ()
    values.update(zip(grouped, alert.group, strict=False))
    # Several of one second are told apart by nothing: the last of them counts.
    times = {match.at_ms: match.record_id for match in episode.matches}
    for outer in rules:
        correlation = outer.correlation
        if correlation is None or rule.id not in correlation.sources:
            continue
        counted = "\x1f".join(values.get(name, "").lower() for name in correlation.fields)
        names = correlation.group_fields(rule.id)
        for group, said in _groups_of(names, grouped, values, records).items():
            first = Match(
                rule_id=outer.id,
                source_id=rule.id,
                tenant=alert.tenant,
                group=group,
                at_ms=episode.reached_ms,
                identity=f"{alert.id}{FIRST}",
                record_id=times.get(episode.reached_ms, alert.evidence[0]),
                severity=alert.severity,
                values=said,
                counted=alert.id if correlation.joined is Joined.COUNT else counted,
                written=msgspec.json.encode(said),
            )
            found.append(first)
            found += (
                msgspec.structs.replace(
                    first, at_ms=at_ms, identity=f"{alert.id}{at_ms:x}", record_id=times[at_ms]
                )
                for at_ms in _later(episode, correlation)
            )
    return found


def _groups_of(
    names: Sequence[str], grouped: Sequence[str], values: Mapping[str, str], records: Sequence[Match]
) -> dict[tuple[str, ...], Mapping[str, str]]:
    """The groups by `names` that an alert belongs to, and what it says in each.

    One, where the alert's own group has all of them; else one for each different value that its records have.
    """
    own = [name for name in names if name not in grouped]
    found: dict[tuple[str, ...], Mapping[str, str]] = {}
    for record in records if own else records[:1]:
        said = {name: record.values.get(name) or values.get(name, "") for name in own}
        group = tuple((said.get(name) or values.get(name, "")).lower() for name in names)
        if group not in found and all(group):
            found[group] = {**values, **said} if said else values
            if len(found) >= GROUPS_MAX:
                break
    return found


def alert_of(identity: str) -> AlertId:
    """The alert that a match stands for, where it stands for one; a record's identity stays as it is."""
    return AlertId(identity[:ID_CHARACTERS])


def _later(episode: Episode, correlation: Correlation) -> Iterable[int]:
    """Times after the first at which the condition held: enough for what is asked of a timespan.

    What happened within a timespan before or after one that is left out did so of one that is not: of each
    stretch, cut by the clock so that a late record moves none of them, both ends are there. That misses an
    order of three only where a step beside it lies between these ends: beside a middle step both do, beside
    the first or last one does, while the whole order takes a timespan less such a stretch at least.
    """
    if correlation.joined in _ONE_NUMBER:
        return ()
    timespan_ms = correlation.timespan_s * 1000
    stretch_ms = max(timespan_ms // STRETCHES, min(timespan_ms, STRETCH_MS_MIN), 1)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for at_ms in episode.held_ms:
        first.setdefault(at_ms // stretch_ms, at_ms)
        last[at_ms // stretch_ms] = at_ms
    return sorted({*first.values(), *last.values()} - {episode.reached_ms})


Members = Callable[[Match], Sequence[Match]]
"""The records of the alert that a match stands for, in their order; none where they are not known."""


def no_members(_link: Match) -> Sequence[Match]:
    """Where no correlation is joined."""
    return ()


@dataclass(frozen=True, slots=True)
class Inner:
    """What is known of what correlations join."""

    rules: Mapping[str, Rule]
    """By their ids."""
    members: Members = no_members

    def stands_for_alert(self, match: Match) -> bool:
        """Whether the match is no record, but an alert that a correlation joins."""
        source = self.rules.get(match.source_id) if match.source_id != match.rule_id else None
        return source is not None and links(source)

    def told(self, rule: Rule, episode: Episode) -> Episode:
        """The episode with the records of what it joins, in place of the matches that stand for these.

        What these go on with after its own end is not its own, nor, in an order, what they had before its
        first step; its id stays what it was.
        """
        if rule.correlation is None or rule.correlation.joined is Joined.RISK:
            return episode
        sources = {match.source_id for match in episode.matches} - {rule.id}
        joined = {one for one in sources if one in self.rules and links(self.rules[one])}
        own = [match for match in episode.matches if match.source_id not in joined]
        if len(own) == len(episode.matches):
            return episode
        alerts: dict[tuple[str, AlertId], Match] = {}
        for match in episode.matches:
            if match.source_id in joined:
                alerts[match.source_id, alert_of(match.identity)] = match
        found = {(*match.order, match.source_id): match for match in own}
        beginners = beginners_of(rule.correlation)
        for match in alerts.values():
            since_ms = episode.matches[0].at_ms if beginners and match.source_id not in beginners else 0
            inside = self.records_of(match, until_ms=episode.matches[-1].at_ms)
            found |= {(*one.order, one.source_id): one for one in inside if one.at_ms >= since_ms}
        return Episode(
            [found[key] for key in sorted(found)],
            episode.reached_ms,
            episode.value,
            episode.notes,
            episode.values,
            episode.from_ms,
            episode.until_ms,
            start_of(episode),
        )

    def records_of(self, link: Match, *, until_ms: int) -> Sequence[Match]:
        """The records of one alert, as they are to what joins it; the match itself where none is known."""
        members = [one for one in self.members(link) if one.at_ms <= until_ms]
        correlation = self.rules[link.source_id].correlation
        grouped = correlation.group_by if correlation is not None else ()
        # An alias is no field of a record: the correlation that has it says what it stands for.
        names = {name: link.values[name] for name in grouped if name in link.values}
        values: dict[int, Mapping[str, str]] = {}
        for one in members:
            if id(one.values) not in values:
                lacks = {name: value for name, value in names.items() if name not in one.values}
                values[id(one.values)] = {**one.values, **lacks} if lacks else one.values
        return [
            msgspec.structs.replace(
                one,
                rule_id=link.rule_id,
                source_id=link.source_id,
                group=link.group,
                values=values[id(one.values)],
                counted=link.counted,
                written=b"",
            )
            for one in members
        ] or [link]


def start_of(episode: Episode) -> str:
    """What the id of its alert is made of."""
    return episode.start or episode.matches[0].identity.removesuffix(FIRST)
