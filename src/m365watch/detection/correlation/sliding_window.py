"""Sigma's correlations: a condition on the matches within a sliding timespan."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.distinct_mailboxes import DistinctMailboxes, counts_mailboxes
from m365watch.detection.correlation.episode import EPISODE_S_MAX, Episode
from m365watch.detection.correlation.numeric_values import number_of, read_number, units_of
from m365watch.detection.correlation.risk_score import RiskWindow
from m365watch.detection.rules.condition import ORDERS
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


LONGEST = 4
"""So many timespans at least an episode may go on: with hardly more than one, each further match would begin
another, as its window reaches back over most of the last."""


class Window(Protocol):
    """The matches of a timespan, one coming in, old ones going."""

    def add(self, match: Match) -> None:
        """A match comes in at the end."""
        ...

    def drop(self, match: Match) -> None:
        """The oldest goes."""
        ...

    def value(self) -> float | None:
        """What is compared with the threshold; None where nothing can be said."""
        ...


def window_episodes(matches: Sequence[Match], correlation: Correlation) -> list[Episode]:
    """The episodes in which the correlation holds; `matches` of one group, in their order.

    A window ends at each match, within a second at the last, as any of it may have come first; and reaches
    back over the timespan, both ends included. Windows that hold and overlap are one episode, whose matches
    are those of all of them.
    """
    window = make_window(correlation)
    compare = ORDERS[correlation.order]
    beginners = beginners_of(correlation)
    longest_ms = max(EPISODE_S_MAX, LONGEST * correlation.timespan_s) * 1000
    spans: list[_Span] = []
    start = begin = 0
    for place, match in enumerate(matches):
        window.add(match)
        while match.at_ms - matches[start].at_ms > correlation.timespan_s * 1000:
            window.drop(matches[start])
            start += 1
        if place + 1 < len(matches) and matches[place + 1].at_ms == match.at_ms:
            continue
        value = window.value()
        if value is not None and compare(value, correlation.threshold):
            begin = _first_of(matches, max(start, begin), place, beginners)
            _extend(spans, _Span(begin, place, [match.at_ms], value), matches, longest_ms)
    return [
        Episode(matches[one.start : one.end + 1], one.held_ms[0], one.value, held_ms=one.held_ms)
        for one in spans
    ]


def beginners_of(correlation: Correlation) -> frozenset[str]:
    """The rules with one of which an ordered correlation begins; none where it is not ordered."""
    if correlation.joined is not Joined.ORDERED:
        return frozenset()
    if correlation.expression is None:
        return frozenset(correlation.sources[:1])
    first = correlation.expression
    while not isinstance(first, Named) and first.operator == "and":
        first = first.parts[0]
    return frozenset(_names_in(first))


def _names_in(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Named):
        yield expression.rule_id
    elif expression.operator != "not":
        for part in expression.parts:
            yield from _names_in(part)


def _first_of(matches: Sequence[Match], start: int, end: int, beginners: frozenset[str]) -> int:
    """Where in the window the sequence begins: what came before its first step is no part of it."""
    if not beginners:
        return start
    found = next((one for one in range(start, end + 1) if matches[one].source_id in beginners), start)
    # Of one second any may have come first, and what sorts before it may be the next step.
    while found > start and matches[found - 1].at_ms == matches[found].at_ms:
        found -= 1
    return found


@dataclass(slots=True)
class _Span:
    """Places of the first and the last match."""

    start: int
    end: int
    held_ms: list[int]
    value: float


def _extend(spans: list[_Span], new: _Span, matches: Sequence[Match], longest_ms: int) -> None:
    """A window that holds: a part of the last span where they overlap, otherwise a new one."""
    last = spans[-1] if spans else None
    if (
        last is not None
        and matches[new.start].at_ms <= matches[last.end].at_ms
        and matches[new.end].at_ms - matches[last.start].at_ms <= longest_ms
    ):
        last.start, last.end = min(last.start, new.start), max(last.end, new.end)
        last.value = max(last.value, new.value)
        last.held_ms += new.held_ms
    else:
        spans.append(new)


def make_window(correlation: Correlation) -> Window:
    """The window of that kind of correlation."""
    match correlation.joined:
        case Joined.COUNT:
            return _Count()
        case Joined.DISTINCT:
            return DistinctMailboxes() if counts_mailboxes(correlation) else _Distinct()
        case Joined.SUM:
            return _Sum()
        case Joined.AVERAGE:
            return _Average()
        case Joined.PERCENTILE:
            return _Ranked(correlation.percentile)
        case Joined.MEDIAN:
            return _Ranked(50)
        case Joined.TEMPORAL | Joined.ORDERED:
            return Together(correlation)
        case Joined.RISK:
            return RiskWindow(correlation.threshold)


@dataclass(slots=True)
class _Count:
    """Records, and alerts that are joined: each of these once, for as long as its condition holds."""

    count: int = 0
    alerts: Counter[str] = field(default_factory=Counter)

    def add(self, match: Match) -> None:
        if match.counted:
            self.alerts[match.counted] += 1
        else:
            self.count += 1

    def drop(self, match: Match) -> None:
        if not match.counted:
            self.count -= 1
            return
        self.alerts[match.counted] -= 1
        if not self.alerts[match.counted]:
            del self.alerts[match.counted]

    def value(self) -> float:
        return self.count + len(self.alerts)


@dataclass(slots=True)
class _Distinct:
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, match: Match) -> None:
        if match.counted:
            self.counts[match.counted] += 1

    def drop(self, match: Match) -> None:
        if match.counted:
            self.counts[match.counted] -= 1
            if not self.counts[match.counted]:
                del self.counts[match.counted]

    def value(self) -> float:
        return len(self.counts)


@dataclass(slots=True)
class _Sum:
    """Of the numbers; what is none counts as 0."""

    total: int = 0
    """In units of which every number is a multiple: what went leaves no trace, as rounding would."""
    known: int = 0
    """Of how many numbers."""

    def add(self, match: Match) -> None:
        self._count(match, 1)

    def drop(self, match: Match) -> None:
        self._count(match, -1)

    def _count(self, match: Match, times: int) -> None:
        number = read_number(match.counted)
        if number is not None:
            self.total += times * units_of(number)
            self.known += times

    def value(self) -> float | None:
        return number_of(self.total)


class _Average(_Sum):
    __slots__ = ()

    def value(self) -> float | None:
        return number_of(self.total, parts=self.known) if self.known else None


@dataclass(slots=True)
class _Ranked:
    """A percentile by linear interpolation between the neighbours; 50 is the median."""

    percentile: int
    ranked: list[float] = field(default_factory=list)

    def add(self, match: Match) -> None:
        number = read_number(match.counted)
        if number is not None:
            insort(self.ranked, number)

    def drop(self, match: Match) -> None:
        number = read_number(match.counted)
        if number is not None:
            del self.ranked[bisect_left(self.ranked, number)]

    def value(self) -> float | None:
        if not self.ranked:
            return None
        place = self.percentile / 100 * (len(self.ranked) - 1)
        below = int(place)
        above = min(below + 1, len(self.ranked) - 1)
        return self.ranked[below] + (place - below) * (self.ranked[above] - self.ranked[below])
