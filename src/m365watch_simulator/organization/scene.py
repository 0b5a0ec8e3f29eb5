"""The moment in which one record is made: when, for whom, and with which dice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from m365watch_simulator.organization.guids import comb_guid, random_guid

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from datetime import datetime

    from m365watch_simulator.organization.estate import Estate

Choice = TypeVar("Choice")

Record = dict[str, object]
"""One audit record, its keys in the order in which they are sent."""


@dataclass(slots=True)
class Scene:
    """What every shape may know; moved on from record to record."""

    estate: Estate
    dice: random.Random
    at: datetime
    created: str
    """`at` as CreationTime spells it: whole seconds, no zone."""

    def guid(self) -> str:
        """A random GUID."""
        return random_guid(self.dice)

    def comb(self) -> str:
        """A GUID that carries this moment."""
        return comb_guid(self.dice, self.at)

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of the choices, each as likely as the others."""
        return choices[int(self.dice.random() * len(choices))]

    def chance(self, share: float) -> bool:
        """True in this share of all cases."""
        return self.dice.random() < share


def creation_time(at: datetime) -> str:
    """An instant as CreationTime spells it."""
    return f"{at:%Y-%m-%dT%H:%M:%S}"


def named(name: str, value: str) -> dict[str, str]:
    """A Name/Value pair, the wire's way to say nearly everything."""
    return {"Name": name, "Value": value}


def changed(name: str, new: str, old: str = "") -> dict[str, str]:
    """A member of ModifiedProperties."""
    return {"Name": name, "NewValue": new, "OldValue": old}
