"""What narrows a view beside its time: tenant, workload, user and so on, as a URL has them."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from m365watch.detection.alerts.alert import TEXT_MAX, clean_text
from m365watch.lake.schema import AUDIT_COLUMNS
from m365watch.lake.search.filter_sql import Network

DIMENSIONS = {column.fact.dimension: column.fact.name for column in AUDIT_COLUMNS if column.fact}
"""The column of the facts by the name in a URL."""
NOT = "not-"
"""What the name in a URL begins with where its value must not be there."""
NEGATED = tuple(f"{NOT}{name}" for name in DIMENSIONS if name not in {"tenant", "result"})
_IN_ORDER = (*DIMENSIONS, *NEGATED)
NUMBERS = frozenset({"type", "usertype"})
NAMES = frozenset({*DIMENSIONS, *NEGATED})
VALUES_MAX = 20
"""Values of one name that count; the others are left out."""
OUTCOMES = ("ok", "failed")
_NUMBERS = re.compile(
    r"[0-9]+(\.[0-9]+){2,}(/[0-9]*)?|[0-9a-f:]*:[0-9a-f:]*/[0-9]*", re.ASCII | re.IGNORECASE
)
_WANTED = {"result": " or ".join(OUTCOMES), "ip": "an address or a network"}
ANY = "*"
"""Stands for anything in a value of `PATTERNED`."""
PATTERNED = frozenset({"workload", "operation", "user", "ip", "app"})


@dataclass(frozen=True, slots=True)
class Narrowing:
    """Values by name; of one name any may hold, and all names have to."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[str, ...]:
        """What is asked for under that name."""
        return self.values.get(name, ())

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it needs."""
        return frozenset(DIMENSIONS[plain_name(name)] for name in self.values)

    @property
    def named_columns(self) -> frozenset[str]:
        """Those of which it names values, whole ones, that have to be there."""
        return frozenset(
            DIMENSIONS[name]
            for name, values in self.values.items()
            if name in DIMENSIONS and not any(is_pattern(name, one) for one in values)
        )

    def with_value(self, name: str, value: str) -> Narrowing:
        """The same, and `value` alone under `name`; a negated name keeps the others that it has."""
        others = tuple(one for one in self.of(name) if one != value) if name in NEGATED else ()
        return Narrowing({**self.values, name: (*others, value)[-VALUES_MAX:]})

    def with_values(self, name: str, values: Iterable[str]) -> Narrowing:
        """The same, and these values alone under `name`."""
        return Narrowing({**self.values, name: tuple(values)})

    def without(self, name: str, value: str) -> Narrowing:
        """The same, less one value."""
        left = {one: tuple(x for x in kept if (one, x) != (name, value)) for one, kept in self.values.items()}
        return Narrowing({one: kept for one, kept in left.items() if kept})

    def pairs(self) -> list[tuple[str, str]]:
        """Name and value, in the order in which a URL has them."""
        return [(name, value) for name in _IN_ORDER if name in self.values for value in self.values[name]]


NOT_NARROWED = Narrowing()


def read_narrowing(query: Iterable[tuple[str, str]]) -> Narrowing:
    """What a URL's query asks for; what cannot be meant is left out."""
    found: dict[str, list[str]] = {}
    for name, given in query:
        value, plain = _exact(given), plain_name(name)
        if name not in NAMES or not value or not _can_be(plain, value):
            continue
        value = value.lower() if plain in {"user", "tenant", "ip", "app"} else value
        kept = found.setdefault(name, [])
        if value not in kept and len(kept) < VALUES_MAX:
            kept.append(value)
    return Narrowing({name: tuple(found[name]) for name in (*DIMENSIONS, *NEGATED) if name in found})


def _exact(given: str) -> str:
    """The value as it stands: whoever has a character in their name that is not shown is nobody else.

    Empty where it is nothing that could be seen, or too long.
    """
    return given if len(given) <= TEXT_MAX and clean_text(given) else ""


def is_pattern(name: str, value: str) -> bool:
    """Whether a value stands for many: with `*` for anything, or as a network of addresses."""
    return plain_name(name) in PATTERNED and (ANY in value or network_of(name, value) is not None)


def network_of(name: str, value: str) -> Network | None:
    """The network that a value of addresses means; None where it is none."""
    if plain_name(name) != "ip" or "/" not in value:
        return None
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def is_no_address(value: str) -> bool:
    """Whether it looks like an address or a network, and is none."""
    if not _NUMBERS.fullmatch(value):
        return False
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return True
    return False


def is_no_network(value: str) -> bool:
    """Whether it looks like a network, and is none; no record has such an address."""
    return "/" in value and is_no_address(value)


def is_one_of(name: str, values: Iterable[str], given: str) -> bool:
    """Whether what a record or an alert says is one of the values, any that stand for many included."""
    return any(_is(name, value, given.lower()) for value in values)


def _is(name: str, value: str, given: str) -> bool:
    if (network := network_of(name, value)) is not None:
        try:
            return ipaddress.ip_address(given) in network
        except ValueError:
            return False
    if is_pattern(name, value):
        parts = map(re.escape, value.lower().split(ANY))
        return re.fullmatch(".*".join(parts), given, re.DOTALL) is not None
    return value.lower() == given


def unread_narrowing(query: Iterable[tuple[str, str]]) -> list[str]:
    """What `read_narrowing` leaves out of it, each with what it should be."""
    told: list[str] = []
    counts: Counter[str] = Counter()
    for name, given in query:
        if name not in NAMES or not given:
            continue
        value, plain = _exact(given), plain_name(name)
        counts[name] += 1
        if not value:
            told.append(f"{name} is no text of at most {TEXT_MAX} characters")
        elif not _can_be(plain, value):
            told.append(f"{name}={value} is not {_WANTED.get(plain, 'a number')}")
        elif counts[name] == VALUES_MAX + 1:
            told.append(f"of {name} the first {VALUES_MAX} values count")
    return told


def plain_name(name: str) -> str:
    """The name of the dimension, negated or not."""
    return name.removeprefix(NOT)


def _can_be(name: str, value: str) -> bool:
    if name == "ip":
        return not is_no_network(value)
    if name == "result":
        return value in OUTCOMES
    return name not in NUMBERS or (value.isascii() and value.isdigit() and len(value) < 10)
