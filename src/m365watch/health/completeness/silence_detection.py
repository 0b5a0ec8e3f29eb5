"""How many blobs each hour of a feed's week usually has: learned from its own past, bounded, kept as JSON.

Hours are numbers since 1970, and a week has 168 of them, so that an hour's place in the week is its
number modulo 168. An hour is learned once: `learned_to` only ever grows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

WEEK_H = 168
DAY_H = 24
WEEKS_MAX = 8
"""How many weeks of each hour are remembered."""
WEEKS_MIN = 2
"""An hour that was seen in fewer weeks is not judged."""
SPREAD = 2.0
"""How unevenly blobs come: the variance of an hour with m of them is taken to be m + m * m / SPREAD."""


@dataclass(slots=True)
class Rhythm:
    """What was learned of one feed."""

    learned_to: int | None = None
    """The hours before this one were learned, or left out for good; None before the first."""
    slots: dict[int, list[int]] = field(default_factory=dict)
    """For each hour of the week the blobs of its last weeks, the latest last."""
    _usual: dict[int, Usual] = field(default_factory=dict, compare=False)

    def learn(
        self, counts: Mapping[int, int], *, listed: Collection[int], upto: int, besides: Collection[int]
    ) -> None:
        """Take in the `listed` hours from `learned_to` (or the first of them) to `upto`, but `besides`."""
        first = min(listed, default=upto) if self.learned_to is None else self.learned_to
        for hour in range(first, upto):
            if hour in listed and hour not in besides:
                slot = self.slots.setdefault(hour % WEEK_H, [])
                slot.append(counts.get(hour, 0))
                del slot[:-WEEKS_MAX]
                self._usual.clear()
        if upto > first or self.learned_to is None:
            self.learned_to = max(first, upto)

    def usual(self, hour: int) -> Usual:
        """What is usual in this hour: its own past, and that of the hours before and after it."""
        place = hour % WEEK_H
        if place not in self._usual:
            own = self.slots.get(place, [])
            near = (place - 1, place, place + 1)
            pool = [count for one in near for count in self.slots.get(one % WEEK_H, [])]
            is_known = len(own) >= WEEKS_MIN and len(pool) >= 3 * WEEKS_MIN
            self._usual[place] = Usual(tuple(pool), is_known=is_known)
        return self._usual[place]

    def quiet_share(self, hour: int) -> float:
        """How much of this hour's usual blobs the quietest day of the week has at the same time, 0 to 1."""
        days = [self.usual(hour + DAY_H * day) for day in range(WEEK_H // DAY_H)]
        own = days[0].mean
        return min(1.0, min(day.mean for day in days) / own) if own else 1.0


@dataclass(frozen=True)
class Usual:
    """Blobs of past hours like the one in question."""

    counts: tuple[int, ...]
    is_known: bool
    """Whether they are enough to judge by."""

    @cached_property
    def mean(self) -> float:
        """For sums over hours and feeds."""
        from statistics import fmean

        return fmean(self.counts) if self.counts else 0.0

    @cached_property
    def level(self) -> float:
        """The median: an outage or a flood in the past does not move it."""
        from statistics import median

        return median(self.counts) if self.counts else 0.0

    def chance_of_none(self, activity: float) -> float:
        """How likely the hour has no blob when the tenant is only `activity` (0 to 1) as busy as usual.

        The larger of two estimates, as each alone may be too sure: that of a negative binomial
        distribution of the past level, and the share of past hours that were empty, half of one added.
        """
        by_level = (1.0 + self.level * activity / SPREAD) ** -SPREAD
        empty = sum(count == 0 for count in self.counts)
        return float(max(by_level, (empty + 0.5) / (len(self.counts) + 1.0)))


def rhythm_body(rhythm: Rhythm) -> dict[str, object]:
    """The rhythm as values for JSON."""
    return {"to": rhythm.learned_to, "slots": [rhythm.slots.get(place, []) for place in range(WEEK_H)]}


def rhythm_of(body: str | None) -> Rhythm:
    """The rhythm that stands in the JSON; an empty one for None."""
    if body is None:
        return Rhythm()
    fields = json.loads(body)
    return Rhythm(fields["to"], {place: slot for place, slot in enumerate(fields["slots"]) if slot})
