"""Which lake the pages show: the one that the configuration names, also where that is another by now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.fact_queries import FactsReader
from m365watch.common.errors import LakeUnusable
from m365watch.lake.delta.table_files import list_files, open_table
from m365watch.lake.schema import AUDIT_TABLE


async def follow_lake(sources: Sources, open_reader: Callable[[Path], FactsReader]) -> None:
    """Have the pages show the lake that the settings name, if they show another one.

    While the one that they show is there, the other has to hold records first: a collector that cannot use
    it goes on with the one that it had. One that is taken out is shown as before.
    """
    wanted, facts = sources.settings.lake_directory, sources.facts
    if wanted is None or wanted == sources.lake:
        return
    if facts is not None and facts.is_there and not await asyncio.to_thread(_holds_records, wanted):
        return
    sources.turn_to(open_reader(wanted))


def _holds_records(lake: Path) -> bool:
    try:
        table = open_table(lake, AUDIT_TABLE)
        return table is not None and bool(list_files(table))
    except (LakeUnusable, OSError):  # of another user's, of a disk that is gone, of a name that none can have
        return False
