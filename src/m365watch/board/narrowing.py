"""What narrows a view beside its time: tenant, workload, user and so on, as a URL has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from m365watch.detect.alert import clean_text
from m365watch.values import dataclass

DIMENSIONS = {
    "tenant": "tenant_id",
    "workload": "workload",
    "type": "record_type",
    "operation": "operation",
    "user": "user_id",
    "usertype": "user_type",
    "result": "outcome",
    "ip": "client_ip",
    "app": "app_id",
}
"""The column of the facts by the name in a URL."""
NOT = "not-"
"""What the name in a URL begins with where its value must not be there."""
NEGATED = tuple(f"{NOT}{name}" for name in DIMENSIONS if name not in {"tenant", "result"})
_IN_ORDER = (*DIMENSIONS, *NEGATED)
NUMBERS = frozenset({"type", "usertype"})
VALUES_MAX = 20
"""Values of one name that count; the others are left out."""
OUTCOMES = ("ok", "failed")


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
        """Those of which it names values that have to be there."""
        return frozenset(DIMENSIONS[name] for name in self.values if name in DIMENSIONS)

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
        value = clean_text(given)
        plain = plain_name(name)
        if name not in {*DIMENSIONS, *NEGATED} or not value or not _can_be(plain, value):
            continue
        value = value.lower() if plain in {"user", "tenant", "ip", "app"} else value
        kept = found.setdefault(name, [])
        if value not in kept and len(kept) < VALUES_MAX:
            kept.append(value)
    return Narrowing({name: tuple(found[name]) for name in (*DIMENSIONS, *NEGATED) if name in found})


def plain_name(name: str) -> str:
    """The name of the dimension, negated or not."""
    return name.removeprefix(NOT)


def _can_be(name: str, value: str) -> bool:
    if name == "result":
        return value in OUTCOMES
    return name not in NUMBERS or (value.isascii() and value.isdigit() and len(value) < 10)
