"""Parts that pages of several commands are made of."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.plain import plain


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
