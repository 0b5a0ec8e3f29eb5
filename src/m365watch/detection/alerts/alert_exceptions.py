"""Exceptions: alerts that somebody has decided not to be told of, as data, each with a reason and an end.

    exceptions:
      - rule: B08                              # any of a rule's names; * for all
        entity: {user: backup@contoso.example} # all of these; * stands for anything
        until: 2026-12-31                      # the first day on which it no longer holds
        reason: the backup reads every mailbox

An exception is about records: an alert is excepted where each of its records is, by this exception or that
one, so that what somebody expects of one account or application hides nothing of another in the same alert.
One that joins or counts what several records say is excepted too where those that are left are too few.
An alert that is excepted is kept, with the reason, and neither shown nor told. What it says of an entity
still serves the correlations that join its rule, which are excepted by their own names, or where the names of
their rules except every record that they join.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from m365watch.common.timestamps import ms_of
from m365watch.detection.fields.ip_addresses import parse_address, parse_network
from m365watch.detection.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class AlertException:
    """One exception."""

    rule: str
    """The rule's id, name, title, number in the catalogue or alias; * for every rule."""
    reason: str
    entity: Mapping[str, str] = field(default_factory=dict)
    """By kind, whose records; in any case, * for anything, or a network. Everybody's where it is empty."""
    tenant: str = ""
    until: date | None = None
    """Records of that day of UTC or later are told again, and the alert that they belong to."""
    place: str = field(default="", compare=False)
    """Its file and line, for whoever has to mend it."""

    def concerns(self, rule: Rule, tenant: str) -> bool:
        """Whether it is about alerts of this rule, of this tenant."""
        if self.rule != "*" and self.rule.lower() not in {name.lower() for name in rule.names}:
            return False
        return not self.tenant or self.tenant.lower() == tenant.lower()

    def holds(self, part: Part, *, joined: bool) -> bool:
        """Whether the record is excepted: by its own time, and not by when it is looked at.

        Where an alert joins what `joined` rules found, not every record names every kind.
        """
        if self.until is not None and part.at_ms >= _ms_of(self.until):
            return False
        for kind, wanted in self.entity.items():
            values = part.entities.get(kind, ())
            if not values and not joined:
                return False
            if not all(_is_meant(value, wanted) for value in values):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Part:
    """What one record of an alert names, by kind, and when it was created."""

    at_ms: int
    entities: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the exceptions say of an alert."""

    reason: str = ""
    """Why, in the words of the first exception that holds for any of it; empty where none does."""
    is_whole: bool = False
    """Whether each of its records is excepted, or so many that without them there is no alert."""
    left: tuple[int, ...] = ()
    """Where a reason is given: the places of the records that are not excepted."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The same for who reads the alert."""
        if not self.reason:
            return ()
        return (
            f"Excepted: {self.reason}"
            if self.is_whole
            else f"Some of its records are excepted: {self.reason}",
        )


_ADDRESSES = frozenset({"address", "ip"})
"""Kinds of entities that a network may stand for."""
_MIDNIGHT = datetime.min.time()
_NOTHING = Verdict()


def _is_meant(value: str, wanted: str) -> bool:
    """Whether the text is like the one that is wanted, or an address in the network."""
    if fnmatchcase(value.lower(), wanted.lower()):
        return True
    network = _network(wanted) if "/" in wanted else None
    address = None if network is None else parse_address(value)
    return network is not None and address is not None and address in network


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network | None:
    return parse_network(text)


def _ms_of(day: date) -> int:
    return ms_of(datetime.combine(day, _MIDNIGHT, UTC))


@dataclass(frozen=True, slots=True)
class Exceptions:
    """All exceptions."""

    every: tuple[AlertException, ...] = ()

    def concern(self, rule: Rule, tenant: str) -> bool:
        """Whether any of them is about alerts of this rule, of this tenant."""
        return any(one.concerns(rule, tenant) for one in self.every)

    def judge(self, rule: Rule, tenant: str, parts: Sequence[Part]) -> Verdict:
        """What they say of an alert with these records."""
        reason, left = "", set(range(len(parts)))
        for one in self.every:
            if not one.concerns(rule, tenant):
                continue
            held = _held_by(one, parts, joined=rule.correlation is not None)
            if all(any(kind in parts[place].entities for place in held) for kind in one.entity) and held:
                reason = reason or one.reason
                left.difference_update(held)
        return Verdict(reason, is_whole=not left, left=tuple(sorted(left))) if reason else _NOTHING


def _held_by(one: AlertException, parts: Sequence[Part], *, joined: bool) -> set[int]:
    """The places of the records that are excepted.

    One that names nothing of what the exception is about is never so by itself, which would hide whoever
    acts from nowhere: it follows the others of its account.
    """
    held = {place for place, part in enumerate(parts) if one.holds(part, joined=joined)}
    silent = {place for place in held if one.entity and one.entity.keys().isdisjoint(parts[place].entities)}
    known = {user for place in held - silent for user in _users(parts[place])}
    strange = {place for place in silent if not _users(parts[place]) or not _users(parts[place]) <= known}
    return held - strange


def _users(part: Part) -> set[str]:
    return {one.lower() for one in part.entities.get("user", ())}


def list_unknown(exceptions: Exceptions, rules: Iterable[Rule], *, tenants: Collection[str]) -> list[str]:
    """A line for each exception that excepts nothing: no such rule, tenant, or entity of the rule's."""
    known = {one.lower() for one in tenants}
    named: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in {name.lower() for name in rule.names}:
            named.setdefault(name, []).append(rule)
    every = [rule for rules in named.values() for rule in rules]
    lines: list[str] = []
    for one in exceptions.every:
        place = f"{one.place}: " if one.place else ""
        if one.rule != "*" and one.rule.lower() not in named:
            lines.append(f"{place}there is no rule {one.rule}: the exception excepts nothing")
            continue
        if one.tenant and one.tenant.lower() not in known:
            lines.append(
                f"{place}there is no tenant {one.tenant} in the configuration; write its whole id: "
                "the exception excepts nothing"
            )
            continue
        lines += [
            f"{place}{text} is no network, such as 192.0.2.0/24: the exception excepts nothing"
            for kind, text in one.entity.items()
            if kind in _ADDRESSES and "/" in text and _network(text) is None
        ]
        kinds = _kinds_of(named.get(one.rule.lower(), every), every)
        strange = sorted(one.entity.keys() - kinds) if kinds else []
        if strange:
            lines.append(
                f"{place}{one.rule} has no entity {strange[0]}, only {', '.join(sorted(kinds))}: "
                "the exception excepts nothing"
            )
    return lines


def _kinds_of(rules: Sequence[Rule], every: Sequence[Rule]) -> set[str]:
    """The kinds of entity that alerts of the rules may have; of what joins others, those of any rule."""
    joins = any(rule.correlation is not None for rule in rules)
    return {kind for rule in (every if joins else rules) for kind in rule.extension.entity}
