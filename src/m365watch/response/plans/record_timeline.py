"""What records tell one after the other: those of an alert, and of all that it joins, together.

Two alerts find two records of one rule, and neither knows what the other's did to it: a rule that hides mail
was made in the one, and got another name and another receiver in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from m365watch.common.text import plain
from m365watch.detection.alerts.alert import Match
from m365watch.detection.fields.operations import normalise_operation
from m365watch.response.plans.inbox_rule_names import Moment, Names, names_in
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


Place = tuple[int, str]
"""Where a record stands: by its time, and within a second by its identity."""
OK_FIELD = "m365.ok"


class Story:
    """The records in the order of their time, each once, and none of what was refused."""

    def __init__(
        self,
        matches: Iterable[Match] = (),
        beside: Iterable[Match] = (),
        *,
        found_by: Mapping[Place, str] = MappingProxyType({}),
    ) -> None:
        """Most words ask nothing of it, so that it is put in order when one does.

        Of `beside`, what other alerts have, it tells what a thing was called since, and of no thing more.
        `found_by` has the first digits of the id of the alert that found what stands there.
        """
        self._matches = [*matches]
        self._beside = [*beside]
        self._found_by = found_by
        self._names: dict[str, Names] = {}
        self._chronicles: dict[str, Chronicle] = {}

    @cached_property
    def _told(self) -> Mapping[Place, Mapping[str, str]]:
        return _in_order(self._matches)

    @cached_property
    def _others(self) -> Mapping[Place, Mapping[str, str]]:
        return _in_order(self._beside)

    def at(self, places: Iterable[Place]) -> list[Mapping[str, str]]:
        """Those that stand there."""
        return [self._told[one] for one in places if one in self._told]

    def names_of(self, mailbox: str) -> Names:
        """What became of the names of the mailbox's rules."""
        if mailbox not in self._names:
            every = sorted({**self._others, **self._told}.items(), key=lambda one: one[0])
            told = [(record, self._moment_of(place)) for place, record in every]
            self._names[mailbox] = names_in(told, mailbox)
        return self._names[mailbox]

    def _moment_of(self, place: Place) -> Moment:
        return Moment(place[0] // 1_000, self._found_by.get(place, ""), is_own=place in self._told)

    def histories_of(self, name: str, of: str) -> list[History]:
        """What became of whatever had that name; `of` is how the operations on things of its kind end."""
        if of not in self._chronicles:
            self._chronicles[of] = Chronicle(self._told.values(), of)
        return self._chronicles[of].histories_of(name)


def _in_order(matches: Iterable[Match]) -> Mapping[Place, Mapping[str, str]]:
    """Of a record that several rules found, what any of them kept."""
    told: dict[Place, dict[str, str]] = {}
    for match in matches:
        if not is_no(match.values.get(OK_FIELD, "")):
            told.setdefault(match.order, {}).update(match.values)
    return {place: told[place] for place in sorted(told)}


NO_STORY = Story()


def is_no(value: str) -> bool:
    """Whether that is how a record says no."""
    return value.lower() == "false"
