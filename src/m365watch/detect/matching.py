"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from itertools import chain
from operator import attrgetter
from typing import Any, TypedDict

import msgspec
from msgspec import Raw, defstruct

from m365watch.detect.alert import Match, clean_text
from m365watch.detect.compile import Predicate, compile_condition, read_instant
from m365watch.detect.condition import (
    Condition,
    Every,
    Like,
    OneOf,
    SameAs,
    Some,
    Test,
    Wildcard,
    list_fields,
)
from m365watch.detect.derived.catalogue import constant_fields, needs_of
from m365watch.detect.derived.operation import normalise_operation
from m365watch.detect.extension import Severity
from m365watch.detect.fields import View
from m365watch.detect.guards import (
    Guard,
    Memory,
    Probe,
    find_guard,
    make_probes,
    specialise,
)
from m365watch.detect.knowledge import NOTHING_KNOWN, Knowledge
from m365watch.detect.rule import Rule
from m365watch.detect.uses import Use, counted_value, groups_of, kept_values, plan_uses
from m365watch.model import Header

LIKENESS_BYTES_MAX = 4_096
"""Deciding fields that are longer are not remembered."""
LIKENESS_WEIGHT = 8
"""What a remembered record weighs, beside a remembered value."""
SIGHTINGS_MAX = 200_000
"""Keys whose first sightings are remembered beside those on disk."""
PLANS_MAX = 20_000
"""Kinds of records whose plan is remembered; they begin anew when there are more."""
_ANY = msgspec.json.Decoder()
_KNOWN_FIELDS = frozenset({"Operation", "m365.operation", "RecordType", "Workload"})
"""What is known of a record before it is decoded."""
_ALWAYS_NEEDED = frozenset({"Id", "CreationTime", "Operation", "RecordType"})


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule ready to run."""

    rule: Rule
    raises: tuple[tuple[Severity, Predicate], ...]
    uses: tuple[Use, ...]
    kept: frozenset[str] | None
    """The top fields that are read of a record that it has found; None for all."""

    def severity_of(self, view: View) -> Severity:
        """The rule's severity, or a higher one that a selection asks for."""
        found = self.rule.severity
        for severity, holds in self.raises:
            if severity.rank > found.rank and holds(view):
                found = severity
        return found


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a record before it is decoded."""

    tenant: str
    received_at: datetime
    """Stands in for a CreationTime that cannot be read."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A first look at a record: some of its top fields, and what is asked of each."""

    decode: Callable[[bytes], Any]
    values: Callable[[Any], tuple[object, ...]]
    """The fields' values, in the order of `asks`; None where there is none."""
    asks: tuple[tuple[dict[object, tuple[int, ...]], Callable[[object], tuple[int, ...]]], ...]
    """Of each field what is remembered of its values, and who answers for any other."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """The fields that decide which rules a record fulfils, as bytes, and what came of such bytes before."""

    decode: Callable[[bytes], Any]
    values: Callable[[Any], tuple[Raw | None, ...]]
    fulfilled: dict[object, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a record of one kind is looked at."""

    rules: tuple[tuple[Compiled, Predicate], ...]
    """Those that it may still fulfil, each with what is left of its condition."""
    glance: Glance | None
    """What is enough to see which of them cannot be fulfilled; None where that is not worth it."""
    unguarded: frozenset[int]
    """The places of those that have to be asked in any case."""
    decoder: msgspec.json.Decoder[Any]
    """Of all fields that any of the rules reads."""
    likeness: Likeness | None
    """What is enough to know a record by that is like one before; None where none would be."""


class _Seen:
    """A record that some rule found, and what it is known by; worked out once, if at all."""

    __slots__ = ("_identity", "_record", "_record_id", "at_ms", "view")

    def __init__(self, view: View, record: bytes, at_ms: int) -> None:
        self.view = view
        self.at_ms = at_ms
        self._record = record
        self._identity = ""
        self._record_id = ""

    @property
    def identity(self) -> str:
        """What tells the record from any other."""
        if not self._identity:
            self._identity = identify_record(self.view, self._record)
        return self._identity

    @property
    def record_id(self) -> str:
        """The Id that the service gave it; its identity where it gave none."""
        if not self._record_id:
            self._record_id = clean_text(self.view.first("Id")[:100]) or self.identity
        return self._record_id


class Sightings:
    """Of keys that are durably known, when each was first seen in its stretch of time."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._first_ms: dict[tuple[str, str, tuple[str, ...], int], int] = {}

    def knows(self, use: Use, tenant: str, group: tuple[str, ...], at_ms: int) -> bool:
        """Whether the key was seen earlier in the same stretch, so that this sighting adds nothing."""
        first_ms = self._first_ms.get((use.rule_id, tenant, group, at_ms // use.bucket_ms))
        return first_ms is not None and first_ms < at_ms

    def learn(self, match: Match, bucket_ms: int) -> None:
        """A sighting is durable."""
        key = (match.rule_id, match.tenant, match.group, match.at_ms // bucket_ms)
        if len(self._first_ms) >= SIGHTINGS_MAX:
            self._first_ms.clear()
        self._first_ms[key] = min(match.at_ms, self._first_ms.get(key, match.at_ms))


class Matcher:
    """The rules, by the kinds of records that they can match."""

    def __init__(self, rules: Iterable[Rule], *, knowledge: Knowledge = NOTHING_KNOWN) -> None:
        """`rules` include those that correlations join."""
        kept = list(rules)
        self.knowledge = knowledge
        uses = plan_uses(kept)
        self._by_operation: dict[str, list[Compiled]] = {}
        self._residual: list[Compiled] = []
        self._plans: dict[tuple[object, object, object], Plan | None] = {}
        self._memory = Memory()
        self.sightings = Sightings()
        self._constant = constant_fields(knowledge)
        for rule in kept:
            possible = tuple(use for use in uses.get(rule.id, ()) if not use.is_idle(self._constant))
            if rule.condition is not None and possible:
                self._place(_compile(rule, possible))

    def _place(self, compiled: Compiled) -> None:
        condition = compiled.rule.condition
        names = operations_of(condition) if condition is not None else None
        if names is None:
            self._residual.append(compiled)
        for name in names or ():
            self._by_operation.setdefault(name, []).append(compiled)

    def plan_for(self, header: Header) -> Plan | None:
        """How a record with this header is looked at; None where no rule can match it."""
        kind = (header.Operation, header.RecordType, header.Workload)
        try:
            return self._plans[kind]
        except KeyError:
            plan = self._make_plan(header)
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
                self._memory.drop()
            self._plans[kind] = plan
            return plan

    def _make_plan(self, header: Header) -> Plan | None:
        known = {
            name: value
            for name in ("Operation", "RecordType", "Workload")
            if (value := getattr(header, name)) is not None
        }
        view = View(known, knowledge=self.knowledge)
        rules: list[tuple[Compiled, Predicate]] = []
        asks: list[frozenset[str] | None] = []
        guards: dict[int, Guard] = {}
        for compiled in self._candidates(header.Operation):
            left = specialise(compiled.rule.condition or Some(()), lambda test: self._holds(test, view))
            if left is False:
                continue
            guard = None if left is True else find_guard(left)
            if guard is not None:
                guards[len(rules)] = guard
            rules.append((compiled, _always if isinstance(left, bool) else compile_condition(left)))
            asks.append(frozenset() if isinstance(left, bool) else _needs([left]))
        return _plan_of(rules, asks, guards, self._memory) if rules else None

    def _holds(self, test: Test, view: View) -> bool | None:
        """Whether a test holds on what is known beforehand; None where it is about something else."""
        field = "Operation" if test.field == "m365.operation" else test.field
        if field in self._constant:
            return compile_condition(test)(View({}, knowledge=self.knowledge))
        is_known = test.field in _KNOWN_FIELDS and field in view.record
        if not is_known or isinstance(test.comparison, SameAs):
            return None
        return compile_condition(test)(view)

    def _candidates(self, operation: str | None) -> Iterable[Compiled]:
        if operation is not None:
            return (*self._by_operation.get(normalise_operation(operation), ()), *self._residual)
        # Fast decoders refuse some records; it stands in the record whether it could be read or not.
        every = chain(*self._by_operation.values(), self._residual)
        return {one.rule.id: one for one in every}.values()

    def match(self, record: bytes, told: Told, *, header: Header) -> list[Match]:
        """A match for every rule that the record fulfils, for each of its uses and groups."""
        plan = self.plan_for(header)
        return [] if plan is None else self.match_by(plan, record, told)

    def match_by(self, plan: Plan, record: bytes, told: Told) -> list[Match]:
        """The same, by the plan of the record's kind."""
        glance = plan.glance
        places: Iterable[int] = range(len(plan.rules))
        if glance is not None:
            try:
                values = glance.values(glance.decode(record))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass  # What strict decoders refuse is looked at in full.
            else:
                found: tuple[int, ...] = ()
                for value, (remembered, ask) in zip(values, glance.asks, strict=True):
                    if value is not None:
                        passing = remembered.get(value) if type(value) is str else None
                        if passing is None:
                            passing = ask(value)
                        if passing:
                            found += passing
                if not found and not plan.unguarded:
                    return []
                places = sorted(plan.unguarded.union(found))
        if plan.likeness is not None:
            return self._match_alike(plan, plan.likeness, record, told, places)
        return self._match_fully(plan, record, told, places)

    def _match_alike(
        self, plan: Plan, likeness: Likeness, record: bytes, told: Told, places: Iterable[int]
    ) -> list[Match]:
        """The same; what a record fulfils is known where its deciding fields are those of one before."""
        try:
            raws = likeness.values(likeness.decode(record))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._match_fully(plan, record, told, places)
        key = (told.tenant, *[None if raw is None else bytes(raw) for raw in raws])
        fulfilled = likeness.fulfilled.get(key)
        if fulfilled == ():
            return []
        decoded = _decode(record, plan.decoder)
        if decoded is None:
            return []
        view = View(decoded, knowledge=self.knowledge, tenant=told.tenant)
        if fulfilled is None:
            fulfilled = tuple(place for place in places if plan.rules[place][1](view))
            if sum(len(one) for one in key if one is not None) <= LIKENESS_BYTES_MAX:
                likeness.fulfilled[key] = fulfilled
                self._memory.values += LIKENESS_WEIGHT
        return self._build(plan, fulfilled, view, record, told)

    def _match_fully(self, plan: Plan, record: bytes, told: Told, places: Iterable[int]) -> list[Match]:
        """The same, of a record that is worth looking at in full; `places` are those of the rules to ask."""
        decoded = _decode(record, plan.decoder)
        if decoded is None:
            return []
        view = View(decoded, knowledge=self.knowledge, tenant=told.tenant)
        fulfilled = [place for place in places if plan.rules[place][1](view)]
        return self._build(plan, fulfilled, view, record, told)

    def _build(
        self, plan: Plan, fulfilled: Sequence[int], view: View, record: bytes, told: Told
    ) -> list[Match]:
        if not fulfilled:
            return []
        at = read_instant(view.first("CreationTime")) or told.received_at
        seen = _Seen(view, record, round(at.timestamp() * 1000))
        return [match for place in fulfilled for match in self._matches_of(plan.rules[place][0], seen)]

    def _matches_of(self, compiled: Compiled, seen: _Seen) -> list[Match]:
        """What is kept of the record for each use of the rule and each group that it belongs to."""
        view, at_ms = seen.view, seen.at_ms
        severity = compiled.severity_of(view)
        found: list[Match] = []
        for use in compiled.uses:
            for group in groups_of(view, use):
                if use.bucket_ms and self.sightings.knows(use, view.tenant, group, at_ms):
                    continue
                found.append(
                    Match(
                        rule_id=use.rule_id,
                        source_id=compiled.rule.id,
                        tenant=view.tenant,
                        group=group,
                        at_ms=at_ms,
                        identity=seen.identity,
                        record_id=seen.record_id,
                        severity=severity,
                        values=kept_values(view, use),
                        counted=counted_value(view, use),
                    )
                )
        return found

    def trim(self) -> None:
        """Let go of what is remembered where it has become too much."""
        self._memory.trim()


def _always(view: View) -> bool:  # noqa: ARG001 - a predicate like any other
    return True


def _plan_of(
    rules: Sequence[tuple[Compiled, Predicate]],
    asks: Sequence[frozenset[str] | None],
    guards: Mapping[int, Guard],
    memory: Memory,
) -> Plan:
    """`asks` has the top fields that what is left of each rule's condition reads; None for all."""
    unguarded = frozenset(place for place in range(len(rules)) if place not in guards)
    probes = make_probes(guards, memory)
    asked = _union(asks)
    every = _union([asked, *(compiled.kept for compiled, _ in rules)])
    # With most of the rules to be asked anyway, a first look would be one more.
    glance = _glance_of(probes) if len(unguarded) <= len(rules) // 4 else None
    likeness = None if asked is None else _likeness_of(asked, memory)
    return Plan(tuple(rules), glance, unguarded, decoder_of(every), likeness)


def _union(every: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """All of them; None, which stands for everything, if one is that."""
    known = [one for one in every if one is not None]
    return frozenset[str]().union(*known) if len(known) == len(every) else None


def _likeness_of(fields: frozenset[str], memory: Memory) -> Likeness | None:
    """None where a record is like no other: its time or its id decides."""
    if fields & {"Id", "CreationTime"} or not fields:
        return None
    decode, values = _look_of(dict.fromkeys(sorted(fields), Raw))
    return Likeness(decode, values, memory.make())


def _glance_of(probes: Sequence[Probe]) -> Glance:
    decode, values = _look_of({one.field: Raw if one.is_raw else Any for one in probes})
    asks = tuple((one.remembered, one.ask_raw if one.is_raw else one.ask_plain) for one in probes)
    return Glance(decode, values, asks)


def _look_of(fields: Mapping[str, Any]) -> tuple[Callable[[bytes], Any], Callable[[Any], tuple[Any, ...]]]:
    """What decodes these top fields of a record, each as its type, and what gives their values in order."""
    numbered = {f"field_{number}": name for number, name in enumerate(fields)}
    look = defstruct(
        "Look",
        [(one, fields[name], None) for one, name in numbered.items()],
        rename=numbered,
        gc=False,
    )
    # One name alone would give its value, and no tuple of it.
    values = attrgetter(*numbered) if len(fields) > 1 else lambda found: (found.field_0,)
    return msgspec.json.Decoder(look).decode, values


@lru_cache(maxsize=4_096)
def decoder_of(fields: frozenset[str] | None) -> msgspec.json.Decoder[Any]:
    """What decodes these top fields of a record, and steps over the others; all where it is None."""
    if fields is None:
        return _ANY
    names = dict.fromkeys(sorted(fields), Any)
    wanted = TypedDict("wanted", names, total=False)  # type: ignore[misc] # what rules name, known only now
    return msgspec.json.Decoder(wanted)


def _decode(record: bytes, decoder: msgspec.json.Decoder[Any]) -> Mapping[str, Any] | None:
    try:
        decoded: Mapping[str, Any] = decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_record(record)
    return decoded if isinstance(decoded, dict) else None


def decode_record(record: bytes) -> Mapping[str, Any] | None:
    """The record's fields; None where it is no JSON object that can be read."""
    try:
        decoded = _ANY.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _decode_tolerantly(record)
    return decoded if isinstance(decoded, dict) else None


def _decode_tolerantly(record: bytes) -> object:
    """What is no strict JSON: half a character, bytes of no text, control characters; None otherwise."""
    try:
        return json.loads(record.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _compile(rule: Rule, uses: tuple[Use, ...]) -> Compiled:
    raises = tuple(
        (one.to, compile_condition(rule.selections[one.when]))
        for one in rule.extension.raises
        if one.when in rule.selections
    )
    raising = [rule.selections[one.when] for one in rule.extension.raises if one.when in rule.selections]
    read = _needs(raising)
    kept = frozenset(need for use in uses for name in use.fields for need in needs_of(name))
    return Compiled(rule, raises, uses, None if read is None else read | kept | _ALWAYS_NEEDED)


def _needs(conditions: Sequence[Condition]) -> frozenset[str] | None:
    """The top fields that the conditions read; None for all."""
    names: set[str] = set()
    for condition in conditions:
        fields = list_fields(condition)
        if fields is None:
            return None
        names |= fields
    return frozenset(need for name in names for need in needs_of(name))


def identify_record(view: View, record: bytes) -> str:
    """What tells the record from any other: the same for every collector and every search of the lake.

    Made of tenant, Id, CreationTime, Operation and RecordType; of the whole text where there is no Id.
    """
    if view.values("Id"):
        parts = [view.first(name) for name in ("Id", "CreationTime", "Operation", "RecordType")]
        text = "\x1f".join([view.tenant, *parts]).encode("utf-8", "surrogatepass")
    else:
        text = view.tenant.encode() + record
    return blake2b(text, digest_size=16).hexdigest()


def operations_of(condition: Condition) -> frozenset[str] | None:
    """The operations that the condition can be fulfilled with, in normal form; None for any."""
    match condition:
        case Test("Operation" | "m365.operation", comparison):
            return _exact_names(comparison)
        case Every(parts):
            known = [names for part in parts if (names := operations_of(part)) is not None]
            return frozenset.intersection(*known) if known else None
        case Some(parts):
            every = [operations_of(part) for part in parts]
            if any(names is None for names in every):
                return None
            return frozenset[str]().union(*(names for names in every if names is not None))
    return None


def _exact_names(comparison: object) -> frozenset[str] | None:
    match comparison:
        case OneOf(values):
            return frozenset(normalise_operation(value) for value in values)
        case Like((str() as text,), False) if not isinstance(text, Wildcard):
            return frozenset((normalise_operation(text),))
    return None
