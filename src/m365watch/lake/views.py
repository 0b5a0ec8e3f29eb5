"""The names under which the lake is asked: Devo's tables, and short words for them."""

from __future__ import annotations

from collections.abc import Iterable

from m365watch.lake.schema import AUDIT, TABLES

UNION = "cloud.office365.management"
"""Devo's union of all tables of this collector; also the alias `management`."""
UNION_ALIAS = "management"
APART = {shape.devo_table: shape.name for shape in TABLES if shape.devo_table}
"""Devo's names of the tables that are no part of `audit`, and what they are called here."""
NO_AUDIT = frozenset({*APART, *(shape.name for shape in TABLES if shape.name != AUDIT)})
"""The names that have nothing to do with `audit`."""
_PREFIX = f"{UNION}."
_ALWAYS = tuple(f"{_PREFIX}{last}" for last in ("azureactivedirectory", "exchange", "onedrive", "sharepoint"))
"""Tables that can be asked even where no record has arrived."""


def is_devo_table(name: str) -> bool:
    """Whether `name` is one of the tables that Devo keeps for this feed, whatever has arrived."""
    return name.startswith(_PREFIX)


def plan_views(present: Iterable[str], *, reserved: frozenset[str]) -> dict[str, str]:
    """SQL condition on `audit` by name of view, for the Devo tables `present` and the constant ones.

    Every table has its full name, and its last segment as an alias unless that is one of
    the `reserved` words of SQL or another table has it; Devo's own tables come first.
    """
    nameable = {table for table in present if table and table.isprintable() and table not in NO_AUDIT}
    tables = sorted({*nameable, *_ALWAYS}, key=lambda name: (not is_devo_table(name), name))
    union = f"devo_table = {quote_text(UNION)} OR starts_with(devo_table, {quote_text(_PREFIX)})"
    views = {UNION: f"({union})"}
    # Records of the union itself are no table apart from it.
    tables = [table for table in tables if table != UNION]
    views |= {table: f"devo_table = {quote_text(table)}" for table in tables}
    taken = {AUDIT, *NO_AUDIT, *(name.lower() for name in views)}
    for table, alias in [(UNION, UNION_ALIAS), *((table, table.rpartition(".")[2]) for table in tables)]:
        if alias.lower() not in taken | reserved and alias:
            views[alias] = views[table]
            taken.add(alias.lower())
    return views


def quote_text(text: str) -> str:
    """`text` as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """`name` as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
