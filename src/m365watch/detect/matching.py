"""Which rules a record fulfils, at the price of looking at those alone that it could fulfil."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import Any

import msgspec

from m365watch.detect.alert import Match, clean_text
from m365watch.detect.compile import Predicate, compile_condition, read_instant
from m365watch.detect.condition import Condition, Every, Like, OneOf, Some, Test, Wildcard
from m365watch.detect.derived.operation import normalise_operation
from m365watch.detect.extension import Severity
from m365watch.detect.fields import View
from m365watch.detect.knowledge import NOTHING_KNOWN, Knowledge
from m365watch.detect.rule import Rule
from m365watch.detect.uses import Use, counted_value, groups_of, kept_values, plan_uses

OPERATIONS_MAX = 20_000
"""Spellings of operations whose rules are remembered; beyond that they are worked out each time."""
_ANY = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule ready to run."""

    rule: Rule
    holds: Predicate
    raises: tuple[tuple[Severity, Predicate], ...]
    uses: tuple[Use, ...]

    def severity_of(self, view: View) -> Severity:
        """The rule's severity, or a higher one that a selection asks for."""
        found = self.rule.severity
        for severity, holds in self.raises:
            if severity.rank > found.rank and holds(view):
                found = severity
        return found


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a record before it is decoded."""

    tenant: str
    received_at: datetime
    """Stands in for a CreationTime that cannot be read."""


class Matcher:
    """The rules, by the operations that they can match."""

    def __init__(self, rules: Iterable[Rule], *, knowledge: Knowledge = NOTHING_KNOWN) -> None:
        """`rules` include those that correlations join."""
        kept = list(rules)
        self.knowledge = knowledge
        uses = plan_uses(kept)
        self._by_operation: dict[str, list[Compiled]] = {}
        self._residual: list[Compiled] = []
        self._known: dict[str | None, tuple[Compiled, ...]] = {}
        for rule in kept:
            if rule.condition is not None and uses[rule.id]:
                self._place(_compile(rule, uses[rule.id]))

    def _place(self, compiled: Compiled) -> None:
        condition = compiled.rule.condition
        names = operations_of(condition) if condition is not None else None
        if names is None:
            self._residual.append(compiled)
        for name in names or ():
            self._by_operation.setdefault(name, []).append(compiled)

    def _everything(self) -> Iterable[Compiled]:
        return chain(*self._by_operation.values(), self._residual)

    def candidates(self, operation: str | None) -> tuple[Compiled, ...]:
        """The rules that a record with this operation may fulfil; all where it could not be read."""
        found = self._known.get(operation)
        if found is None:
            if operation is None:
                # Fast decoders refuse some records; it stands in the record whether it could be read or not.
                found = tuple({one.rule.id: one for one in self._everything()}.values())
            else:
                found = (*self._by_operation.get(normalise_operation(operation), ()), *self._residual)
            if len(self._known) < OPERATIONS_MAX:
                self._known[operation] = found
        return found

    def match(self, record: bytes, told: Told, *, operation: str | None) -> list[Match]:
        """A match for every rule that the record fulfils, for each of its uses and groups."""
        candidates = self.candidates(operation)
        if not candidates:
            return []
        decoded = decode_record(record)
        if decoded is None:
            return []
        view = View(decoded, knowledge=self.knowledge, tenant=told.tenant)
        fulfilled = [one for one in candidates if one.holds(view)]
        if not fulfilled:
            return []
        identity = identify_record(view, record)
        return [match for one in fulfilled for match in _matches_of(one, view, told, identity)]


def decode_record(record: bytes) -> Mapping[str, Any] | None:
    """The record's fields; None where it is no JSON object that can be read."""
    try:
        decoded = _ANY.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = _decode_tolerantly(record)
    return decoded if isinstance(decoded, dict) else None


def _decode_tolerantly(record: bytes) -> object:
    """What is no strict JSON: half a character, bytes of no text, control characters; None otherwise."""
    try:
        return json.loads(record.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _compile(rule: Rule, uses: tuple[Use, ...]) -> Compiled:
    condition = rule.condition
    assert condition is not None  # noqa: S101 - the caller has looked
    raises = tuple(
        (one.to, compile_condition(rule.selections[one.when]))
        for one in rule.extension.raises
        if one.when in rule.selections
    )
    return Compiled(rule, compile_condition(condition), raises, uses)


def identify_record(view: View, record: bytes) -> str:
    """What tells the record from any other: the same for every collector and every search of the lake.

    Made of tenant, Id, CreationTime, Operation and RecordType; of the whole text where there is no Id.
    """
    digest = blake2b(view.tenant.encode(), digest_size=16)
    if view.values("Id"):
        for name in ("Id", "CreationTime", "Operation", "RecordType"):
            digest.update(b"\x1f" + view.first(name).encode("utf-8", "surrogatepass"))
    else:
        digest.update(record)
    return digest.hexdigest()


def _matches_of(compiled: Compiled, view: View, told: Told, identity: str) -> list[Match]:
    severity = compiled.severity_of(view)
    at = read_instant(view.first("CreationTime")) or told.received_at
    at_ms = round(at.timestamp() * 1000)
    record_id = clean_text(view.first("Id")[:100]) or identity
    return [
        Match(
            rule_id=use.rule_id,
            source_id=compiled.rule.id,
            tenant=told.tenant,
            group=group,
            at_ms=at_ms,
            identity=identity,
            record_id=record_id,
            severity=severity,
            values=kept_values(view, use),
            counted=counted_value(view, use),
        )
        for use in compiled.uses
        for group in groups_of(view, use)
    ]


def operations_of(condition: Condition) -> frozenset[str] | None:
    """The operations that the condition can be fulfilled with, in normal form; None for any."""
    match condition:
        case Test("Operation" | "m365.operation", comparison):
            return _exact_names(comparison)
        case Every(parts):
            known = [names for part in parts if (names := operations_of(part)) is not None]
            return frozenset.intersection(*known) if known else None
        case Some(parts):
            every = [operations_of(part) for part in parts]
            if any(names is None for names in every):
                return None
            return frozenset[str]().union(*(names for names in every if names is not None))
    return None


def _exact_names(comparison: object) -> frozenset[str] | None:
    match comparison:
        case OneOf(values):
            return frozenset(normalise_operation(value) for value in values)
        case Like((str() as text,), False) if not isinstance(text, Wildcard):
            return frozenset((normalise_operation(text),))
    return None
