"""What becomes of a file of detections that is damaged or gone: set aside, and made anew from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from m365watch.common.clock import Clock
from m365watch.common.errors import OutputUnusable
from m365watch.detection.rules.rule import Rule
from m365watch.detection.store.detection_database import is_empty
from m365watch.storage.damage import SetAside, problem_of, set_aside, set_aside_damaged
from m365watch.storage.database import DatabaseError, connect_to_read

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
        with closing(connect_to_read(partial)) as database:
            kept = dict(database.execute("SELECT key, value FROM meta").fetchall())
        plan = msgspec.json.decode(kept[PLAN], type=RebuildPlan)
        day = int(kept.get("batch") or 0) // SLICES_PER_DAY_MAX
    except (DatabaseError, KeyError, ValueError, msgspec.DecodeError, RecursionError):
        return 0
    reached = datetime.fromordinal(day).replace(tzinfo=UTC).timestamp() if day else plan.start_s
    return plan.percent(reached)


_log = structlog.get_logger(__name__)


class RebuildStopped(Exception):
    """Somebody wants to stop; what was done stays done."""


class Rebuilder(Protocol):
    """Makes the file anew."""

    is_waited_for: bool
    """Whether the output opens when that is done; else its first batch waits."""

    def is_needed(self, *, was_damaged: bool, last_batch: int) -> bool:
        """Whether there was a file, there is none now, and there is something to make it of."""
        ...

    def run(self, rules: Sequence[Rule], is_stopping: Callable[[], bool]) -> None:
        """Make it and put it in its place.

        Raises: RebuildStopped; OutputUnavailable: it goes on where it was with the next try.
        """
        ...


def set_aside_if_damaged(path: Path, *, clock: Clock) -> bool:
    """Give a file that SQLite finds damaged another name, with one line; whether it was.

    Raises: OutputUnusable: it cannot be looked at or moved.
    """
    if not path.is_file():
        return False
    found = None
    try:
        if is_empty(path):
            found = SetAside("it is empty", set_aside(path, at=clock.now()))
        else:
            with suppress(DatabaseError):  # Opening it meets it, and says so.
                found = set_aside_damaged(path, clock)
    except OSError as error:
        raise OutputUnusable(
            f"the file of detections cannot be looked at ({error.strerror or error})",
            fix="let this user read and write the state directory",
            where=str(path),
        ) from error
    if found is not None:
        _log.error(f"the file of detections was damaged ({found.problem}); it is kept as {found.kept}")
    return found is not None


def damage_of(path: Path, *, clock: Clock) -> str:
    """What a start would find wrong with the file that is there; empty for nothing. It stays as it is."""
    if is_empty(path):
        return "it is empty"
    with suppress(DatabaseError):  # Whatever else it is, opening the file meets it and says so.
        return problem_of(path, clock, open_file=connect_to_read)
    return ""
