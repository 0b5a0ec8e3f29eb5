"""What an alert and its matches say of the things that a response has to act on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from m365watch.detect.alert import Alert, Match
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

    def values(self, *names: str) -> tuple[str, ...]:
        """The values of the first of these fields that has any, as far as they are known whole."""
        for name in names:
            found = tuple(value for value in self.fields.get(name, ()) if _is_whole(value))
            if found:
                return found[:TARGETS_MAX]
        return ()

    def entity(self, *kinds: str) -> tuple[str, ...]:
        """The values of the first of these kinds that has any, as far as they are known whole."""
        for kind in kinds:
            found = tuple(value for value in self.entities.get(kind, ()) if _is_whole(value))
            if found:
                return found[:TARGETS_MAX]
        return ()

    def without(self, fields: Collection[str]) -> Clues:
        """The same, but for these fields."""
        kept = {name: values for name, values in self.fields.items() if name not in fields}
        return Clues(self.entities, kept, self.first_at)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that the alert is about, then those that acted on them."""
        about = dict.fromkeys(one for one in self.entity("user") if is_account(one))
        actors = [one for one in self.entity("actor") if is_account(one) and one not in about]
        return (*map(Account, about), *(Account(one, acted=True) for one in dict.fromkeys(actors)))

    @property
    def mailboxes(self) -> tuple[str, ...]:
        """The mailboxes that were touched, as PowerShell takes them, also by an alias.

        By the address where it is the user's own; the account's own where none is named.
        """
        own = {user.partition("@")[0].lower(): user for user in self.entity("user") if is_account(user)}
        named = self.values("Parameters.Mailbox", "MailboxOwnerUPN") or self.entity("mailbox")
        found = [own.get(one.lower(), one) for one in named] or list(own.values())
        return tuple(dict.fromkeys(found))[:TARGETS_MAX]

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
    return list(found.values())


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
