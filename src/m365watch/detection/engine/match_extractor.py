"""Matches of records that fulfil the same rules: what is kept of each, out of the fields that tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from m365watch.common.timestamps import ms_of
from m365watch.detection.alerts.alert import Match, clean_text
from m365watch.detection.engine.field_predicates import OWN
from m365watch.detection.engine.field_values import Habit, Source, picker_of, weigh
from m365watch.detection.engine.lazy_decoder import Parts, Piece, Read, Written
from m365watch.detection.engine.match_consumers import Sought, Use, counted_text, groups_of
from m365watch.detection.engine.value_cache import Memory
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.field_catalog import needs_of
from m365watch.detection.fields.record_view import View
from m365watch.detection.rules.condition import Condition, list_fields
from m365watch.detection.rules.condition_compiler import Predicate, compile_condition, read_ms
from m365watch.detection.rules.severity import Severity

SIGHTINGS_MAX = 200_000
"""Keys whose first sightings are remembered beside those on disk."""

_Key = tuple[str, str, tuple[str, ...], str, int]


class Sightings:
    """When each key was first seen in its stretch of time: durably, or in the batch at hand."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._first_ms: dict[_Key, int] = {}
        self._before: list[tuple[_Key, int | None]] = []
        """What was known before the batch at hand, of the keys that it has."""

    def adds(self, use: Use, tenant: str, group: tuple[str, ...], counted: str, *, at_ms: int) -> bool:
        """Whether the key was not seen earlier in the same stretch; from now on it counts as seen."""
        key = (use.rule_id, tenant, group, counted, at_ms // use.bucket_ms)
        first_ms = self._first_ms.get(key)
        if first_ms is not None and first_ms < at_ms:
            return False
        self._before.append((key, first_ms))
        self._first_ms[key] = at_ms
        return True

    def settle(self) -> None:
        """The batch at hand is durable."""
        self._before.clear()
        if len(self._first_ms) > SIGHTINGS_MAX:
            self._first_ms.clear()

    def take_back(self) -> None:
        """Nothing of the batch at hand counts."""
        for key, first_ms in reversed(self._before):
            if first_ms is None:
                self._first_ms.pop(key, None)
            else:
                self._first_ms[key] = first_ms
        self._before.clear()


_KIND = ("Operation", "RecordType")
SAID_BYTES_MAX = 2_048
"""What a match says at greater length is written down each time."""
_WEIGHED_BYTES = 64
"""So many bytes weigh as much as one short value."""
_write = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a record before it is decoded."""

    tenant: str
    received_at: datetime
    """Stands in for a CreationTime that cannot be read."""


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """A condition that holds, and what its matches are for."""

    rule_id: str
    severity: Severity
    """The rule's own."""
    condition: Condition
    uses: tuple[Use, ...]
    raises: tuple[tuple[Severity, Predicate], ...]
    read: frozenset[str] | None
    """The top fields that are read of a record for a match, beside its identity; None for all."""

    def severity_of(self, view: View) -> Severity:
        """The rule's severity, or a higher one that a selection asks for."""
        found = self.severity
        for severity, holds in self.raises:
            if severity.rank > found.rank and holds(view):
                found = severity
        return found


def fulfil(sought: Sought) -> Fulfilled:
    """The rule, ready for records that fulfil it."""
    names: set[str] | None = {name for use in sought.uses for name in use.fields}
    for _, condition in sought.raises:
        fields = list_fields(condition)
        names = None if fields is None or names is None else names | fields
    read = None if names is None else frozenset(need for name in names for need in needs_of(name))
    raises = tuple((to, compile_condition(one)) for to, one in sought.raises)
    return Fulfilled(sought.rule_id, sought.severity, sought.condition, sought.uses, raises, read)


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A field as matches have it."""

    folded: tuple[str, ...] = ()
    """As groups are made of it."""
    line: str = ""
    """As an alert repeats it."""
    first: str = ""
    """Its first value."""
    counted: str = ""


def show_field(view: View, name: str) -> Shown:
    """The field of that name."""
    values = view.values(name)
    if len(values) == 1 and type(values[0]) is str:
        # Most fields that have one: what an alert repeats is what groups are made of.
        line = view.shown(name)
        return Shown((line.lower(),) if line else (), line, values[0], counted_text(values[0]))
    first = view.first(name)
    return Shown(view.folded(name), view.shown(name), first, counted_text(first))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A use of a rule, and where among what is known of a record stands what it keeps."""

    use: Use
    source_id: str
    severity: int
    group: tuple[int, ...]
    kept: tuple[tuple[str, int], ...]
    counted: tuple[int, ...]
    said: dict[object, tuple[dict[str, str], bytes]]
    """What matches say whose kept fields have these lines, and that as it is kept."""
    memory: Memory
    habit: Habit

    def remember(self, lines: tuple[str, ...], said: tuple[dict[str, str], bytes]) -> None:
        """Have it at hand for the next match that says the same."""
        if len(said[1]) <= SAID_BYTES_MAX:
            self.said[lines] = said
            self.memory.values += 1 + len(said[1]) // _WEIGHED_BYTES


def can_be_drawn(rules: Sequence[Fulfilled]) -> bool:
    """Whether fields tell all that their matches have, but for the record's id and time."""
    return all(one.read is not None and not one.read & OWN for one in rules)


class _Drawn(NamedTuple):
    """What a use is told by the fields that are looked up first."""

    wanted: _Wanted
    groups: list[tuple[str, ...]]
    counted: str
    said: tuple[dict[str, str], bytes] | None
    """What the match says; None where that is looked up only for a match that adds something."""


class _Prepared(NamedTuple):
    """What the fields that are looked up first tell of a record."""

    known: list[Any]
    drawn: tuple[_Drawn, ...]
    """Of each use that has a group."""


class _Asked:
    """Sources, several of which may know what they tell under the same key."""

    __slots__ = ("_keyed", "_told", "sources")

    def __init__(self, sources: Sequence[Source[Any]]) -> None:
        """In the order in which they are asked."""
        names = [(source.fields, source.picked is None) for source in sources]
        keyed = dict(zip(names, sources, strict=True))
        numbers = {name: number for number, name in enumerate(keyed)}
        self.sources = tuple(sources)
        self._keyed = tuple((source.place, source.picked) for source in keyed.values())
        self._told = tuple(
            (numbers[name], source.known.get) for name, source in zip(names, sources, strict=True)
        )

    def ask(self, raws: Sequence[Piece], tenant: str) -> list[Any]:
        """What each tells."""
        keys = [raws[place] if picked is None else (tenant, picked(raws)) for place, picked in self._keyed]
        found = [get(keys[number]) for number, get in self._told]
        if None in found:
            for place, source in enumerate(self.sources):
                if found[place] is None:
                    # Sources of the same name know the same: an earlier one may have learned it just now.
                    key = keys[self._told[place][0]]
                    known = source.known.get(key)
                    found[place] = source.learn(key, raws, tenant) if known is None else known
        return found


class Drawing(Habit):
    """How matches are made of records that fulfil the same rules."""

    __slots__ = (
        "_early",
        "_kind",
        "_late",
        "_memory",
        "_parts",
        "_pick",
        "_prepared",
        "_severities",
        "_wanted",
    )

    def __init__(
        self, rules: Sequence[Fulfilled], fields: Sequence[str], *, knowledge: Knowledge, memory: Memory
    ) -> None:
        """Rules of which `can_be_drawn` holds; `fields` have been read of a record already."""
        super().__init__()
        early = dict.fromkeys((*_KIND, *(name for one in rules for use in one.uses for name in _early(use))))
        late = dict.fromkeys(
            name for one in rules for use in one.uses for name in use.kept if name not in early
        )
        raising = {one.rule_id: one for one in rules if one.raises}
        needs = {name: needs_of(name) for name in (*early, *late)}
        needs |= {rule_id: tuple(sorted(one.read or ())) for rule_id, one in raising.items()}
        wanted = dict.fromkeys(need for one in needs.values() for need in one)
        self._parts = None if set(fields).issuperset(wanted) else Parts(wanted)
        among = tuple(fields) if self._parts is None else self._parts.fields

        def source_of(name: str) -> Source[Any]:
            rule = raising.get(name)
            return Source(
                needs[name],
                among,
                _shown_by(name) if rule is None else rule.severity_of,
                is_plain=rule is None and needs[name] == (name,),
                knowledge=knowledge,
                memory=memory,
                known=memory.of(name),
            )

        self._early = _Asked([source_of(name) for name in (*early, *raising)])
        self._late = _Asked([source_of(name) for name in late])
        self._severities = [one.severity for one in rules]
        # A raised severity comes after the rule's own, and counts in its place.
        known = (*(one.rule_id for one in rules), *early, *raising, *late)
        places = {name: place for place, name in enumerate(known)}
        self._kind = (places["Operation"], places["RecordType"])
        self._wanted = tuple(_wanted(one, use, places, memory) for one in rules for use in one.uses)
        self._pick = picker_of(self._early.sources)
        self._prepared: dict[object, _Prepared] = memory.make()
        self._memory = memory

    def matches(self, record: Written, read: Read, told: Told, sightings: Sightings) -> list[Match] | None:
        """A match for every use of each rule, and each group; None where the record has no plain id or time.

        Raises: one of looks.UNREADABLE.
        """
        record_id, created, raws = read if self._parts is None else self._parts.read(record)
        if type(record_id) is not str or type(created) is not str:
            return None
        tenant = told.tenant
        prepared = self._prepare(raws, tenant)
        at_ms = read_ms(created)
        at_ms = ms_of(told.received_at) if at_ms is None else at_ms
        found: list[Match] = []
        known = prepared.known
        own: tuple[str, int, str, str] | None = None
        for drawn in prepared.drawn:
            use, groups = drawn.wanted.use, drawn.groups
            if use.bucket_ms:
                text = drawn.counted
                groups = [one for one in groups if sightings.adds(use, tenant, one, text, at_ms=at_ms)]
            if groups:
                if own is None:
                    known = [*known, *self._late.ask(raws, tenant)]
                    kind = [known[place].first for place in self._kind]
                    identity = _identity_of((tenant, record_id, created, *kind))
                    own = tenant, at_ms, identity, clean_text(record_id[:100]) or identity
                found += _draw(drawn, groups, known, own)
        return found

    def _prepare(self, raws: Sequence[Piece], tenant: str) -> _Prepared:
        """What comes of the fields that are looked up first, remembered where the same come again."""
        if not self.pays:
            return self._prepare_anew(raws, tenant)
        key = tenant, self._pick(raws)
        prepared = self._prepared.get(key)
        if prepared is not None:
            self.hits += 1
            return prepared
        prepared = self._prepare_anew(raws, tenant)
        places = {place for source in self._early.sources for _, place in source.fields}
        weight = weigh([raw for place in places if (raw := raws[place])])
        if weight is not None:
            self._prepared[key] = prepared
            self._memory.values += weight
        self.misses += 1
        self.judge()
        return prepared

    def _prepare_anew(self, raws: Sequence[Piece], tenant: str) -> _Prepared:
        known = [*self._severities, *self._early.ask(raws, tenant)]
        drawn = []
        for wanted in self._wanted:
            groups = _groups(wanted, known)
            if groups:
                said = None if wanted.use.bucket_ms else _said(wanted, known)
                drawn.append(_Drawn(wanted, groups, _counted(wanted, known), said))
        return _Prepared(known, tuple(drawn))


def _early(use: Use) -> tuple[str, ...]:
    """What has to be known before it can be told whether a match adds anything."""
    return (*use.group, *use.counted) if use.bucket_ms else tuple(use.fields)


def draw_alone(
    rules: Sequence[Fulfilled], view: View, record: Written, told: Told, *, sightings: Sightings
) -> list[Match]:
    """The same, of a record whose fields do not tell it all."""
    at_ms = read_ms(view.first("CreationTime"))
    at_ms = ms_of(told.received_at) if at_ms is None else at_ms
    identity = identify_record(view, record)
    shown_id = clean_text(view.first("Id")[:100]) or identity
    found: list[Match] = []
    for one in rules:
        names = dict.fromkeys(name for use in one.uses for name in use.fields)
        places = {name: place for place, name in enumerate((*names, one.rule_id))}
        known = [*(show_field(view, name) for name in names), one.severity_of(view)]
        for wanted in [_wanted(one, use, places, Memory()) for use in one.uses]:
            groups, text = _groups(wanted, known), _counted(wanted, known)
            if wanted.use.bucket_ms:
                adds = partial(sightings.adds, wanted.use, told.tenant, at_ms=at_ms)
                groups = [group for group in groups if adds(group, text)]
            drawn = _Drawn(wanted, groups, text, None)
            found += _draw(drawn, groups, known, (told.tenant, at_ms, identity, shown_id))
    return found


def _groups(wanted: _Wanted, known: Sequence[Any]) -> list[tuple[str, ...]]:
    """The groups that a record belongs to."""
    group: tuple[str, ...] = ()
    for place in wanted.group:
        folded = known[place].folded
        if len(folded) != 1:
            return groups_of([known[place].folded for place in wanted.group], wanted.use)
        group += folded
    # Nearly every field of a group has one value.
    return [group]


def _counted(wanted: _Wanted, known: Sequence[Any]) -> str:
    if not wanted.counted:
        return ""
    parts = [known[place].counted for place in wanted.counted]
    return "\x1f".join(parts) if any(parts) else ""


def _said(wanted: _Wanted, known: Sequence[Any]) -> tuple[dict[str, str], bytes]:
    """What the match says; the matches of an account mostly say the same."""
    lines = tuple([known[place].line for _, place in wanted.kept])
    habit = wanted.habit
    said = wanted.said.get(lines) if habit.pays else None
    if said is not None:
        habit.hits += 1
        return said
    values = {name: line for (name, _), line in zip(wanted.kept, lines, strict=True) if line}
    said = values, _write(values)
    if habit.pays:
        wanted.remember(lines, said)
        habit.misses += 1
        habit.judge()
    return said


def _draw(
    drawn: _Drawn,
    groups: Iterable[tuple[str, ...]],
    known: Sequence[Any],
    own: tuple[str, int, str, str],
) -> list[Match]:
    """The matches of one use; `own` has tenant, time, identity and id of the record."""
    tenant, at_ms, identity, record_id = own
    wanted, counted = drawn.wanted, drawn.counted
    values, written = drawn.said or _said(wanted, known)
    return [
        Match(
            wanted.use.rule_id,
            wanted.source_id,
            tenant,
            group,
            at_ms,
            identity,
            record_id,
            known[wanted.severity],
            values,
            counted,
            written,
        )
        for group in groups
    ]


def _wanted(one: Fulfilled, use: Use, places: dict[str, int], memory: Memory) -> _Wanted:
    return _Wanted(
        use,
        one.rule_id,
        places[one.rule_id],
        tuple(places[name] for name in use.group),
        tuple((name, places[name]) for name in use.kept),
        tuple(places[name] for name in use.counted),
        memory.make(),
        memory,
        Habit(),
    )


def _shown_by(name: str) -> Callable[[View], Shown]:
    return lambda view: show_field(view, name)


def identify_record(view: View, record: Written) -> str:
    """What tells the record from any other: the same for every collector and every search of the lake.

    Made of tenant, Id, CreationTime, Operation and RecordType; of the whole text where there is no Id.
    """
    if view.values("Id"):
        names = ("Id", "CreationTime", *_KIND)
        return _identity_of((view.tenant, *[view.first(name) for name in names]))
    return blake2b(view.tenant.encode() + record, digest_size=16).hexdigest()


def _identity_of(parts: Sequence[str]) -> str:
    return blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
