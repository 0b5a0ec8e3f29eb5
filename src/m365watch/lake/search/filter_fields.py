"""The fields that a filter can ask for: names, kinds, and how each is made of a row of `audit`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from m365watch.lake.rollups.facts import MADE_OF
from m365watch.lake.schema import AUDIT_COLUMNS, Column, Filter, Kind
from m365watch.lake.views import quote_text

RAW = "raw."
"""What a field of the record itself begins with: raw.ClientInfoString."""
_PATH = re.compile(r"[A-Za-z_][\w$-]*(\.[A-Za-z_0-9][\w$-]*){0,5}", re.ASCII)
_ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Field:
    """One field."""

    name: str
    kind: Kind
    sql: str
    """Its value in lower case, or its number, for a row of `audit`; text is never null."""
    says: str = ""
    others: tuple[str, ...] = ()
    """Further names."""
    reads_raw: bool = False
    has_contents: bool = False
    values: tuple[str, ...] = ()
    """All that there are, where they are few."""


def _field_of(column: Column, asked: Filter) -> Field:
    name, *others = asked.names
    sql = MADE_OF["outcome"] if asked.kind is Kind.RESULT else column.compared
    return Field(
        name,
        asked.kind,
        sql,
        asked.says,
        tuple(others),
        has_contents=column.has_contents,
        values=asked.values,
    )


FIELDS = tuple(_field_of(column, column.filter) for column in AUDIT_COLUMNS if column.filter)
_BY_NAME = {name: one for one in FIELDS for name in (one.name, *one.others)}


def field_named(name: str) -> Field | None:
    """The field of that name, in any case; `raw.` and a path is a field of the record itself."""
    if name.lower().startswith(RAW):
        path = name[len(RAW) :]
        return _raw_field(path) if _PATH.fullmatch(path) else None
    return _BY_NAME.get(name.lower())


def nearest_name(name: str) -> str:
    """The name that was perhaps meant; empty where none is near."""
    near = difflib.get_close_matches(name.lower(), _BY_NAME, 1, _ALIKE)
    return near[0] if near else ""


def _raw_field(path: str) -> Field:
    """A field of the record; of a list of names and values, the value under the last name."""
    steps = path.split(".")
    pointed = quote_text("$" + "".join(f'."{step}"' for step in steps))
    found = [f"try(raw->>{pointed})"]
    if len(steps) > 1:
        above = quote_text("$" + "".join(f'."{step}"' for step in steps[:-1]))
        shape = quote_text('[{"Name":"VARCHAR","Value":"VARCHAR"}]')
        named = f"from_json(try(raw->{above}), {shape})"
        found.append(f"try(list_filter({named}, lambda one: one.Name = {quote_text(steps[-1])})[1].Value)")
    # Most records have no such field; to see that is much cheaper than to read them as JSON.
    named_so = quote_text(f'"{steps[-1]}"')
    value = f"CASE WHEN contains(raw, {named_so}) THEN lower(coalesce({', '.join(found)}, '')) ELSE '' END"
    return Field(f"{RAW}{path}", Kind.TEXT, value, reads_raw=True, has_contents=True)
