"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec

from m365watch.detect.alert import Match, clean_text
from m365watch.detect.compile import Predicate, compile_condition, ms_of, read_ms
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
from m365watch.detect.guards import Guard, find_guard, make_probes, specialise
from m365watch.detect.knowledge import NOTHING_KNOWN, Knowledge
from m365watch.detect.looks import (
    UNREADABLE,
    Glance,
    Likeness,
    Sketch,
    decode_by,
    decoder_of,
    likeness_of,
)
from m365watch.detect.remembering import Memory, Recent
from m365watch.detect.rule import Rule
from m365watch.detect.stencils import (
    DRAWN_WEIGHT,
    Drawn,
    Sightings,
    Stencil,
    draw_stencils,
    identify_record,
    stamp_matches,
)
from m365watch.detect.uses import Use, plan_uses
from m365watch.model import Header

DRAWINGS_MAX = 64
"""Sets of rules that records of one kind fulfil together, whose matches are made alike."""
PLANS_MAX = 20_000
"""Kinds of records whose plan is remembered; they begin anew when there are more."""
_KNOWN_FIELDS = frozenset({"Operation", "m365.operation", "RecordType", "Workload"})
"""What is known of a record before it is decoded."""
_ALWAYS_NEEDED = frozenset({"Id", "CreationTime", "Operation", "RecordType"})
_OWN = frozenset({"Id", "CreationTime"})
"""What no two records have in common."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule ready to run."""

    rule: Rule
    raises: tuple[tuple[Severity, Predicate], ...]
    uses: tuple[Use, ...]
    kept: frozenset[str] | None
    """The top fields that are read of a record that it has found, beside its identity; None for all."""

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
class Drawing:
    """How the matches of records are made that fulfil the same rules."""

    sketch: Sketch
    drawn: Recent[Drawn]


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
    drawings: dict[tuple[int, ...], Drawing | None] = field(default_factory=dict)
    """By the places of fulfilled rules; None where each match has to be made by itself."""


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
        glance, likeness = plan.glance, plan.likeness
        places: Iterable[int] = range(len(plan.rules))
        try:
            if glance is not None and glance.pays:
                found = glance.ask(record)
                glance.tries += 1
                if not found and not plan.unguarded:
                    glance.spared += 1
                    return []
                places = sorted(plan.unguarded.union(found))
            key = likeness.key_of(record, told.tenant) if likeness is not None and likeness.pays else None
        except UNREADABLE:
            return self._match_fully(plan, record, told)
        if key is None or likeness is None:
            return self._match_fully(plan, record, told, places=places)
        likeness.tries += 1
        fulfilled = likeness.known(key)
        if fulfilled is not None:
            likeness.spared += 1
            return self._match_alike(plan, fulfilled, record, told) if fulfilled else []
        view = self._view(plan, record, told)
        fulfilled = () if view is None else _fulfilled(plan, view, places)
        likeness.learn(key, fulfilled)
        return self._match_alike(plan, fulfilled, record, told, view=view) if fulfilled else []

    def _match_fully(
        self, plan: Plan, record: bytes, told: Told, *, places: Iterable[int] | None = None
    ) -> list[Match]:
        """The same, of a record that is worth looking at in full; `places` are those of the rules to ask."""
        view = self._view(plan, record, told)
        if view is None:
            return []
        fulfilled = _fulfilled(plan, view, range(len(plan.rules)) if places is None else places)
        return self._match_alike(plan, fulfilled, record, told, view=view) if fulfilled else []

    def _match_alike(
        self, plan: Plan, fulfilled: tuple[int, ...], record: bytes, told: Told, *, view: View | None = None
    ) -> list[Match]:
        """The matches of a record that fulfils these rules; what one like it had is drawn again."""
        drawing = self._drawing(plan, fulfilled)
        if drawing is not None:
            try:
                record_id, created, text = drawing.sketch.draw(record)
            except UNREADABLE:
                record_id = created = None
            if type(record_id) is str and type(created) is str:
                drawn = drawing.drawn.get((told.tenant, text))
                if drawn is None:
                    view = view or self._view(plan, record, told)
                    drawn = _draw(plan, fulfilled, view) if view is not None else Drawn(("", ""), ())
                    drawing.drawn.put((told.tenant, text), drawn)
                at_ms = read_ms(created)
                return stamp_matches(
                    drawn,
                    record_id,
                    at_ms=ms_of(told.received_at) if at_ms is None else at_ms,
                    created=created,
                    known=self.sightings,
                )
        view = view or self._view(plan, record, told)
        return [] if view is None else self._match_alone(plan, fulfilled, record, told, view=view)

    def _match_alone(
        self, plan: Plan, fulfilled: tuple[int, ...], record: bytes, told: Told, *, view: View
    ) -> list[Match]:
        """The matches of a record that is like no other."""
        at_ms = read_ms(view.first("CreationTime"))
        at_ms = ms_of(told.received_at) if at_ms is None else at_ms
        identity = identify_record(view, record)
        record_id = clean_text(view.first("Id")[:100]) or identity
        return [
            one.stamped(at_ms, identity, record_id)
            for one in _draw(plan, fulfilled, view).stencils
            if not (one.bucket_ms and self.sightings.knows(one, at_ms))
        ]

    def _drawing(self, plan: Plan, fulfilled: tuple[int, ...]) -> Drawing | None:
        try:
            return plan.drawings[fulfilled]
        except KeyError:
            kept = _union([plan.rules[place][0].kept for place in fulfilled])
            drawing = None
            if kept is not None and not kept & _OWN and len(plan.drawings) < DRAWINGS_MAX:
                sketch = Sketch(kept | _ALWAYS_NEEDED - _OWN)
                drawing = Drawing(sketch, Recent(self._memory, DRAWN_WEIGHT))
            plan.drawings[fulfilled] = drawing
            return drawing

    def _view(self, plan: Plan, record: bytes, told: Told) -> View | None:
        decoded = decode_by(record, plan.decoder)
        return None if decoded is None else View(decoded, knowledge=self.knowledge, tenant=told.tenant)

    def trim(self) -> None:
        """Let go of what is remembered where it is too much, and of ways of looking that do not pay."""
        self._memory.trim()
        for plan in self._plans.values():
            for odds in (plan.glance, plan.likeness) if plan is not None else ():
                if odds is not None:
                    odds.judge()


def _fulfilled(plan: Plan, view: View, places: Iterable[int]) -> tuple[int, ...]:
    return tuple([place for place in places if plan.rules[place][1](view)])


def _draw(plan: Plan, fulfilled: Iterable[int], view: View) -> Drawn:
    """What is kept of a record for each of these rules."""
    stencils: list[Stencil] = []
    for place in fulfilled:
        compiled = plan.rules[place][0]
        severity = compiled.severity_of(view)
        stencils += draw_stencils(view, compiled.uses, source_id=compiled.rule.id, severity=severity)
    return Drawn((view.first("Operation"), view.first("RecordType")), tuple(stencils))


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
    every = _union([asked, _ALWAYS_NEEDED, *(compiled.kept for compiled, _ in rules)])
    # With most of the rules to be asked anyway, a first look would be one more.
    glance = Glance(probes) if len(unguarded) <= len(rules) // 4 else None
    likeness = None if asked is None else likeness_of(asked, memory)
    return Plan(tuple(rules), glance, unguarded, decoder_of(every), likeness)


def _union(every: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """All of them; None, which stands for everything, if one is that."""
    known = [one for one in every if one is not None]
    return frozenset[str]().union(*known) if len(known) == len(every) else None


def _compile(rule: Rule, uses: tuple[Use, ...]) -> Compiled:
    raises = tuple(
        (one.to, compile_condition(rule.selections[one.when]))
        for one in rule.extension.raises
        if one.when in rule.selections
    )
    raising = [rule.selections[one.when] for one in rule.extension.raises if one.when in rule.selections]
    read = _needs(raising)
    kept = frozenset(need for use in uses for name in use.fields for need in needs_of(name))
    return Compiled(rule, raises, uses, None if read is None else read | kept)


def _needs(conditions: Sequence[Condition]) -> frozenset[str] | None:
    """The top fields that the conditions read; None for all."""
    names: set[str] = set()
    for condition in conditions:
        fields = list_fields(condition)
        if fields is None:
            return None
        names |= fields
    return frozenset(need for name in names for need in needs_of(name))


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
