"""Test cases of rules: records that a rule has to find, and near misses that it must not.

detection: B01                      # or rule: a title, an id, a name
settings: {accepted_domains: [contoso.example]}
hits:
- name: a rule that forwards outside is found
records: [{Operation: New-InboxRule, ...}]
expect: {user: ann@contoso.example, severity: high, text: "a part of the explanation"}
near_misses:
- name: forwarding inside the organisation
records: [...]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from m365watch.common.file_access import read_small_file
from m365watch.common.text import plain
from m365watch.common.timestamps import EPOCH, ms_of
from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import NO_EXCEPTIONS, judge_all, watched_since_ms
from m365watch.detection.alerts.alert_exceptions import Exceptions
from m365watch.detection.correlation.risk_score import adds_up_risk
from m365watch.detection.engine.match_extractor import Told
from m365watch.detection.engine.purposes import list_sought
from m365watch.detection.engine.rule_matcher import Matcher
from m365watch.detection.fields.enrichment_context import Knowledge, Whereabouts
from m365watch.detection.rules.condition_compiler import read_instant
from m365watch.detection.rules.diagnostics import MISREAD, reason_of
from m365watch.detection.rules.extension_text import parse_duration_s
from m365watch.detection.rules.rule import Rule
from m365watch.detection.rules.rule_library import Library
from m365watch.detection.rules.yaml_documents import load_document
from m365watch.detection.rules.yaml_documents import reason_of as mistake_of
from m365watch.records.headers import headers_of

REPEATED_MAX = 10_000
"""How often a case may repeat a record."""
_CHARS_MAX = 80
"""Of what was written, in a sentence about it."""
_LISTS = ("accepted_domains", "admins", "indicators", "vips")
_SETTINGS = frozenset((*_LISTS, "lists", "places"))
_CASE = frozenset(("expect", "name", "reason", "records", "settings"))
_PLACE = frozenset(("asn", "country", "latitude", "longitude"))
_REPEATED = frozenset(("every", "record", "repeat"))


def check_head(case: object, where: str) -> None:
    """Raises: ValueError: a sentence that says what is wrong with the keys of the case that is `where`."""
    if not isinstance(case, Mapping):
        raise ValueError(f"{where}: is no map; give name and records")  # noqa: TRY004 - all mistakes are ValueErrors
    name = case.get("name")
    if name is None:
        raise ValueError(f"{where}: has no name; give it one that says what it claims")
    if not isinstance(name, str):
        # YAML reads 900941 as a number, and on as true.
        raise ValueError(f"{where}: name {_shown(name)} is no text; put it in quotation marks")  # noqa: TRY004
    _refuse_unknown(f"case {name!r}", case, _CASE)


def check_settings(settings: object) -> None:
    """Raises: ValueError: a sentence that says what is wrong with what a case says is known."""
    if not isinstance(settings, Mapping):
        raise ValueError("settings is no map")  # noqa: TRY004
    _refuse_unknown("settings", settings, _SETTINGS)
    for key in _LISTS:
        found = settings.get(key)
        if found is not None and not (isinstance(found, list) and all(isinstance(one, str) for one in found)):
            raise ValueError(f"settings.{key} is no list of texts")
    places = settings.get("places") or {}
    if not isinstance(places, Mapping):
        raise ValueError("settings.places is no map of addresses")  # noqa: TRY004
    for address, place in places.items():
        if not isinstance(place, Mapping):
            raise ValueError(f"settings.places.{_shown(address)} is no map of {_named(_PLACE)}")  # noqa: TRY004
        _refuse_unknown(f"settings.places.{_shown(address)}", place, _PLACE)


def check_record(record: Mapping[str, Any]) -> None:
    """Raises: ValueError: a sentence that says what is wrong with a record, or with how it is repeated."""
    if "repeat" in record:
        _refuse_unknown("a record that is repeated", record, _REPEATED)
        count, repeated = record["repeat"], record.get("record")
        if type(count) is not int or not 0 < count <= REPEATED_MAX:
            raise ValueError(f"repeats a record {_shown(count)} times; 1 to {REPEATED_MAX:,} will do")
        if not isinstance(repeated, Mapping):
            raise ValueError("repeats a record, and has no map under record")
        try:
            parse_duration_s(record.get("every", "1s"))
        except ValueError as error:
            raise ValueError(f"every: {_shown(record['every'])} {error}") from None
        record = repeated
    at = record.get("CreationTime")
    if at is not None and read_instant(str(at)) is None:
        raise ValueError(f"CreationTime: {_shown(at)} is no time such as 2026-11-02T09:00:00")


def _refuse_unknown(where: str, found: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = sorted(str(key) for key in found.keys() - set(known))
    if unknown:
        raise ValueError(f"{where} has the key {_shown(unknown[0])}; there are {_named(known)}")


def _shown(value: object) -> str:
    text = str(value)[:_CHARS_MAX]
    return text if text.isprintable() else repr(text)


def _named(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))


CASES_BYTES_MAX = 8 * 1_048_576
_FIRST_AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
_DAY_MS = 86_400_000
_KEYS = {"detection", "rule", "settings", "hits", "near_misses"}


@dataclass(frozen=True, slots=True)
class Case:
    """One claim about a rule."""

    name: str
    is_hit: bool
    records: tuple[bytes, ...]
    expect: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cases:
    """The claims of one file."""

    path: str
    rule: str
    """The rule that they are about, by any of its names."""
    cases: tuple[Case, ...]


class CasesRefused(ValueError):
    """A file of cases has mistakes."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Each line is the end of a sentence that begins with the file's name."""
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case."""

    case: Case
    faults: tuple[str, ...] = ()
    """What is not as it is claimed; none where all is well."""
    alerts: tuple[Alert, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class _KnownPlaces:
    """The places that a case says its addresses have."""

    places: Mapping[str, Whereabouts]

    def locate(self, address: str) -> Whereabouts:
        return self.places.get(address, Whereabouts())


def read_cases(path: Path) -> Cases:
    """The cases of a file. Raises: ValueError: its text, or each line of CasesRefused, says what is wrong."""
    content, _ = read_small_file(path, bytes_max=CASES_BYTES_MAX)
    if len(content) > CASES_BYTES_MAX:
        raise ValueError(f"is larger than {CASES_BYTES_MAX} bytes")
    try:
        text, _ = load_document(content)
    except yaml.YAMLError as error:
        raise ValueError(f"is no YAML: {mistake_of(error, content)}") from None
    except RecursionError as error:
        raise ValueError(reason_of(error)) from None
    if not isinstance(text, dict):
        raise ValueError(f"is no map of the keys {', '.join(sorted(_KEYS))}")  # noqa: TRY004
    faults = []
    if unknown := sorted(plain(str(key)) for key in text.keys() - _KEYS):
        faults.append(f"has other keys than {', '.join(sorted(_KEYS))}: {', '.join(unknown)}")
    rule = text.get("detection") or text.get("rule")
    # A text of several lines ends with a break in YAML, and a name has none.
    rule = " ".join(plain(rule).split()) if isinstance(rule, str) else ""
    if not rule:
        faults.append("names no rule: it needs the key detection or rule")
    hits, misses = _listed(text, "hits", faults), _listed(text, "near_misses", faults)
    if not (hits or misses or faults):
        faults.append(f"has no cases of {rule}: give records under hits or near_misses")
    if faults:
        raise CasesRefused(faults)
    return Cases(path.name, rule, (*hits, *misses))


def _listed(text: Mapping[str, Any], key: str, faults: list[str]) -> list[Case]:
    """The cases under a key that will do; of each other one a line is added to the faults."""
    found = text.get(key) or []
    if not isinstance(found, list):
        faults.append(f"{key} is no list of cases")
        return []
    cases = []
    shared = text.get("settings") or {}
    for place, one in enumerate(found, start=1):
        try:
            cases.append(_case(one, is_hit=key == "hits", shared=shared, where=f"{key}, case {place}"))
        except MISREAD as error:
            faults.append(reason_of(error))
    return cases


def _case(one: Any, *, is_hit: bool, shared: Mapping[str, Any], where: str) -> Case:
    check_head(one, where)
    records = one.get("records")
    if not isinstance(records, list) or not records or not all(isinstance(each, dict) for each in records):
        raise ValueError(f"case {one['name']!r} has no list of records")
    try:
        for each in records:
            check_record(each)
        for some in (shared, one.get("settings") or {}):
            check_settings(some)
    except ValueError as error:
        raise ValueError(f"case {one['name']!r}: {error}") from None
    texts = tuple(json.dumps(each, default=str).encode() for each in _complete(records))
    settings = {**shared, **(one.get("settings") or {})}
    expect = one.get("expect") or {}
    if not isinstance(expect, dict):
        raise ValueError(f"case {one['name']!r}: expect is no map")  # noqa: TRY004 - all mistakes are ValueErrors
    return Case(one["name"], is_hit, texts, expect, settings)


def _complete(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with repetitions written out, and with an Id and a time where they have none.

    `{repeat: 12, every: 20s, record: {...}}` stands for 12 records, 20 seconds apart from the record's
    own time on; {n} in a text of it becomes the number, from 0.
    """
    found: list[dict[str, Any]] = []
    for one in records:
        if "repeat" not in one:
            found.append(one)
            continue
        start = _instant(one["record"].get("CreationTime")) or _FIRST_AT + timedelta(seconds=len(found))
        every_s = parse_duration_s(one.get("every", "1s"))
        for number in range(one["repeat"]):
            at = start + timedelta(seconds=number * every_s)
            filled = _numbered(one["record"], number)
            found.append({**filled, "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}"})
    return [_with_defaults(one, place) for place, one in enumerate(found)]


def _numbered(value: Any, number: int) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, list):
        return [_numbered(one, number) for one in value]
    if isinstance(value, dict):
        return {key: _numbered(one, number) for key, one in value.items()}
    return value


def _with_defaults(record: dict[str, Any], place: int) -> dict[str, Any]:
    at = _instant(record.get("CreationTime")) or _FIRST_AT + timedelta(seconds=place)
    return {"Id": f"case-{place}", **record, "CreationTime": f"{at:%Y-%m-%dT%H:%M:%S}"}


def _instant(value: object) -> datetime | None:
    """A time that YAML may have made of the text already."""
    return value if isinstance(value, datetime) else read_instant(str(value)) if value else None


def make_knowledge(settings: Mapping[str, Any]) -> Knowledge:
    """What a case's settings say is known.

    `places` gives addresses a country, asn, latitude and longitude; the other keys are those of
    the settings: accepted_domains, vips, admins, indicators, lists.
    """
    places = {
        address: Whereabouts(
            country=str(one.get("country", "")),
            asn=str(one.get("asn", "")),
            latitude=one.get("latitude"),
            longitude=one.get("longitude"),
        )
        for address, one in (settings.get("places") or {}).items()
    }
    extra: dict[str, Any] = {"enrichment": _KnownPlaces(places)} if places else {}
    for key in ("accepted_domains", "vips", "admins", "indicators"):
        extra[key] = frozenset(str(value).lower() for value in settings.get(key) or ())
    return Knowledge(**extra)


def run_cases(cases: Cases, library: Library) -> list[Verdict]:
    """A verdict on each case; the rules of that name are run, with those that they join."""
    rules = library.find(cases.rule)
    if not rules:
        return [Verdict(case, (f"there is no rule {cases.rule}",)) for case in cases.cases]
    return [_run_case(case, rules, library) for case in cases.cases]


def _run_case(case: Case, rules: Sequence[Rule], library: Library) -> Verdict:
    wanted = {rule.id for rule in rules}
    needed = with_sources(rules, library)
    alerts = [
        alert
        for alert in find_alerts(needed, case.records, knowledge=make_knowledge(case.settings))
        if alert.rule_id in wanted
    ]
    return Verdict(case, tuple(_faults(case, alerts)), tuple(alerts))


def with_sources(rules: Sequence[Rule], library: Library) -> list[Rule]:
    """The rules, and all that they join, directly or not; risk adds up what every rule says."""
    by_id = library.by_id()
    found = {rule.id: rule for rule in rules}
    left = list(rules)
    while left:
        rule = left.pop()
        if (correlation := rule.correlation) is None:
            continue
        for source in by_id if adds_up_risk(rule) else correlation.sources:
            if source in by_id and source not in found:
                found[source] = by_id[source]
                left.append(by_id[source])
    return list(found.values())


def find_alerts(
    rules: Sequence[Rule],
    records: Sequence[bytes],
    *,
    knowledge: Knowledge,
    tenant: str = "",
    now: datetime | None = None,
    exceptions: Exceptions = NO_EXCEPTIONS,
) -> list[Alert]:
    """The alerts that a set of records gives: for tests and for looking back, without any state.

    `now` is when it is looked at, for rules about silence; a day after the last record where it is absent.
    """
    matcher = Matcher(list_sought(rules, knowledge), knowledge=knowledge)
    matches: list[Match] = []
    told = Told(tenant, EPOCH)
    times = []
    for record, header in zip(records, headers_of(records), strict=True):
        matches += matcher.match(record, told, header=header)
        at = read_instant(header.CreationTime)
        times += [ms_of(at)] if at is not None else []
    now_ms = ms_of(now) if now is not None else max(times, default=0) + _DAY_MS
    return judge_all(
        rules,
        matches,
        now_ms=now_ms,
        since_ms={tenant: watched_since_ms(min(times, default=0))},
        exceptions=exceptions,
    )


def _faults(case: Case, alerts: Sequence[Alert]) -> list[str]:
    if not case.is_hit:
        return [f"fires: {alert.explanation}" for alert in alerts]
    if not alerts:
        return ["does not fire"]
    if not case.expect:
        return []
    tried = [_lacks(case.expect, alert) for alert in alerts]
    return min(tried, key=len)


def _lacks(expect: Mapping[str, Any], alert: Alert) -> list[str]:
    faults = []
    for key, value in expect.items():
        found = _told(alert, key)
        wanted = [str(one) for one in value] if isinstance(value, list) else [str(value)]
        for one in wanted:
            is_part = key in {"text", "techniques", "notes"}
            if one.lower() != found.lower() and not (is_part and one.lower() in found.lower()):
                faults.append(f"{key}: {one!r} was expected, and it is {found!r}")
    return faults


def _told(alert: Alert, key: str) -> str:
    match key:
        case "text":
            return alert.explanation
        case "techniques" | "technique":
            return " ".join(alert.techniques)
        case "count":
            return str(alert.count)
        case "severity":
            return str(alert.severity)
        case "notes":
            return " ".join(alert.notes)
    return alert.entity(key)
