"""The block of `status` that tells how long records take on their way, and its part of the document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from m365watch.cli.terminal.formatting import span
from m365watch.common.text import plain
from m365watch.pipeline.latency import BOUNDS_S, Histogram, LatencyBook, SeriesKey, Step, recent

ROWS_MAX = 12
"""Lines of the table; `--json` has every series."""
_AROUND_ROWS = 2
"""The head of the table, and the empty line behind it."""
_NAME_LENGTH_MAX = 40
_SAYS = {
    Step.PUBLISHED: "happened to published",
    Step.LISTED: "published to listed",
    Step.FETCHED: "listed to fetched",
    Step.DELIVERED: "fetched to delivered",
    Step.ALL: "happened to delivered",
}


def latency_part(book: LatencyBook, *, now: datetime, room: int | None = None) -> RenderableType | None:
    """The table of today and yesterday: each step, then the whole way by output and workload, busiest first.

    The steps are always there; of workloads so many as `room`, in lines and with an empty one behind, leaves.
    """
    found = recent(book, now.date())
    if not found:
        return None
    steps, workloads = _steps(found), _workloads(found)
    shown = _shown(len(steps), len(workloads), room)
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    # Where it is narrow, names go on below, and no figure is cut.
    table.add_column("latency, today and yesterday")
    for name in ("median", "95 %", "longest", "counted"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, histogram in [*steps.items(), *list(workloads.items())[:shown]]:
        spans = (histogram.quantile(0.5), histogram.quantile(0.95), histogram.max_s)
        table.add_row(Text(name), *(_short(seconds) for seconds in spans), f"{histogram.count:,}")
    more = len(workloads) - shown
    note = [Text(f"and {more:,} more by workload: --json", style="dim")] if more > 0 else []
    return Group(table, *note)


def _shown(steps: int, workloads: int, room: int | None) -> int:
    """How many of the workloads have a line: all that fit, or one less and a note of the rest."""
    left = ROWS_MAX - steps
    if room is not None:
        left = min(left, room - steps - _AROUND_ROWS)
        left -= workloads > left
    return min(workloads, max(0, left))


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


def _steps(found: Mapping[SeriesKey, Histogram]) -> dict[str, Histogram]:
    """Name and histogram of each step over all feeds, in the order of a record's way."""
    rows: dict[str, Histogram] = {}
    for step in Step:
        for key, histogram in found.items():
            if key.step is step:
                at = f" by {key.output}" if key.output else ""
                rows.setdefault(plain(f"{_SAYS[step]}{at}")[:_NAME_LENGTH_MAX], Histogram()).merge(histogram)
    return rows


def _workloads(found: Mapping[SeriesKey, Histogram]) -> dict[str, Histogram]:
    """Name and histogram of the whole way of each workload, the one with most blobs first."""
    rows: dict[str, Histogram] = {}
    for key, histogram in found.items():
        if key.step is Step.ALL:
            name = plain(f"  {key.workload or key.content_type} by {key.output}")[:_NAME_LENGTH_MAX]
            rows.setdefault(name, Histogram()).merge(histogram)
    return dict(sorted(rows.items(), key=lambda row: -row[1].count))


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
