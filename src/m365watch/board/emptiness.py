"""Why a panel is empty, and what to do about it."""

from __future__ import annotations

from m365watch.board.lake_reader import LAKE_BACK, LAKE_GONE
from m365watch.board.shapes import Empty
from m365watch.board.sources import Sources
from m365watch.board.view import View


async def no_records(view: View, sources: Sources, *, of: str = "records") -> Empty:
    """Why there is nothing to count in this view: the first reason that applies."""
    if sources.facts is None:
        return Empty(
            "No output of the configuration is a lake, and the pages read the lake.",
            "Add an output of type lake, and run m365watch run.",
        )
    if view.tenants == ():
        return Empty("Your role sees no tenant that this view asks for.", "Take the tenant out of the view.")
    if await sources.lost_lake() is not None:
        return Empty(f"{LAKE_GONE[:1].upper()}{LAKE_GONE[1:]}.", f"{LAKE_BACK[:1].upper()}{LAKE_BACK[1:]}.")
    if not (await sources.facts.snapshot()).days:
        return Empty("No record has arrived yet.", "m365watch status says what the collector is waiting for.")
    if view.narrowing.values:
        return Empty(f"No {of} are this narrow in this time.", "Take a filter out, or choose a longer time.")
    return Empty(f"There are no {of} in this time.", "Choose a longer time, or look at Health for gaps.")
