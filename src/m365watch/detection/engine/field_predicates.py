"""What the rules for one kind of records ask, field by field.

Every test of every rule is a bit. What a field has tells the bits of the tests about it; all bits together
tell which rules are fulfilled. Fields that have few values are asked first; by their answers most rules are
out, and what only these would ask is left alone. What came of fields together is remembered too: first by
those that have few values, then, where the same come again, by those that still matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from m365watch.detection.engine.field_values import Habit, Source, picker_of, weigh
from m365watch.detection.engine.lazy_decoder import Parts, Piece, Read, Written
from m365watch.detection.engine.value_cache import Memory
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import needs_of
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import Condition, Every, Never, SameAs, Some, Test, list_tests
from m365watch.detection.rules.condition_compiler import Predicate, compile_condition

OUTCOMES_MAX = 10_000
"""Sets of answers whose outcome is remembered; they begin anew when there are more."""
FEW_VALUED = frozenset(
    [
        "Operation",
        "RecordType",
        "Workload",
        "ResultStatus",
        "UserType",
        "LogonType",
        "ErrorNumber",
        "LogonError",
        "ApplicationId",
        "ClientAppId",
        "AppId",
        "TargetUserOrGroupType",
        "OperationCount",
        "ItemType",
        "EventSource",
    ]
)
"""Fields that have few values, and are asked first: most rules are out by them."""
OWN = frozenset({"Id", "CreationTime"})
"""What no two records have in common."""


class _Asked(NamedTuple):
    """Fields, and whether one of them alone tells the answer."""

    fields: tuple[str, ...]
    is_plain: bool


class _Step(Habit):
    """What is asked where the fields that have few values have told so much."""

    __slots__ = ("facts", "pick", "sources")

    def __init__(self, facts: int, sources: tuple[Source[int], ...]) -> None:
        """What is known already, and who tells the rest."""
        super().__init__()
        self.facts = facts
        self.sources = sources
        self.pick = picker_of(sources)


class Questions:
    """Which of some conditions a record fulfils."""

    __slots__ = (
        "_bits",
        "_by_few",
        "_conditions",
        "_few",
        "_memory",
        "_outcomes",
        "_parts",
        "_pick_few",
        "_steps",
        "_together",
        "_wide",
    )

    def __init__(
        self,
        conditions: Sequence[Condition | bool],
        *,
        knowledge: Knowledge,
        memory: Memory,
        beside: Iterable[str] = (),
    ) -> None:
        """Conditions of which `can_be_asked` holds; the fields `beside` theirs are read with them."""
        bits: dict[Test, int] = {}
        asked: dict[_Asked, list[tuple[int, Predicate]]] = {}
        for condition in conditions:
            for test in [] if isinstance(condition, bool) else list_tests(condition):
                if test not in bits:
                    bits[test] = 1 << len(bits)
                    asked.setdefault(_fields_of(test), []).append((bits[test], compile_condition(test)))
        self._parts = Parts(dict.fromkeys((*(name for one in asked for name in one.fields), *beside)))
        sources = {
            one: Source(
                one.fields,
                self._parts.fields,
                _bits_of(tests),
                is_plain=one.is_plain,
                knowledge=knowledge,
                memory=memory,
            )
            for one, tests in asked.items()
        }
        few = [one for one in asked if FEW_VALUED.issuperset(one.fields)]
        self._few = tuple(sources[one] for one in few)
        self._wide = tuple(
            (sources[one], sum(bit for bit, _ in asked[one])) for one in asked if one not in few
        )
        self._bits = bits
        self._conditions = tuple(conditions)
        self._pick_few = picker_of(self._few)
        self._by_few: dict[object, _Step] = memory.make()
        self._together: dict[object, tuple[int, ...]] = memory.make()
        self._steps: dict[int, _Step] = {}
        self._outcomes: dict[int, tuple[int, ...]] = {}
        self._memory = memory

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are read."""
        return self._parts.fields

    def ask(self, record: Written, tenant: str) -> tuple[tuple[int, ...], Read]:
        """The places of the conditions that the record fulfils, and what was read of it.

        Raises: one of looks.UNREADABLE.
        """
        read = self._parts.read(record)
        raws = read[2]
        few = tenant, self._pick_few(raws)
        step = self._by_few.get(few)
        if step is None:
            step = self._learn_step(few, raws, tenant)
        if not step.pays:
            return self._ask_wide(step, raws, tenant), read
        key = step.facts, tenant, step.pick(raws)
        outcome = self._together.get(key)
        if outcome is None:
            return self._learn_outcome(step, key, raws, tenant), read
        step.hits += 1
        return outcome, read

    def _learn_step(self, key: object, raws: Sequence[Piece], tenant: str) -> _Step:
        """What is asked after the fields that have few values, which is remembered under `key`."""
        facts = _facts_of(self._few, raws, tenant)
        step = self._steps.get(facts)
        if step is None:
            if len(self._steps) >= OUTCOMES_MAX:
                self._steps.clear()
            step = self._steps[facts] = self._step_after(facts)
        self._by_few[key] = step
        self._memory.values += 1
        return step

    def _step_after(self, facts: int) -> _Step:
        """The sources that still matter, where these are the answers of those that have few values."""
        unknown = sum(bits for _, bits in self._wide)
        open_bits = 0
        for condition in self._conditions:
            open_bits |= _judge(condition, self._bits, facts, unknown)[1]
        sources = tuple(source for source, bits in self._wide if bits & open_bits)
        return _Step(facts, sources)

    def _ask_wide(self, step: _Step, raws: Sequence[Piece], tenant: str) -> tuple[int, ...]:
        facts = step.facts | _facts_of(step.sources, raws, tenant)
        outcome = self._outcomes.get(facts)
        return self._outcome_of(facts) if outcome is None else outcome

    def _learn_outcome(self, step: _Step, key: object, raws: Sequence[Piece], tenant: str) -> tuple[int, ...]:
        """What comes of the fields that still matter, which is remembered under `key`."""
        outcome = self._ask_wide(step, raws, tenant)
        weight = weigh([raw for source in step.sources for _, place in source.fields if (raw := raws[place])])
        if weight is not None:
            self._together[key] = outcome
            self._memory.values += weight
        step.misses += 1
        step.judge()
        return outcome

    def _outcome_of(self, facts: int) -> tuple[int, ...]:
        outcome = tuple(
            place
            for place, condition in enumerate(self._conditions)
            if _judge(condition, self._bits, facts, 0)[0]
        )
        if len(self._outcomes) >= OUTCOMES_MAX:
            self._outcomes.clear()
        self._outcomes[facts] = outcome
        return outcome


def can_be_asked(conditions: Sequence[Condition | bool]) -> bool:
    """Whether fields tell it all: no condition is about the whole record, its id or its time."""
    tests = [test for one in conditions if not isinstance(one, bool) for test in list_tests(one)]
    return bool(tests) and all(
        test.field is not None and not OWN.intersection(_fields_of(test).fields) for test in tests
    )


def _fields_of(test: Test) -> _Asked:
    names = [test.field or ""]
    if isinstance(test.comparison, SameAs):
        names.append(test.comparison.field)
    fields = tuple(dict.fromkeys(need for name in names for need in needs_of(name)))
    # What is derived may depend on whose record it is.
    return _Asked(fields, len(fields) == 1 and not any(name.startswith("m365.") for name in names))


def _facts_of(sources: Iterable[Source[int]], raws: Sequence[Piece], tenant: str) -> int:
    """The bits that the sources tell."""
    facts = 0
    for source in sources:
        picked = source.picked
        key = raws[source.place] if picked is None else (tenant, picked(raws))
        found = source.known.get(key)
        facts |= source.learn(key, raws, tenant) if found is None else found
    return facts


def _bits_of(tests: Sequence[tuple[int, Predicate]]) -> Callable[[View], int]:
    def ask(view: View) -> int:
        return sum(bit for bit, holds in tests if holds(view))

    return ask


def _judge(
    condition: Condition | bool,  # noqa: FBT001 - a condition that is known
    bits: Mapping[Test, int],
    facts: int,
    unknown: int,
) -> tuple[bool | None, int]:
    """Whether a condition holds; where that hangs on unknown bits, None and which ones."""
    match condition:
        case Test():
            bit = bits[condition]
            return (None, bit) if bit & unknown else (bool(bit & facts), 0)
        case Never(part):
            holds, left = _judge(part, bits, facts, unknown)
            return (None if holds is None else not holds), left
        case Every(parts) | Some(parts):
            found = [_judge(part, bits, facts, unknown) for part in parts]
            decisive = isinstance(condition, Some)
            if any(holds is decisive for holds, _ in found):
                return decisive, 0
            left = 0
            for _, more in found:
                left |= more
            return (None, left) if left else (not decisive, 0)
        case bool():
            return condition, 0
