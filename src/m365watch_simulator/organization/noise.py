"""The ordinary days of the organisation, hour by hour."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from itertools import accumulate
from operator import itemgetter
from typing import TYPE_CHECKING, cast

import msgspec

from m365watch_simulator.organization.guids import EPOCH
from m365watch_simulator.organization.habits import PEOPLE, SERVICE, Habit
from m365watch_simulator.organization.records import SimulatedRecord
from m365watch_simulator.organization.scene import Record, Scene
from m365watch_simulator.organization.shapes.common import content_type_of
from m365watch_simulator.organization.timetable import Timetable, hour_of_week

if TYPE_CHECKING:
    from m365watch_simulator.organization.estate import Estate
    from m365watch_simulator.organization.people import Actor, Diary

HOUR = timedelta(hours=1)
_HOUR_US = 3_600_000_000
_STEADY_SHARE = 0.15
_PHONE_SHARE = 0.12
_ESCAPED_TYPES = frozenset({8, 15, 40})
"""Record types whose sender escapes what is not ASCII; most others send UTF-8."""

_PEOPLE_WEIGHTS = tuple(accumulate(habit.weight for habit in PEOPLE))
_SERVICE_WEIGHTS = tuple(accumulate(habit.weight for habit in SERVICE))
_SECONDS = tuple(f":{second // 60:02d}:{second % 60:02d}" for second in range(3600))


def encoded(record: Record) -> bytes:
    """The record as it goes over the wire: compact JSON in UTF-8."""
    body = msgspec.json.encode(record)
    if not body.isascii() and record["RecordType"] in _ESCAPED_TYPES:
        return json.dumps(record, separators=(",", ":")).encode()
    return body


def simulated(record: Record, at: datetime) -> SimulatedRecord:
    """The record with what its publisher has to know."""
    record_type = cast(int, record["RecordType"])
    return SimulatedRecord(content_type_of(record_type), at, encoded(record))


class Noise:
    """Makes the records of one hour at a time; nothing is kept from hour to hour."""

    def __init__(self, seed: str, *, estate: Estate, diary: Diary, records_per_day: int) -> None:
        """Lay out the week; `records_per_day` is its mean over seven days."""
        self._seed = seed
        self._estate = estate
        self._diary = diary
        self._admins = tuple(person for person in estate.people if person.is_admin)
        self._timetable = Timetable(
            estate.people, records_per_day=records_per_day, steady_share=_STEADY_SHARE
        )
        self._busy: dict[int, tuple[float, ...]] = {}

    def hour(self, hour: int) -> list[SimulatedRecord]:
        """The records of an hour since 1970, sorted by `happened_at`."""
        dice = random.Random(f"{self._seed}/noise/{hour}")
        start = EPOCH + hour * HOUR
        prefix = f"{start:%Y-%m-%dT%H}"
        scene = Scene(self._estate, dice, start, "")
        made = []
        for after_us, habit, actor in self._plan_moments(dice, hour):
            scene.at = start + timedelta(microseconds=after_us)
            scene.created = prefix + _SECONDS[after_us // 1_000_000]
            made.append(simulated(habit.make(scene, actor), scene.at))
        return made

    def _plan_moments(self, dice: random.Random, hour: int) -> list[tuple[int, Habit, Actor]]:
        """Who does what at which microsecond of the hour."""
        by_people = self._timetable.people_count(hour)
        steady = self._timetable.steady_count(hour)
        habits = [
            *dice.choices(PEOPLE, cum_weights=_PEOPLE_WEIGHTS, k=by_people),
            *dice.choices(SERVICE, cum_weights=_SERVICE_WEIGHTS, k=steady),
        ]
        weights = self._busy_at(hour_of_week(hour))
        people = dice.choices(self._estate.people, cum_weights=weights, k=len(habits))
        moments = []
        for habit, person in zip(habits, people, strict=True):
            who = self._admins[dice.getrandbits(8) % len(self._admins)] if habit.admin_only else person
            desk, phone = self._diary.actors(who.number, hour // 24)
            actor = phone if dice.random() < _PHONE_SHARE and not habit.admin_only else desk
            moments.append((int(dice.random() * _HOUR_US), habit, actor))
        moments.sort(key=itemgetter(0))
        return moments

    def _busy_at(self, hour: int) -> tuple[float, ...]:
        """How busy each person is in an hour of the week, added up."""
        found = self._busy.get(hour)
        if found is None:
            found = tuple(accumulate(person.activity(hour) for person in self._estate.people))
            self._busy[hour] = found
        return found
