"""What defines an alert at Devo: a LINQ query, the trigger that counts its rows, and the words of the alert.

Source: Devo's Alerts API, /v1/alertDefinitions; kinds of triggers and their keys as in its OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Several:
    """An alert when more than `threshold` rows came in a period, counted apart by the columns `keys`."""

    period: timedelta
    threshold: int
    keys: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API."""
        return {
            "kind": "several",
            "period": self.period // _MILLISECOND,
            "threshold": self.threshold,
            "keys": list(self.keys),
        }


@dataclass(frozen=True, slots=True)
class Rolling:
    """The query is run every `period` over the `back_period` before; each row is an alert."""

    period: timedelta
    back_period: timedelta

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API."""
        return {
            "kind": "rolling",
            "period": self.period // _MILLISECOND,
            "backPeriod": self.back_period // _MILLISECOND,
        }


@dataclass(frozen=True, slots=True)
class Changed:
    """An alert when an aggregated column moved by more than `threshold`: `gradient` or `deviation`."""

    kind: str
    threshold: float
    absolute: bool
    columns: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API."""
        return {
            "kind": self.kind,
            "threshold": self.threshold,
            "absolute": self.absolute,
            "aggregationColumn": list(self.columns),
        }


PRIORITY_MAX = 5
"""Devo's priorities: 1 very low to 5 very high."""


class Trigger(Protocol):
    """When the rows of a query make an alert."""

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API."""
        ...


@dataclass(frozen=True, slots=True)
class Each:
    """An alert for each row."""

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API."""
        return {"kind": "each"}


@dataclass(frozen=True, slots=True)
class Low:
    """An alert when a period had no more than `threshold` rows."""

    period: timedelta
    threshold: int = 0

    def document(self) -> dict[str, Any]:
        """`correlationTrigger` of the API; its times are in milliseconds."""
        return {"kind": "low", "period": _milliseconds(self.period), "threshold": self.threshold}


@dataclass(frozen=True, slots=True)
class Definition:
    """One alert as Devo is to keep it; its name is what it is known by."""

    name: str
    headline: str
    """Devo calls it the message; `$column` stands for a column of the query."""
    description: str
    query: str
    """LINQ."""
    trigger: Trigger
    priority: int
    """1 to `PRIORITY_MAX`."""
    subcategory: str = "m365watch"

    def document(self) -> dict[str, Any]:
        """The body with which the API makes it."""
        return {
            "name": self.name,
            "message": self.headline,
            "description": self.description,
            "subcategory": self.subcategory,
            "alertCorrelationContext": {
                "querySourceCode": self.query,
                "priority": self.priority,
                "correlationTrigger": self.trigger.document(),
            },
        }

    def difference(self, kept: Mapping[str, Any]) -> list[str]:
        """The keys in which `kept`, an answer of the API, is another alert; what else it has is Devo's own.

        The subcategory is left out: Devo answers with a longer name of its own making.
        """
        asked = self.document()
        del asked["subcategory"]
        return _difference(asked, kept)


def _difference(asked: Mapping[str, Any], kept: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in asked.items():
        other = kept.get(key)
        if isinstance(value, Mapping):
            found += _difference(value, other if isinstance(other, Mapping) else {}, f"{above}{key}.")
        # Numbers come back as text in places.
        elif str(value) != str(other):
            found.append(f"{above}{key}")
    return found


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
