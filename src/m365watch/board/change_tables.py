"""Tables of changes: those that stand out first, each with why, and then the latest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from m365watch.board.emptiness import no_records
from m365watch.board.lake_reader import Row
from m365watch.board.marks import Told, list_changes, ranked
from m365watch.board.queries.counting import Changes
from m365watch.board.shapes import Grid, headings_of
from m365watch.board.sources import Sources
from m365watch.board.view import View


async def change_table(
    view: View,
    sources: Sources,
    changes: Changes,
    names: Sequence[str],
    tell: Callable[[list[Row]], Iterable[Told]],
    *,
    of: str,
    then: str = "",
) -> Grid:
    """The changes as `tell` has them, under headings of these names; `then` is what else there is to say.

    `names` have one more than the cells that are told: after time, change and person comes what stands out.
    """
    rows, alerts, cut = await list_changes(view, sources, changes)
    return Grid(
        headings_of(names),
        ranked(view, tell(rows), alerts),
        empty=None if rows else await no_records(view, sources, of=of),
        cut=f"{cut} {then}".strip() if rows else "",
    )
