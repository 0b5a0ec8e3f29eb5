"""Matches, and the alerts that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

import msgspec

from m365watch.common.timestamps import instant_of_ms
from m365watch.detection.rules.severity import Severity

AlertId = NewType("AlertId", str)
"""32 hexadecimal digits, made of rule, group and first evidence."""

EVIDENCE_MAX = 50
"""Record ids that an alert names; its count is exact all the same."""
TEXT_MAX = 300
"""Characters of a record's value that an alert repeats."""
CUT = "…"
"""Ends what is longer, or more, than is told."""
_PICTURES = 0x2400
"""The picture of the control character 0; those of the others follow."""
_BLANK, _DELETE, _UNSHOWN = "\u2420", "\u2421", "\ufffd"
MARKS = frozenset((*map(chr, range(_PICTURES, _PICTURES + 0x20)), _BLANK, _DELETE, _UNSHOWN))
"""Stand in a told text for what is not shown: the record has something else there."""


class Match(msgspec.Struct, frozen=True, array_like=True):
    """A record that fulfils a rule's condition, and what is kept of it."""

    rule_id: str
    """The rule that will judge it: the record's own, or a correlation that joins it."""
    source_id: str
    """The rule whose condition the record fulfils."""
    tenant: str
    group: tuple[str, ...]
    """The values that belong to one alert, in lower case."""
    at_ms: int
    """CreationTime, in milliseconds since 1970."""
    identity: str
    """What tells the record from any other; 32 hexadecimal digits, or of an alert that is joined, more."""
    record_id: str
    severity: Severity
    values: Mapping[str, str] = {}
    """What the alert explains itself with."""
    counted: str = ""
    """The value that a correlation counts, sums or averages."""
    written: bytes = b""
    """`values` as they are kept, where that is known already; they may be left out then until it is kept."""

    @property
    def order(self) -> tuple[int, str]:
        """Matches are ordered by time, and within a second by identity, whenever they came."""
        return (self.at_ms, self.identity)


@dataclass(frozen=True, slots=True)
class Alert:
    """What an analyst is told."""

    id: AlertId
    rule_id: str
    title: str
    severity: Severity
    tenant: str
    group: tuple[str, ...]
    entities: tuple[tuple[str, str], ...]
    """Kind and value: ("user", "ann@contoso.example"); of each kind all, the earliest first."""
    first_at_ms: int
    last_at_ms: int
    count: int
    """Matching records, also those that `evidence` has no room for."""
    evidence: tuple[str, ...]
    """Ids of records, the earliest ones of each rule that is joined, at most `EVIDENCE_MAX`."""
    explanation: str
    detection: str = ""
    techniques: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    contain: tuple[str, ...] = ()
    risk: int = 0
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    formerly: tuple[AlertId, ...] = ()
    """Alerts that have become this one: a record that came late moved its start, or joined two."""
    unnamed: tuple[tuple[str, int], ...] = ()
    """By kind, how many entities there was no room for."""

    @property
    def first_seen_at(self) -> datetime:
        """When the first of its records was created."""
        return instant_of_ms(self.first_at_ms)

    @property
    def last_seen_at(self) -> datetime:
        """When the last of its records was created."""
        return instant_of_ms(self.last_at_ms)

    def entity(self, kind: str) -> str:
        """The first entity of that kind; empty where there is none."""
        return next((value for name, value in self.entities if name == kind), "")

    def named(self, kind: str) -> tuple[str, ...]:
        """All entities of that kind."""
        return tuple(value for name, value in self.entities if name == kind)

    def is_of_rule(self, name: str) -> bool:
        """Whether its rule is the one that is named: by its number, its id or a part of its title."""
        wanted = name.lower()
        return wanted in (self.rule_id.lower(), self.detection.lower()) or wanted in self.title.lower()


def make_alert_id(rule_id: str, tenant: str, group: tuple[str, ...], first: str) -> AlertId:
    """The alert's id: the same for the same rule, group and first evidence, whatever else is known."""
    text = "\0".join((rule_id, tenant, *group, first))
    return AlertId(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest())


def told_text(value: str) -> str:
    """A record's value, fit for a line of text, with a mark wherever it is not told as it is.

    A control character is told by its picture, a blank at either end by U+2420, what else is not shown by
    U+FFFD; a value of more than `TEXT_MAX` characters ends in `CUT`.
    """
    if len(value) <= TEXT_MAX and value.isprintable():
        # Nearly every value is so, and most of a match's time went into the rest.
        return value if len(value.strip(" ")) == len(value) else _with_edges(value)
    cut = value[: TEXT_MAX + 1]
    marked = _with_edges("".join(one if one.isprintable() else _mark_of(one) for one in cut))
    return marked if len(marked) <= TEXT_MAX else f"{marked[: TEXT_MAX - 1]}{CUT}"


def _with_edges(value: str) -> str:
    inner = value.strip(" ")
    if not inner:
        return ""
    before = len(value) - len(value.lstrip(" "))
    return _BLANK * before + inner + _BLANK * (len(value) - before - len(inner))


def _mark_of(character: str) -> str:
    if character == "\x7f":
        return _DELETE
    return chr(_PICTURES + ord(character)) if character < " " else _UNSHOWN


def clean_text(value: str) -> str:
    """A record's value, fit for a line of text: no control characters, at most `TEXT_MAX` characters."""
    if len(value) <= TEXT_MAX and value.isprintable():
        return value.strip()  # nearly every value is so, and most of a match's time went into the rest
    cut = value[: TEXT_MAX + 1]
    plain = "".join(one if one.isprintable() else " " for one in cut).strip()
    return plain if len(plain) <= TEXT_MAX else f"{plain[: TEXT_MAX - 1]}…"
