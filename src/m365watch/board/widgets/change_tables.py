"""Tables of changes: those that stand out first, each with why, and then the latest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import Row
from m365watch.board.query.query_context import View
from m365watch.board.query.sql.aggregates import Changes
from m365watch.board.widgets.change_flags import Told, list_changes, ranked
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.widget_types import Grid, headings_of


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
