"""Devo's table of each record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from m365watch.common.model import Header
from m365watch.config.models.wire_values import TABLE_PREFIX

if TYPE_CHECKING:
    from m365watch.records.masking import Masker


@dataclass(frozen=True, slots=True)
class Treatment:
    """What the settings ask for; by default nothing."""

    override_tag: str | None = None
    """The table of every record, in place of the one that its Workload names."""
    environment: str | None = None
    """Devo's `@devo_environment`."""
    masker: Masker | None = None
    """What masks the records, before any output sees them."""


UNION_TABLE = "cloud.office365.management"
"""Devo's union of all tables below it; it has columns of its own, which are those of service health."""
UNKNOWN_LEVEL = "unknown"
"""The level of a table that a record's field names which the record lacks."""
_WORKLOADS_MAX = 1000
_FILLED_MAX = 10_000
_LEVEL_CHARACTERS_MAX = 64
_FOREIGN = re.compile(r"[^a-z0-9_-]+")


class Router:
    """Gives each record its table: the service's `override_tag`, or the one of its Workload."""

    def __init__(self) -> None:
        """The tables are worked out once per Workload and Operation and remembered, up to a bound."""
        self._tables = _Tables()
        self._filled: dict[tuple[str, str | None, str | None], str] = {}

    def tables(self, headers: list[Header], *, override_tag: str | None) -> list[str]:
        """The table of each record, in order.

        In `override_tag`, {workload} and {operation} stand for the record's own, each one level.
        """
        if override_tag is None:
            tables = self._tables
            return [tables[header.Workload] for header in headers]
        if "{" not in override_tag:
            return [override_tag] * len(headers)
        filled = self._filled
        return [
            filled.get((override_tag, header.Workload, header.Operation)) or self._fill(override_tag, header)
            for header in headers
        ]

    def _fill(self, override_tag: str, header: Header) -> str:
        if len(self._filled) >= _FILLED_MAX:
            self._filled.clear()
        table = fill_tag(override_tag, workload=header.Workload, operation=header.Operation)
        self._filled[override_tag, header.Workload, header.Operation] = table
        return table


class _Tables(dict[str | None, str]):
    """The table of each Workload that was asked for, up to a bound."""

    def __missing__(self, workload: str | None) -> str:
        if len(self) >= _WORKLOADS_MAX:
            self.clear()
        table = self[workload] = table_of(workload)
        return table


def table_of(workload: str | None) -> str:
    """cloud.office365.management. and the Workload in lower case, one level, safe in a path.

    Source: Devo's page of the collector; every table name it publishes follows this rule.
    """
    return TABLE_PREFIX + _level_of(workload)


def fill_tag(override_tag: str, *, workload: str | None, operation: str | None) -> str:
    """The tag with {workload} and {operation} replaced, each by one level as `table_of` writes it."""
    return override_tag.replace("{workload}", _level_of(workload)).replace(
        "{operation}", _level_of(operation)
    )


def _level_of(text: str | None) -> str:
    """The text in lower case as one level of a table's name; `UNKNOWN_LEVEL` where none is left."""
    level = _FOREIGN.sub("_", (text or "").strip().lower())[:_LEVEL_CHARACTERS_MAX].strip("_")
    return level or UNKNOWN_LEVEL
