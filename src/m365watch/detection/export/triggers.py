"""The other triggers that Devo has, beside those that watch the collector itself.

Source: the OpenAPI document of Devo's Alerts API, `correlationTrigger` by kind; periods are in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
