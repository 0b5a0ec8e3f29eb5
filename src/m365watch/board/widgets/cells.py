"""The rows of a grid as HTML, made here and by no template: a page of tables has thousands of cells.

A template takes 9 µs for each, and most of a page's time in which nothing else is answered.
"""

from __future__ import annotations

import re
from functools import lru_cache

from markupsafe import Markup, escape

from m365watch.board.query.query_context import View
from m365watch.board.widgets.labels import brief, visible
from m365watch.board.widgets.widget_types import Cell, Grid, Heading

LONG_FROM = 17
"""Characters of a text that may be cut, and has a title therefore."""
SHOWN_KEPT_MAX = 8_192
"""Texts whose HTML is kept: a table says the same few operations, people and addresses row after row."""
_HUMP = re.compile("(?<=[a-z])(?=[A-Z])")


def parted(text: str) -> Markup:
    """A name that is written in one, with places at which a line of it may end: before its capitals."""
    return Markup("<wbr>").join(_HUMP.split(visible(text)))


def rows_of(shape: Grid, view: View, path: str, *, many: bool) -> Markup:
    """All rows; with `many` columns, each cell has the name of its own, which stands beside it on a phone."""
    named = [_shown(one.text) for one in shape.headings]
    rows = (
        "".join(
            _cell(cell, heading, view, path, name if many and cell.text else "")
            for cell, heading, name in zip(row, shape.headings, named, strict=False)
        )
        for row in shape.rows
    )
    return Markup("".join(f"<tr>\n{row}</tr>\n" for row in rows))  # noqa: S704 - every text in it is escaped


def _cell(cell: Cell, heading: Heading, view: View, path: str, name: str) -> str:
    shown = _shown(cell.text)
    is_long = len(visible(cell.text)) >= LONG_FROM
    if heading.numeric:
        kind = ' class="numeric"'
    elif heading.wide:
        kind = ' class="wide"'
    elif is_long:
        kind = ' class="fit"' if "@" in cell.text else ' class="fit whole"'
    else:
        kind = ""
    sorts = "" if cell.sorts is None else f' data-value="{_shown(str(cell.sorts))}"'
    title = f' title="{shown}"' if is_long else ""
    of = f' data-of="{name}"' if name else ""
    return f"<td{kind}{sorts}{title}{of}>{_inside(cell, shown, view, path, is_long=is_long)}</td>\n"


def _inside(cell: Cell, shown: str, view: View, path: str, *, is_long: bool) -> str:
    if cell.url:
        text = shown if cell.tone else _shown(brief(cell.text))
        inside = f'<a class="value" href="{_shown(cell.url)}">{text}</a>'
    elif cell.narrows:
        of, value = cell.narrows
        text = str(parted(cell.text)) if of == "operation" and is_long else shown
        inside = f'<a class="value" href="{_shown(view.narrowed_url(path, of, value))}">{text}</a>'
    elif cell.tone:
        inside = shown
    else:
        return f'<span class="plain">{shown}</span>'
    return f'<span class="tone {_shown(cell.tone)}">{inside}</span>' if cell.tone else inside


@lru_cache(SHOWN_KEPT_MAX)
def _shown(text: str) -> str:
    """As it stands in HTML: escaped, and with nothing hidden in it."""
    return str(escape(visible(text)))
