"""What an alert and its matches say of the things that a response has to act on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.alerts.alert import Alert, Match
from m365watch.detection.alerts.alert_builder import named_in, split_line
from m365watch.detection.fields.operations import normalise_operation
from m365watch.detection.rules.rule import Rule
from m365watch.response.plans.app_ids import App, acting_app, app_of
from m365watch.response.plans.principal_ownership import is_of_microsoft, is_service, synchronises
from m365watch.response.plans.record_timeline import NO_STORY, OK_FIELD, Place, Story, is_no
from m365watch.response.steps.command_escaping import is_account, is_whole

_MADE = "add user."
GROUP_FIELD = "m365.target_group"
"""The field that has the group which something was given to."""
_OUTSIDE_FIELD = "m365.outside_actor"
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
    last_at: datetime | None = None
    """When the last of the records was created that say this; None where nobody asked."""
    places: tuple[Place, ...] = ()
    """Where the records that say this stand in the story."""
    story: Story = NO_STORY
    """What the records of the alert tell, and those of all that are read together with it."""
    made: frozenset[str] = frozenset()
    """Accounts that a record shows being made, in lower case."""
    groups: frozenset[str] = frozenset()
    """Groups that something was given to, by their object ids and what stands in an account's place."""
    outside: frozenset[str] = frozenset()
    """Accounts of other organisations, in lower case: no directory of this one knows them."""

    def values(self, *names: str) -> tuple[str, ...]:
        """The values of the first of these fields that has any, as far as they are known whole.

        Where the record has the field, and not so that it is known whole, no other stands in for it.
        """
        found = next((self.fields[name] for name in names if self.fields.get(name)), ())
        return tuple(value for value in found if is_whole(value))[:TARGETS_MAX]

    def told(self, *names: str) -> tuple[str, ...]:
        """The same, also of those that are not known whole, which can stand in no command."""
        return next((self.fields[name] for name in names if self.fields.get(name)), ())[:TARGETS_MAX]

    def has(self, *names: str) -> bool:
        """Whether the record has one of these fields, known whole or not."""
        return any(self.fields.get(name) for name in names)

    @property
    def operation(self) -> str:
        """What was done, normalised; empty where it is not known."""
        return normalise_operation(next(iter(self.fields.get("Operation", ())), ""))

    @property
    def is_refused(self) -> bool:
        """Whether the record says that nothing came of it."""
        told = self.fields.get(OK_FIELD, ())
        return bool(told) and all(map(is_no, told))

    def is_about(self, *endings: str) -> bool:
        """Whether what was done ends in one of these; also where it is not known."""
        return not self.operation or self.operation.endswith(endings)

    def entity(self, *kinds: str) -> tuple[str, ...]:
        """The values of the first of these kinds that has any, as far as they are known whole."""
        found = next((self.entities[kind] for kind in kinds if self.entities.get(kind)), ())
        return tuple(value for value in found if is_whole(value))[:TARGETS_MAX]

    def has_entity(self, kind: str) -> bool:
        """Whether the alert names any of that kind, known whole or not."""
        return bool(self.entities.get(kind))

    def without(self, fields: Collection[str]) -> Clues:
        """The same, but for these fields."""
        kept = {name: values for name, values in self.fields.items() if name not in fields}
        return replace(self, fields=kept)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The accounts that the alert is about, then those that acted on them; no service or group is one.

        Nor is an account of another organisation, to which nothing can be done here.
        """
        return tuple(one for one in self._named if one.name.lower() not in self.outside)

    @property
    def accounts_outside(self) -> tuple[Account, ...]:
        """The same of other organisations."""
        return tuple(one for one in self._named if one.name.lower() in self.outside)

    @property
    def _named(self) -> tuple[Account, ...]:
        named = (one for one in self.entity("user") if one.lower() not in self.groups)
        about = _each_once(one for one in named if _is_own(one))
        known = {one.lower() for one in about}
        actors = _each_once(one for one in self.entity("actor") if _is_own(one) and one.lower() not in known)
        return (*map(Account, about), *(Account(one, acted=True) for one in actors))

    def is_called_bridge(self, name: str) -> bool:
        """Whether it has the name of what carries the directory of the house; what was just made does not.

        Names are anybody's to choose: which account it is, only the tenant knows.
        """
        return synchronises(name) and name.lower() not in self.made

    @property
    def applications(self) -> tuple[App, ...]:
        """The applications, by whichever id the alert has, whoever's they are."""
        named = self.entity("app")
        apps = (app for app in map(app_of, reversed(named)) if app is not None)
        return tuple(reversed({app.id: app for app in apps}.values()))[:TARGETS_MAX]

    @property
    def acting_applications(self) -> tuple[App, ...]:
        """Those that did it themselves, as no account does."""
        named = (*self.entities.get("user", ()), *self.entities.get("actor", ()))
        apps = (app for app in map(acting_app, named) if app is not None)
        return tuple({app.id: app for app in apps}.values())[:TARGETS_MAX]

    @property
    def applications_to_shut(self) -> tuple[App, ...]:
        """But for Microsoft's own: whoever disables these stops everybody's work."""
        return tuple(app for app in self.applications if not is_of_microsoft(app.id))

    @property
    def applications_of_microsoft(self) -> tuple[App, ...]:
        """Those of which only what was added to them here may go."""
        return tuple(app for app in self.applications if is_of_microsoft(app.id))


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
    return Clues(
        _frozen(entities),
        _frozen(fields),
        first_at=f"{alert.first_seen_at:%Y-%m-%dT%H:%M:%SZ}",
        made=frozenset(_made_in(matches)),
        groups=_groups_in(matches, entities),
        outside=_said_in(matches, _OUTSIDE_FIELD),
    )


def _groups_in(matches: Sequence[Match], entities: Collection[str]) -> frozenset[str]:
    """The groups to which these matches show something being given, under each of their names.

    What a group is called is its maker's to choose: an account of that name is one where another record is
    about it, or where the alert, of these kinds of entities, is about who acted.
    """
    of_groups = [match for match in matches if match.values.get(GROUP_FIELD)]
    of_others = _said_in((one for one in matches if not one.values.get(GROUP_FIELD)), "ObjectId")
    acted = frozenset[str]() if "actor" in entities else _said_in(matches, "UserId")
    return _said_in(matches, GROUP_FIELD) | (_said_in(of_groups, "ObjectId") - of_others - acted)


def _said_in(matches: Iterable[Match], name: str) -> frozenset[str]:
    """What these matches have in that field, in lower case."""
    return frozenset(match.values.get(name, "").lower() for match in matches) - {""}


def _made_in(matches: Iterable[Match]) -> Iterator[str]:
    """The accounts that these matches show being made."""
    for match in matches:
        if normalise_operation(match.values.get("Operation", "")) == _MADE:
            yield match.values.get("ObjectId", "").lower()


def split_clues(alert: Alert, matches: Sequence[Match], rule: Rule | None = None) -> list[Clues]:
    """The same record by record, so that nobody loses what only another's record gave.

    Its rule tells what each of its records names, by kind: who gave a right in one record is in the next who
    got one. Where the rule is not known any more, an entity belongs to the records that name it anywhere, and
    one that is the only one of its kind to all. Of an alert whose matches are not kept any more the rest
    belongs to nobody.
    """
    whole_alert = gather_clues(alert, ())
    single = {kind: values for kind, values in whole_alert.entities.items() if len(values) == 1}
    if not matches:
        return [Clues(single, {}, whole_alert.first_at, alert.last_seen_at)]
    found: dict[object, Clues] = {}
    for match in sorted(matches, key=lambda one: one.order):
        key = (match.source_id, match.group, match.counted, tuple(sorted(match.values.items())))
        if key not in found:
            named = _named_in(match, whole_alert, single) if rule is None else named_by(rule, match)
            fields = {name: (value,) for name, value in match.values.items()}
            found[key] = Clues(
                named,
                fields,
                whole_alert.first_at,
                groups=_groups_in((match,), named),
                outside=_said_in((match,), _OUTSIDE_FIELD),
            )
        places = (*found[key].places, match.order)
        found[key] = replace(found[key], last_at=instant_of_ms(match.at_ms), places=places)
    return [*found.values()]


def named_by(rule: Rule, match: Match) -> dict[str, tuple[str, ...]]:
    """What one record of the rule's alert names, by kind."""
    return {kind: tuple(values) for kind, values in named_in(rule, (match,)).items()}


def _named_in(
    match: Match, whole_alert: Clues, single: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    lines = (part for value in match.values.values() for part in (value, *split_line(value)))
    said = {line.lower() for line in lines}
    of_record = {
        kind: tuple(one for one in every if one.lower() in said)
        for kind, every in whole_alert.entities.items()
    }
    return {kind: one or single.get(kind, ()) for kind, one in of_record.items()}


def _is_own(name: str) -> bool:
    """Whether that is an account of a person or a program, and no service."""
    return is_account(name) and not is_service(name)


def _each_once(names: Iterable[str]) -> list[str]:
    """Each name once, whichever of its letters are capitals."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.lower(), name)
    return list(found.values())


def _frozen(found: Mapping[str, Mapping[str, None]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in found.items()}


def first_of(values: Sequence[str]) -> str:
    """The only value; empty where there are several, or none."""
    return values[0] if len(values) == 1 else ""
