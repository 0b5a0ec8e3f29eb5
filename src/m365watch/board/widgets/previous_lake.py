"""The lake that was written to before the one that the pages show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from m365watch.board.access.roles import Role
from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.board.query.ledger_queries import sees_every_tenant
from m365watch.board.query.query_context import View
from m365watch.board.query.time_range import instant_words
from m365watch.board.widgets.widget_types import Tile, Tiles
from m365watch.common.errors import LakeUnusable, LedgerUnusable
from m365watch.health.collector_status import read_configuration
from m365watch.health.config_status import EarlierLake

_MADE_BEFORE_S = 3600
"""A lake that was made so long before the move has come along with its records."""


async def words_of_earlier(view: View, sources: Sources) -> str:
    """Where the records of the view's beginning are, if they are in the lake before; empty where not."""
    if sources.facts is None:
        return ""
    found = await asyncio.to_thread(_earlier, sources, sources.facts)
    if found is None or found.until_s <= view.range.start_s:
        return ""
    names_it = view.access.may(Role.ADMIN) and sees_every_tenant(view)
    where = found.directory if names_it else "another lake"
    since = instant_words(int(found.until_s))
    return f"This lake is written to since {since} UTC; what was fetched before is in {where}."


async def figures_here(view: View, sources: Sources, tiles: Sequence[Tile]) -> Tiles:
    """Figures of the lake that the pages show, with where the records before are."""
    return Tiles(tiles, note=await words_of_earlier(view, sources))


def _earlier(sources: Sources, facts: FactsReader) -> EarlierLake | None:
    """The last one that is still there, and is not the one that is shown under another name."""
    with suppress(LedgerUnusable, LakeUnusable):
        note = read_configuration(sources.settings)
        if note is None or not note.earlier:
            return None
        last = note.earlier[-1]
        if Path(last.directory) == facts.lake or not Path(last.directory).is_dir():
            return None
        made_s = facts.begun_at_s()
        return last if made_s is None or made_s + _MADE_BEFORE_S > last.until_s else None
    return None
