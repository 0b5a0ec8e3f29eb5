"""Rules that records of a kind may fulfil, and what is left to be asked once the kind is known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from m365watch.detection.engine.match_extractor import Fulfilled
from m365watch.detection.engine.prefilter import Guard, find_guard, specialise
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import Condition, SameAs, Test, list_tests
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
