"""SharePoint's map: from which places people work with files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.geolocation import place_words
from m365watch.board.query.impossible_travel import placed
from m365watch.board.query.query_context import View
from m365watch.board.query.sql import sharepoint_queries as sharepoint
from m365watch.board.widgets.empty_states import no_records
from m365watch.board.widgets.labels import counted
from m365watch.board.widgets.widget_types import Empty, Ranked, Ranking, Shape, Spot, WorldMap
from m365watch.detection.fields.enrichment_context import Whereabouts

SPOTS_MAX = 400
RANKED_MAX = 8
ADDRESSES_MAX = 20
"""A spot of more addresses leads nowhere: a URL has an end."""
NO_PLACES = Empty(
    "Audit records do not say where an address is.",
    "Name a table with cities (MMDB) in detections.enrich.databases, and here stands a map.",
)
NO_SPOTS = Empty(
    "No address of these records has a place.",
    "Tables of countries alone have none: name one with cities in detections.enrich.databases.",
)


@dataclass
class _Work:
    """What was done with files from one place."""

    where: Whereabouts
    counts: Sequence[int] = (0, 0, 0, 0)
    """Records, downloads, uploads, deletions."""
    addresses: list[str] = field(default_factory=list)


async def _work(view: View, sources: Sources) -> dict[tuple[float, float], _Work]:
    """What was done in each place, the busiest first."""
    found: dict[tuple[float, float], _Work] = {}
    for address, *counts in await sources.ask(view, sharepoint.PLACES):
        where = sources.places.locate(address)
        if (place := placed(where)) is None:
            continue
        work = found.setdefault((round(place[0], 1), round(place[1], 1)), _Work(where))
        work.counts = [one + more for one, more in zip(work.counts, counts, strict=True)]
        work.addresses.append(address)
    return dict(sorted(found.items(), key=lambda one: -one[1].counts[0]))


async def _why_none(view: View, sources: Sources) -> Empty:
    if not sources.knows_places:
        return NO_PLACES
    if await sources.ask(view, sharepoint.PLACES):
        return NO_SPOTS
    return await no_records(view, sources, of="records of files")


async def world(view: View, sources: Sources) -> Shape:
    """From where files are read, taken, brought and deleted."""
    found = await _work(view, sources) if sources.knows_places else {}
    if not found:
        return WorldMap((), empty=await _why_none(view, sources))
    most = max(work.counts[0] for work in found.values())
    return WorldMap(
        [_spot(view, place, work, most=most) for place, work in list(found.items())[:SPOTS_MAX]],
        cut=f"the {SPOTS_MAX} most frequent places" if len(found) > SPOTS_MAX else "",
    )


async def towns(view: View, sources: Sources) -> Shape:
    """The places that most was done from, and what was taken to them."""
    found = await _work(view, sources) if sources.knows_places else {}
    named: dict[str, list[int]] = {}
    for work in found.values():
        counts = named.setdefault(place_words(work.where), [0] * 4)
        counts[:] = [one + more for one, more in zip(counts, work.counts, strict=True)]
    rows = [
        Ranked(name, records, note=f"{downloads:,} downloads, {uploads:,} uploads, {deletions:,} deletions")
        for name, (records, downloads, uploads, deletions) in named.items()
    ]
    rows.sort(key=lambda one: (-one.count, one.label))
    total = sum(one.count for one in rows)
    return Ranking("", rows[:RANKED_MAX], total, empty=None if rows else await _why_none(view, sources))


def _spot(view: View, place: tuple[float, float], work: _Work, *, most: int) -> Spot:
    records, downloads, uploads, deletions = work.counts
    says = (
        f"{place_words(work.where)}: {counted(records, 'record', 'records')}, {downloads:,} downloads,"
        f" {uploads:,} uploads, {deletions:,} deletions,"
        f" from {counted(len(work.addresses), 'address', 'addresses')}"
    )
    is_short = len(work.addresses) <= ADDRESSES_MAX
    url = view.narrowed("ip", sorted(work.addresses)).url("/sharepoint") if is_short else ""
    return Spot(*place, says, math.sqrt(records / most), "c1", url)
