"""How many blobs each hour of a feed's week usually has: learned from its own past, bounded, kept as JSON.

Hours are numbers since 1970, and a week has 168 of them, so that an hour's place in the week is its
number modulo 168. An hour is learned once: `learned_to` only ever grows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from m365watch.common.model import Feed

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


CHANCE_MAX = 1e-4
"""A stretch that is less likely than this is unusual."""
HOURS_MIN = 2
"""A shorter stretch is never unusual: one late blob may end it."""
LOOK_BACK_H = 3
"""How many hours say how busy the tenant is: of the other feeds, and of all before the silence."""
BEFORE_COUNTS_H = 6
"""For how long what was before a silence says something about it."""
EXPECTED_MIN = 5.0
"""Of fewer blobs than these that are expected in them, nothing can be said."""
JUDGED_H = 96
"""How many hours are judged each time; a silence that lasts longer goes on."""
LEARN_AFTER_H = 24
"""How old an hour is when it is learned: its late content has come."""
DUE_AFTER_H = 2
"""How long after its end an hour is judged: content comes 30 to 90 minutes late as a rule."""


class Reason(StrEnum):
    """Why a feed may be silent."""

    ERROR = "error"
    """The feed has an error of its own."""
    INCIDENT = "incident"
    """Every feed of the tenant that should have content is silent at once."""
    QUIET_DAY = "quiet-day"
    """All of the tenant is quiet, as on a holiday: unusual for the weekday, and not for such a day."""
    ALONE = "alone"
    """This feed is silent, and the others are not."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Hours in a row in which a feed had no blob."""

    feed: Feed
    first_hour: int
    end_hour: int
    """The hour after the last one, hours since 1970."""
    chance: float
    """How likely that is."""
    usual_blobs: float
    """How many blobs these hours usually have."""
    reason: Reason

    @property
    def is_unusual(self) -> bool:
        """Whether it is worth an alarm."""
        return self.reason is not Reason.QUIET_DAY


@dataclass(frozen=True, slots=True)
class FeedPast:
    """What is known of one feed."""

    rhythm: Rhythm
    counts: Mapping[int, int]
    """Blobs by hour; an hour without any may be left out."""
    listed: Collection[int]
    """The hours that were listed in full, and after which enough time has passed."""


class _Course:
    """One feed's present stretch of empty hours, hour by hour."""

    def __init__(self, feed: Feed, pasts: Mapping[Feed, FeedPast]) -> None:
        self._feed = feed
        self._past = pasts[feed]
        self._pasts = pasts
        self._first: int | None = None
        self._surprise = self._plain_surprise = self._usual = 0.0

    def step(self, hour: int) -> Silence | None:
        """Take in the next hour; the stretch that it ends, where there was a remarkable one."""
        if hour not in self._past.listed or self._past.counts.get(hour, 0):
            return self.end(hour)
        if self._first is None:
            self._first = hour
        usual = self._past.rhythm.usual(hour)
        if usual.is_known:
            quiet = self._past.rhythm.quiet_share(hour)
            # Squared, since a holiday makes some feeds quieter than others.
            activity = max(self._before(self._first, hour) ** 2, self._others(hour) ** 2, quiet)
            self._surprise -= math.log(usual.chance_of_none(min(1.0, activity)))
            self._plain_surprise -= math.log(usual.chance_of_none(1.0))
            self._usual += usual.mean
        return None

    def _before(self, first: int, hour: int) -> float:
        """How busy the tenant was before the silence; nothing where that says little about this hour.

        The night before a holiday is as ever, and so was the day before.
        """
        before = range(first - LOOK_BACK_H, first)
        usual = sum(_usual(self._pasts, one) for one in before) / LOOK_BACK_H
        if hour - first >= BEFORE_COUNTS_H or usual < _usual(self._pasts, hour) / 2:
            return 0.0
        return _activity(self._pasts, before) or 0.0

    def _others(self, hour: int) -> float:
        """How busy the tenant's other feeds are."""
        others = {feed: past for feed, past in self._pasts.items() if feed != self._feed}
        return _activity(others, range(hour - LOOK_BACK_H + 1, hour + 1)) or 0.0

    def end(self, hour: int) -> Silence | None:
        """The stretch up to `hour`, where it is remarkable; the next one begins with nothing."""
        first, surprise, plain, usual = self._first, self._surprise, self._plain_surprise, self._usual
        self._first, self._surprise, self._plain_surprise, self._usual = None, 0.0, 0.0, 0.0
        limit = -math.log(CHANCE_MAX)
        if first is None or hour - first < HOURS_MIN or plain < limit:
            return None
        reason = self._reason(first, hour) if surprise >= limit else Reason.QUIET_DAY
        chance = math.exp(-(surprise if surprise >= limit else plain))
        return Silence(self._feed, first, hour, chance=chance, usual_blobs=usual, reason=reason)

    def _reason(self, first: int, end: int) -> Reason:
        """Whether the others are silent too, those that have something to say at that time."""
        others = [past for feed, past in self._pasts.items() if feed != self._feed]
        speaking = [
            past for past in others if sum(past.rhythm.usual(hour).mean for hour in range(first, end)) >= 1
        ]
        # The first hour may have had something before the incident began.
        silent = [
            past for past in speaking if not any(past.counts.get(hour) for hour in range(first + 1, end))
        ]
        return Reason.INCIDENT if silent and len(silent) == len(speaking) else Reason.ALONE


def find_silences(pasts: Mapping[Feed, FeedPast], hours: range) -> list[Silence]:
    """The remarkable stretches of one tenant's feeds in `hours`; one that lasts ends with the last hour.

    Nothing later than a stretch has a say in it, so that an alarm and a look back agree.
    """
    found = []
    for feed in pasts:
        course = _Course(feed, pasts)
        found += [silence for hour in hours if (silence := course.step(hour)) is not None]
        last = course.end(hours.stop)
        found += [last] if last is not None else []
    return found


def _usual(pasts: Mapping[Feed, FeedPast], hour: int) -> float:
    """How many blobs all feeds together usually have in an hour."""
    return sum(past.rhythm.usual(hour).mean for past in pasts.values())


def _activity(pasts: Mapping[Feed, FeedPast], hours: Iterable[int]) -> float | None:
    """How many of the usual blobs came in `hours`; None where too few are usual to tell."""
    came = expected = 0.0
    for hour in hours:
        for past in pasts.values():
            if hour in past.listed and (usual := past.rhythm.usual(hour)).is_known:
                came += past.counts.get(hour, 0)
                expected += usual.mean
    return came / expected if expected >= EXPECTED_MIN else None


def judge_and_learn(
    pasts: Mapping[Feed, FeedPast], *, due_to: int, custom: Collection[Feed]
) -> list[Silence]:
    """The silences of one tenant in the hours before `due_to`, with what is learned of them.

    An hour is learned `LEARN_AFTER_H` later, and one of an unusual silence not at all, unless the feed is
    in `custom`: it has been silent for so long that this is what it does now.
    """
    silences = find_silences(pasts, range(due_to - JUDGED_H, due_to))
    for feed, past in pasts.items():
        strange = {
            hour
            for silence in silences
            if silence.feed == feed and silence.is_unusual and feed not in custom
            for hour in range(silence.first_hour, silence.end_hour)
        }
        past.rhythm.learn(past.counts, listed=past.listed, upto=due_to - LEARN_AFTER_H, besides=strange)
    return silences
