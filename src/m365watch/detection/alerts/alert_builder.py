"""From the matches of a group to its alerts: what holds, and how it is told. Pure: same set, same alerts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice, zip_longest

import msgspec

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import EVIDENCE_MAX, Alert, AlertId, Match, clean_text, make_alert_id
from m365watch.detection.alerts.alert_exceptions import Exceptions, Part, Verdict
from m365watch.detection.alerts.alert_text import NAMED_MAX, notes_of, some_of
from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.correlation.alert_links import Inner, alert_of, links_of, start_of
from m365watch.detection.correlation.distinct_mailboxes import counts_mailboxes, mailboxes_apart
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.episode_finder import Moment, counting, find_episodes
from m365watch.detection.correlation.risk_score import (
    RISK_RULE_ID,
    TACTICS,
    TECHNIQUES,
    USUAL,
    adds_up_risk,
    risk_matches,
)
from m365watch.detection.correlation.sliding_window import window_episodes
from m365watch.detection.engine.purposes import links
from m365watch.detection.fields.privilege_ranking import GRANTED, gravest_first
from m365watch.detection.rules.extension import Severity
from m365watch.detection.rules.rule import Joined, Rule, fill_placeholders

NO_EXCEPTIONS = Exceptions()
NO_VERDICT = Verdict()
NO_RULES: Mapping[str, Rule] = {}
Fields = Mapping[str, Mapping[str, str]]
"""By field, the different values of matches in lower case, each as it was first written."""
_HOUR_MS = 3_600_000
_ADDRESS = re.compile(r"[^\s,@]+@[^\s,@]+|[0-9A-Fa-f:.]*[.:][0-9A-Fa-f:.]*")
_SHOWN_RULES = 12
TITLE_MAX = 160
"""Characters of a title that has values of records in it."""
_SHOWN_VALUES = 3
"""Different values of one field that an explanation names before it says "and 4 more"."""


def watched_since_ms(earliest_ms: int) -> int:
    """Since when a tenant counts as watched, given its earliest record: from the full hour."""
    return earliest_ms // _HOUR_MS * _HOUR_MS


def sort_matches(matches: Iterable[Match]) -> list[Match]:
    """Each record once per rule that it matched, by time, then identity."""
    unique = {(match.at_ms, match.identity, match.source_id): match for match in matches}
    return [unique[key] for key in sorted(unique)]


def make_alert(rule: Rule, episode: Episode, rules: Mapping[str, Rule] = NO_RULES) -> Alert:
    """The alert that tells of the episode; `rules` by their ids, to name those that it joins."""
    matches = episode.matches
    first, last = matches[0], matches[-1]
    fields = _fields_of(matches, rule.choices)
    named = list_named(rule, episode, fields=fields)
    severity = _gravest(matches)
    told = fields
    if rule.correlation is None and any(match.severity is not severity for match in matches):
        # An explanation names some of many: what made the alert so grave comes before the rest.
        told = _fields_of(sorted(matches, key=lambda match: -match.severity.rank), rule.choices)
    values = shown_values(rule, episode, named=named, fields=told) | _joined_values(episode, rules)
    extension = rule.extension
    entities = [(kind, value) for kind, found in named.items() for value in found[:NAMED_MAX]]
    unnamed = tuple((kind, len(found) - NAMED_MAX) for kind, found in named.items() if len(found) > NAMED_MAX)
    return Alert(
        id=id_of(rule, episode),
        rule_id=rule.id,
        title=_title(rule, values),
        severity=_severity(rule, severity),
        tenant=first.tenant,
        group=first.group,
        entities=tuple(entities),
        first_at_ms=episode.from_ms or first.at_ms,
        last_at_ms=max(last.at_ms, episode.until_ms),
        count=len({match.record_id for match in matches}),
        evidence=_evidence_of(matches),
        explanation=fill_placeholders(extension.explanation, values) or _plain_words(rule, episode, values),
        detection=extension.detection,
        techniques=rule.techniques or _gathered(fields, TECHNIQUES),
        tactics=rule.tactics or _gathered(fields, TACTICS),
        check=tuple(fill_placeholders(line, values) for line in extension.check),
        contain=extension.contain or _usual_steps(rule, episode),
        risk=rule.risk,
        notes=(*episode.notes, *notes_of(unnamed)),
        unnamed=unnamed,
    )


def _gravest(matches: Sequence[Match]) -> Severity:
    severity = matches[0].severity
    for match in matches:
        # Nearly all have the same.
        if match.severity is not severity and match.severity.rank > severity.rank:
            severity = match.severity
    return severity


def id_of(rule: Rule, episode: Episode) -> AlertId:
    """The id of the alert that tells of the episode."""
    first = episode.matches[0]
    return make_alert_id(rule.id, first.tenant, first.group, start_of(episode))


def _evidence_of(matches: Sequence[Match]) -> tuple[str, ...]:
    """The earliest records; where there are too many, those of each rule, lest one crowd the rest out."""
    records = dict.fromkeys(match.record_id for match in matches)
    if len(records) <= EVIDENCE_MAX:
        return tuple(records)
    by_source: dict[str, dict[str, None]] = defaultdict(dict)
    for match in matches:
        by_source[match.source_id].setdefault(match.record_id)
    in_turn = chain.from_iterable(zip_longest(*by_source.values()))
    kept = set(islice(dict.fromkeys(one for one in in_turn if one is not None), EVIDENCE_MAX))
    return tuple(one for one in records if one in kept)


def noted(alert: Alert, notes: tuple[str, ...]) -> Alert:
    """The alert with more to be kept in mind."""
    return replace(alert, notes=(*alert.notes, *notes)) if notes else alert


def _title(rule: Rule, values: Mapping[str, str]) -> str:
    headline = rule.extension.headline
    return clean_text(fill_placeholders(headline, values))[:TITLE_MAX] if headline else rule.title


def _severity(rule: Rule, found: Severity) -> Severity:
    """A correlation's own severity; that of the matches where a single rule's selections raised it."""
    return rule.severity if rule.correlation is not None else found


def _plain_words(rule: Rule, episode: Episode, values: Mapping[str, str]) -> str:
    """What can be said of any rule that says nothing itself."""
    if rule.extension.low is not None and rule.correlation is None:
        group = f" of {values['group']}" if values["group"] else ""
        most = rule.extension.low.threshold
        few = f"at most {most:,} in each period" if most else "nothing"
        since, until = _shown_at(episode.from_ms), _shown_at(episode.until_ms)
        before = f"the last before was at {values['last']}"
        return f"{rule.title}: {few}{group} between {since} and {until}; {before}."
    who = values["group"] if rule.correlation is not None else values.get("user") or values["group"]
    told = f" for {who}" if who else ""
    number = int(values["count"])
    records = f"{number:,} record{'' if number == 1 else 's'}"
    is_one_time = values["first"] == values["last"]
    when = f"at {values['first']}" if is_one_time else f"from {values['first']} to {values['last']}"
    return f"{rule.title}{told}: {records} {when}."


def _joined_values(episode: Episode, rules: Mapping[str, Rule]) -> dict[str, str]:
    """The rules that have found what is joined, in the order in which they did, by number and title."""
    sources = dict.fromkeys(match.source_id for match in episode.matches)
    found = [rules[one] for one in sources if one in rules]
    named = [
        f"{one.title} ({one.extension.detection})" if one.extension.detection else one.title for one in found
    ]
    return {"rules": some_of(named[:_SHOWN_RULES], len(named))}


def _gathered(fields: Fields, name: str) -> tuple[str, ...]:
    """What the alerts that are joined have said, each once."""
    return tuple(dict.fromkeys(one for line in fields.get(name, {}).values() for one in line.split()))


def _usual_steps(rule: Rule, episode: Episode) -> tuple[str, ...]:
    return USUAL.get(episode.matches[0].group[0], ()) if adds_up_risk(rule) else ()


def list_named(rule: Rule, episode: Episode, *, fields: Fields) -> dict[str, list[str]]:
    """By kind of entity, all values that the matches have, each once, the earliest first."""
    matches = episode.matches
    first = matches[0]
    if adds_up_risk(rule):
        return {first.group[0]: [first.values.get("entity", first.group[1])]}
    correlation = rule.correlation
    found: dict[str, list[str]] = {}
    for kind, name in rule.extension.entity.items():
        values = [one for line in fields.get(name, {}).values() for one in split_line(line)]
        if rule.extension.low is not None and correlation is None:
            values = []  # Whoever was seen last before a silence has nothing to do with it.
        if not values and correlation is not None and correlation.fields == (name,):
            values = [match.counted for match in matches if match.counted]
        values = _in_group(rule, first, name, values)
        if values:
            found[kind] = list({value.lower(): value for value in reversed(values)}.values())[::-1]
    return found


def _in_group(rule: Rule, first: Match, name: str, values: list[str]) -> list[str]:
    """Of a field that makes the group only the group's value, whoever else the records name."""
    of_group = _of_group(rule, first, name)
    if not of_group:
        return values
    # A match keeps the first of a field's many values, among which the group's need not be.
    meant = split_line(of_group)
    return [one for one in values if one.lower() in (of_group, *meant)] or meant


def judge_exceptions(rule: Rule, episode: Episode, exceptions: Exceptions, inner: Inner) -> Verdict:
    """What the exceptions say of the episode, record by record; `inner` is for what it joins."""
    if not exceptions.every:
        return NO_VERDICT
    verdict = _judge_by_its_names(rule, episode, exceptions, inner)
    if verdict.is_whole or rule.correlation is None:
        return verdict
    # Most have one that is not excepted among the first, and some have thousands.
    if not all(why_excepted(match, exceptions, inner.rules) for match in episode.matches):
        return verdict
    return Verdict(why_excepted(episode.matches[0], exceptions, inner.rules), is_whole=True)


def _judge_by_its_names(rule: Rule, episode: Episode, exceptions: Exceptions, inner: Inner) -> Verdict:
    tenant = episode.matches[0].tenant
    if not exceptions.concern(rule, tenant):
        return NO_VERDICT
    verdict = exceptions.judge(rule, tenant, _parts_of(rule, episode, inner))
    if verdict.is_whole or not verdict.reason or rule.correlation is None:
        return verdict
    # It says that things came together, or so many of them, and some of them are what somebody expects.
    others = [episode.matches[place] for place in verdict.left]
    return replace(verdict, is_whole=not window_episodes(counting(rule, others), rule.correlation))


def _parts_of(rule: Rule, episode: Episode, inner: Inner) -> list[Part]:
    """What each match names; of an alert that is joined, what all of its records do."""
    alerts: dict[AlertId, Mapping[str, Sequence[str]]] = {}
    parts = []
    for match in episode.matches:
        if not inner.stands_for_alert(match):
            parts.append(_part_of(rule, match))
            continue
        alert_id = alert_of(match.identity)
        if alert_id not in alerts:
            alerts[alert_id] = named_in(rule, inner.records_of(match, until_ms=episode.matches[-1].at_ms))
        parts.append(Part(match.at_ms, alerts[alert_id]))
    return parts


def why_excepted(match: Match, exceptions: Exceptions, rules: Mapping[str, Rule]) -> str:
    """Why a record is excepted by the names of the rule that found it; empty where it is not.

    What a rule says only of many records is no record: whether that is excepted, its alert knows.
    """
    source = rules.get(match.source_id)
    if source is None or not source.alerts or links(source):
        return ""
    # Its group is that of what joins it, and says nothing of the rule's own.
    part = _part_of(source, msgspec.structs.replace(match, group=()))
    verdict = exceptions.judge(source, match.tenant, [part])
    return verdict.reason if verdict.is_whole else ""


def _part_of(rule: Rule, match: Match) -> Part:
    return Part(match.at_ms, named_in(rule, (match,)))


def named_in(rule: Rule, matches: Sequence[Match]) -> dict[str, list[str]]:
    """By kind of entity, what records name."""
    return list_named(rule, Episode(matches, matches[0].at_ms), fields=_fields_of(matches, rule.choices))


def split_line(line: str) -> list[str]:
    """The values of a field that has several in one record: addresses of people or machines."""
    parts = re.split(r", |;\s*", line)
    return parts if len(parts) > 1 and all(map(_ADDRESS.fullmatch, parts)) else [line]


def _fields_of(matches: Sequence[Match], choices: Sequence[str]) -> Fields:
    """By field, the different values in lower case, each as it was first written.

    Of A|B each record says the first that it has: one names a rule by its name, the next by its identity.
    """
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    seen: set[int] = set()
    for match in matches:
        # Matches that were kept with the same text share their values.
        if id(match.values) not in seen:
            seen.add(id(match.values))
            for name, value in match.values.items():
                fields[name].setdefault(value.lower(), value)
            for names in choices:
                value = next(filter(None, map(match.values.get, names.split("|"))), "")
                if value:
                    fields[names].setdefault(value.lower(), value)
    return fields


def shown_values(
    rule: Rule, episode: Episode, *, named: Mapping[str, Sequence[str]], fields: Fields
) -> dict[str, str]:
    """What the explanation may name, as text; `named` are the entities, `fields` those of the matches."""
    matches = episode.matches
    first, last = matches[0], matches[-1]
    counted: Sequence[str] = list(dict.fromkeys(match.counted for match in matches if match.counted))
    # A count of alerts tells these apart by their ids.
    is_count = rule.correlation is not None and rule.correlation.joined is Joined.COUNT
    if rule.correlation is not None and counts_mailboxes(rule.correlation):
        counted = mailboxes_apart(counted)
    values = {
        name: _some_of(gravest_first(found.values()) if name in GRANTED else list(found.values()))
        for name, found in fields.items()
    }
    values |= {kind: _some_of(named.get(kind, ())) for kind in rule.extension.entity}
    grouped = rule.correlation.group_by if rule.correlation is not None else ()
    for name, value in zip(grouped, first.group, strict=False):
        if value and ", " in values.get(name, ", "):
            values[name] = value
    return {
        **values,
        "count": str(len({match.identity for match in matches})),
        "distinct": str(len(counted)),
        "values": "" if is_count else clean_text(_some_of([_without_gaps(value) for value in counted])),
        "value": f"{round(episode.value, 2):g}",
        "first": _shown_at(first.at_ms),
        "last": _shown_at(last.at_ms),
        "tenant": first.tenant,
        "group": ", ".join(value for value in first.group if value),
        **episode.values,
    }


def _without_gaps(counted: str) -> str:
    """What is counted by several fields, without those that a record lacks."""
    return " ".join(filter(None, counted.split("\x1f")))


def _shown_at(at_ms: int) -> str:
    return f"{instant_of_ms(at_ms).replace(tzinfo=None).isoformat(' ', 'seconds')}Z"


def _of_group(rule: Rule, match: Match, name: str) -> str:
    grouped = rule.correlation.group_by if rule.correlation is not None else rule.extension.group_by
    return dict(zip(grouped, match.group, strict=False)).get(name, "")


def _some_of(values: Sequence[str]) -> str:
    return some_of(values[:_SHOWN_VALUES], len(values))


def judge_all(
    rules: Sequence[Rule],
    matches: Iterable[Match],
    *,
    now_ms: int,
    since_ms: Mapping[str, int],
    exceptions: Exceptions = NO_EXCEPTIONS,
) -> list[Alert]:
    """The alerts of all rules, of the set of all matches; a correlation's sources are judged before it.

    `since_ms` has, by tenant, the time of its earliest record.
    """
    has_risk = any(rule.id == RISK_RULE_ID for rule in rules)
    by_id = {rule.id: rule for rule in rules}
    by_key: dict[GroupKey, list[Match]] = defaultdict(list)
    for match in matches:
        by_key[GroupKey(match.rule_id, match.tenant, match.group)].append(match)
    members: dict[AlertId, Sequence[Match]] = {}
    inner = Inner(by_id, lambda link: members.get(alert_of(link.identity), ()))
    alerts: list[Alert] = []
    for rule in sources_first(rules):
        for key in [key for key in by_key if key.rule_id == rule.id]:
            moment = Moment(now_ms, since_ms.get(key.tenant, 0))
            for episode in find_episodes(rule, sort_matches(by_key[key]), moment):
                told = inner.told(rule, episode)
                alert = make_alert(rule, told, by_id)
                if links(rule):
                    members[alert.id] = told.matches
                verdict = judge_exceptions(rule, episode, exceptions, inner)
                is_told = rule.alerts and not verdict.is_whole
                if is_told:
                    alerts.append(noted(alert, verdict.notes))
                found = links_of(rule, episode, alert, rules, told.matches)
                if has_risk and is_told:
                    found += risk_matches(rule, alert)
                for link in found:
                    by_key[GroupKey(link.rule_id, link.tenant, link.group)].append(link)
    return sorted(alerts, key=lambda one: (one.first_at_ms, one.id))


def sources_first(rules: Sequence[Rule]) -> list[Rule]:
    """The rules in an order in which a correlation comes after those that it joins, and risk last of all."""
    by_id = {rule.id: rule for rule in rules}
    placed: dict[str, Rule] = {}

    def place(rule: Rule) -> None:
        if rule.id in placed:
            return
        for source in rule.correlation.sources if rule.correlation is not None else ():
            if source in by_id:
                place(by_id[source])
        placed[rule.id] = rule

    for rule in sorted(rules, key=adds_up_risk):
        place(rule)
    return list(placed.values())
