"""A query put together: what is asked, what of it is grouped, and which columns an alert may name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from m365watch.detection.export.linq import linq_syntax as linq
from m365watch.detection.export.linq.derived_columns import WEAKER
from m365watch.detection.export.linq.devo_schema import PREFIX, RECORD, Columns
from m365watch.detection.export.not_translatable import Unsayable
from m365watch.detection.rules.spans import span_text

COUNT = f"{PREFIX}count"
FIRST = f"{PREFIX}first"
LAST = f"{PREFIX}last"
UNTRUSTED = f"{PREFIX}untrusted"
CREATED = "created"
_OWN = {
    "count": COUNT,
    "first": FIRST,
    "last": LAST,
    "distinct": f"{PREFIX}distinct",
    "value": f"{PREFIX}value",
    "values": f"{PREFIX}values",
}
_DASHED = re.compile("[-\u2010-\u2015\u2212]")


@dataclass(slots=True)
class Draft:
    """A query in the making."""

    columns: Columns
    wanted: str = ""
    """What a row has to fulfil."""
    operations: frozenset[str] | None = None
    """The only operations that can fulfil it, for Devo's index; None where it may be any."""
    before: list[str] = field(default_factory=list)
    """Clauses between the condition and the grouping."""
    every_s: int = 0
    """The length of a group's period; 0 for the whole range."""
    keys: list[str] = field(default_factory=list)
    totals: dict[str, str] = field(default_factory=dict)
    """What is worked out of a group, by the name of its column."""
    having: str = ""
    """What a group has to fulfil."""
    after: list[str] = field(default_factory=list)
    """Clauses on the groups that fulfil it."""
    is_grouped: bool = True
    shown: dict[str, str] = field(default_factory=dict)
    """By field, the total that an alert shows of it, in place of what the first row has."""
    carried: str = "alert_"
    """How the columns of a group's first row begin."""

    def carry(self, fields: tuple[str, ...]) -> str | None:
        """The result's column with the first of these fields that has a value; None: there can be none."""
        for one in fields:
            if one in _OWN:
                return _OWN[one] if _OWN[one] in self.totals else None
            if one in self.shown:
                return self.shown[one]
        columns = [column for one in fields if (column := self._column(one)) is not None]
        if not columns:
            return None
        column = columns[0]
        if len(columns) > 1:
            filled = linq.first_of(*(linq.peek(one, "(?s)^.+$", 0) for one in columns))
            column = self.columns.make(f"{columns[0].removeprefix(PREFIX)}_or_other", filled)
        if not self.is_grouped:
            return column
        name = self.carried + column.removeprefix(PREFIX)
        self.totals[name] = f"nnfirst({column})"
        return name

    def _column(self, one: str) -> str | None:
        if not (one[:1].isupper() or one.startswith("m365.")):
            return None
        try:
            return self.columns.text(one)
        except Unsayable:
            return None

    def add_key(self, name: str, *, required: bool) -> str:
        """Group by the field, in lower case as groups are compared here. Raises: Unsayable."""
        column = self.columns.text(name)
        if name in WEAKER:
            self.columns.leave_out(WEAKER[name])
        key = self.columns.make(f"by_{column.removeprefix(PREFIX)}", f'lower(nvl({column}, ""))')
        if required:
            self.wanted = linq.all_of([part for part in (self.wanted, f'{key} != ""') if part])
        self.keys.append(key)
        return key

    def add_times(self) -> None:
        """Let an alert say when it began and ended, by the records' own time."""
        created = self.created()
        self.totals |= {COUNT: "count()", FIRST: f"min({created})", LAST: f"max({created})"}

    def want_untrusted(self, trusted: str) -> None:
        """Let a group do without an alert where the field is true of all its rows. Raises: Unsayable."""
        texts = [linq.peek(self.columns.text(one), "(?s)^.+$", 0) for one in trusted.split("|")]
        held = self.columns.make("trusted", f"lower({linq.never_null(linq.first_of(*texts))})")
        self.totals[UNTRUSTED] = f'sum(ifthenelse({held} = "true", 0, 1))'
        self.having = linq.all_of([part for part in (self.having, f"{UNTRUSTED} > 0") if part])

    def created(self) -> str:
        """The column with the time at which the record was made; Devo's own is that of its arrival."""
        text = f'substring(str({RECORD}["CreationTime"]), 0, 19)'
        return self.columns.make(CREATED, f'parsedate({text}, "YYYY-MM-DD[T]HH:mm:ss", "UTC")')

    def text(self) -> str:
        """The query. Raises: Unsayable: it would be too long."""
        tail = [f"where {self.wanted}"] if self.wanted else []
        tail += self.before
        if self.is_grouped:
            every = f"group every {span_text(self.every_s)}" if self.every_s else "group"
            tail.append(every + (f" by {', '.join(self.keys)}" if self.keys else ""))
            totals = ", ".join(f"{how} as {name}" for name, how in self.totals.items())
            tail += [f"select {totals}"] if totals else []
            tail += [f"where {self.having}"] if self.having else []
            tail += self.after
        head = [f"from {self.columns.table.name}", *self._sifting()]
        whole = "\n".join([*head, *_needed(self.columns.selects, tail, keep_all=not self.is_grouped), *tail])
        if len(whole) > linq.QUERY_LENGTH_MAX:
            raise Unsayable(f"its query would have {len(whole):,} characters")
        return whole

    def _sifting(self) -> list[str]:
        """A first clause that Devo's index answers."""
        if self.operations is None:
            return []
        return [f"where {linq.any_of(_by_name(one) for one in sorted(self.operations))}"]


def _needed(selects: list[str], tail: list[str], *, keep_all: bool) -> list[str]:
    """The columns that something after them uses; all of them where rows are shown as they are."""
    if keep_all:
        return selects
    found: list[str] = []
    after = "\n".join(tail)
    for select in reversed(selects):
        name = select.rsplit(" as ", 1)[1]
        if re.search(rf"\b{re.escape(name)}\b", after):
            found.insert(0, select)
            after += f"\n{select}"
    return found


def _by_name(operation: str) -> str:
    """A condition that holds for the operation however it is written: blanks around, long dashes, case."""
    longest = max(_DASHED.split(operation), key=len).strip()
    if longest == operation:
        return f"eqic(trim(Operation), {linq.quoted(operation)})"
    return f"weakhas(Operation, {linq.quoted(longest)})"
