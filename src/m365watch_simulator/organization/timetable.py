"""How many records fall into which hour of the week."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m365watch_simulator.organization.people import Person

HOURS = 168
_MONDAY = 4 * 24
"""The first Monday after 1970-01-01, in hours."""


class Timetable:
    """Spreads a week's records over its hours by how busy the people are; repeats every week."""

    def __init__(self, people: tuple[Person, ...], *, records_per_day: int, steady_share: float) -> None:
        """`steady_share` of the records come at any hour alike: the service's own work."""
        busy = [sum(person.activity(hour) for person in people) for hour in range(HOURS)]
        self._steady = _shares([1.0] * HOURS, total=7 * records_per_day * steady_share)
        self._by_people = _shares(busy, total=7 * records_per_day * (1 - steady_share))

    def steady_count(self, hour: int) -> int:
        """Records of the service itself in an hour since 1970."""
        return self._steady[hour_of_week(hour)]

    def people_count(self, hour: int) -> int:
        """Records of people in an hour since 1970."""
        return self._by_people[hour_of_week(hour)]


def hour_of_week(hour: int) -> int:
    """0 for Monday, 00:00 to 01:00 UTC."""
    return (hour - _MONDAY) % HOURS


def _shares(weights: list[float], *, total: float) -> list[int]:
    """Whole numbers in proportion to the weights, which add up to `total` rounded."""
    factor, before, reached = total / sum(weights), 0, 0.0
    counts = []
    for weight in weights:
        reached += weight * factor
        upto = math.floor(reached + 0.5)
        counts.append(upto - before)
        before = upto
    return counts
