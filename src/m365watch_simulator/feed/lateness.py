"""When the records of an hour come out: a pure plan, known before the records are made.

Most come 30 to 60 minutes late. Of some hours a part comes one to three days late, and of some
a part comes a second time, days later. During an incident everything waits for its end.
Source: api-contract 5.1 and 5.2 (lateness from minutes to days, copies days apart).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from random import Random

from m365watch_simulator.service.scenario import Behaviour

HOUR = timedelta(hours=1)
_MEDIAN_S = 45 * 60
_SPREAD = 0.35
_SHORTEST_S = 5 * 60
_LONGEST_S = 3 * 3600
_STRAGGLER_SHARE = 0.08
_ECHO_SHARE = 0.10


class Part(Enum):
    """Which of an hour's records a release brings."""

    MOST = auto()
    STRAGGLERS = auto()
    ECHO = auto()
    """Copies of records that come out elsewhere too."""


@dataclass(frozen=True, slots=True)
class Release:
    """A span of contentCreated in which a part of an hour's records comes out."""

    part: Part
    earliest: datetime
    latest: datetime

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Whether the release can bring a blob created in [start, end)."""
        return self.earliest < end and self.latest >= start


@dataclass(frozen=True, slots=True)
class Calendar:
    """One tenant's releases."""

    seed: str
    epoch: datetime
    """The start of the simulator."""
    behaviour: Behaviour
    live: bool
    """False: nothing comes out after `epoch`, and everything that happened before it has."""

    def releases(self, hour: datetime) -> list[Release]:
        """Everything that will ever come out of `hour`; `MOST` comes first."""
        random = Random(f"{self.seed}/{hour:%Y%m%d%H}/releases")
        plans = [self._most(hour)]
        if random.random() < _STRAGGLER_SHARE:
            late = hour + HOUR + timedelta(hours=random.uniform(24, 72))
            plans.append(Release(Part.STRAGGLERS, late, late + HOUR))
        if self.behaviour.duplicates and (random.random() < _ECHO_SHARE or self._in_incident(hour)):
            again = plans[0].latest + timedelta(hours=random.uniform(2, 96))
            plans.append(Release(Part.ECHO, again, again + HOUR))
        return [Release(plan.part, *self._published_span(hour, plan)) for plan in plans]

    def created_at(self, release: Release, *, happened_at: datetime, random: Random) -> datetime:
        """When a blob whose last record happened at `happened_at` comes out in `release`."""
        ordinary = release.part is Part.MOST and not self._in_incident(happened_at)
        if not ordinary:
            due = release.earliest + (release.latest - release.earliest) * random.random()
            return max(due, happened_at)
        due = happened_at + timedelta(seconds=_delay_s(random))
        if due <= self.epoch or self.live:
            return due
        return happened_at + (self.epoch - happened_at) * random.random()

    def _most(self, hour: datetime) -> Release:
        incident = self.behaviour.incident
        if incident is not None and self._in_incident(hour):
            end = incident.began_h_ago - incident.hours
            released = self.epoch - min(incident.released_h_ago, end) * HOUR
            return Release(Part.MOST, released, released + 2 * HOUR)
        return Release(Part.MOST, hour, hour + HOUR + timedelta(seconds=_LONGEST_S))

    def _in_incident(self, instant: datetime) -> bool:
        incident = self.behaviour.incident
        if incident is None:
            return False
        began = self.epoch - incident.began_h_ago * HOUR
        return began <= whole_hour(instant) < began + incident.hours * HOUR

    def _published_span(self, hour: datetime, plan: Release) -> tuple[datetime, datetime]:
        if self.live:
            return plan.earliest, plan.latest
        latest = min(plan.latest, self.epoch)
        return min(plan.earliest, max(hour, latest - HOUR)), latest


def whole_hour(instant: datetime) -> datetime:
    """The hour in which `instant` lies."""
    return instant.replace(minute=0, second=0, microsecond=0)


def _delay_s(random: Random) -> float:
    delay_s = math.exp(random.gauss(math.log(_MEDIAN_S), _SPREAD))
    return min(max(delay_s, _SHORTEST_S), _LONGEST_S)
