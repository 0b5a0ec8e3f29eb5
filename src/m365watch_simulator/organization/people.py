"""Who works in the organisation, and where and with what each of them is on a given day."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import lru_cache

from m365watch_simulator.organization.guids import random_guid
from m365watch_simulator.organization.network import (
    HOMES,
    JOURNEYS,
    OFFICES,
    Device,
    Place,
    desk_device,
    foreign_device,
    phone_device,
)

_NAMES = (
    ("Annika", "Maren", "Jörg", "Tjark", "Wiebke", "Søren", "Gesa", "Björn", "Käthe", "Ludger"),
    ("Imogen", "Rhys", "Bethan", "Alasdair", "Nuala", "Gareth", "Zoë", "Fergus", "Siân", "Harriet"),
    ("Marisol", "Dwayne", "Kenji", "Priscilla", "Tobias", "Renée", "Luis", "Hannah", "Odette", "Chloé"),
    ("Aarav", "Meera", "Nikhil", "Sunita", "Rohan", "Kavya", "Devika", "Arjun", "Ishaan", "Leela"),
)
"""First names, one row for each of `OFFICES`."""

_SURNAMES = (
    ("Petersen", "Lührs", "Kröger", "Brandt", "Osterloh", "Wessels", "Görlitz", "Ahlers", "Tietjen"),
    ("Hartley", "Penrose", "MacAskill", "Llewellyn", "Ashdown", "Birtwistle", "Dunmore", "Fairley"),
    ("Castañeda", "Whitlock", "Nakagawa", "Delacroix", "Sorensen", "Abernathy", "Quintero", "Ruiz"),
    ("Deshpande", "Kulkarni", "Iyer", "Chatterjee", "Bhosale", "Nambiar", "Gokhale", "Rao"),
)
_DEPARTMENTS = ("Sales", "Finance", "Engineering", "Service", "People", "Purchasing", "Marketing")
_OFFICE_WEIGHTS = (55, 20, 15, 10)
_ASCII = str.maketrans({"ö": "oe", "ü": "ue", "ä": "ae", "ø": "o", "ë": "e", "é": "e", "â": "a", "ñ": "n"})
_ADMINS = 3
_SERVICE_ACCOUNTS = (
    ("Scanner", "ScanToMail/4.2"),
    ("Doorbell", "RoomDisplay/2.0 (embedded)"),
    ("Payroll", "PayrollBridge/11.3"),
)
"""Names of machines' accounts, and what they call themselves."""

_DAY_HOURS = (
    *(0.01,) * 6, 0.08, 0.35, 0.85, 1.0, 1.05, 1.0, 0.55, 0.8, 1.0, 1.0, 0.9, 0.6,
    0.25, 0.15, 0.12, 0.08, 0.04, 0.02,
)  # fmt: skip
_WEEKEND_SHARE = 0.06
_SATURDAY = 5
_THURSDAY = 3
"""1970 began on it, counted from Monday."""

_TRAVELLERS = 0.05
_DIARY_PAGES = 4096


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    number: int
    name: str
    upn: str
    department: str
    is_admin: bool
    object_id: str
    puid: str
    """The sixteen digits that older parts of the service know the account by."""
    sid: str
    mailbox_guid: str
    office: Place
    home: Place
    desk: Device
    phone: Device

    @property
    def membership_key(self) -> str:
        """The account as SharePoint's UserKey spells it."""
        return f"i:0h.f|membership|{self.puid.lower()}@live.com"

    def activity(self, hour_of_week: int) -> float:
        """How busy the person is in an hour of the week (UTC, from Monday 00:00); 1 is normal."""
        local = int(hour_of_week + self.office.utc_offset_h) % 168
        share = _DAY_HOURS[local % 24]
        return share * _WEEKEND_SHARE if local // 24 >= _SATURDAY else share


@dataclass(frozen=True, slots=True)
class Actor:
    """A person at work: from which address, with which device, in which session."""

    person: Person
    address: str
    device: Device
    session_id: str


def invent_people(dice: random.Random, *, domain: str, count: int) -> tuple[Person, ...]:
    """`count` people; the first few administer the tenant."""
    sid_base = f"S-1-5-21-{dice.getrandbits(30)}-{dice.getrandbits(31)}-{dice.getrandbits(30)}"
    taken: set[str] = set()
    return tuple(
        _invent_person(dice, number=number, domain=domain, sid_base=sid_base, taken=taken)
        for number in range(count)
    )


def invent_service_accounts(dice: random.Random, *, domain: str) -> tuple[Actor, ...]:
    """The accounts of machines, each always at work in the first office."""
    sid_base = f"S-1-5-21-{dice.getrandbits(30)}-{dice.getrandbits(31)}-{dice.getrandbits(30)}"
    accounts = []
    for number, (name, agent) in enumerate(_SERVICE_ACCOUNTS):
        device = foreign_device(system="Other", browser="Other", browser_version="", user_agent=agent)
        person = _invent_person(dice, number=0, domain=domain, sid_base=sid_base, taken=set())
        machine = replace(
            person, name=name, upn=f"svc.{name.lower()}@{domain}", department="IT", is_admin=False
        )
        accounts.append(Actor(machine, OFFICES[0].address(20 + number), device, random_guid(dice)))
    return tuple(accounts)


def _invent_person(
    dice: random.Random, *, number: int, domain: str, sid_base: str, taken: set[str]
) -> Person:
    where = dice.choices(range(len(OFFICES)), weights=_OFFICE_WEIGHTS)[0]
    first, last = dice.choice(_NAMES[where]), dice.choice(_SURNAMES[where])
    nickname = _nickname(first, last, taken)
    return Person(
        number=number,
        name=f"{first} {last}",
        upn=f"{nickname}@{domain}",
        department="IT" if number < _ADMINS else dice.choice(_DEPARTMENTS),
        is_admin=number < _ADMINS,
        object_id=random_guid(dice),
        puid=f"1003{dice.getrandbits(48):012X}",
        sid=f"{sid_base}-{1_000_000 + dice.getrandbits(24)}",
        mailbox_guid=random_guid(dice),
        office=OFFICES[where],
        home=HOMES[where],
        desk=desk_device(dice, name=f"PC-{4000 + number}", device_id=random_guid(dice)),
        phone=phone_device(dice, name=f"{first}'s phone"),
    )


def _nickname(first: str, last: str, taken: set[str]) -> str:
    plain = f"{first}.{last}".lower().translate(_ASCII)
    nickname, number = plain, 2
    while nickname in taken:
        nickname, number = f"{plain}{number}", number + 1
    taken.add(nickname)
    return nickname


class Diary:
    """Where everybody is on every day; the same for a seed, however often it is asked."""

    def __init__(self, seed: str, people: tuple[Person, ...]) -> None:
        """Keep the latest few thousand answers."""
        self._seed = seed
        self._people = people
        self.actors = lru_cache(maxsize=_DIARY_PAGES)(self._actors)

    def _actors(self, number: int, day: int) -> tuple[Actor, Actor]:
        """The person of this number at the desk and on the telephone, on a day since 1970."""
        person = self._people[number]
        dice = random.Random(f"{self._seed}/{person.number}/{day}")
        journey = self._journey(person, day)
        address = journey.address(person.number) if journey else _usual_address(person, dice)
        desk = Actor(person, address, person.desk, random_guid(dice))
        mobile = (journey or person.home).address_v6(person.number * 64 + day % 64)
        return desk, Actor(person, mobile, person.phone, random_guid(dice))

    def _journey(self, person: Person, day: int) -> Place | None:
        """Where a person is who travels in this week, from Monday; one in twenty does."""
        week = (day + _THURSDAY) // 7
        dice = random.Random(f"{self._seed}/{person.number}/week/{week}")
        return dice.choice(JOURNEYS) if dice.random() < _TRAVELLERS else None


def _usual_address(person: Person, dice: random.Random) -> str:
    """The office's address on three days of four, one at home on the others."""
    office = person.office.address(person.number % 3)
    home = (person.home.address(person.number), person.home.address_v6(person.number * 64))
    return dice.choices((office, *home), weights=(6, 1, 1))[0]
