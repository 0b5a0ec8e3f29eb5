"""What became of a thing that several records name: made, changed, called otherwise, removed, made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from m365watch.common.plain import plain
from m365watch.detection.fields.operations import normalise_operation
from m365watch.response.steps.command_escaping import guid_in

CALLED = ("Parameters.Name", "Parameters.Identity", "ObjectId")
"""Fields that name the thing; a name before an identity, for it is what a change calls it from then on."""
_NAME, _IDENTITY, _OBJECT = CALLED


@dataclass(frozen=True, slots=True)
class History:
    """One thing, as its name tells it."""

    names: tuple[str, ...]
    """The one that it has by now is the last."""
    verbs: tuple[str, ...] = ()
    """What was done to it, in its order: new, set, disable, remove."""
    ids: tuple[str, ...] = ()
    """By which records found it besides."""
    formerly: str = ""
    """How that is called by now which had its name before; empty where nothing is known of such a thing."""

    @property
    def name(self) -> str:
        """By which it is found now."""
        return self.names[-1]

    @property
    def told(self) -> str:
        """The same for a step's title, with how it was called at first."""
        first, last = plain(self.names[0]), plain(self.name)
        return f'"{last}"' if first == last else f'"{last}" (which was "{first}")'

    @property
    def is_gone(self) -> bool:
        """Whether removing it was the last that they did."""
        return self.verbs[-1:] == ("remove",)

    @property
    def since(self) -> tuple[str, ...]:
        """What was done to the thing that has the name now, or had it last: not to one removed before it."""
        lived = self.verbs[:-1] if self.is_gone else self.verbs
        removed = max((place for place, verb in enumerate(lived) if verb == "remove"), default=-1)
        return lived[removed + 1 :]

    @property
    def is_made(self) -> bool:
        """Whether the records made it."""
        return "new" in self.since

    @property
    def remarks(self) -> tuple[str, ...]:
        """What somebody has to know who may have lost what had its name before."""
        said = []
        if self.is_made and self.verbs[0] != "new":
            said.append("One of that name was there before it: if that was yours, make it again.")
        if not self.is_made and "new" in self.verbs:
            said.append("Another of that name was made here before, and removed.")
        if self.formerly:
            said.append(f'What had that name before was called "{self.formerly}" after it.')
        return tuple(said)


class Chronicle:
    """All that records tell of things of one kind, in their order."""

    def __init__(self, records: Iterable[Mapping[str, str]], of: str) -> None:
        """`of` is how the operations on things of that kind end."""
        self.every: list[History] = []
        self._places: dict[str, int] = {}
        """By the name that each has by now, in small letters."""
        for record in records:
            operation = normalise_operation(record.get("Operation", ""))
            if operation.endswith(of):
                self.add(operation.partition("-")[0], record)

    def histories_of(self, name: str) -> list[History]:
        """Of whatever had that name at some time."""
        wanted = [one for one in self.every if _is_among(name, (*one.names, *one.ids))]
        return [replace(one, formerly=_former_owner(one, self.every)) for one in wanted] or [History((name,))]

    def add(self, verb: str, record: Mapping[str, str]) -> None:
        """One record more."""
        name = self._named_before(verb, record)
        if not name:
            return
        place = self._places.get(name.lower(), len(self.every))
        if place == len(self.every):
            self.every.append(History((name,)))
        old = self.every[place]
        new_name = record.get(_NAME, "") if verb == "set" else ""
        is_renamed = bool(new_name) and not _is_among(new_name, (old.name,))
        names = (*old.names, new_name) if is_renamed else old.names
        ids = tuple(one for one in (record.get(_IDENTITY, ""),) if guid_in(one))
        self.every[place] = History(names, (*old.verbs, verb), (*old.ids, *ids))
        self._places.pop(old.name.lower(), None)
        self._places[names[-1].lower()] = place

    def _named_before(self, verb: str, record: Mapping[str, str]) -> str:
        """By which name the record found the thing; an id of it stands for the name that its object has."""
        fields = (_NAME, _IDENTITY, _OBJECT) if verb == "new" else (_IDENTITY, _OBJECT, _NAME)
        name = next((record[one] for one in fields if record.get(one)), "")
        named = record.get(_OBJECT, "")
        place = self._places.get(named.lower()) if guid_in(name) else None
        return named if place is not None and not self.every[place].is_gone else name


def _former_owner(history: History, every: Iterable[History]) -> str:
    """It had to lose that name before this one could get it."""
    others = (one for one in every if _is_among(history.name, one.names[:-1]))
    return next((one.name for one in others if not _is_among(one.name, (history.name,))), "")


def _is_among(name: str, names: Iterable[str]) -> bool:
    return name.lower() in map(str.lower, names)
