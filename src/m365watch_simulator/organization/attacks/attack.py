"""An attack as the truth knows it, and the stage on which one is played."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from m365watch_simulator.organization.noise import simulated
from m365watch_simulator.organization.people import Actor
from m365watch_simulator.organization.scene import creation_time

if TYPE_CHECKING:
    from datetime import datetime

    from m365watch_simulator.organization.estate import Application
    from m365watch_simulator.organization.network import Device, Place
    from m365watch_simulator.organization.people import Person
    from m365watch_simulator.organization.records import SimulatedRecord
    from m365watch_simulator.organization.scene import Record, Scene


@dataclass(frozen=True, slots=True)
class Attack:
    """What really happened, for those who are to be found right or wrong about it."""

    story: str
    """A stable name, for example "password_spray"."""
    title: str
    started_at: datetime
    ended_at: datetime
    """When its last record happened."""
    entities: dict[str, tuple[str, ...]]
    """What it was about, by kind: "user", "address", "country", "app", "mailbox" and so on."""
    record_ids: tuple[str, ...]
    """The Ids of all its records, in order of time."""
    account: str
    """One sentence that tells it."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays in a campaign."""

    place: Place
    """Where the intruder sits."""
    address: str
    victim: Person
    """Whose password is guessed."""
    consenter: Person
    """Who grants the bad application its scopes."""
    admin: Person
    """The administrator whose account is taken over."""
    guardian: Person
    """Another administrator, who is himself."""
    treasurer: Person
    """Whose mailbox is worth reading."""
    leaver: Person
    """Who takes files along."""
    accomplice: Person
    """An account that the intruder makes."""
    application: Application
    outside_mailbox: str


@dataclass(slots=True)
class Stage:
    """Where one story is played: its clock, and the records it leaves."""

    scene: Scene
    records: list[SimulatedRecord] = field(default_factory=list)
    record_ids: list[str] = field(default_factory=list)

    def wait(self, least_s: float, most_s: float) -> None:
        """Let a random span pass."""
        self.scene.at += timedelta(seconds=self.scene.dice.uniform(least_s, most_s))
        self.scene.created = creation_time(self.scene.at)

    def keep(self, record: Record) -> None:
        """Take a record, made at the present moment, as part of the story."""
        self.records.append(simulated(record, self.scene.at))
        self.record_ids.append(str(record["Id"]))

    def tell(self, story: str, *, title: str, account: str, entities: dict[str, tuple[str, ...]]) -> Attack:
        """The truth about the story that has just been played."""
        return Attack(
            story=story,
            title=title,
            started_at=self.records[0].happened_at,
            ended_at=self.records[-1].happened_at,
            entities=entities,
            record_ids=tuple(self.record_ids),
            account=account,
        )


def intruder(cast: Cast, person: Person, *, device: Device, session_id: str) -> Actor:
    """The intruder, under somebody's name."""
    return Actor(person, cast.address, device, session_id)


def whereabouts(cast: Cast) -> dict[str, tuple[str, ...]]:
    """The entities that say where the intruder came from."""
    return {"address": (cast.address,), "country": (cast.place.country,)}
