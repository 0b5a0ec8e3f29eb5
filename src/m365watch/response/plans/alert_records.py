"""Reads what is kept of an alert's records out of the file of detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import split_line
from m365watch.detection.alerts.stored_alert import AlertState, GroupKey, KeptAlert
from m365watch.detection.alerts.triage import opened
from m365watch.detection.correlation.alert_links import alert_of
from m365watch.detection.correlation.risk_score import RISK_RULE_ID
from m365watch.detection.detection_output import FILE_NAME
from m365watch.detection.rules.containment import ATTEMPTS
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_store import DetectionState

MATCHES_MAX = 1_000
"""Matches that are looked through for names, the earliest ones."""
PARTS_MAX = 50
"""Alerts that an alert joins, of which the names are looked up."""
RENAMED = "remove_inbox_rule"
"""The word for things that are found by a name which another alert may have seen given up."""
NOTED_MAX = 5
"""Alerts of the same records that a plan's notes tell one by one."""
BEFORE_MS = 7 * 86_400_000
"""How long before an alert another may have seen made what this one saw changed."""
_WHOSE = frozenset({"user", "mailbox"})
"""Kinds of entities that tell whose these are."""


@dataclass(frozen=True, slots=True)
class Told:
    """An alert, and what is kept of its records."""

    alert: Alert
    matches: Sequence[Match] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is kept of an alert's records, and of what was made of it."""

    matches: Sequence[Match] = ()
    parts: Sequence[Told] = ()
    """The alerts that it joins, the earliest first."""
    closed: str = ""
    """By whom and why the alert was closed; empty where it is not."""
    closed_parts: Sequence[Alert] = ()
    """Those that it joins and that somebody closed."""
    beside: Sequence[Told] = ()
    """Other alerts on what the same people call things, be they closed."""
    remarks: tuple[str, ...] = ()
    """What who reads the plan has to know first."""


def recall(state_directory: Path, kept: KeptAlert) -> Recalled:
    """What there is to be known of an alert that was found. Raises: OutputUnusable."""
    with opened(state_directory / FILE_NAME) as state:
        matches = _matches_of(state, kept)
        parts = _parts_of(state, kept.alert, matches)
        left = [one for one in parts if one.state is not AlertState.CLOSED]
        told = [Told(one.alert, _matches_of(state, one)) for one in left]
        return Recalled(
            matches,
            told,
            closed=_closed(kept),
            closed_parts=[one.alert for one in parts if one.state is AlertState.CLOSED],
            beside=_beside(state, kept.alert, told),
            remarks=(
                *_remarks(kept, parts, _count_known(state, matches)),
                *_who_got_in(state, kept.alert, matches),
            ),
        )


def _matches_of(state: DetectionState, kept: KeptAlert) -> list[Match]:
    """The matches of the alert's time, its group's only; of building blocks that it joins, their own."""
    alert = kept.alert
    span = state.matches.read_group(GroupKey(alert.rule_id, alert.tenant, alert.group), since_ms=kept.low_ms)
    found: list[Match] = []
    seen: set[str] = set()
    for match in (one for one in span.matches if one.at_ms <= alert.last_at_ms):
        block = _block_of(state, match)
        if block is None:
            found.append(match)
        elif block.alert.id not in seen:
            seen.add(block.alert.id)
            found += _as_joined(_matches_of(state, block), match, until_ms=alert.last_at_ms)
    return sorted(found, key=lambda one: one.order)[:MATCHES_MAX]


def _block_of(state: DetectionState, match: Match) -> KeptAlert | None:
    """The alert that a match stands for, where it is not one to be seen; that is a part otherwise."""
    alert_id = alert_of(match.identity)
    kept = state.alerts.find_itself(alert_id) if alert_id != match.identity else None
    return None if kept is None or kept.shown else kept


def _as_joined(matches: Sequence[Match], link: Match, *, until_ms: int) -> list[Match]:
    return [
        msgspec.structs.replace(
            one, rule_id=link.rule_id, source_id=link.source_id, group=link.group, counted=link.counted
        )
        for one in matches
        if one.at_ms <= until_ms
    ]


def _parts_of(state: DetectionState, alert: Alert, matches: Sequence[Match]) -> list[KeptAlert]:
    """Alerts of the rules that the matches come from, those that were joined, or about the same records."""
    sources = {match.source_id for match in matches} - {alert.rule_id}
    records = {match.record_id for match in matches}
    linked = {alert_of(match.identity) for match in matches}
    joined = [
        one
        for one in (state.alerts.list(since_ms=alert.first_at_ms) if sources else ())
        if one.alert.rule_id in sources
        and one.alert.tenant == alert.tenant
        and (one.alert.id in linked or not records.isdisjoint(one.alert.evidence))
    ]
    joined.sort(key=lambda one: (one.alert.first_at_ms, one.alert.id))
    return joined[:PARTS_MAX]


def _beside(state: DetectionState, alert: Alert, parts: Sequence[Told]) -> list[Told]:
    """The latest of those that go on since the alert began, or did not long before it."""
    own = [alert, *(one.alert for one in parts)]
    if not any(RENAMED in one.contain for one in own):
        return []
    known, whose = {one.id for one in own}, {name for one in own for name in _owners_in(one)}
    others = [
        one
        for one in state.alerts.list(since_ms=alert.first_at_ms - BEFORE_MS)
        if one.alert.id not in known
        and one.alert.tenant == alert.tenant
        and RENAMED in one.alert.contain
        and not whose.isdisjoint(_owners_in(one.alert))
    ]
    return [Told(one.alert, _matches_of(state, one)) for one in others[:PARTS_MAX]]


def _who_got_in(state: DetectionState, alert: Alert, matches: Sequence[Match]) -> list[str]:
    """Of an alert of attempts what alerts of more than attempts say of the same records."""
    if ATTEMPTS not in alert.contain:
        return []
    records = {match.record_id for match in matches}
    others = [
        one
        for one in state.alerts.list(since_ms=alert.first_at_ms)
        if one.alert.tenant == alert.tenant
        and ATTEMPTS not in one.alert.contain
        and not records.isdisjoint(one.alert.evidence)
    ]
    others.sort(key=lambda one: -one.alert.severity.rank)
    more = len(others) - NOTED_MAX
    return [
        *(
            f"an alert of the same records, {one.alert.id[:8]}"
            f" ({one.alert.severity}{', closed' if one.state is AlertState.CLOSED else ''}):"
            f" {one.alert.explanation}"
            for one in others[:NOTED_MAX]
        ),
        *([f"and {more} more alerts of the same records"] if more > 0 else []),
    ]


def _owners_in(alert: Alert) -> set[str]:
    return {name.lower() for kind, name in alert.entities if kind in _WHOSE}


def _closed(kept: KeptAlert) -> str:
    if kept.state is not AlertState.CLOSED:
        return ""
    why = f": {kept.reason}" if kept.reason else ""
    return f"closed by {kept.changed_by}{why}" if kept.changed_by else f"closed{why}"


def _count_known(state: DetectionState, matches: Sequence[Match]) -> int:
    """Of how many records is known what they did: the matches, and those of alerts that these stand for."""
    records = {match.record_id for match in matches}
    ids = dict.fromkeys(alert_of(match.identity) for match in matches)
    joined = [one.alert for one in map(state.alerts.find_itself, ids) if one is not None]
    records.update(one for alert in joined for one in alert.evidence)
    return len(records) + sum(alert.count - len(alert.evidence) for alert in joined)


def _remarks(kept: KeptAlert, parts: Sequence[KeptAlert], known: int) -> tuple[str, ...]:
    remarks = [f"this alert was {_closed(kept)}"] if _closed(kept) else []
    remarks += [
        f'left out: "{one.alert.title}" ({one.alert.id[:8]}) was {_closed(one)}'
        for one in parts
        if _closed(one)
    ]
    if 0 < known < kept.alert.count:
        remarks.append(
            f"made of {known:,} of {kept.alert.count:,} records: what the others did is not in this plan"
        )
    return tuple(remarks)


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
