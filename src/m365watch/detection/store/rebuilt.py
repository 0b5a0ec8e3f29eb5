"""A file of detections that is being made anew: where it grows, and how far it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

PARTIAL_SUFFIX = "-rebuilding"
"""What the name of a file has that is being made anew: detections-rebuilding.sqlite."""
PLAN = "rebuild"
"""The key under which it has what is being done."""
SLICES_PER_DAY_MAX = 1_000_000
"""Its batches are slices of records, numbered day by day; one holds thousands of records."""


class RebuildPlan(msgspec.Struct, frozen=True):
    """What is being done, as the new file keeps it."""

    digest: str
    """Of all that alerts depend on beside records."""
    start_s: float
    """The first record that is looked at."""
    end_s: float
    """When it was begun."""
    is_complete: bool = False

    def percent(self, reached_s: float) -> int:
        """How much of the period lies before the instant."""
        whole_s = self.end_s - self.start_s
        return round(100 * max(0.0, min(1.0, (reached_s - self.start_s) / whole_s))) if whole_s > 0 else 100


def partial_of(path: Path) -> Path:
    """Where the file grows that will be at `path`."""
    return path.with_name(path.stem + PARTIAL_SUFFIX + path.suffix)


def rebuilt_percent(path: Path) -> int | None:
    """How far the file is that is being made anew; None where none is."""
    partial = partial_of(path)
    if not partial.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{partial.absolute().as_uri()}?mode=ro", uri=True)) as database:
            kept = dict(database.execute("SELECT key, value FROM meta").fetchall())
        plan = msgspec.json.decode(kept[PLAN], type=RebuildPlan)
        day = int(kept.get("batch") or 0) // SLICES_PER_DAY_MAX
    except (sqlite3.Error, KeyError, ValueError, msgspec.DecodeError, RecursionError):
        return 0
    reached = datetime.fromordinal(day).replace(tzinfo=UTC).timestamp() if day else plan.start_s
    return plan.percent(reached)
