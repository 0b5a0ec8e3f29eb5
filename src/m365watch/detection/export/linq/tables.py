"""Devo's tables of this feed's records, and which one a rule asks.

Source: Devo's pages on cloud.office365.management: a table for each Workload, and their union. Only columns
that Devo's own queries use are relied on; everything else is read out of the record, which is
kept whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.records.routing import UNION_TABLE


@dataclass(frozen=True, slots=True)
class DevoTable:
    """A table, and the column that has the whole record as JSON."""

    name: str
    record: str


UNION = DevoTable(UNION_TABLE, "rawMessage")
_OF_SERVICE = {
    "exchange": DevoTable(f"{TABLE_PREFIX}exchange", "message"),
    "azureactivedirectory": DevoTable(f"{TABLE_PREFIX}azureactivedirectory", "message"),
}


def table_of(service: str) -> DevoTable:
    """The table with all records of a rule's service; the union where they are in several."""
    return _OF_SERVICE.get(service, UNION)


def common_table(tables: set[DevoTable]) -> DevoTable:
    """The one table that has the records of all."""
    return tables.pop() if len(tables) == 1 else UNION
