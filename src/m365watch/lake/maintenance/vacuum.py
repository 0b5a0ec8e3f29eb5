"""Files that no version worth keeping names any more go from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deltalake import DeltaTable

from m365watch.common.atomic_files import size_of
from m365watch.lake.delta.table_files import Progress, open_table
from m365watch.lake.delta.transaction_log import NO_HOOKS, sync_found
from m365watch.lake.schema import TABLES

KEEP_HOURS_IN_RUN = 2
"""How long a running collector keeps a file that was replaced: far longer than any query lasts."""
SAFE_HOURS_MIN = 2
"""Below this a reader may lose a file that it is about to open."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was removed of one table's folder, or would be."""

    table: str
    files: int
    size_bytes: int


def vacuum(lake: Path, *, keep_hours: int, dry_run: bool, progress: Progress) -> list[Vacuumed]:
    """Remove the files that were replaced more than `keep_hours` ago; whoever calls it holds the lake.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    found = []
    for shape in TABLES:
        table = open_table(lake, shape)
        if table is None:
            continue
        names = stale_files(table, keep_hours=keep_hours)
        progress(f"removing {len(names):,} files of {shape.name}", 0, 1)
        sizes = [size_of(lake / shape.name / name) for name in names]
        if not dry_run:
            remove_stale(table, lake / shape.name, keep_hours=keep_hours)
        found.append(Vacuumed(shape.name, len(names), sum(sizes)))
    return found


def stale_files(table: DeltaTable, *, keep_hours: int) -> list[str]:
    """What `remove_stale` would remove, relative to the table."""
    return _vacuum(table, keep_hours=keep_hours, dry_run=True)


def remove_stale(table: DeltaTable, directory: Path, *, keep_hours: int) -> None:
    """Remove the files that were replaced more than `keep_hours` ago, and what crashes left behind.

    The latter only from `SAFE_HOURS_MIN` on: a younger file that no commit names may be a batch that is
    being written. Whoever calls it holds the lake, of which no batch is missing then.
    """
    # Of a process that was killed: without its commit the files that it replaced would be needed again.
    sync_found(directory, table.version())
    _vacuum(table, keep_hours=keep_hours, dry_run=False)
    table.update_incremental()


def replaced_files(table: DeltaTable) -> set[str]:
    """The files that the table names as removed, and that no newer version has; relative to the table."""
    return set(_vacuum(table, keep_hours=0, dry_run=True))


def _vacuum(table: DeltaTable, *, keep_hours: int, dry_run: bool) -> list[str]:
    return table.vacuum(
        retention_hours=keep_hours,
        dry_run=dry_run,
        enforce_retention_duration=False,
        full=keep_hours >= SAFE_HOURS_MIN,
        post_commithook_properties=NO_HOOKS,
    )
