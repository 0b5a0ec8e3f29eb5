"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from operator import attrgetter, itemgetter

from m365watch.common.model import Header
from m365watch.detection.alerts.alert import Match
from m365watch.detection.engine.candidates import KIND, Candidate, Kind, Left, told_by
from m365watch.detection.engine.lazy_decoder import UNREADABLE, Written, decode_by
from m365watch.detection.engine.match_consumers import Sought
from m365watch.detection.engine.match_extractor import Told, draw_alone, fulfil
from m365watch.detection.engine.plans import Plan
from m365watch.detection.engine.prefilter import Probes
from m365watch.detection.engine.sightings import Sightings
from m365watch.detection.engine.value_cache import Memory, Remembered
from m365watch.detection.fields.enrichment_context import NOTHING_KNOWN, Knowledge
from m365watch.detection.fields.field_catalog import constant_fields
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import Condition, Every, Like, OneOf, Some, Test

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
