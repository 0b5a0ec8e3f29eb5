"""Which rules have matched within a window, how many of them, and whether in the order that is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import Match
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Named

Place = tuple[int, str]
"""Time and identity of a match."""
_BEGINNING: Place = (-1, "")


@dataclass(slots=True)
class _Places:
    """Where a rule's matches of the window lie, in their order; those that have gone stand before `start`.

    An order is looked for at every match: in lists that are only added to it is found by halving.
    """

    every: list[Place] = field(default_factory=list)
    start: int = 0

    def __bool__(self) -> bool:
        return self.start < len(self.every)

    def after(self, place: Place) -> Place | None:
        """The first of them not before another match, within a second in any order, and of another record."""
        since_ms, last = place
        for found in range(bisect_left(self.every, (since_ms,), self.start), len(self.every)):
            if self.every[found][1] != last:
                return self.every[found]
        return None


class Together:
    """How many of the rules have matched, or whether an expression of them holds."""

    def __init__(self, correlation: Correlation) -> None:
        """A window without matches."""
        self._correlation = correlation
        # What is kept may be of a rule that is no longer joined.
        self._places: defaultdict[str, _Places] = defaultdict(_Places)

    def add(self, match: Match) -> None:
        """A match comes in at the end."""
        self._places[match.source_id].every.append((match.at_ms, match.identity))

    def drop(self, match: Match) -> None:
        """The oldest goes."""
        self._places[match.source_id].start += 1

    def value(self) -> float:
        """How many rules; with an expression, the threshold where it holds."""
        correlation = self._correlation
        if correlation.expression is not None:
            # An expression holds or does not; the threshold of such a correlation is the number of its rules.
            holds = self._holds(correlation.expression)
            if holds and correlation.joined is Joined.ORDERED:
                holds = self._earliest(correlation.expression, _BEGINNING) is not None
            return correlation.threshold if holds else -1
        present = [one for one in correlation.sources if self._places[one]]
        if correlation.joined is Joined.ORDERED and self._reached(present) < len(present):
            return self._reached(correlation.sources)
        return len(present)

    def _reached(self, wanted: Sequence[str]) -> int:
        """How many of the rules matched one after the other, in their order; within a second in any."""
        place = _BEGINNING
        for reached, one in enumerate(wanted):
            found = self._places[one].after(place)
            if found is None:
                return reached
            place = found
        return len(wanted)

    def _earliest(self, expression: Expression, after: Place) -> Place | None:
        """The match that first fulfils the expression `after` another; None if none does.

        What `and` joins comes in that order (within a second in any), each part by a record of its own; of
        what `or` joins the earliest counts, so that one more rule that has matched spoils nothing.
        """
        if isinstance(expression, Named):
            return self._places[expression.rule_id].after(after)
        if expression.operator == "and":
            reached: Place | None = after
            for part in expression.parts:
                reached = self._earliest(part, reached) if reached is not None else None
            return reached
        found = [self._earliest(part, after) for part in expression.parts]
        if expression.operator == "not":
            return after if found[0] is None else None
        return min((one for one in found if one is not None), default=None)

    def _holds(self, expression: Expression) -> bool:
        """Whether the expression holds in any order."""
        if isinstance(expression, Named):
            return bool(self._places[expression.rule_id])
        if expression.operator == "not":
            return not self._holds(expression.parts[0])
        choose = all if expression.operator == "and" else any
        return choose(self._holds(part) for part in expression.parts)
