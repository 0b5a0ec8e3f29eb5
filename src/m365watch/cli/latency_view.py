"""The block of `status` that tells how long records take on their way, and its part of the document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.render import span
from m365watch.cli.terminal import plain
from m365watch.monitor.latency import BOUNDS_S, Histogram, LatencyBook, SeriesKey, Step, recent

ROWS_MAX = 12
"""Lines of the table; `--json` has every series."""
_NAME_LENGTH_MAX = 40
_SAYS = {
    Step.PUBLISHED: "happened to published",
    Step.LISTED: "published to listed",
    Step.FETCHED: "listed to fetched",
    Step.DELIVERED: "fetched to delivered",
    Step.ALL: "happened to delivered",
}


def latency_part(book: LatencyBook, *, now: datetime) -> RenderableType | None:
    """The table of today and yesterday: each step, then the whole way by output and workload."""
    found = recent(book, now.date())
    if not found:
        return None
    rows = _rows(found)
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("latency, today and yesterday", no_wrap=True)
    for name in ("median", "95 %", "longest", "counted"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, histogram in list(rows.items())[:ROWS_MAX]:
        spans = (histogram.quantile(0.5), histogram.quantile(0.95), histogram.max_s)
        table.add_row(Text(name), *(_short(seconds) for seconds in spans), f"{histogram.count:,}")
    more = len(rows) - ROWS_MAX
    note = [Text(f"and {more:,} more: --json", style="dim")] if more > 0 else []
    return Group(table, *note)


def latency_document(book: LatencyBook, *, now: datetime) -> dict[str, Any]:
    """The same for programs: every series, with its buckets, since ever and of the last two days."""
    days = recent(book, now.date())
    return {
        "bounds_s": list(BOUNDS_S),
        "series": [
            {
                "tenant": key.tenant_id,
                "content_type": key.content_type,
                "workload": key.workload,
                "step": str(key.step),
                "output": key.output or None,
                "ever": _figures(series.ever),
                "recent": _figures(days[key]) if key in days else None,
            }
            for key, series in book
        ],
    }


def _rows(found: Mapping[SeriesKey, Histogram]) -> dict[str, Histogram]:
    """Name and histogram of each line: the steps over all feeds, then the whole way by workload."""
    rows: dict[str, Histogram] = {}
    for step in Step:
        for key, histogram in found.items():
            if key.step is step:
                at = f" by {key.output}" if key.output else ""
                rows.setdefault(plain(f"{_SAYS[step]}{at}")[:_NAME_LENGTH_MAX], Histogram()).merge(histogram)
    for key, histogram in found.items():
        if key.step is Step.ALL:
            name = plain(f"  {key.workload or key.content_type} by {key.output}")[:_NAME_LENGTH_MAX]
            rows.setdefault(name, Histogram()).merge(histogram)
    return rows


def _short(seconds: float | None) -> str:
    """A span; in milliseconds where it is short."""
    return f"{seconds * 1000:.0f} ms" if seconds is not None and seconds < 1 else span(seconds)


def _figures(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count,
        "sum_s": round(histogram.sum_s, 3),
        "max_s": round(histogram.max_s, 3),
        "median_s": histogram.quantile(0.5),
        "p95_s": histogram.quantile(0.95),
        "buckets": histogram.counts,
    }
