"""Which matches of a flooded hour are kept: enough for what the rule asks at any time of it. Pure.

What is kept is a function of the set: nothing that is left out would be kept of more matches, so that what a
batch leaves out need not be known when the next one comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby, islice

from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.engine.purposes import once_ms
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.rule import Correlation, Joined, Rule

HOUR_MS = 3_600_000
MOMENT_MS = 10_000
"""Of so long, the first and the last match stay: what has to be before or after another still is."""
MOST_MAX = 100_000
"""The earliest matches of an hour are no more, however far the rule counts."""
SPREAD_MAX = 20_000
"""So many matches at most are kept beside the earliest, for the numbers that a rule counts to."""
Seen = tuple[int, str, str]
"""Time, identity and counted value of a match."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is kept of one hour of a group: of each rule that is joined in it, of each severity, so much."""

    most: int
    """The earliest ones, in any case; where there are no more, all are."""
    moment_ms: int = 0
    """Of each stretch of this length, the first and the last; 0 for none."""
    stretch_ms: int = HOUR_MS
    """The rule's timespan; a longer stretch where more than `SPREAD_MAX` would be kept else."""
    wanted: int = 0
    """Of each such stretch, so many from either end: as many as the rule counts to."""
    by_value: bool = False
    """Whether different values are counted, and not matches."""
    by_size: bool = False
    """Whether numbers are summed up: of each such stretch so many of the largest, and none from its ends."""

    def choose(self, seen: Sequence[Seen]) -> set[Seen]:
        """Those that are kept; `seen` is one hour's, in its order."""
        if len(seen) <= self.most:
            return {*seen}
        kept = {*seen[: self.most]}
        if self.moment_ms:
            for _, moment in groupby(seen, lambda one: one[0] // self.moment_ms):
                first, *others = moment
                kept |= {first, *others[-1:]}
        if self.wanted:
            for _, found in groupby(seen, lambda one: one[0] // self.stretch_ms):
                stretch = [*found]
                if self.by_size:
                    kept |= {*nlargest(self.wanted, stretch, _size_of)}
                else:
                    kept |= {*self._first_of(stretch), *self._first_of(reversed(stretch))}
        return kept

    def _first_of(self, seen: Iterable[Seen]) -> Iterable[Seen]:
        """The first match of each of the first values that are counted."""
        if not self.by_value:
            return islice(seen, self.wanted)
        first: dict[str, Seen] = {}
        for one in seen:
            if one[2] and one[2] not in first:
                first[one[2]] = one
                if len(first) == self.wanted:
                    break
        return first.values()


def room_of(rule: Rule, *, most: int) -> Room:
    """The room that an hour of the rule's groups has; `most` matches, or four times what it counts to."""
    threshold, timespan_s, by_value = _counted_to(rule)
    most = max(most, min(4 * int(threshold), MOST_MAX))
    if once_ms(rule):
        # Of a value, what comes after one that is left out would take its place.
        return Room(most)
    sums = _sums(rule.correlation)
    wanted = most if sums else min(int(threshold) + 1, SPREAD_MAX // 2) if timespan_s else 0
    stretch_ms = max(min(timespan_s * 1000, HOUR_MS), 2 * wanted * HOUR_MS // SPREAD_MAX, 1)
    moment_ms = min(MOMENT_MS, rule.correlation.timespan_s * 1000) if rule.correlation else MOMENT_MS
    return Room(most, moment_ms, stretch_ms, wanted, by_value, by_size=sums)


def _size_of(seen: Seen) -> float:
    return read_number(seen[2]) or 0


def _sums(correlation: Correlation | None) -> bool:
    """Whether large numbers are what it is about; an average or a rank would be of what is kept by size."""
    if correlation is None or correlation.joined is not Joined.SUM:
        return False
    return correlation.order in {Order.AT_LEAST, Order.MORE}


def _counted_to(rule: Rule) -> tuple[float, int, bool]:
    """What the rule counts to, within how many seconds, and whether that are different values."""
    correlation, several = rule.correlation, rule.extension.several
    if correlation is not None and correlation.joined in (Joined.COUNT, Joined.DISTINCT):
        return correlation.threshold, correlation.timespan_s, correlation.joined is Joined.DISTINCT
    if correlation is None and several is not None:
        return several.threshold, several.period, False
    if correlation is not None and _sums(correlation):
        return 0, correlation.timespan_s, False
    return 0, 0, False
