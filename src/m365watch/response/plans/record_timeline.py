"""What records tell one after the other: those of an alert, and of all that it joins, together.

Two alerts find two records of one rule, and neither knows what the other's did to it: a rule that hides mail
was made in the one, and got another name and another receiver in the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

from m365watch.detection.alerts.alert import Match
from m365watch.response.plans.histories import Chronicle, History
from m365watch.response.plans.inbox_rule_names import Moment, Names, names_in

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
