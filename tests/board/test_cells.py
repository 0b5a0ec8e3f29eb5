"""Rows of tables, which no template makes: what a record says stays text in them."""

from __future__ import annotations

import pytest

from asking import view_of
from m365watch.board.widgets.template_renderer import rows_of
from m365watch.board.widgets.widget_types import Cell, Grid, Heading

CASES = {
    "a text": (Cell("short"), Heading("A"), '<td><span class="plain">short</span></td>'),
    "a long text": (
        Cell("more than sixteen"),
        Heading("A"),
        '<td class="fit whole" title="more than sixteen"><span class="plain">more than sixteen</span></td>',
    ),
    "a sentence": (
        Cell("more than sixteen"),
        Heading("A", wide=True),
        '<td class="wide" title="more than sixteen"><span class="plain">more than sixteen</span></td>',
    ),
    "a number": (
        Cell("1,200", sorts=1200, tone="high"),
        Heading("A", numeric=True),
        '<td class="numeric" data-value="1200"><span class="tone high">1,200</span></td>',
    ),
    "a person": (
        Cell("ann@contoso.example", narrows=("user", "ann@contoso.example")),
        Heading("A"),
        (
            '<td class="fit" title="ann@contoso.example"><a class="value"'
            ' href="/exchange?user=ann%40contoso.example">ann@contoso.example</a></td>'
        ),
    ),
    "an operation": (
        Cell("AddFolderPermissions", narrows=("operation", "AddFolderPermissions")),
        Heading("A"),
        (
            '<td class="fit whole" title="AddFolderPermissions"><a class="value"'
            ' href="/exchange?operation=AddFolderPermissions">Add<wbr>Folder<wbr>Permissions</a></td>'
        ),
    ),
    "what leads elsewhere": (
        Cell("11-10", tone="muted", url="/record?a=1&b=2"),
        Heading("A"),
        '<td><span class="tone muted"><a class="value" href="/record?a=1&amp;b=2">11-10</a></span></td>',
    ),
    "a tag": (
        Cell("<b>&\"'", narrows=("user", "<b>")),
        Heading("A"),
        '<td><a class="value" href="/exchange?user=%3Cb%3E">&lt;b&gt;&amp;&#34;&#39;</a></td>',
    ),
    "what turns a text round": (
        Cell("a\u202eb"),
        Heading("A"),
        '<td><span class="plain">a[U+202E]b</span></td>',
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_cell_is_what_its_text_says(case: str) -> None:
    """Escaped, with nothing hidden in it, and a link where it narrows the view or leads elsewhere."""
    cell, heading, html = CASES[case]

    rows = rows_of(Grid([heading], [[cell]]), view_of(), "/exchange", many=False)

    assert rows == f"<tr>\n{html}\n</tr>\n"


def test_a_cell_of_many_columns_names_its_own() -> None:
    """On a phone it stands beside the text; an empty cell needs none."""
    grid = Grid([Heading('"A"'), Heading("B")], [[Cell("x"), Cell("")]])

    rows = rows_of(grid, view_of(), "/exchange", many=True)

    assert 'data-of="&#34;A&#34;"' in rows
    assert rows.count("data-of") == 1
