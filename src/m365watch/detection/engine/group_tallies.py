"""What is known of groups without reading them: enough to see that no alert can come of most of them.

A tally is an upper bound. It counts what comes in and forgets nothing that goes, so that a group of which
it says "not yet" has not enough matches for its rule, wherever these lie in time.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from m365watch.detection.alerts.alert import Match
from m365watch.detection.alerts.stored_alert import GroupKey
from m365watch.detection.correlation.impossible_travel import between
from m365watch.detection.correlation.numeric_values import read_number
from m365watch.detection.correlation.risk_score import SIGNS_MIN
from m365watch.detection.engine.rule_pruning import may_be_fulfilled
from m365watch.detection.rules.condition import Order
from m365watch.detection.rules.extension import Kind, Travel
from m365watch.detection.rules.rule import Correlation, Joined, Rule
from m365watch.detection.store.detection_store import DetectionState

TALLIES_MAX = 100_000
"""Groups of which a tally is kept in memory; they are read from the file again when there are more."""
ROWS_MAX = 100_000
"""Matches that are read for the tallies of a batch; where there are more, its groups are always judged."""
_ROUNDED_UP = 1 + 1e-9
"""More than what the rounding of a sum may add to it."""
PLACES_MAX = 8
"""Places of a group that are compared with each other; with more of them it is always judged."""
VALUES_MAX = 256
"""Different counted values that a tally tells apart; with more of them its group is always judged."""


@dataclass(slots=True)
class Tally:
    """At most so much has a group."""

    count: int = 0
    sources: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    """Of what is counted; an empty one where a match has none."""
    is_alerted: bool = False
    """Whether it has an alert, which has to be judged again whatever comes."""

    def add(self, matches: Sequence[Match]) -> None:
        """Matches have come in."""
        self.count += len(matches)
        self.sources.update([match.source_id for match in matches])
        if len(self.values) < VALUES_MAX:
            self.values.update([match.counted for match in matches])


class Tallies:
    """The tallies of the groups that were touched lately."""

    def __init__(self, state: DetectionState) -> None:
        """Each is read from `state` when its group is touched for the first time."""
        self._state = state
        self._known: dict[GroupKey, Tally] = {}

    def load(self, keys: Iterable[GroupKey]) -> None:
        """Read the tallies of those that are not known, many at once."""
        unknown = [key for key in keys if key not in self._known]
        if len(self._known) + len(unknown) > TALLIES_MAX:
            self._known.clear()
        rows = self._state.matches.read_tallies(unknown, most=ROWS_MAX)
        if len(rows) >= ROWS_MAX:
            # Of groups as large as these nothing is told without reading them.
            self._known |= {key: Tally(sys.maxsize, is_alerted=True) for key in unknown}
            return
        found = {(key.rule_id, key.tenant, key.joined): Tally() for key in unknown}
        for rule_id, tenant, group, source, counted in rows:
            tally = found[rule_id, tenant, group]
            tally.count += 1
            tally.sources.add(source)
            if len(tally.values) < VALUES_MAX:
                tally.values.add(counted)
        for row in self._state.alerts.alerted(unknown):
            found[row].is_alerted = True
        self._known |= zip(unknown, found.values(), strict=True)

    def count_in(self, key: GroupKey, matches: Sequence[Match]) -> Tally:
        """The group's tally, with these matches, which may be in the file by now or not."""
        if key not in self._known:
            self.load([key])
        tally = self._known[key]
        tally.add(matches)
        return tally

    def mark_alerted(self, key: GroupKey) -> None:
        """The group has an alert now."""
        known = self._known.get(key)
        if known is not None:
            known.is_alerted = True


def may_alert(rule: Rule, tally: Tally) -> bool:
    """Whether an alert can come of a group with that tally; False only where none can."""
    if tally.is_alerted:
        return True
    correlation, extension = rule.correlation, rule.extension
    if correlation is not None:
        return _may_hold(correlation, tally)
    if extension.several is not None:
        return tally.count > extension.several.threshold
    if rule.kind is Kind.TRAVEL:
        return _may_travel(extension.travel or Travel(), tally.values)
    change = extension.gradient or extension.deviation
    return change is None or _may_come_to(change.at_least, tally, is_summed=bool(change.value))


def _may_travel(wanted: Travel, places: Collection[str]) -> bool:
    """Whether any two of the places are so far apart; most people sign in at two or three of one town."""
    # Of a match that was kept by an earlier version no place is known here.
    if len(places) > PLACES_MAX or "" in places:
        return True
    return any(between(*two) > wanted.distance_km for two in combinations(places, 2))


def _may_come_to(least: float, tally: Tally, *, is_summed: bool) -> bool:
    """Whether the matches of one period may count, or sum up, to at least so much."""
    if not is_summed:
        return tally.count >= least
    if len(tally.values) >= VALUES_MAX:
        return True
    largest = max((read_number(value) or 0 for value in tally.values), default=0)
    return least <= 0 or tally.count * largest * _ROUNDED_UP >= least


def _may_hold(correlation: Correlation, tally: Tally) -> bool:
    match correlation.joined:
        case Joined.COUNT:
            return _reaches(tally.count, correlation)
        case Joined.DISTINCT:
            different = len(tally.values) - ("" in tally.values)
            return len(tally.values) >= VALUES_MAX or _reaches(different, correlation)
        case Joined.TEMPORAL | Joined.ORDERED if correlation.expression is not None:
            is_plain = correlation.order in {Order.AT_LEAST, Order.EQUAL}
            return not is_plain or may_be_fulfilled(correlation.expression, tally.sources)
        case Joined.TEMPORAL | Joined.ORDERED:
            return _reaches(len(tally.sources), correlation)
        case Joined.RISK:
            return len(tally.sources) >= SIGNS_MIN
    return True


def _reaches(most: int, correlation: Correlation) -> bool:
    """Whether a number of at most `most` can pass; where less is asked for, it always can."""
    match correlation.order:
        case Order.AT_LEAST | Order.EQUAL:
            return most >= correlation.threshold
        case Order.MORE:
            return most > correlation.threshold
    return True
