"""Files that no version worth keeping names any more go from the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.common.timestamps import ms_of
from m365watch.lake.delta.table_files import Progress, list_files, open_table
from m365watch.lake.delta.transaction_log import read_removals, sync_found
from m365watch.lake.schema import PARTITION, TABLES
from m365watch.lake.store import Store, StoredFile, table_store

KEEP_HOURS_IN_RUN = 2
"""How long a running collector keeps a file that was replaced: far longer than any query lasts."""
SAFE_HOURS_MIN = 2
"""Below this a reader may lose a file that it is about to open."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What was removed of one table's folder, or would be."""

    table: str
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class UnnamedFile:
    """A file on the disk that the table's newest version does not name."""

    file: StoredFile
    replaced_at_ms: int | None
    """None where the log does not say so: a crash left the file, or it was replaced long ago."""

    def is_stale(self, *, keep_hours: int, now: datetime) -> bool:
        """Whether it was replaced more than `keep_hours` ago, or was left behind by then.

        The latter only from `SAFE_HOURS_MIN` on: a younger file may be of a batch that is being written.
        """
        until_ms = ms_of(now) - keep_hours * HOUR_MS
        if self.replaced_at_ms is not None:
            return self.replaced_at_ms <= until_ms
        return keep_hours >= SAFE_HOURS_MIN and self.file.modified_ms <= until_ms


def vacuum(lake: Path, *, keep_hours: int, dry_run: bool, clock: Clock, progress: Progress) -> list[Vacuumed]:
    """Remove the files that were replaced more than `keep_hours` ago; whoever calls it holds the lake.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    found = []
    for shape in TABLES:
        table = open_table(lake, shape)
        if table is None:
            continue
        store = table_store(lake, shape.name)
        stale = list_stale(table, store, keep_hours=keep_hours, now=clock.now())
        progress(f"removing {len(stale):,} files of {shape.name}", 0, 1)
        if not dry_run:
            remove_stale(table, store, stale)
        found.append(Vacuumed(shape.name, len(stale), sum(one.file.size_bytes for one in stale)))
    return found


def list_stale(table: DeltaTable, store: Store, *, keep_hours: int, now: datetime) -> list[UnnamedFile]:
    """The files of the table that may go; `table` has then seen its newest version.

    Raises: any of WRITE_FAILURES.
    """
    return [one for one in list_unnamed(table, store) if one.is_stale(keep_hours=keep_hours, now=now)]


def remove_stale(table: DeltaTable, store: Store, stale: Sequence[UnnamedFile]) -> None:
    """Remove them; whoever calls it holds the lake, of which no batch is missing then."""
    # Of a process that was killed: without its commit the files that it replaced would be needed again.
    sync_found(store, table.version())
    for one in stale:
        store.delete(one.file.name)


def list_unnamed(table: DeltaTable, store: Store) -> list[UnnamedFile]:
    """The files on the disk that the newest version does not name, which `table` has then seen.

    Raises: any of WRITE_FAILURES.
    """
    on_disk = store.list_after(f"{PARTITION}=")
    # In this order: a file that is committed in between counts as named.
    table.update_incremental()
    named = {unquote(file.path) for file in list_files(table)}
    replaced = {unquote(path): at_ms for path, at_ms in read_removals(store).items()}
    return [
        UnnamedFile(file, replaced.get(file.name))
        for file in on_disk
        if file.name.endswith(".parquet") and file.name not in named
    ]
