"""The simulated organisation: ordinary days with attacks woven into them."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from m365watch_simulator.organization.attacks.campaign import Campaigns
from m365watch_simulator.organization.estate import invent_domain, invent_estate
from m365watch_simulator.organization.guids import EPOCH
from m365watch_simulator.organization.noise import HOUR, Noise
from m365watch_simulator.organization.people import Diary, Person, invent_people

if TYPE_CHECKING:
    from datetime import datetime

    from m365watch_simulator.organization.attacks.attack import Attack
    from m365watch_simulator.organization.estate import Application, Estate
    from m365watch_simulator.organization.records import SimulatedRecord

_USERS_MIN = 12
"""Fewer would not fill the roles of an attack."""


@lru_cache(maxsize=8)
def _invent(tenant_seed: str, tenant_id: str, *, users: int) -> Estate:
    """Everybody and everything there, of which nothing changes.

    Two thousand files take longer than all else of a simulator's start, and one process may have many.
    """
    dice = random.Random(tenant_seed)
    domain = invent_domain(dice)
    people = invent_people(dice, domain=domain, count=users)
    return invent_estate(dice, tenant_id=tenant_id, domain=domain, people=people)


class Organisation:
    """A `RecordSource` with a known truth; the same for a seed, whenever it is asked."""

    def __init__(self, seed: int, tenant_id: str, *, users: int = 60, records_per_day: int = 10_000) -> None:
        """Found it, with at least 12 users; attacks come on top of `records_per_day`, a week's mean."""
        if users < _USERS_MIN:
            what = f"an organisation needs at least {_USERS_MIN} users, not {users}"
            raise ValueError(what)
        tenant_seed = f"{seed}/{tenant_id}"
        estate = _invent(tenant_seed, tenant_id, users=users)
        self.domain = estate.domain
        self.people: tuple[Person, ...] = estate.people
        diary = Diary(tenant_seed, self.people)
        self._estate = estate
        self._noise = Noise(tenant_seed, estate=estate, diary=diary, records_per_day=records_per_day)
        self._campaigns = Campaigns(tenant_seed, estate)

    def records_between(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        """What happened in [start, end), sorted by `happened_at`; both aware.

        One hour is made at a time, and the same records come for it whatever the slice.
        """
        records: list[SimulatedRecord] = []
        for hour in range((start - EPOCH) // HOUR, -((EPOCH - end) // HOUR)):
            made = self._noise.hour(hour)
            if start > EPOCH + hour * HOUR or end < EPOCH + (hour + 1) * HOUR:
                made = [record for record in made if start <= record.happened_at < end]
            records += made
        if attacks := self._attack_records(start, end):
            records = sorted([*records, *attacks], key=lambda record: record.happened_at)
        return records

    def accounts(self) -> list[str]:
        """The names by which everybody signs in."""
        return [person.upn for person in self.people]

    def administrators(self) -> list[str]:
        """Those of them who look after the tenant."""
        return [person.upn for person in self.people if person.is_admin]

    def applications(self) -> tuple[Application, ...]:
        """Those that it has registered itself."""
        return self._estate.applications

    def attack_records(self, start: datetime, end: datetime) -> list[bytes]:
        """What the attacks wrote in [start, end), in order of time within each."""
        return [record.body for record in self._attack_records(start, end)]

    def attacks(self, start: datetime, end: datetime) -> list[Attack]:
        """The attacks that began and ended in [start, end), in order of time."""
        return [
            attack
            for campaign in self._campaigns.between(start, end)
            for attack in campaign.attacks
            if start <= attack.started_at and attack.ended_at < end
        ]

    def _attack_records(self, start: datetime, end: datetime) -> list[SimulatedRecord]:
        return [
            record
            for campaign in self._campaigns.between(start, end)
            for record in campaign.records
            if start <= record.happened_at < end
        ]
