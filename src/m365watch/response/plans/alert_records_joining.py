"""What belongs to an alert of the alerts that it joins: their own records, as far as it is about these.

A part has records of its own that the whole says nothing of: one alert tells of all that an administrator did
with applications in a week, and the whole that joins it is about one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.correlation.alert_links import alert_of
from m365watch.detection.correlation.risk_score import RISK_RULE_ID
from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.alert_records import Told


def parts_of(whole: Told, parts: Sequence[Told], rules: Mapping[str, Rule]) -> list[Told]:
    """The parts, each with the matches that belong to the whole; those without any are left out.

    A part of which no matches are kept any more stays: it knows what its alert names.
    """
    found = []
    for part in parts:
        matches = [one for one in part.matches if _belongs(one, part, whole, rules)]
        if matches or not part.matches:
            found.append(Told(part.alert, matches))
    return found


def records_about(word: str, whole: Told, rules: Mapping[str, Rule]) -> tuple[Sequence[Match], bool]:
    """Of the matches of an alert those that were found by a rule with that word, and whether that is known.

    Of an alert that joins others its word is about the records of some of them: forwarding is no policy.
    """
    sources = {one.source_id for one in whole.matches}
    if len(sources) < 2:
        return whole.matches, True
    having = {one for one in sources if one in rules and word in rules[one].extension.contain}
    if not having or not sources <= rules.keys():
        return whole.matches, False
    return [one for one in whole.matches if one.source_id in having], True


def _belongs(match: Match, part: Told, whole: Told, rules: Mapping[str, Rule]) -> bool:
    if whole.alert.rule_id == RISK_RULE_ID:
        return _names(match, whole.alert.group[-1])
    ids = {part.alert.id, *part.alert.formerly}
    if any(alert_of(one.identity) in ids for one in whole.matches):
        return _is_of_group(match, part, whole, rules)
    return any(
        match.identity == one.identity or match.record_id == one.record_id for one in whole.matches
    ) or (_is_of_group(match, part, whole, rules) and _has_group(match, part, whole, rules))


def _names(match: Match, entity: str) -> bool:
    lines = (part for value in match.values.values() for part in (value, *split_line(value)))
    return any(line.lower() == entity.lower() for line in lines)


def _has_group(match: Match, part: Told, whole: Told, rules: Mapping[str, Rule]) -> bool:
    return any(match.values.get(name) for name in _group_of(part, whole, rules))


def _is_of_group(match: Match, part: Told, whole: Told, rules: Mapping[str, Rule]) -> bool:
    """Whether nothing that the record says of the whole's group is another's."""
    wanted = _group_of(part, whole, rules)
    told = ((match.values[name], value) for name, value in wanted.items() if match.values.get(name))
    return all(value in {one.lower() for one in (said, *split_line(said))} for said, value in told)


def _group_of(part: Told, whole: Told, rules: Mapping[str, Rule]) -> dict[str, str]:
    """The fields of the part's records that make the whole's group, and what they have to say."""
    rule = rules.get(whole.alert.rule_id)
    if rule is None or rule.correlation is None:
        return {}
    fields = rule.correlation.group_fields(part.alert.rule_id)
    return {name: value for name, value in zip(fields, whole.alert.group, strict=False) if value}
