"""What an alert and its matches say of the things that a response has to act on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from m365watch.detect.alert import Alert, Match
from m365watch.detect.derived.operation import normalise_operation
from m365watch.detect.judging import split_line
from m365watch.respond.app_names import App, app_of
from m365watch.respond.quoting import UnsafeValue, is_account, whole
from m365watch.values import dataclass

_OF_MICROSOFT = re.compile(r"0000000[0-9a-f]-0000-(?:0000-c000|0ff1-ce00)-000000000000")
"""Exchange, SharePoint, Graph ... themselves: whoever disables these stops everybody's work."""
TARGETS_MAX = 50
"""Accounts, rules, links ... of one alert that get a step each."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account that a step is for, and how the alert has it."""

    name: str
    acted: bool = False
    """Whether it did the thing, where the alert is about another's account."""

    @property
    def told(self) -> str:
        """The account, as a step's title names it."""
        return f"{self.name} (who did it)" if self.acted else self.name


@dataclass(frozen=True, slots=True)
class Clues:
    """Entities and fields, each with its different values, the earliest first."""

    entities: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, tuple[str, ...]]
    first_at: str
    """When the alert's first record was created."""
    records: Sequence[Mapping[str, str]] = ()
    """What each record of the alert says, the earliest first."""

    def values(self, *names: str) -> tuple[str, ...]:
        """The values of the first of these fields that has any, as far as they are known whole.

        Where the record has the field, and not so that it is known whole, no other stands in for it.
        """
        found = next((self.fields[name] for name in names if self.fields.get(name)), ())
        return tuple(value for value in found if _is_whole(value))[:TARGETS_MAX]

    def has(self, *names: str) -> bool:
        """Whether the record has one of these fields, known whole or not."""
        return any(self.fields.get(name) for name in names)

    @property
    def operation(self) -> str:
        """What was done, normalised; empty where it is not known."""
        return normalise_operation(next(iter(self.fields.get("Operation", ())), ""))

    def is_about(self, *endings: str) -> bool:
        """Whether what was done ends in one of these; also where it is not known."""
        return not self.operation or self.operation.endswith(endings)

    def entity(self, *kinds: str) -> tuple[str, ...]:
        """The values of the first of these kinds that has any, as far as they are known whole."""
        found = next((self.entities[kind] for kind in kinds if self.entities.get(kind)), ())
        return tuple(value for value in found if _is_whole(value))[:TARGETS_MAX]

    def has_entity(self, kind: str) -> bool:
        """Whether the alert names any of that kind, known whole or not."""
        return bool(self.entities.get(kind))

    def without(self, fields: Collection[str]) -> Clues:
        """The same, but for these fields."""
        kept = {name: values for name, values in self.fields.items() if name not in fields}
        return replace(self, fields=kept)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that the alert is about, then those that acted on them."""
        about = dict.fromkeys(one for one in self.entity("user") if is_account(one))
        actors = [one for one in self.entity("actor") if is_account(one) and one not in about]
        return (*map(Account, about), *(Account(one, acted=True) for one in dict.fromkeys(actors)))

    @property
    def applications(self) -> tuple[App, ...]:
        """The applications, by whichever id the alert has; but for Microsoft's own services."""
        named = (
            *self.entity("app"),
            *self.values("m365.app"),
            *self.values("ModifiedProperties.ServicePrincipal.AppId.new"),
        )
        apps = (app for app in map(app_of, reversed(named)) if app is not None)
        found = {app.id: app for app in apps if not _OF_MICROSOFT.fullmatch(app.id)}
        return tuple(reversed(found.values()))[:TARGETS_MAX]


def gather_clues(alert: Alert, matches: Sequence[Match]) -> Clues:
    """What the alert and those of its matches that are still kept know together: whom it is about.

    Which of them belong to each other, `split_clues` knows.
    """
    entities: dict[str, dict[str, None]] = {}
    for kind, value in alert.entities:
        entities.setdefault(kind, {}).setdefault(value)
    fields: dict[str, dict[str, None]] = {}
    for match in sorted(matches, key=lambda one: one.order):
        for name, value in match.values.items():
            fields.setdefault(name, {}).setdefault(value)
    return Clues(_frozen(entities), _frozen(fields), first_at=f"{alert.first_seen_at:%Y-%m-%dT%H:%M:%SZ}")


def split_clues(alert: Alert, matches: Sequence[Match]) -> list[Clues]:
    """The same record by record, so that nobody loses what only another's record gave.

    An entity belongs to the records that name it; one that is the only one of its kind, to all. Of an alert
    whose matches are not kept any more the rest belongs to nobody.
    """
    whole_alert = gather_clues(alert, ())
    single = {kind: values for kind, values in whole_alert.entities.items() if len(values) == 1}
    if not matches:
        return [Clues(single, {}, whole_alert.first_at)]
    found: dict[tuple[tuple[str, str], ...], Clues] = {}
    for match in sorted(matches, key=lambda one: one.order):
        key = tuple(sorted(match.values.items()))
        if key not in found:
            found[key] = _clues_of(match.values, whole_alert, single)
    records = tuple(match.values for match in sorted(matches, key=lambda one: one.order))
    return [replace(clues, records=records) for clues in found.values()]


def _clues_of(values: Mapping[str, str], whole_alert: Clues, single: Mapping[str, tuple[str, ...]]) -> Clues:
    lines = (part for value in values.values() for part in (value, *split_line(value)))
    said = {line.lower() for line in lines}
    of_record = {
        kind: tuple(one for one in every if one.lower() in said)
        for kind, every in whole_alert.entities.items()
    }
    entities = {kind: one or single.get(kind, ()) for kind, one in of_record.items()}
    return Clues(entities, {name: (value,) for name, value in values.items()}, whole_alert.first_at)


def _frozen(found: Mapping[str, Mapping[str, None]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in found.items()}


def _is_whole(value: str) -> bool:
    try:
        whole(value)
    except UnsafeValue:
        return False
    return True


def first_of(values: Sequence[str]) -> str:
    """The only value; empty where there are several, or none."""
    return values[0] if len(values) == 1 else ""
