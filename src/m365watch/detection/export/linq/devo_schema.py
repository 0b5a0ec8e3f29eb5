"""The columns that a query makes of a record: each is a `select ... as ...`, made once, named by its field.

All texts are read from the record itself and not from Devo's columns: of those nobody knows all names and
types, and a query that names one that is not there finds nothing at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from m365watch.config.models.wire_values import TABLE_PREFIX
from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.fields.enrichment_context import Knowledge
from m365watch.detection.fields.record_view import MAPS
from m365watch.records.routing import UNION_TABLE, fill_tag


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


def table_of(service: str, knowledge: Knowledge) -> DevoTable:
    """The table with all records of a rule's service; the union where they are in several."""
    usual = _OF_SERVICE.get(service, UNION)
    tags = knowledge.override_tags.get(service, frozenset())
    tag = next(iter(tags)) if len(tags) == 1 else ""
    if usual is UNION or not tag or "{operation}" in tag:
        return usual
    return DevoTable(fill_tag(tag, workload=service, operation=None), "message")


def common_table(tables: set[DevoTable]) -> DevoTable:
    """The one table that has the records of all."""
    return tables.pop() if len(tables) == 1 else UNION


PREFIX = "m365_"
"""No column of Devo's begins so; names that differ only in case would be the same to it."""
RECORD = f"{PREFIX}record"
NULL = 'peek("", re("x"), 0)'
"""A text that is null, for which there is no word."""
LISTS = {
    ("Actor",),
    ("AffectedItems",),
    ("Attachments",),
    ("CopilotEventData", "AccessedResources"),
    ("CopilotEventData", "Messages"),
    ("Folders",),
    ("Members",),
    ("Target",),
}
"""Fields that hold lists of objects: of these any may fulfil a condition, and a column holds one value."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.:$ -]{1,200}")
_FOREIGN = re.compile(r"[^A-Za-z0-9]+")
_TEXTS_IN_JSON = {("Data",)}
"""Fields whose text is JSON by itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands inside a JSON text: `key` of some object in the text of the column."""

    column: str
    key: str


class Columns:
    """The columns of one query, in the order in which each needs those before it."""

    def __init__(
        self, table: DevoTable, knowledge: Knowledge, *, operations: frozenset[str] | None = None
    ) -> None:
        """No column yet but the record; `operations` are the only ones that it may have."""
        self.operations = operations
        self.table = table
        self.knowledge = knowledge
        self.left_out = [
            f"records of {service} that `override_tag` sends to {tag}"
            for service, tags in sorted(knowledge.override_tags.items())
            if table in (UNION, _OF_SERVICE.get(service))
            for tag in sorted(filter(None, tags))
        ]
        """What the rule finds here and the query does not."""
        self._negations = 0
        self._made: dict[str, str] = {RECORD: f"jsonparse({table.record})"}

    def leave_out(self, what: str) -> None:
        """Keep what a weaker form does not find. Raises: Unsayable: under a `not` it would find too much."""
        if self._negations % 2:
            raise Unsayable(f"{what} would go unseen, and under a `not` that is too much")
        if what not in self.left_out:
            self.left_out.append(what)

    @contextmanager
    def negated(self) -> Iterator[None]:
        """What is asked in here stands under a `not`."""
        self._negations += 1
        try:
            yield
        finally:
            self._negations -= 1

    @property
    def selects(self) -> list[str]:
        """The clauses that make the columns."""
        return [f"select {expression} as {name}" for name, expression in self._made.items()]

    def make(self, name: str, expression: str) -> str:
        """The column of that name, made by the expression; the same one where it is there."""
        column = PREFIX + _FOREIGN.sub("_", name).strip("_")
        taken = {one.lower(): one for one in self._made}
        number = 2
        free = column
        while free.lower() in taken and self._made[taken[free.lower()]] != expression:
            free = f"{column}_{number}"
            number += 1
        found = taken.get(free.lower(), free)
        self._made[found] = expression
        return found

    def text(self, field: str) -> str:
        """The column with the field's one value as text; null where the record lacks it.

        Raises: Unsayable: the field has several values, or is made of what no column can be.
        """
        if field.startswith("m365."):
            from m365watch.detection.export.linq.derived_columns import derive

            return derive(self, field.removeprefix("m365."))
        first, _, rest = _checked(field).partition(".")
        if first in MAPS and rest:
            return self._named(first, rest)
        if field == "Operation":
            return self.make("operation_name", "Operation")
        if not rest:
            return self.make(first, _plain(f'{RECORD}["{first}"]'))
        if self.place(field) is not None:
            raise Unsayable(f"{field} has several values in one record, and a column has one")
        return self.make(field, self._inside(field.split(".")))

    def json(self, field: str) -> str:
        """The column with what the top field holds, as JSON text."""
        return self.make(f"{field}_json", f'stringify({RECORD}["{_checked(field)}"])')

    def place(self, field: str) -> Place | None:
        """Where the field's values stand, if it is one of a list of objects; None if it is not."""
        steps = tuple(_checked(field).split("."))
        if len(steps) < 2 or steps[0] in MAPS or not any(steps[: len(one)] == one for one in LISTS):
            return None
        above = "".join(f".{step}" for step in steps[:-1])
        column = self.make(
            f"{'_'.join(steps[:-1])}_json", f"stringify(jqeval(jqcompile({linq.quoted(above)}), {RECORD}))"
        )
        return Place(column, steps[-1])

    def named_side(self, field: str, name: str, side: str) -> str:
        """The column with the value that a list of named values has under the name."""
        key, between = '"Value"', ""
        if field == "ModifiedProperties":
            key = '"NewValue"' if side == "new" else '"OldValue"'
            between = rf'(?:"[A-Za-z]+"\s*:\s*{linq.JSON_TEXT}\s*,\s*)*?'
        found = linq.peek(
            self.json(field),
            rf'(?i)"(?:Name|Key)"\s*:\s*"{linq.json_pattern((name,))}\s*"\s*,\s*{between}{key}\s*:\s*'
            rf"({linq.JSON_TEXT}|[^,}}\]]+)",
        )
        as_json = self.make(f"{field}_{name}_{side}_json", found)
        value = linq.first_of(f'str(jsonparse("{{\\"v\\":" + {as_json} + "}}")["v"])', as_json)
        if self.table is UNION and side == "new" and field in ("Parameters", "NonPIIParameters"):
            value = linq.first_of(value, self._argument(field, name))
        return self.make(f"{field}_{name}" + ("" if side == "new" else "_old"), value)

    def _named(self, field: str, rest: str) -> str:
        head, _, tail = rest.rpartition(".")
        name, side = (head, tail) if head and tail in ("new", "old") else (rest, "new")
        return self.named_side(field, name, side)

    def _argument(self, field: str, name: str) -> str:
        """The value that a cmdlet's parameter has where all of them were written down as one line."""
        line = f'str({RECORD}["{field}"])'
        flag = rf"(?i)(?:^|\s)-{linq.escaped(name)}"
        given = linq.peek(line, rf"""{flag}(?::\s?|\s+)\$?("[^"]*"|'[^']*'|[^\s"'-]\S*)""")
        bare = linq.peek(given, r"""(?s)^["']?(.*?)["']?$""")
        alone = linq.matches(linq.never_null(line), rf"{flag}(?:\s*$|\s+-)")
        return linq.first_of(bare, f'ifthenelse({alone}, "True", {NULL})')

    def _inside(self, steps: list[str]) -> str:
        if tuple(steps[:1]) in _TEXTS_IN_JSON:
            opened = f'jsonparse(str({RECORD}["{steps[0]}"]))'
            return _plain(f"jqeval(jqcompile({linq.quoted('.' + '.'.join(steps[1:]))}), {opened})")
        return _plain(f"jqeval(jqcompile({linq.quoted('.' + '.'.join(steps))}), {RECORD})")


def _plain(value: str) -> str:
    """A JSON value as text: a text itself, and anything else as JSON writes it."""
    return linq.first_of(f"str({value})", f"stringify({value})")


def _checked(field: str) -> str:
    """The name of a field that can stand in a query. Raises: Unsayable."""
    if not _SAFE_NAME.fullmatch(field):
        raise Unsayable(f"the field {field!r} has a name that cannot stand in a query")
    return field
