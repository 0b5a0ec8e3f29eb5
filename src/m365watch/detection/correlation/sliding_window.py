"""Sigma's correlations: a condition on the matches within a sliding timespan."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from m365watch.detection.alerts.alert import Match
from m365watch.detection.correlation.chains import EPISODE_S_MAX
from m365watch.detection.correlation.distinct_mailboxes import DistinctMailboxes, counts_mailboxes
from m365watch.detection.correlation.episode import Episode
from m365watch.detection.correlation.numeric_values import number_of, read_number, units_of
from m365watch.detection.correlation.risk_window import RiskWindow
from m365watch.detection.correlation.together import Together
from m365watch.detection.rules.condition import ORDERS
from m365watch.detection.rules.rule import Correlation, Expression, Joined, Named

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
