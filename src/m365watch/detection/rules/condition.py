"""A rule's condition as plain frozen values: what is asked of which field, and how it is joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Network, IPv6Network
from operator import eq, ge, gt, le, lt, ne


class Wildcard(Enum):
    """The two special characters of a Sigma text; a text that is written like one equals neither."""

    MANY = "*"
    ONE = "?"


class Order(StrEnum):
    """How two numbers are compared."""

    LESS = "lt"
    AT_MOST = "lte"
    MORE = "gt"
    AT_LEAST = "gte"
    EQUAL = "eq"
    OTHER = "neq"


ORDERS: dict[Order, Callable[[float, float], bool]] = {
    Order.LESS: lt,
    Order.AT_MOST: le,
    Order.MORE: gt,
    Order.AT_LEAST: ge,
    Order.EQUAL: eq,
    Order.OTHER: ne,
}
"""How the first of two numbers stands to the second."""


class TimePart(StrEnum):
    """A part of an instant that a rule may ask for."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


@dataclass(frozen=True, slots=True)
class Like:
    """The value is this text, in which wildcards may stand; letters of either case unless `cased`."""

    parts: tuple[str | Wildcard, ...]
    cased: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value, in lower case, is one of these texts: a list of a file, or many plain values."""

    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class ContainsOneOf:
    """The value, in lower case, holds one of these texts at `place`, and none of `unless` anywhere."""

    values: tuple[str, ...]
    place: str = "anywhere"
    """anywhere, start or end."""
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matches:
    """A regular expression of RE2 is found in the value."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Compared:
    """The value, read as a number, stands in this order to `number`."""

    order: Order
    number: float


@dataclass(frozen=True, slots=True)
class ComparedTime:
    """A part of the value, read as an instant, stands in this order to `number`."""

    part: TimePart
    order: Order
    number: float


@dataclass(frozen=True, slots=True)
class InNetwork:
    """The value, read as an address, belongs to the network."""

    network: IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there, or is not; a null counts as not there."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class IsNull:
    """The field is absent or null."""


@dataclass(frozen=True, slots=True)
class SameAs:
    """The value equals a value of another field of the same record."""

    field: str
    place: str = "whole"
    """whole, anywhere, start or end."""


Comparison = (
    Like | OneOf | ContainsOneOf | Matches | Compared | ComparedTime | InNetwork | Exists | IsNull | SameAs
)


@dataclass(frozen=True, slots=True)
class Test:
    """Some value of the field passes the comparison; without a field, some value of the whole record."""

    field: str | None
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Never:
    """The part does not hold."""

    part: Condition


Condition = Test | Every | Some | Never


def with_unless(condition: Condition, unless: Mapping[str, tuple[str, ...]]) -> Condition:
    """The condition, in which values that hold one of these parts, by field, count under no `contains`."""
    match condition:
        case Never(part):
            return Never(with_unless(part, unless))
        case Every(parts):
            return Every(tuple(with_unless(part, unless) for part in parts))
        case Some(parts):
            return Some(tuple(with_unless(part, unless) for part in parts))
        case Test(str() as field, ContainsOneOf(values, place)) if field in unless:
            return Test(field, ContainsOneOf(values, place, unless[field]))
        case Test(str() as field, Like((Wildcard.MANY, str() as word, Wildcard.MANY), False)) if (
            field in unless
        ):
            return Test(field, ContainsOneOf((word.lower(),), unless=unless[field]))
    return condition


def list_tests(condition: Condition) -> Iterator[Test]:
    """Every test of a condition, in the order in which it stands there."""
    match condition:
        case Test():
            yield condition
        case Never(part):
            yield from list_tests(part)
        case Every(parts) | Some(parts):
            for part in parts:
                yield from list_tests(part)


def list_fields(condition: Condition) -> frozenset[str] | None:
    """The names of the fields that the condition reads; None where it reads the whole record."""
    names: set[str] = set()
    for test in list_tests(condition):
        if test.field is None:
            return None
        names.add(test.field)
        if isinstance(test.comparison, SameAs):
            names.add(test.comparison.field)
    return frozenset(names)
