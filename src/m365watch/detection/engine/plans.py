"""How records of one kind are looked at: what the rules still ask of them, once the header is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import repeat
from typing import Any

import msgspec

from m365watch.detection.engine.candidates import Left
from m365watch.detection.engine.field_predicates import OWN, Questions, can_be_asked
from m365watch.detection.engine.lazy_decoder import UNREADABLE, Glance, Written, decoder_of
from m365watch.detection.engine.match_extractor import Drawing, can_be_drawn
from m365watch.detection.engine.prefilter import Probes
from m365watch.detection.engine.value_cache import Memory
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import needs_of
from m365watch.detection.rules.condition import Condition, list_fields
from m365watch.detection.rules.condition_compiler import Predicate, compile_condition

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
