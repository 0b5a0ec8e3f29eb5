"""Parts that pages of several commands are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from m365watch.common.text import plain


def list_block(title: str, lines: Iterable[str]) -> list[RenderableType]:
    """A title and its lines, each behind a dash; nothing where there is no line."""
    rows = [plain(line) for line in lines]
    if not rows:
        return []
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row("-", Text(row))
    return [Text(), Text(title, style="bold"), grid]


class Row(NamedTuple):
    """What stands side by side, and the lines below it, which have the whole width."""

    cells: Sequence[Text]
    below: Sequence[Text] = ()


def rows_block(
    headings: Sequence[str], rows: Sequence[Row], *, right: Collection[int] = ()
) -> list[RenderableType]:
    """A line of columns for each row, and what would wrap in a narrow terminal below it, to the right.

    `right` has the places of the columns whose texts end at the same place.
    """
    lines = [[Text(heading) for heading in headings], *(row.cells for row in rows)]
    widths = [max(cell_len(cell.plain) for cell in column) for column in zip(*lines, strict=True)]

    def side_by_side(cells: Sequence[Text]) -> Text:
        padded = []
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            blanks = Text(" " * (width - cell_len(cell.plain)))
            padded.append(blanks + cell if place in right else cell + blanks)
        line = Text("  ").join(padded)
        line.rstrip()
        return line

    head = side_by_side(lines[0])
    head.stylize("dim")
    blocks: list[RenderableType] = [head]
    for row in rows:
        blocks.append(side_by_side(row.cells))
        blocks += [Padding(text, (0, 0, 0, 4), expand=False) for text in row.below]
    return blocks
