"""Small files become large ones.

A file grows through two tiers, so that each record is written again at most twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.lake.delta.table_files import (
    ROWS_PER_CHUNK,
    LakeFile,
    Progress,
    list_files,
    open_table,
    read_chunks,
    replace_files,
)
from m365watch.lake.delta.table_schema import shape_of
from m365watch.lake.schema import TABLES, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.writer.parquet_files import MERGED, write_part

TIERS_BYTES = (2 << 20, 32 << 20)
"""A file below the first size is of the first tier, and so on; one above the last is left alone."""
FILES_PER_MERGE_MIN = 16
FILES_PER_MERGE_MAX = 64
MERGE_BYTES_MAX = 256 << 20
MERGES_PER_RUN_MAX = 32
FILES_BY_HAND_MIN = 2
"""Somebody who asks for it wants the fewest files, whatever it costs."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What came of merging one table's files."""

    table: str
    merges: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


def plan_merges(files: Iterable[LakeFile], *, files_min: int = FILES_PER_MERGE_MIN) -> list[list[LakeFile]]:
    """Which files to make into one, smallest and oldest first; each list is of one day and one tier."""
    merges: list[list[LakeFile]] = []
    for (_, tier), members in groupby(sorted(files), key=lambda file: (file.day, _tier(file.size_bytes))):
        if tier < len(TIERS_BYTES):
            merges += _cut(list(members), files_min)
    return sorted(merges, key=lambda merge: merge[-1].size_bytes)[:MERGES_PER_RUN_MAX]


def _cut(members: list[LakeFile], files_min: int) -> Iterator[list[LakeFile]]:
    merge: list[LakeFile] = []
    for file in members:
        full = sum(other.size_bytes for other in merge) + file.size_bytes > MERGE_BYTES_MAX
        if full or len(merge) == FILES_PER_MERGE_MAX:
            yield merge
            merge = []
        merge.append(file)
    if len(merge) >= files_min:
        yield merge


def _tier(size_bytes: int) -> int:
    return sum(size_bytes >= bound for bound in TIERS_BYTES)


def compact(lake: Path, *, clock: Clock, progress: Progress) -> list[Compacted]:
    """Merge until nothing is left to merge, in every table; whoever calls it holds the lake.

    Each merge is a commit of its own: what is interrupted has been done as far as it went.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    found = []
    for shape in TABLES:
        table = open_table(lake, shape)
        if table is not None:
            found.append(
                _compact_table(table, shape, table_store(lake, shape.name), clock=clock, progress=progress)
            )
    return found


def _compact_table(
    table: DeltaTable, shape: TableShape, store: Store, *, clock: Clock, progress: Progress
) -> Compacted:
    before = list_files(table)
    merges = 0
    while plan := plan_merges(list_files(table), files_min=FILES_BY_HAND_MIN):
        done = 0
        for place, merge in enumerate(plan):
            progress(f"merging the files of {shape.name}", place, len(plan))
            done += merge_files(table, shape, store, merge=merge, clock=clock)
        merges += done
        if not done:
            break
    after = list_files(table)
    return Compacted(
        shape.name,
        merges,
        files_before=len(before),
        files_after=len(after),
        bytes_before=sum(file.size_bytes for file in before),
        bytes_after=sum(file.size_bytes for file in after),
    )


def merge_files(
    table: DeltaTable, shape: TableShape, store: Store, *, merge: list[LakeFile], clock: Clock
) -> bool:
    """Put one file in the place of those of `merge`; whether it did, since others may have been first."""
    shape = shape_of(table, shape)
    names = "\n".join(file.path for file in merge)
    part = write_part(
        store,
        shape,
        day=merge[0].day,
        name=f"merged-{hashlib.blake2s(names.encode(), digest_size=16).hexdigest()}",
        chunks=_read_merged(store, merge, shape),
        compression=MERGED,
    )
    return replace_files(table, store, old=merge, new=[part], changes_rows=False, clock=clock)


def _read_merged(store: Store, merge: list[LakeFile], shape: TableShape) -> Iterator[pa.Table]:
    """The rows of the files in turn, in chunks of at least `ROWS_PER_CHUNK` but the last."""
    waiting: list[pa.Table] = []
    for file in merge:
        for rows in read_chunks(store.path(file.path), shape):
            waiting.append(rows)
            if sum(one.num_rows for one in waiting) >= ROWS_PER_CHUNK:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
