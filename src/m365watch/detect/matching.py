"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from m365watch.detect.alert import Match
from m365watch.detect.compile import Predicate, compile_condition
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
from m365watch.detect.drawing import OWN, Drawing, Fulfilled, Told, can_be_drawn, draw_alone, fulfil
from m365watch.detect.fields import View
from m365watch.detect.guards import Guard, find_guard, make_probes, specialise
from m365watch.detect.knowledge import NOTHING_KNOWN, Knowledge
from m365watch.detect.looks import UNREADABLE, Glance, decode_by, decoder_of
from m365watch.detect.questions import Questions, can_be_asked
from m365watch.detect.remembering import Memory
from m365watch.detect.rule import Rule
from m365watch.detect.sightings import Sightings
from m365watch.detect.uses import plan_uses
from m365watch.model import Header

DRAWINGS_MAX = 64
"""Sets of rules that records of one kind fulfil together, whose matches are drawn together."""
PLANS_MAX = 20_000
"""Kinds of records whose plan is remembered; they begin anew when there are more."""
_KNOWN_FIELDS = frozenset({"Operation", "m365.operation", "RecordType", "Workload"})
"""What is known of a record before it is decoded."""
_ALWAYS_NEEDED = frozenset({"Id", "CreationTime", "Operation", "RecordType"})


@dataclass(frozen=True, slots=True)
class Plan:
    """How a record of one kind is looked at."""

    rules: tuple[tuple[Fulfilled, Predicate], ...]
    """Those that it may still fulfil, each with what is left of its condition."""
    glance: Glance | None
    """What is enough to see which of them cannot be fulfilled; None where that is not worth it."""
    unguarded: frozenset[int]
    """The places of those that have to be asked in any case."""
    questions: Questions | None
    """What their conditions ask, field by field; None where fields by themselves do not tell."""
    decoder: msgspec.json.Decoder[Any]
    """Of all fields that any of the rules reads."""
    drawings: dict[tuple[int, ...], Drawing | None] = field(default_factory=dict)
    """By the places of fulfilled rules; None where fields by themselves do not tell what a match keeps."""


class Matcher:
    """The rules, by the kinds of records that they can match."""

    def __init__(self, rules: Iterable[Rule], *, knowledge: Knowledge = NOTHING_KNOWN) -> None:
        """`rules` include those that correlations join."""
        kept = list(rules)
        self.knowledge = knowledge
        uses = plan_uses(kept)
        self._by_operation: dict[str, list[Fulfilled]] = {}
        self._residual: list[Fulfilled] = []
        self._plans: dict[tuple[object, object, object], Plan | None] = {}
        self._memory = Memory()
        self._version = knowledge.look()
        self.sightings = Sightings()
        self._constant = constant_fields(knowledge)
        for rule in kept:
            possible = tuple(use for use in uses.get(rule.id, ()) if not use.is_idle(self._constant))
            if rule.condition is not None and possible:
                self._place(fulfil(rule, possible))

    def _place(self, one: Fulfilled) -> None:
        condition = one.rule.condition
        names = operations_of(condition) if condition is not None else None
        if names is None:
            self._residual.append(one)
        for name in names or ():
            self._by_operation.setdefault(name, []).append(one)

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
        rules: list[Fulfilled] = []
        conditions: list[Condition | bool] = []
        for one in self._candidates(header.Operation):
            left = specialise(one.rule.condition or Some(()), lambda test: self._holds(test, view))
            if left is not False:
                rules.append(one)
                conditions.append(left)
        return self._plan_of(rules, conditions) if rules else None

    def _plan_of(self, rules: Sequence[Fulfilled], conditions: Sequence[Condition | bool]) -> Plan:
        """`conditions` is what is left of each rule's."""
        guards: dict[int, Guard] = {}
        for place, condition in enumerate(conditions):
            guard = None if isinstance(condition, bool) else find_guard(condition)
            if guard is not None:
                guards[place] = guard
        unguarded = frozenset(range(len(rules))) - guards.keys()
        read = [_needs(condition) for condition in conditions] + [one.read for one in rules]
        questions = None
        if can_be_asked(conditions):
            # Where a match is likely, what it keeps is read at once.
            beside = _union([one.read for one in rules]) or () if unguarded else ()
            questions = Questions(
                conditions,
                knowledge=self.knowledge,
                memory=self._memory,
                beside=sorted(name for name in beside if name not in OWN),
            )
        return Plan(
            tuple(zip(rules, map(_predicate_of, conditions), strict=True)),
            # With rules that have to be asked anyway, a first look would be one more.
            None if unguarded else Glance(make_probes(guards, self._memory)),
            unguarded,
            questions,
            decoder_of(_union([_ALWAYS_NEEDED, *read])),
        )

    def _holds(self, test: Test, view: View) -> bool | None:
        """Whether a test holds on what is known beforehand; None where it is about something else."""
        field = "Operation" if test.field == "m365.operation" else test.field
        if field in self._constant:
            return compile_condition(test)(View({}, knowledge=self.knowledge))
        is_known = test.field in _KNOWN_FIELDS and field in view.record
        if not is_known or isinstance(test.comparison, SameAs):
            return None
        return compile_condition(test)(view)

    def _candidates(self, operation: str | None) -> Iterable[Fulfilled]:
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
        glance, questions = plan.glance, plan.questions
        try:
            places: Iterable[int] | None = None
            if glance is not None and (glance.pays or questions is None):
                glance.tries += 1
                found = glance.ask(record)
                if not found:
                    glance.spared += 1
                    return []
                places = sorted(set(found))
            if questions is None:
                return self._match_alone(plan, record, told, places=places)
            fulfilled, read = questions.ask(record, told.tenant)
            if not fulfilled:
                return []
            drawing = self._drawing(plan, fulfilled, questions.fields)
            matches = drawing.matches(record, read, told, self.sightings) if drawing is not None else None
        except UNREADABLE:
            return self._match_alone(plan, record, told)
        return self._match_alone(plan, record, told, places=fulfilled) if matches is None else matches

    def _match_alone(
        self, plan: Plan, record: bytes, told: Told, *, places: Iterable[int] | None = None
    ) -> list[Match]:
        """The same, of a record that has to be decoded; `places` are those of the rules to ask."""
        decoded = decode_by(record, plan.decoder)
        if decoded is None:
            return []
        view = View(decoded, knowledge=self.knowledge, tenant=told.tenant)
        asked = range(len(plan.rules)) if places is None else places
        fulfilled = [plan.rules[place][0] for place in asked if plan.rules[place][1](view)]
        return draw_alone(fulfilled, view, record, told, sightings=self.sightings) if fulfilled else []

    def _drawing(self, plan: Plan, fulfilled: tuple[int, ...], fields: tuple[str, ...]) -> Drawing | None:
        """How matches of these rules are made."""
        try:
            return plan.drawings[fulfilled]
        except KeyError:
            rules = [plan.rules[place][0] for place in fulfilled]
            drawing = None
            if can_be_drawn(rules) and len(plan.drawings) < DRAWINGS_MAX:
                drawing = Drawing(rules, fields, knowledge=self.knowledge, memory=self._memory)
                plan.drawings[fulfilled] = drawing
            return drawing

    def trim(self) -> None:
        """Let go of what is remembered where it is too much or out of date, and of looks that do not pay."""
        version = self.knowledge.look()
        if version != self._version:
            self._version = version
            self._memory.forget()
        self._memory.trim()
        for plan in self._plans.values():
            if plan is not None and plan.glance is not None:
                plan.glance.judge()


def _predicate_of(condition: Condition | bool) -> Predicate:  # noqa: FBT001 - a condition that is known
    return (lambda _view: condition) if isinstance(condition, bool) else compile_condition(condition)


def _needs(condition: Condition | bool) -> frozenset[str] | None:  # noqa: FBT001 - the same
    """The top fields that the condition reads; None for all."""
    fields = frozenset[str]() if isinstance(condition, bool) else list_fields(condition)
    return None if fields is None else frozenset(need for name in fields for need in needs_of(name))


def _union(every: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    """All of them; None, which stands for everything, if one is that."""
    known = [one for one in every if one is not None]
    return frozenset[str]().union(*known) if len(known) == len(every) else None


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
