"""Small files become large ones, what is too old goes, and so do files that no reader can need any more.

It runs in a child process, `python -m m365watch.lake.maintenance.maintenance_worker DIRECTORY`, so that the
memory it takes is not the collector's. It goes on where it was stopped: what is not committed has
not happened.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa

from m365watch.common.child_process import bare_environment, forbid_dumps
from m365watch.common.clock import Clock, SystemClock
from m365watch.common.errors import LakeHeld, LakeUnusable
from m365watch.config.models.retention import Retention
from m365watch.lake.delta.table_files import hides_rows, hold_lake, list_files, silently
from m365watch.lake.delta.transaction_log import last_checkpoint
from m365watch.lake.erasure.tombstones import drop_old_marks
from m365watch.lake.maintenance.compaction import merge_files, plan_merges
from m365watch.lake.maintenance.retention import STEPS_PER_RUN_MAX, is_retention_due, retain
from m365watch.lake.maintenance.vacuum import KEEP_HOURS_IN_RUN, list_stale, remove_stale
from m365watch.lake.rollups.rollup_manifest import FOLDER
from m365watch.lake.schema import AUDIT_TABLE, TABLES, TableShape
from m365watch.lake.store import table_store
from m365watch.lake.writer.table_writer import WRITE_FAILURES

_T = TypeVar("_T")

COMMITS_PER_UPKEEP = 64
COMMITS_UNTIL_HURRY = 1_024
"""A query over the small files of 800 commits takes 0.5 s, in place of 0.3 where half are merged: with so
many of them upkeep starts even early in a run."""
_NICENESS = 10


class _Note(msgspec.Struct, frozen=True):
    """What the last run left beside the table."""

    version: int
    """The table's version when it ended."""


def is_due(directory: Path, *, commits_min: int = COMMITS_PER_UPKEEP) -> bool:
    """Whether `commits_min` commits have been made in a table since the last run; reads small files."""
    return any(_commits_since(directory, shape) >= commits_min for shape in TABLES)


def _commits_since(directory: Path, shape: TableShape) -> int:
    note = _read(_note_path(directory, shape), _Note)
    return (last_checkpoint(table_store(directory, shape.name)) or 0) - (note.version if note else 0)


def _note_path(directory: Path, shape: TableShape) -> Path:
    return directory / ("upkeep.json" if shape is AUDIT_TABLE else f"upkeep-{shape.name}.json")


def keep_up(
    directory: Path,
    *,
    clock: Clock,
    retention: Retention | None = None,
    acknowledged: Mapping[str, int] | None = None,
) -> int:
    """Merge what is due below the lake's `directory`, take out and remove what is; the number of merges.

    0 too where another process is at it already. `acknowledged` says by app id which batch is the last.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    try:
        with hold_lake(directory, clock=clock, acknowledged=acknowledged or {}):
            present = [
                shape
                for shape in TABLES
                if shape is AUDIT_TABLE or table_store(directory, shape.name).has_commits()
            ]
            merges = sum(_merge_table(directory, shape, clock=clock) for shape in present)
            if retention is not None and is_retention_due(directory, retention, now=clock.now()):
                retain(directory, retention, clock=clock, progress=silently, steps_max=STEPS_PER_RUN_MAX)
            for shape in present:
                _clear(directory, shape, now=clock.now())
            drop_old_marks(directory, now=clock.now())
            _keep_rollups(directory, clock=clock)
            return merges
    except LakeHeld:
        return 0


def _keep_rollups(directory: Path, *, clock: Clock) -> None:
    """Count anew what merging and retention have changed, where a board has looked at this lake."""
    if (directory / FOLDER).is_dir():
        from m365watch.lake.rollups.rollup_builder import keep_rollups

        keep_rollups(directory, now_s=clock.now().timestamp())


def _merge_table(directory: Path, shape: TableShape, *, clock: Clock) -> int:
    store = table_store(directory, shape.name)
    table = store.open()
    merges = [] if hides_rows(table) else plan_merges(list_files(table))
    return sum(merge_files(table, shape, store, merge=merge, clock=clock) for merge in merges)


def _clear(directory: Path, shape: TableShape, *, now: datetime) -> None:
    store = table_store(directory, shape.name)
    table = store.open()
    remove_stale(table, store, list_stale(table, store, keep_hours=KEEP_HOURS_IN_RUN, now=now))
    _note_path(directory, shape).write_bytes(msgspec.json.encode(_Note(version=table.version())))


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Upkeep:
    """Starts the child when it is due, and stops it; never waits for its work."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        first_after_s: float,
        retention: Retention | None = None,
        acknowledged: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """Within `first_after_s` seconds from now, when a run is busiest, it starts only in a hurry.

        `acknowledged` says by app id which batch is the last by now.
        """
        self._directory = directory
        self._clock = clock
        self._first_at_s = clock.monotonic_s() + first_after_s
        self._retention = retention or Retention()
        self._acknowledged = acknowledged
        self._child: subprocess.Popen[bytes] | None = None

    def start_if_due(self) -> bool:
        """Start the child if there is enough to do and none is at work; whether it did."""
        early = self._clock.monotonic_s() < self._first_at_s
        if self.is_at_work or not self._is_due(early=early):
            return False
        acknowledged = msgspec.json.encode(self._acknowledged()).decode()
        arguments = [str(self._directory), self._retention.model_dump_json(), acknowledged]
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "m365watch.lake.maintenance.maintenance_worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=bare_environment(),
            # Ctrl-C is for the collector, which then stops the child. No session of its own: Linux shares
            # cores among sessions first, and there the child's niceness would count for nothing.
            process_group=0,
        )
        return True

    def _is_due(self, *, early: bool) -> bool:
        if is_due(self._directory, commits_min=COMMITS_UNTIL_HURRY if early else COMMITS_PER_UPKEEP):
            return True
        return not early and is_retention_due(self._directory, self._retention, now=self._clock.now())

    @property
    def is_at_work(self) -> bool:
        """Whether a child is running now."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """End the child; what it had begun is done again by the next."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def main() -> None:
    """One run over the lake named on the command line; retention and the last batches follow, as JSON."""
    forbid_dumps()
    os.nice(_NICENESS)
    pa.set_memory_pool(pa.system_memory_pool())
    lake, *wanted = sys.argv[1:]
    try:
        retention = Retention.model_validate_json(wanted[0]) if wanted else None
        acknowledged = msgspec.json.decode(wanted[1], type=dict[str, int]) if wanted[1:] else None
        keep_up(Path(lake), clock=SystemClock(), retention=retention, acknowledged=acknowledged)
    except LakeUnusable as failure:
        sys.exit(f"upkeep of {lake} put off: {failure}")
    except WRITE_FAILURES as failure:
        from m365watch.lake.maintenance.integrity_check import cause_of

        cause = cause_of(Path(lake), failure)
        sys.exit(f"upkeep of {lake} put off: {cause.what}; {cause.fix}")


if __name__ == "__main__":
    main()
