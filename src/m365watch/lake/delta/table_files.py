"""The files that a table of the lake consists of, and the one way in which some are replaced by others.

Whoever replaces or removes files holds the lake (`hold_lake`), so that two never work on the same ones.
A replacement is one commit, onto the version that was looked at and no other: it has happened whole or not
at all, whenever the process ends.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from m365watch.common.clock import Clock
from m365watch.common.errors import LakeHeld, LakeMissing, LakeUnusable
from m365watch.common.file_access import why_shut
from m365watch.common.timestamps import ms_of
from m365watch.lake.delta.commit import (
    COMMITS_OVERTAKEN_MAX,
    Line,
    add_line,
    number_lines,
    put_commit,
)
from m365watch.lake.delta.missing_commits import Standing, checkpoint_if_due, list_lost_batches, standing_of
from m365watch.lake.delta.table_schema import ForeignTable, require_writable
from m365watch.lake.delta.transaction_log import (
    LOG,
    commit_name,
    sync_commits,
    sync_found,
)
from m365watch.lake.integrity_errors import Cause, back_fix, behind, cause_in_commits, cause_of_loss
from m365watch.lake.schema import ALERTS, AUDIT, PARTITION, TABLES, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.writer.parquet_files import Part
from m365watch.lake.writer.table_writer import WRITE_FAILURES

ROWS_PER_CHUNK = 8_192
"""Rows that are in memory at a time, whatever the size of a file's row groups."""
LOCK = "upkeep.lock"
LOOK_AGAIN_S = 0.25
WAIT_FOR_LAKE_S = 60.0
"""How long a command waits for the collector's own upkeep."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def silently(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
    del what, done, total


@dataclass(frozen=True, slots=True, order=True)
class LakeFile:
    """A file of the table, as its newest version names it."""

    day: date
    size_bytes: int
    path: str


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The same, with what the table says of its rows."""

    file: LakeFile
    rows: int | None
    """None where another engine wrote the file and kept no figures."""
    tables: tuple[str, str] | None
    """The least and the greatest `devo_table` in it; None where nobody kept them."""


@contextmanager
def hold_lake(
    directory: Path, *, clock: Clock, acknowledged: Mapping[str, int] | None, wait_s: float = 0.0
) -> Iterator[None]:
    """Keep every other upkeep of the lake out, for at most `wait_s` seconds waiting for one that is at work.

    The lock is the operating system's: it ends with the process. `acknowledged` is what `require_batches`
    wants to know; None where no batch can be lost by what is done.

    Raises: LakeHeld: it is still at work; LakeUnusable: a commit is missing, so that nothing may change.
    """
    with (directory / LOCK).open("wb") as lock:
        until_s = clock.monotonic_s() + wait_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.monotonic_s() >= until_s:
                    raise LakeHeld(
                        "another process is at the upkeep of this lake",
                        fix="try again when it has ended; a collector's own upkeep takes a minute or two",
                        where=str(directory),
                    ) from None
            asyncio.run(clock.sleep(LOOK_AGAIN_S))
        if acknowledged is not None:
            require_batches(directory, acknowledged)
        yield


def require_batches(lake: Path, acknowledged: Mapping[str, int]) -> None:
    """Nothing, where no batch is missing from the lake: then no commit that is put back can want for a file.

    `acknowledged` says by app id which batch the ledger knew, a moment ago, to be the last in `audit`.
    Raises: LakeUnusable.
    """
    missing = missing_batch(lake, acknowledged)
    if missing is not None:
        raise LakeUnusable(
            f"nothing was changed, as its files are needed to mend this: {missing.what}",
            fix=missing.fix,
            where=str(lake),
        )


def missing_batch(lake: Path, acknowledged: Mapping[str, int]) -> Cause | None:
    """The first commit that is missing from the lake's logs; `acknowledged` as for `require_batches`.

    Raises: LakeUnusable: a log is gone or cannot be read.
    """
    for shape in TABLES:
        store = table_store(lake, shape.name)
        if is_made(store, is_acknowledged=shape.name == AUDIT and any(acknowledged.values())):
            with commits_named(store):
                version = store.open().version()
                # A gap in the trail or the notices, which a check names, keeps no records from their upkeep.
                lost = lost_commit(store, version) if shape.name in (AUDIT, ALERTS) else None
            if lost is not None:
                return lost
    audit = table_store(lake, AUDIT)
    for app_id, last_batch in acknowledged.items():
        if not last_batch:
            continue
        with commits_named(audit):
            found = audit.open().transaction_version(app_id) or 0
        if found < last_batch:
            return behind(last_batch, found)
    return None


def lost_commit(store: Store, version: int) -> Cause | None:
    """The first commit of the table that is missing before `version`. Raises: any of WRITE_FAILURES."""
    for name, reason in list_lost_batches(store, version):
        return Cause(f"{store.table}/{name} {reason}", back_fix(store.table))
    return None


def require_whole(store: Store, version: int) -> None:
    """Nothing, where no commit of the table is missing before `version`, so that more may be built upon it.

    Raises: LakeUnusable; any of WRITE_FAILURES.
    """
    lost = lost_commit(store, version)
    if lost is not None:
        raise LakeUnusable(lost.what, fix=lost.fix, where=str(store.lake))


@contextmanager
def commits_named(store: Store) -> Iterator[None]:
    """What is done with the table's log. Raises: LakeUnusable: it cannot be read."""
    try:
        yield
    except WRITE_FAILURES as failure:
        cause = cause_in_commits(store, failure)
        raise LakeUnusable(
            f"the table's log cannot be read: {cause.what}", fix=cause.fix, where=str(store.path(""))
        ) from failure


def open_table(lake: Path, shape: TableShape, *, is_acknowledged: bool = False) -> DeltaTable | None:
    """The table as it stands now; None where nothing was ever written to it.

    Raises: LakeUnusable: its log is gone or cannot be read, or another engine hides rows of it in a way that
    this version does not know.
    """
    store = table_store(lake, shape.name)
    if not is_made(store, is_acknowledged=is_acknowledged):
        return None
    with commits_named(store):
        table = store.open()
    if hides_rows(table):
        raise LakeUnusable(
            "another engine has changed the table so that not all rows of its files count",
            fix="let that engine write its files anew (in Spark: REORG TABLE ... APPLY (PURGE))",
            where=str(store.path("")),
        )
    return table


def id_of_commits(store: Store) -> tuple[int, int] | None:
    """What tells the folder of a table's commits from one that takes its place; None where it is gone."""
    try:
        found = store.path(LOG).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_another(store: Store, log: tuple[int, int] | None, version: int) -> bool:
    """Whether a copy has taken the place of the table, whose log was that when its version was read.

    Of what is gone, or closed to this user, whoever reads it is told.
    """
    now = id_of_commits(store)
    with suppress(PermissionError):
        return now is not None and (now != log or not store.has(commit_name(version)))
    return False


def is_made(store: Store, *, is_acknowledged: bool = False) -> bool:
    """Whether the table is there; else it is new. Raises: LakeUnusable: it was there (`standing_of`)."""
    standing = standing_of(store, is_acknowledged=is_acknowledged)
    if standing is Standing.LOST:
        cause = cause_of_loss(store)
        raise LakeUnusable(cause.what, fix=cause.fix, where=str(store.lake))
    return standing is Standing.THERE


def require_lake(lake: Path) -> None:
    """Nothing, where there is a lake.

    Raises: LakeMissing; LakeUnusable: its log is gone, or this user may not see whether there is.
    """
    require_open(lake)
    if not is_made(table_store(lake, AUDIT)):
        raise no_lake(lake)


def no_lake(lake: Path) -> LakeMissing:
    """What is said of a lake that was never made."""
    return LakeMissing("there is no lake here", fix="run `m365watch run` first", where=str(lake))


def require_open(lake: Path) -> None:
    """Nothing, where this user may see whether there is a lake. Raises: LakeUnusable."""
    for folder in (lake, lake / AUDIT, lake / AUDIT / LOG):
        if closed := why_shut(folder):
            fix = "run this as the user whose lake it is, or let this one in"
            raise LakeUnusable(f"it cannot be read: {closed}", fix=fix, where=str(folder))


def hides_rows(table: DeltaTable) -> bool:
    """Whether another engine has switched on features by which a file's rows are not all there."""
    return table.protocol().min_reader_version > 1


def list_files(table: DeltaTable) -> list[LakeFile]:
    """The files of the version that `table` has seen."""
    return [known.file for known in list_known_files(table)]


def list_known_files(table: DeltaTable) -> list[KnownFile]:
    """The same, with the figures that the table keeps of them."""
    actions = pa.table(table.get_add_actions(flatten=True))
    nothing = [None] * actions.num_rows
    named = {name: actions[name].to_pylist() for name in actions.column_names if name in _FIGURES}
    columns = [named.get(name, nothing) for name in _FIGURES]
    return [
        KnownFile(LakeFile(day, size, path), rows, None if least is None else (least, greatest))
        for path, size, day, rows, least, greatest in zip(*columns, strict=True)
    ]


_FIGURES = (
    "path",
    "size_bytes",
    f"partition.{PARTITION}",
    "num_records",
    "min.devo_table",
    "max.devo_table",
)


def read_chunks(path: Path, shape: TableShape) -> Iterator[pa.Table]:
    """The rows of a file in chunks of at most `ROWS_PER_CHUNK`, with the columns of the shape."""
    with pq.ParquetFile(path, memory_map=True) as source:
        for rows in source.iter_batches(ROWS_PER_CHUNK, use_threads=False):
            yield in_columns(rows, shape.file_schema)


def in_columns(rows: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """The rows with the columns of the schema: null where their file is from before a column."""
    there = set(rows.schema.names)
    columns = [rows[one.name] if one.name in there else pa.nulls(rows.num_rows, one.type) for one in schema]
    return pa.Table.from_arrays(columns, schema.names).cast(schema)


def count_tables(store: Store, known: KnownFile, shape: TableShape) -> dict[str, int]:
    """How many rows of each Devo table are in the file."""
    if shape.devo_table:
        return {shape.devo_table: known.rows or _count_rows(store.path(known.file.path))}
    if known.tables is not None and known.tables[0] == known.tables[1] and known.rows is not None:
        return {known.tables[0]: known.rows}
    counts: dict[str, int] = {}
    with pq.ParquetFile(store.path(known.file.path), memory_map=True) as source:
        for rows in source.iter_batches(ROWS_PER_CHUNK, columns=["devo_table"], use_threads=False):
            for one in rows.column(0).value_counts().to_pylist():
                name = one["values"] or ""  # Another engine's row without a table.
                counts[name] = counts.get(name, 0) + one["counts"]
    return counts


def _count_rows(path: Path) -> int:
    with pq.ParquetFile(path) as source:
        return int(source.metadata.num_rows)


def replace_files(
    table: DeltaTable,
    store: Store,
    *,
    old: Sequence[LakeFile],
    new: Sequence[Part],
    changes_rows: bool,
    clock: Clock,
    numbers: Mapping[str, int] | None = None,
) -> bool:
    """Put the `new` files in the place of the `old` ones, in one durable commit; whether it was done.

    It was not where another engine has taken one of the old files away meanwhile. `changes_rows` is False
    where the new files hold the rows of the old ones; `numbers` are kept with the commit, by app id.
    Appends that come in between only delay it.

    Raises: LakeUnusable: another engine has raised what the table asks of its writers; any of WRITE_FAILURES.
    """
    now_ms = ms_of(clock.now())
    lines = [
        *(add_line(part, changes_rows=changes_rows) for part in new),
        *(_remove_line(file, now_ms, changes_rows=changes_rows) for file in old),
        *number_lines(numbers or {}),
    ]
    for _ in range(COMMITS_OVERTAKEN_MAX):
        try:
            require_writable(table, store.table)
        except ForeignTable as refusal:
            raise LakeUnusable(refusal.what, fix=refusal.fix, where=str(store.lake)) from None
        version = sync_found(store, table.version())
        # Onto this version and no later one, in which another process may have merged the same files: their
        # rows would be there twice.
        is_in = put_commit(store, version + 1, "WRITE", lines, synced_version=version)
        table.update_incremental()
        if is_in:
            synced = sync_commits(store, table.version(), after=version)
            checkpoint_if_due(table, store, synced, before=version)
            return True
        if not set(old) <= set(list_files(table)):
            return False
    return False


def _remove_line(file: LakeFile, now_ms: int, *, changes_rows: bool) -> Line:
    return {
        "remove": {
            "path": file.path,
            "deletionTimestamp": now_ms,
            "dataChange": changes_rows,
            "extendedFileMetadata": True,
            "partitionValues": {PARTITION: file.day.isoformat()},
            "size": file.size_bytes,
        }
    }
