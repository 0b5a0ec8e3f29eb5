"""The rows of a query for people and for programs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal import plain

if TYPE_CHECKING:
    from m365watch.lake.reader import QueryAnswer

COLUMN_WIDTH_MIN = 11
"""Where columns would get narrower than this, each row becomes a block of lines."""
CELL_WIDTH_MAX = 160
"""Longer values, which is to say raw records, are cut in tables; never in CSV and JSON."""
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")


def rows_view(answer: QueryAnswer, *, columns: int) -> RenderableType:
    """The rows as a table that fits into `columns`, or as blocks where it would not."""
    if not answer.rows:
        return Text("no rows", style="dim")
    if len(answer.columns) * COLUMN_WIDTH_MIN > columns:
        return _blocks(answer)
    return _table(answer)


def _table(answer: QueryAnswer) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name, kind in zip(answer.columns, answer.types, strict=True):
        number = any(word in kind for word in _NUMBERS) and "[" not in kind
        table.add_column(
            Text(plain(name)), justify="right" if number else "left", no_wrap=number, overflow="fold"
        )
    for row in answer.rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _blocks(answer: QueryAnswer) -> Group:
    blocks: list[RenderableType] = []
    for number, row in enumerate(answer.rows, start=1):
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for name, value in zip(answer.columns, row, strict=True):
            grid.add_row(Text(plain(name)), _cell(value))
        blocks += [Text(f"row {number}", style="bold"), grid, Text()]
    return Group(*blocks[:-1])


def _cell(value: object) -> Text:
    if value is None:
        return Text("null", style="dim")
    text = plain(_text(value))
    return Text(text if len(text) <= CELL_WIDTH_MAX else text[: CELL_WIDTH_MAX - 1] + "…")


def csv_text(answer: QueryAnswer) -> str:
    """The rows as CSV with a line of names; a null is an empty field."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(["" if value is None else _text(value) for value in row] for row in answer.rows)
    return sink.getvalue()


def json_text(answer: QueryAnswer) -> str:
    """The rows as a JSON array with one object a line; of columns with one name the last is kept."""
    lines = [
        json.dumps(dict(zip(answer.columns, map(_jsonable, row), strict=True)), ensure_ascii=False)
        for row in answer.rows
    ]
    return "[" + ",\n ".join(lines) + "]\n"


def _text(value: object) -> str:
    plainer = _jsonable(value)
    if isinstance(plainer, str):
        return plainer
    return json.dumps(plainer, ensure_ascii=False)


def _jsonable(value: object) -> object:  # noqa: PLR0911 - one line per type
    """`value` in JSON's own types: instants in ISO 8601 with Z, bytes in hexadecimal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
        case datetime():
            return _instant(value)
        case Decimal():
            return float(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_jsonable(one) for one in value]
        case dict():
            return {str(name): _jsonable(one) for name, one in value.items()}
        case date():
            return value.isoformat()
        case _:
            return str(value)


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
