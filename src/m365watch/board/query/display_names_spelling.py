"""Sites as records write them: rollups have their addresses in lower case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from m365watch.board.query.data_sources import Sources
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import Query
from m365watch.board.query.time_range import HOUR_S, TimeRange
from m365watch.common.errors import CollectorError
from m365watch.lake.rollups.facts import TRACES

LOOKED_AT = 2_000
"""Of the newest records in sites: what is not among them stays in lower case."""
_IN_SITES = "workload IN ('SharePoint', 'OneDrive')"
_NEWEST = Query(
    f"SELECT object FROM facts WHERE {_IN_SITES} ORDER BY at_s DESC LIMIT {LOOKED_AT}",  # noqa: S608 - ours
    of=TRACES,
    exact=True,
    newest=LOOKED_AT,
    every=_IN_SITES,
)


async def spell_sites(view: View, sources: Sources, sites: Iterable[str]) -> Mapping[str, str]:
    """The sites, given in lower case, as the newest records of the view's time write them."""
    asked = sorted({one for one in sites if one})
    memory, scope, now_s = sources.site_names, view.tenants, view.now.timestamp()
    if left := memory.unknown(scope, asked, now_s=now_s):
        span = TimeRange(view.range.start_s // HOUR_S * HOUR_S, -(-view.range.end_s // HOUR_S) * HOUR_S)
        with suppress(CollectorError):
            rows = await sources.ask(replace(view.of_everything, range=span), _NEWEST)
            memory.learn(scope, left, _found_in([row[0] for row in rows], left), now_s=now_s)
    return memory.names(scope, asked)


def _found_in(objects: Sequence[str], sites: Iterable[str]) -> dict[str, str]:
    """What the addresses of files begin with, by what that is in lower case."""
    found: dict[str, str] = {}
    for site in sites:
        size = len(site)
        for one in objects:
            if one[size : size + 1] in ("", "/") and one[:size].lower() == site:
                found[site] = one[:size]
                break
    return found
