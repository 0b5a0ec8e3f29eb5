"""How long a search takes: by typed columns over a week, and for a text anywhere in a record."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from benchmarks.board_lake import BoardLake
from benchmarks.board_views import SPANS, Values, instant

_FIGURES = re.compile(rb'data-(count|searched|more)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class SearchFigure:
    """One search, to its end."""

    words: str
    records: int
    """How many were searched."""
    hits: int
    first_ms: float
    """Until the newest part was there."""
    wall_ms: float
    cpu_ms: float


def searches(values: Values) -> Iterator[str]:
    """Filters that typed columns answer, and one text that no record has."""
    yield f"user:{values.user}"
    yield f"op:{values.rare_operation}"
    yield f"ip:{values.address} result:failed"
    yield f"app:{values.app} op:{values.operation}"
    yield '"no record holds these words"'


async def search(
    get: Callable[[str], Awaitable[bytes]], cpu_s: Callable[[], float], lake: BoardLake, words: str
) -> SearchFigure:
    """The newest part as the page shows it first, and then the others as it asks for them."""
    span = {"from": instant(lake.end_s - SPANS["7d"]), "to": instant(lake.end_s)}
    more = f"/panel/search/hits?{urlencode({**span, 'q': words})}"
    begun_s, begun_cpu_s = time.perf_counter(), cpu_s()
    first_ms = 0.0
    records = hits = 0
    while more:
        told = _figures(await get(more))
        first_ms = first_ms or (time.perf_counter() - begun_s) * 1e3
        records += int(told.get("searched", 0))
        hits += int(told.get("count", 0))
        more = told.get("more", "")
    wall_ms = (time.perf_counter() - begun_s) * 1e3
    return SearchFigure(words, records, hits, first_ms, wall_ms, (cpu_s() - begun_cpu_s) * 1e3)


def _figures(body: bytes) -> Mapping[str, str]:
    return {name.decode(): html.unescape(value.decode()) for name, value in _FIGURES.findall(body)}
