"""When attacks happen and to whom: one campaign every five days, all stories in a chain."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from m365watch_simulator.organization.attacks import files, identity, mail
from m365watch_simulator.organization.attacks.attack import Attack, Cast, Stage
from m365watch_simulator.organization.estate import invent_application
from m365watch_simulator.organization.guids import EPOCH, random_guid
from m365watch_simulator.organization.network import STRANGERS
from m365watch_simulator.organization.scene import Scene, creation_time

if TYPE_CHECKING:
    from datetime import datetime

    from m365watch_simulator.organization.estate import Estate
    from m365watch_simulator.organization.people import Person
    from m365watch_simulator.organization.records import SimulatedRecord

STORIES = (
    identity.spray_passwords,
    mail.forward_mail,
    identity.phish_consent,
    identity.remove_second_factor,
    identity.grant_admin_role,
    mail.disable_audit,
    mail.add_transport_rule,
    mail.delegate_mailbox,
    files.download_masses,
    files.open_links,
)
"""In the order of their playing."""

_PERIOD = timedelta(days=5)
_LONGEST = timedelta(hours=18)
_JITTER_S = 4 * 3600.0
"""A period, the jitter and the longest campaign fit into six days, so that any six days hold
one campaign whole."""

_KEPT = 4
_LURES = ("Mail Insights Pro", "Inbox Zero Plus", "Smart Calendar Sync", "PDF Toolbox Online")


@dataclass(frozen=True, slots=True)
class Campaign:
    """One chain of attacks."""

    attacks: tuple[Attack, ...]
    records: tuple[SimulatedRecord, ...]
    """Sorted by `happened_at`."""


class Campaigns:
    """All campaigns of an organisation, from ever to ever; each depends on its number alone."""

    def __init__(self, seed: str, estate: Estate) -> None:
        """Choose when in its five days a campaign falls; the few last ones are kept."""
        dice = random.Random(f"{seed}/campaigns")
        self._seed = seed
        self._estate = estate
        self._first_at = EPOCH + dice.random() * _PERIOD
        self._campaign = lru_cache(maxsize=_KEPT)(self._play)

    def between(self, start: datetime, end: datetime) -> list[Campaign]:
        """The campaigns that may have records in [start, end)."""
        longest = _LONGEST + timedelta(seconds=_JITTER_S)
        first = (start - longest - self._first_at) // _PERIOD
        last = (end - self._first_at) // _PERIOD
        return [self._campaign(number) for number in range(first, last + 1)]

    def _play(self, number: int) -> Campaign:
        dice = random.Random(f"{self._seed}/campaign/{number}")
        at = self._first_at + number * _PERIOD + timedelta(seconds=dice.uniform(0, _JITTER_S))
        scene = Scene(self._estate, dice, at, creation_time(at))
        cast = _choose_cast(dice, self._estate)
        attacks: list[Attack] = []
        records: list[SimulatedRecord] = []
        for story in STORIES:
            stage = Stage(scene)
            stage.wait(600, 2400)
            attacks.append(story(stage, cast))
            records += stage.records
        return Campaign(tuple(attacks), tuple(records))


def _choose_cast(dice: random.Random, estate: Estate) -> Cast:
    admins = [person for person in estate.people if person.is_admin]
    others = [person for person in estate.people if not person.is_admin]
    admin, guardian = dice.sample(admins, 2)
    victim, consenter, treasurer, leaver = dice.sample(others, 4)
    place = dice.choice(STRANGERS)
    return Cast(
        place=place,
        address=place.address(dice.randrange(30)),
        victim=victim,
        consenter=consenter,
        admin=admin,
        guardian=guardian,
        treasurer=treasurer,
        leaver=leaver,
        accomplice=_invent_accomplice(dice, estate, victim),
        application=invent_application(dice, dice.choice(_LURES)),
        outside_mailbox=f"archive{dice.randrange(100, 999)}@mail.example.net",
    )


def _invent_accomplice(dice: random.Random, estate: Estate, like: Person) -> Person:
    return replace(
        like,
        name="Backup Service",
        upn=f"svc.backup{dice.randrange(100, 999)}@{estate.domain}",
        object_id=random_guid(dice),
        puid=f"1003{dice.getrandbits(48):012X}",
        sid=f"{like.sid.rpartition('-')[0]}-{dice.getrandbits(24)}",
        mailbox_guid=random_guid(dice),
    )
