"""SQL: one SELECT of an analyst's own, over the records of their tenants and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from m365watch.board.access.roles import Role
from m365watch.board.pages.page_types import Page, Panel
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.entity_links import pivot_url
from m365watch.board.widgets.labels import counted, visible
from m365watch.board.widgets.widget_types import Cell, Empty, Grid, Heading, Shape
from m365watch.lake.schema import AUDIT_COLUMNS
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer, is_number, jsonable, text_of

ROWS_SHOWN = 1_000
CELL_MAX = 2_000
SQL_MAX = 8_000
_PIVOTS = {"user_id": "user"} | {
    column.name: column.filter.names[0] for column in AUDIT_COLUMNS if column.filter and column.is_entity
}
"""Columns whose values lead to all that has them."""
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
        Heading(name, numeric=is_number(kind) or kind.startswith("TIMESTAMP"))
        for name, kind in zip(told.columns, told.types, strict=True)
    ]
    rows = [
        [_cell(view, name, value) for name, value in zip(told.columns, row, strict=True)] for row in told.rows
    ]
    title = f"the first {len(rows):,} rows; the exports have more" if told.truncated else ""
    title = title or counted(len(rows), "row", "rows")
    return Grid(headings, rows, title=title, empty=None if rows else Empty("The answer has no rows."))


def _cell(view: View, column: str, value: object) -> Cell:
    text = "" if value is None else text_of(value)
    sorts = float(value) if isinstance(value, int | float | Decimal) else None
    kind = _PIVOTS.get(column)
    url = pivot_url(view, kind, text) if kind and text else ""
    shown = text if len(text) <= CELL_MAX else f"{text[:CELL_MAX]}…"
    return Cell(shown, url=url, tone="muted" if value is None else "", sorts=sorts)


def objects_of(told: QueryAnswer) -> Sequence[dict[str, object]]:
    """The rows by the names of their columns."""
    return [
        {visible(name): jsonable(value) for name, value in zip(told.columns, row, strict=True)}
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
            posted="sql",
        ),
    ),
    says="The tenants above hold for the SQL; time and other filters are written in it.",
    role=Role.ANALYST,
    under="search",
    narrowed_by=frozenset({"tenant"}),
)
