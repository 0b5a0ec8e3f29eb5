"""Small files become large ones, and files that no reader can need any more are removed.

It runs in a child process, `python -m m365watch.lake.upkeep DIRECTORY`, so that the memory
it takes is not the collector's. It goes on where it was stopped: what is not committed has
not happened. A file grows through two tiers, so that each record is written again at most
twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from m365watch.clock import Clock, SystemClock
from m365watch.lake.parquet import MERGED, write_part
from m365watch.lake.schema import AUDIT_TABLE, PARTITION, TABLES, TableShape
from m365watch.lake.writer import (
    COMMIT_RETRIES_MAX,
    WRITE_FAILURES,
    add_action,
    after_commit,
    plain_reason,
    sync_commits,
)

_T = TypeVar("_T")

COMMITS_PER_UPKEEP = 64
COMMITS_UNTIL_HURRY = 512
"""With so many small files a commit takes 5 ms longer: then upkeep starts even early in a run."""
TIERS_BYTES = (2 << 20, 32 << 20)
"""A file below the first size is of the first tier, and so on; one above the last is left alone."""
FILES_PER_MERGE_MIN = 16
FILES_PER_MERGE_MAX = 64
MERGE_BYTES_MAX = 256 << 20
MERGES_PER_RUN_MAX = 32
RETENTION_HOURS = 2
"""How long a file that was merged away stays, for readers that still hold an older version."""
_ROWS_PER_CHUNK = 8_192
_LOCK = "upkeep.lock"
_NICENESS = 10


class _Note(msgspec.Struct, frozen=True):
    """What the last run left beside the table."""

    version: int
    """The table's version when it ended."""


class _Checkpoint(msgspec.Struct, frozen=True):
    """The part of Delta's `_last_checkpoint` that counts here."""

    version: int


@dataclass(frozen=True, slots=True, order=True)
class LakeFile:
    """A file of the table, as its newest version names it."""

    day: date
    size_bytes: int
    path: str


def is_due(directory: Path, *, commits_min: int = COMMITS_PER_UPKEEP) -> bool:
    """Whether `commits_min` commits have been made in a table since the last run; reads small files."""
    return any(_commits_since(directory, shape) >= commits_min for shape in TABLES)


def _commits_since(directory: Path, shape: TableShape) -> int:
    checkpoint = _read(directory / shape.name / "_delta_log" / "_last_checkpoint", _Checkpoint)
    note = _read(_note_path(directory, shape), _Note)
    return (checkpoint.version if checkpoint else 0) - (note.version if note else 0)


def _note_path(directory: Path, shape: TableShape) -> Path:
    return directory / ("upkeep.json" if shape is AUDIT_TABLE else f"upkeep-{shape.name}.json")


def plan_merges(files: Iterable[LakeFile]) -> list[list[LakeFile]]:
    """Which files to make into one, smallest and oldest first; each list is of one day and one tier."""
    merges: list[list[LakeFile]] = []
    for (_, tier), members in groupby(sorted(files), key=lambda file: (file.day, _tier(file.size_bytes))):
        if tier < len(TIERS_BYTES):
            merges += _cut(list(members))
    return sorted(merges, key=lambda merge: merge[-1].size_bytes)[:MERGES_PER_RUN_MAX]


def _cut(members: list[LakeFile]) -> Iterator[list[LakeFile]]:
    merge: list[LakeFile] = []
    for file in members:
        full = sum(other.size_bytes for other in merge) + file.size_bytes > MERGE_BYTES_MAX
        if full or len(merge) == FILES_PER_MERGE_MAX:
            yield merge
            merge = []
        merge.append(file)
    if len(merge) >= FILES_PER_MERGE_MIN:
        yield merge


def _tier(size_bytes: int) -> int:
    return sum(size_bytes >= bound for bound in TIERS_BYTES)


def keep_up(directory: Path, *, clock: Clock) -> int:
    """Merge what is due below the lake's `directory`, remove what is stale; the number of merges.

    0 too where another process is at it already.
    """
    with (directory / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        present = [
            shape
            for shape in TABLES
            if shape is AUDIT_TABLE or DeltaTable.is_deltatable(str(directory / shape.name))
        ]
        return sum(_keep_up_table(directory, shape, clock=clock) for shape in present)


def _keep_up_table(directory: Path, shape: TableShape, *, clock: Clock) -> int:
    table = DeltaTable(directory / shape.name)
    merges = [] if _hides_rows(table) else plan_merges(_list_files(table))
    done = [_merge(table, shape, directory / shape.name, merge=merge, clock=clock) for merge in merges]
    table.vacuum(retention_hours=RETENTION_HOURS, dry_run=False, enforce_retention_duration=False, full=True)
    table.update_incremental()
    _note_path(directory, shape).write_bytes(msgspec.json.encode(_Note(version=table.version())))
    return sum(done)


def _merge(
    table: DeltaTable, shape: TableShape, directory: Path, *, merge: list[LakeFile], clock: Clock
) -> bool:
    """Put one file in the place of those of `merge`; whether it did, since others may have been first."""
    names = "\n".join(file.path for file in merge)
    part = write_part(
        directory,
        shape,
        day=merge[0].day,
        name=f"merged-{hashlib.blake2s(names.encode(), digest_size=16).hexdigest()}",
        chunks=_read_chunks(directory, merge, shape),
        compression=MERGED,
    )
    now_ms = int(clock.now().timestamp() * 1000)
    actions: list[AddAction | RemoveAction] = [
        add_action(part, changes_rows=False),
        *(_remove_action(file, now_ms) for file in merge),
    ]
    for _ in range(COMMIT_RETRIES_MAX):
        version = table.version()
        try:
            _commit(table, actions)
        except CommitFailedError:
            table.update_incremental()
            if not set(merge) <= set(_list_files(table)):
                return False
            continue
        table.update_incremental()
        sync_commits(directory, table.version(), after=version)
        return True
    return False


def _commit(table: DeltaTable, actions: list[AddAction | RemoveAction]) -> None:
    """Commit onto the version that `table` has seen, and no other.

    Left to itself the library would commit onto a later one, in which another process may
    have merged the same files already, and their rows would be there twice.
    """
    table.create_write_transaction(
        actions,
        mode="append",
        schema=table.schema(),
        partition_by=[PARTITION],
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=after_commit(table.version()),
    )


def _remove_action(file: LakeFile, now_ms: int) -> RemoveAction:
    return RemoveAction(
        file.path,
        data_change=False,
        deletion_timestamp=now_ms,
        size=file.size_bytes,
        partition_values={PARTITION: file.day.isoformat()},
    )


def _read_chunks(directory: Path, merge: list[LakeFile], shape: TableShape) -> Iterator[pa.Table]:
    """The rows of the files in turn, in chunks of at least `_ROWS_PER_CHUNK` but the last."""
    waiting: list[pa.Table] = []
    for file in merge:
        with pq.ParquetFile(directory / file.path, memory_map=True) as source:
            for group in range(source.num_row_groups):
                waiting.append(source.read_row_group(group).cast(shape.file_schema))
                if sum(rows.num_rows for rows in waiting) >= _ROWS_PER_CHUNK:
                    yield pa.concat_tables(waiting)
                    waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _hides_rows(table: DeltaTable) -> bool:
    """Whether another engine has switched on features by which a file's rows are not all there."""
    return table.protocol().min_reader_version > 1


def _list_files(table: DeltaTable) -> list[LakeFile]:
    actions = pa.table(table.get_add_actions(flatten=True))
    return [
        LakeFile(day, size_bytes, path)
        for path, size_bytes, day in zip(
            actions["path"].to_pylist(),
            actions["size_bytes"].to_pylist(),
            actions[f"partition.{PARTITION}"].to_pylist(),
            strict=True,
        )
    ]


def _read(path: Path, kind: type[_T]) -> _T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class Upkeep:
    """Starts the child when it is due, and stops it; never waits for its work."""

    def __init__(self, directory: Path, *, clock: Clock, first_after_s: float) -> None:
        """Within `first_after_s` seconds from now, when a run is busiest, it starts only in a hurry."""
        self._directory = directory
        self._clock = clock
        self._first_at_s = clock.monotonic_s() + first_after_s
        self._child: subprocess.Popen[bytes] | None = None

    def start_if_due(self) -> bool:
        """Start the child if enough commits have been made and none is at work; whether it did."""
        early = self._clock.monotonic_s() < self._first_at_s
        commits_min = COMMITS_UNTIL_HURRY if early else COMMITS_PER_UPKEEP
        if self.is_at_work or not is_due(self._directory, commits_min=commits_min):
            return False
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "m365watch.lake.upkeep", str(self._directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the collector, which then stops the child
        )
        return True

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
    """One run over the lake named on the command line."""
    os.nice(_NICENESS)
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        keep_up(Path(sys.argv[1]), clock=SystemClock())
    except WRITE_FAILURES as failure:
        sys.exit(f"upkeep of {sys.argv[1]} put off: {plain_reason(failure)}")


if __name__ == "__main__":
    main()
