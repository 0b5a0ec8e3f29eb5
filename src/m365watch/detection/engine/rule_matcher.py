"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from m365watch.common.model import Header
from m365watch.detection.alerts.alert import Match
from m365watch.detection.engine.field_predicates import OWN, Questions, can_be_asked
from m365watch.detection.engine.lazy_decoder import UNREADABLE, Glance, Written, decode_by, decoder_of
from m365watch.detection.engine.match_consumers import Sought
from m365watch.detection.engine.match_extractor import (
    Drawing,
    Fulfilled,
    Sightings,
    Told,
    can_be_drawn,
    draw_alone,
    fulfil,
)
from m365watch.detection.engine.prefilter import Guard, Probes, find_guard, specialise
from m365watch.detection.engine.value_cache import Memory, Remembered
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.fields.field_catalog import constant_fields, needs_of
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import (
    Condition,
    Every,
    Like,
    OneOf,
    SameAs,
    Some,
    Test,
    list_fields,
    list_tests,
)
from m365watch.detection.rules.condition_compiler import Predicate, compile_condition

Kind = tuple[str | None, int | str | None, str | None, int | str | None]
"""What tells which rules can match: Operation, RecordType, Workload, UserType; None for what is unknown."""
KIND = ("Operation", "RecordType", "Workload", "UserType")
_KNOWN_FIELDS = {
    "Operation": "Operation",
    "m365.operation": "Operation",
    "RecordType": "RecordType",
    "Workload": "Workload",
    "UserType": "UserType",
    "m365.human": "UserType",
}
"""What is known of a record before it is decoded, and the field of its header that tells it."""


def told_by(kind: Kind) -> dict[str, int | str]:
    """The fields that records of the kind have."""
    told = {name: value for name, value in zip(KIND, kind, strict=True) if value is not None}
    if not isinstance(kind[-1], int):
        told.pop("UserType", None)  # a user's type counts where it is plain
    return told


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """What a rule still asks; one and the same wherever the same was told of it."""

    rule: Fulfilled
    condition: Condition | bool
    """True where nothing is left to be asked, False where the rule is out."""
    guard: Guard | None


class Candidate:
    """A rule, and what of its condition a kind of records answers."""

    __slots__ = ("_asked", "_lefts", "_rule")

    def __init__(self, rule: Fulfilled, *, constant: Collection[str]) -> None:
        """The fields that are `constant` have the same value in every record."""
        self._rule = rule
        asked = [test for test in list_tests(rule.condition) if _is_told(test, constant)]
        self._asked: dict[Test, tuple[str | None, Predicate]] = {
            test: (
                None if test.field in constant else _KNOWN_FIELDS[test.field or ""],
                compile_condition(test),
            )
            for test in asked
        }
        self._lefts: dict[tuple[bool | None, ...], Left] = {}

    def left_by(self, view: View) -> Left:
        """What is left to be asked where this much is known."""
        told = view.record
        answers = tuple(
            [holds(view) if name is None or name in told else None for name, holds in self._asked.values()]
        )
        left = self._lefts.get(answers)
        if left is None:
            known = dict(zip(self._asked, answers, strict=True))
            condition = specialise(self._rule.condition, known.get)
            guard = None if isinstance(condition, bool) else find_guard(condition)
            left = self._lefts[answers] = Left(self._rule, condition, guard)
        return left


def _is_told(test: Test, constant: Collection[str]) -> bool:
    return (test.field in constant or test.field in _KNOWN_FIELDS) and not isinstance(test.comparison, SameAs)


DRAWINGS_MAX = 64
"""Sets of rules that records of one kind fulfil together, whose matches are drawn together."""
_ALWAYS_NEEDED = frozenset({"Id", "CreationTime", "Operation", "RecordType"})


class Plan:
    """The rules that records of one kind may still fulfil; what few come to is made when it is needed."""

    def __init__(self, left: Sequence[Left], *, knowledge: Knowledge, memory: Memory, probes: Probes) -> None:
        """`left` is what each rule still asks."""
        self.rules = tuple([one.rule for one in left])
        self._conditions = tuple([one.condition for one in left])
        self._knowledge = knowledge
        self._memory = memory
        guards = {one.rule.rule_id: one.guard for one in left if one.guard is not None}
        self._has_unguarded = len(guards) < len(left)
        # With rules that have to be asked anyway, a first look would be one more.
        self.glance = (
            None if self._has_unguarded else Glance(probes.of(guards), [one.rule_id for one in self.rules])
        )
        self._drawings: dict[tuple[int, ...], Drawing | None] = {}

    @cached_property
    def questions(self) -> Questions | None:
        """What the conditions ask, field by field; None where fields by themselves do not tell."""
        if not can_be_asked(self._conditions):
            return None
        # Where a match is likely, what it keeps is read at once.
        drawn = _union([_ALWAYS_NEEDED, *(one.read for one in self.rules)])
        beside = drawn or () if self._has_unguarded else ()
        return Questions(
            self._conditions,
            knowledge=self._knowledge,
            memory=self._memory,
            beside=sorted(name for name in beside if name not in OWN),
        )

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        """Of all fields that any of the rules reads."""
        read = [_needs(condition) for condition in self._conditions] + [one.read for one in self.rules]
        return decoder_of(_union([_ALWAYS_NEEDED, *read]))

    @cached_property
    def predicates(self) -> tuple[Predicate, ...]:
        """What is left of each rule's condition, as a question to a decoded record."""
        return tuple(map(_predicate_of, self._conditions))

    def glance_at(self, records: Sequence[Written]) -> Iterable[tuple[int, Sequence[int] | None]]:
        """The records that may match: the place of each, and those of the rules to ask; None for all."""
        glance = self.glance
        if glance is None or not (glance.pays or self.questions is None):
            return zip(range(len(records)), repeat(None))
        try:
            return glance.ask(records)
        except UNREADABLE:
            # One of them is no strict JSON: most of the others are ruled out all the same.
            if len(records) == 1:
                return [(0, None)]
            half = len(records) // 2
            later = [(half + at, places) for at, places in self.glance_at(records[half:])]
            return [*self.glance_at(records[:half]), *later]

    def drawing(self, fulfilled: tuple[int, ...], fields: tuple[str, ...]) -> Drawing | None:
        """How matches of these rules are made, of what was read; None where fields do not tell."""
        try:
            return self._drawings[fulfilled]
        except KeyError:
            rules = [self.rules[place] for place in fulfilled]
            drawing = None
            if can_be_drawn(rules) and len(self._drawings) < DRAWINGS_MAX:
                drawing = Drawing(rules, fields, knowledge=self._knowledge, memory=self._memory)
                self._drawings[fulfilled] = drawing
            return drawing


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


PLANS_MAX = 20_000
"""Kinds of records whose plan is remembered; they begin anew when there are more."""

Came = tuple[Sequence[Written], Iterable[Kind], Told]
"""Records, the kind of each, and what is known of all of them."""
_kind_of: Callable[[Header], Kind] = attrgetter(*KIND)


def kinds_of(headers: Iterable[Header]) -> Iterable[Kind]:
    """The kinds of the records with these headers."""
    return map(_kind_of, headers)


class Matcher:
    """The rules, by the kinds of records that they can match."""

    def __init__(self, sought: Iterable[Sought], *, knowledge: Knowledge = NOTHING_KNOWN) -> None:
        """What is sought with this knowledge, as `purposes` lists it."""
        self.knowledge = knowledge
        self._by_operation: dict[str, list[Candidate]] = {}
        self._residual: list[Candidate] = []
        self._plans = Remembered[Kind, Plan | None](self._learn_plan)
        self._shared: dict[object, Plan] = {}
        self._memory = Memory()
        self._probes = Probes(self._memory)
        self._version = knowledge.look()
        self.sightings = Sightings()
        constant = constant_fields(knowledge)
        for one in sought:
            self._place(Candidate(fulfil(one), constant=constant), operations_of(one.condition))

    def _place(self, one: Candidate, operations: Iterable[str] | None) -> None:
        if operations is None:
            self._residual.append(one)
        for name in operations or ():
            self._by_operation.setdefault(name, []).append(one)

    def plan_for(self, header: Header) -> Plan | None:
        """How a record with this header is looked at; None where no rule can match it."""
        return self.plan_of(_kind_of(header))

    def plan_of(self, kind: Kind) -> Plan | None:
        """The same, for records of a kind."""
        return self._plans[kind]

    def _learn_plan(self, kind: Kind) -> Plan | None:
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
            self._shared.clear()
            self._memory.drop()
            self._probes.drop()
        plan = self._plans[kind] = self._make_plan(kind)
        return plan

    def may_match(self, kind: Kind) -> bool:
        """Whether some rule can match a record of the kind; cheaper than its plan."""
        return self._plans[kind] is not None if kind in self._plans else bool(self._left_for(kind))

    def _make_plan(self, kind: Kind) -> Plan | None:
        left = self._left_for(kind)
        if not left:
            return None
        # Kinds of which the rules ask the same share what has been learned.
        shared = tuple(map(id, left))
        plan = self._shared.get(shared)
        if plan is None:
            plan = Plan(left, knowledge=self.knowledge, memory=self._memory, probes=self._probes)
            self._shared[shared] = plan
        return plan

    def _left_for(self, kind: Kind) -> list[Left]:
        """What is left to be asked of the rules that records of the kind may fulfil."""
        view = View(told_by(kind), knowledge=self.knowledge)
        found = [one.left_by(view) for one in self._candidates(kind[0])]
        return [left for left in found if left.condition is not False]

    def _candidates(self, operation: str | None) -> Iterable[Candidate]:
        if operation is not None:
            return (*self._by_operation.get(normalise_operation(operation), ()), *self._residual)
        # Fast decoders refuse some records; it stands in the record whether it could be read or not.
        return dict.fromkeys(chain(*self._by_operation.values(), self._residual))

    def match_all(self, came: Iterable[Came]) -> tuple[list[Match], int]:
        """The matches of many records, and how many of these some rule could have matched."""
        records: list[Written] = []
        tolds: list[Told] = []
        by_plan: defaultdict[Plan | None, list[int]] = defaultdict(list)
        for some, kinds, told in came:
            for at, plan in enumerate(map(self._plans.__getitem__, kinds), len(records)):
                by_plan[plan].append(at)
            records += some
            tolds += repeat(told, len(some))
        # Alike records are looked at together; what is left of them goes on in the order in which it came,
        # as most of what was seen before then is known to be.
        left: list[tuple[int, Plan, Sequence[int] | None]] = []
        for plan, ats in by_plan.items():
            if plan is not None:
                left += [(ats[at], plan, asked) for at, asked in plan.glance_at([records[at] for at in ats])]
        left.sort(key=itemgetter(0))
        found: list[Match] = []
        for at, plan, places in left:
            found += self._match_by(plan, records[at], tolds[at], places=places)
        return found, len(records) - len(by_plan[None])

    def match(self, record: Written, told: Told, *, header: Header) -> list[Match]:
        """A match for every rule that the record fulfils, for each of its uses and groups."""
        return self.match_all([([record], [_kind_of(header)], told)])[0]

    def _match_by(
        self, plan: Plan, record: Written, told: Told, *, places: Sequence[int] | None
    ) -> list[Match]:
        """The same, by the plan of the record's kind; `places` are those of the rules to ask."""
        try:
            questions = plan.questions
            if questions is None:
                return self._match_alone(plan, record, told, places=places)
            fulfilled, read = questions.ask(record, told.tenant)
            if not fulfilled:
                return []
            drawing = plan.drawing(fulfilled, questions.fields)
            matches = drawing.matches(record, read, told, self.sightings) if drawing is not None else None
        except UNREADABLE:
            return self._match_alone(plan, record, told)
        return self._match_alone(plan, record, told, places=fulfilled) if matches is None else matches

    def _match_alone(
        self, plan: Plan, record: Written, told: Told, *, places: Iterable[int] | None = None
    ) -> list[Match]:
        """The same, of a record that has to be decoded; `places` are those of the rules to ask."""
        decoded = decode_by(record, plan.decoder)
        if decoded is None:
            return []
        view = View(decoded, knowledge=self.knowledge, tenant=told.tenant)
        asked = range(len(plan.rules)) if places is None else places
        fulfilled = [plan.rules[place] for place in asked if plan.predicates[place](view)]
        return draw_alone(fulfilled, view, record, told, sightings=self.sightings) if fulfilled else []

    def trim(self) -> None:
        """Let go of what is remembered where it is too much or out of date, and of looks that do not pay."""
        version = self.knowledge.look()
        if version != self._version:
            self._version = version
            self._memory.forget()
        self._memory.trim()
        for plan in self._shared.values():
            if plan.glance is not None:
                plan.glance.judge()


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
        case Like((str() as text,), False):
            return frozenset((normalise_operation(text),))
    return None
