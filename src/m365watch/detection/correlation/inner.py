"""What an alert that joins others tells of them: their records, as far as its own end. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from m365watch.detection.alerts.alert import AlertId, Match
from m365watch.detection.correlation.alert_links import FIRST, alert_of
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.sliding_window import beginners_of
from m365watch.detection.engine.purposes import links
from m365watch.detection.rules.rule import Joined, Rule

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
