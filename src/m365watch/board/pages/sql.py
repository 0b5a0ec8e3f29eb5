"""SQL: one SELECT of an analyst's own, over the records of their tenants and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from m365watch.board.access import Role
from m365watch.board.emptiness import no_records
from m365watch.board.panels import Page, Panel
from m365watch.board.pivots import pivot_url
from m365watch.board.shapes import Cell, Empty, Grid, Heading, Shape
from m365watch.board.sources import Sources
from m365watch.board.view import View
from m365watch.board.words import counted, visible
from m365watch.lake.reader import QueryAnswer

ROWS_SHOWN = 1_000
CELL_MAX = 2_000
SQL_MAX = 8_000
_PIVOTS = {
    "user_id": "user",
    "client_ip": "ip",
    "app_id": "app",
    "session_id": "session",
    "operation": "operation",
}
"""Columns whose values lead to all that has them."""
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")
_NO_SQL = Empty(
    "Nothing is asked yet.",
    "Write one SELECT above, or begin with an example. SHOW TABLES and DESCRIBE audit say what there is.",
)
_TOO_LONG = Empty(f"The SQL is longer than {SQL_MAX:,} characters.", "Ask it with m365watch query instead.")


EXAMPLES = {
    "Operations, by how often they happened on the last days": (
        "SELECT operation, workload, count(*) AS records, max(created_at) AS last\nFROM audit\n"
        "WHERE day >= current_date - 7\nGROUP BY ALL ORDER BY records DESC LIMIT 100"
    ),
    "Who changed inbox rules, and from where": (
        "SELECT created_at, user_id, client_ip, operation, field(raw, '$.Parameters') AS parameters\n"
        "FROM exchange\nWHERE operation ILIKE '%InboxRule%'\nORDER BY created_at DESC LIMIT 100"
    ),
    "Addresses from which most people failed to sign in": (
        "SELECT client_ip, count(DISTINCT user_id) AS people, count(*) AS failures\n"
        "FROM azureactivedirectory\nWHERE operation = 'UserLoginFailed'\nGROUP BY ALL\n"
        "ORDER BY people DESC, failures DESC LIMIT 50"
    ),
    "Tables, and the columns of one": "DESCRIBE audit",
}
"""SQL to begin with, by what it tells."""


_NO_CONTENTS = Empty("You see no contents of records, and SQL reads them.", "Search with a filter instead.")


async def answer(view: View, sources: Sources) -> Shape:
    """What the SQL says."""
    if not view.access.sees_contents:
        return Grid((), (), empty=_NO_CONTENTS)
    sql = view.given("sql")
    if not sql.strip():
        return Grid((), (), empty=_NO_SQL)
    if len(sql) > SQL_MAX:
        return Grid((), (), empty=_TOO_LONG)
    told = await sources.ask_sql(view, sql, rows_max=ROWS_SHOWN)
    return Grid((), (), empty=await no_records(view, sources)) if told is None else _grid(view, told)


def _grid(view: View, told: QueryAnswer) -> Grid:
    headings = [
        Heading(name, numeric=_is_number(kind) or kind.startswith("TIMESTAMP"))
        for name, kind in zip(told.columns, told.types, strict=True)
    ]
    rows = [
        [_cell(view, name, value) for name, value in zip(told.columns, row, strict=True)] for row in told.rows
    ]
    title = f"the first {len(rows):,} rows; the exports have more" if told.truncated else ""
    title = title or counted(len(rows), "row", "rows")
    return Grid(headings, rows, title=title, empty=None if rows else Empty("The answer has no rows."))


def _cell(view: View, column: str, value: object) -> Cell:
    text = text_of(value)
    sorts = float(value) if isinstance(value, int | float | Decimal) else None
    kind = _PIVOTS.get(column)
    url = pivot_url(view, kind, text) if kind and text else ""
    shown = text if len(text) <= CELL_MAX else f"{text[:CELL_MAX]}…"
    return Cell(shown, url=url, tone="muted" if value is None else "", sorts=sorts)


def _is_number(kind: str) -> bool:
    return any(word in kind for word in _NUMBERS) and "[" not in kind and "(" not in kind.partition("(")[0]


def text_of(value: object) -> str:
    """A value of SQL as text; a null is no text."""
    plain = plain_of(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def plain_of(value: object) -> object:
    """A value of SQL in JSON's own types: instants in ISO 8601, bytes in hexadecimal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [plain_of(one) for one in value]
        case dict():
            return {str(name): plain_of(one) for name, one in value.items()}
    return str(value)


def objects_of(told: QueryAnswer) -> Sequence[dict[str, object]]:
    """The rows by the names of their columns."""
    return [
        {visible(name): plain_of(value) for name, value in zip(told.columns, row, strict=True)}
        for row in told.rows
    ]


PAGE = Page(
    "sql",
    "SQL",
    (
        Panel(
            "answer",
            "Answer",
            answer,
            says="One SELECT over the records of your tenants; 30 seconds, 1 GiB.",
            tall="rows",
        ),
    ),
    says="The tenants above hold for the SQL; time and other filters are written in it.",
    role=Role.ANALYST,
    under="search",
    narrowed_by=frozenset({"tenant"}),
)
