"""Devo's table of each record."""

from __future__ import annotations

import re

from m365watch.model import Header

TABLE_PREFIX = "cloud.office365.management."
UNKNOWN_WORKLOAD = "unknown"
"""The last level of the table of a record that names no workload."""
_WORKLOADS_MAX = 1000
_LEVEL_CHARACTERS_MAX = 64
_FOREIGN = re.compile(r"[^a-z0-9_-]+")


class Router:
    """Gives each record its table: the service's `override_tag`, or the one of its Workload."""

    def __init__(self) -> None:
        """The tables are worked out once per Workload and remembered, up to a bound."""
        self._tables: dict[str | None, str] = {}

    def tables(self, headers: list[Header], *, override_tag: str | None) -> list[str]:
        """The table of each record, in order."""
        if override_tag is not None:
            return [override_tag] * len(headers)
        known = self._tables
        return [known.get(header.Workload) or self._table(header.Workload) for header in headers]

    def _table(self, workload: str | None) -> str:
        if len(self._tables) >= _WORKLOADS_MAX:
            self._tables.clear()
        table = self._tables[workload] = table_of(workload)
        return table


def table_of(workload: str | None) -> str:
    """cloud.office365.management. and the Workload in lower case, one level, safe in a path.

    Source: Devo's page of the collector; every table name it publishes follows this rule.
    """
    level = _FOREIGN.sub("_", (workload or "").strip().lower())[:_LEVEL_CHARACTERS_MAX].strip("_")
    return TABLE_PREFIX + (level or UNKNOWN_WORKLOAD)
