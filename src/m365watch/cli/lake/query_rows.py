"""The rows of a query for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.common.csv_export import csv_lines
from m365watch.common.text import plain
from m365watch.lake.sql_sandbox.sandbox_client import is_number, jsonable, text_of

if TYPE_CHECKING:
    from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer

COLUMN_WIDTH_MIN = 16
"""Where longer texts would get fewer columns than this, each row becomes a block of lines."""
WORD_WIDTH_MAX = 40
"""So it does where a word, as an address or an id, would be broken; longer ones may be."""
CELL_WIDTH_MAX = 160
"""Longer values, which is to say raw records, are cut in tables on a terminal, and nowhere else."""
_GAP = 3
"""Columns between two cells."""
_INSTANTS = ("TIMESTAMP", "DATE")


def rows_view(answer: QueryAnswer, *, columns: int) -> RenderableType:
    """The rows as a table that fits into `columns`, or as blocks where it would not."""
    if not answer.rows:
        return Text("no rows", style="dim")
    columns_of = zip(answer.types, zip(answer.columns, *_texts(answer), strict=True), strict=True)
    wanted = sum(_GAP + _width_wanted(kind, texts) for kind, texts in columns_of)
    return _blocks(answer) if wanted > columns else _table(answer)


def _width_wanted(kind: str, texts: Sequence[str]) -> int:
    """What a column needs, so that longer texts go on in its next lines between two words."""
    whole = max(map(len, texts))
    if _is_whole(kind):
        return whole
    words = [len(word) for text in texts for word in text.split(" ") if len(word) <= WORD_WIDTH_MAX]
    return max(min(whole, COLUMN_WIDTH_MIN), *words, 0)


def _table(answer: QueryAnswer) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="dim", pad_edge=False)
    for name, kind in zip(answer.columns, answer.types, strict=True):
        justify: Literal["left", "right"] = "right" if is_number(kind) else "left"
        table.add_column(Text(plain(name)), justify=justify, no_wrap=_is_whole(kind), overflow="fold")
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
            grid.add_row(Text(plain(name)), _whole_cell(value))
        blocks += [Text(f"row {number}", style="bold"), grid, Text()]
    return Group(*blocks[:-1])


def _cell(value: object) -> Text:
    cell = _whole_cell(value)
    cell.truncate(CELL_WIDTH_MAX, overflow="ellipsis")
    return cell


def _whole_cell(value: object) -> Text:
    return Text("null", style="dim") if value is None else Text(plain(text_of(value)))


def whole_table(answer: QueryAnswer) -> str:
    """The rows as lines of columns side by side, a line a row: as wide as they need, nothing cut."""
    if not answer.rows:
        return "no rows\n"
    lines = [tuple(map(plain, answer.columns)), *_texts(answer)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    numbers = [is_number(kind) for kind in answer.types]
    return "".join("  ".join(map(_padded, line, widths, numbers)).rstrip() + "\n" for line in lines)


def _padded(text: str, width: int, number: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if number else text + blanks


def _texts(answer: QueryAnswer) -> list[tuple[str, ...]]:
    """Every value on one line and without control characters."""
    return [tuple("null" if value is None else plain(text_of(value)) for value in row) for row in answer.rows]


def _is_whole(kind: str) -> bool:
    """Whether values of the type are kept on one line."""
    return is_number(kind) or kind.startswith(_INSTANTS)


def csv_text(answer: QueryAnswer) -> str:
    """The rows as CSV with a line of names; a null is an empty field."""
    rows = (["" if value is None else text_of(value) for value in row] for row in answer.rows)
    return csv_lines([answer.columns, *rows])


def json_text(answer: QueryAnswer) -> str:
    """The rows as a JSON array with one object a line; of columns with one name the last is kept."""
    lines = [json.dumps(row, ensure_ascii=False) for row in objects_of(answer)]
    return "[" + ",\n ".join(lines) + "]\n"


def objects_of(answer: QueryAnswer) -> list[dict[str, object]]:
    """The rows in JSON's own types, by the names of the columns; of two with one name the last is kept."""
    return [dict(zip(answer.columns, map(jsonable, row), strict=True)) for row in answer.rows]
