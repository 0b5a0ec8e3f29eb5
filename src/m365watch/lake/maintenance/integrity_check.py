"""Whether the lake is what its log says: every file there, whole, with its rows, and every batch known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from m365watch.common.errors import LakeUnusable, OutputUnusable
from m365watch.lake.delta.missing_commits import CommitsLost, Standing, list_lost_batches, standing_of
from m365watch.lake.delta.table_files import (
    ROWS_PER_CHUNK,
    KnownFile,
    Progress,
    hides_rows,
    list_known_files,
    open_table,
)
from m365watch.lake.delta.table_schema import ForeignTable, require_ours
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.erasure.erasure_journal import unfinished
from m365watch.lake.integrity_errors import (
    BACK_FIX,
    ROOM_FIX,
    Cause,
    ahead,
    back_fix,
    behind,
    cause_in_commits,
    cause_of_loss,
    list_commit_faults,
    refusal_of,
    torn_fix,
    torn_off,
    why_newer,
)
from m365watch.lake.rollups.rollup_manifest import rollup_problems
from m365watch.lake.schema import ALERTS, AUDIT, PARTITION, TABLES, TableShape
from m365watch.lake.store import Store, table_store
from m365watch.lake.writer.table_writer import WRITE_FAILURES, plain_reason, system_number_of

_BACK = "put the file back from a backup"
MISSING = "is missing"
"""What is wrong with a file that is named and not there."""
PROBLEMS_MAX = 1000
"""More are counted and not named."""


@dataclass
class CheckedTable:
    """What was looked at in one table."""

    table: str
    version: int
    files: int = 0
    records: int = 0
    size_bytes: int = 0
    unnamed_files: int = 0
    """Files on disk that the newest version does not name: replaced ones, until a vacuum."""
    unnamed_bytes: int = 0


@dataclass
class Checked:
    """What was found."""

    tables: list[CheckedTable] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """One line each: what is wrong, and what to do."""
    problem_count: int = 0

    def add(self, problem: str) -> None:
        """Count a problem, and name it while there is room."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger says of the lake's output."""

    app_id: str
    last_batch: int
    """The last batch that the ledger knows to be in the lake; read before the lake."""
    newest_batch: int
    """The last number that it ever gave; read after the lake."""


def last_batch_of(lake: Path, app_id: str) -> int | None:
    """The number of the output's last batch in the lake, 0 for none; None where its log cannot be read."""
    store = table_store(lake, AUDIT)
    if standing_of(store) is not Standing.THERE:
        return 0
    try:
        return store.open().transaction_version(app_id) or 0
    except WRITE_FAILURES:
        return None


def check_account(found: Checked, account: Account, *, in_lake: int) -> None:
    """Compare the lake's last batch with the ledger's."""
    if in_lake < account.last_batch:
        cause = behind(account.last_batch, in_lake)
        found.add(f"{cause.what}: {cause.fix}")
    if in_lake > account.newest_batch:
        found.add(
            f"the lake ends with batch {in_lake}, but the ledger has numbered none after"
            f" {account.newest_batch}: put back the state directory that belongs to this lake"
        )


def check_alerts(found: Checked, lake: Path, app_id: str, *, brought: int) -> None:
    """Look whether table `alerts` has the change of that number, which the file of detections knows there.

    An older one with a whole log is none that was lost: some changes leave nothing to be written.
    """
    store = table_store(lake, ALERTS)
    if not brought or standing_of(store) is not Standing.THERE:
        return
    with suppress(*WRITE_FAILURES):  # Of a log that cannot be read is told already.
        table = store.open()
        commit = commit_name(table.version())
        if (table.transaction_version(app_id) or 0) < brought and not store.get(commit):
            found.add(
                f"{ALERTS}/{commit}: is empty, and what it brought there is missing:"
                " the next start of `m365watch run` brings all alerts there again"
            )


def check_lake(lake: Path, *, reads_all: bool, progress: Progress, is_acknowledged: bool = False) -> Checked:
    """Look at every file that the newest version names, and at the rollups; with `reads_all`, at every row.

    `is_acknowledged` says that the ledger has delivered a batch to `audit`.
    Works beside a running collector. One file's footer, or one chunk of its rows, is in memory at a time.

    Raises: LakeUnusable; any of WRITE_FAILURES: the log itself cannot be read.
    """
    found = Checked()
    for shape in TABLES:
        store = table_store(lake, shape.name)
        standing = standing_of(store, is_acknowledged=is_acknowledged and shape.name == AUDIT)
        if standing is Standing.LOST:
            cause = cause_of_loss(store)
            found.add(f"{cause.what}: {cause.fix}")
        elif standing is Standing.THERE:
            _check_table(store, found, reads_all=reads_all, progress=progress)
    for problem in rollup_problems(lake, lambda path: _problem_of_rollup(path, reads_all=reads_all)):
        found.add(problem)
    note = unfinished(lake)
    if note is not None:
        found.add(
            f"an erasure that began at {note.opened.started_at:%Y-%m-%d %H:%M:%SZ} was interrupted:"
            " finish it with `m365watch lake erase --resume`"
        )
    return found


def _check_table(store: Store, found: Checked, *, reads_all: bool, progress: Progress) -> None:
    table = _open(store, found)
    if table is None:
        return
    name, back = store.table, _back(store.table)
    checked = CheckedTable(name, table.version())
    if hides_rows(table):
        found.add(f"{name}: another engine hides rows of its files; they are not counted here")
    for path, reason in list_lost_batches(store, table.version()):
        found.add(f"{name}/{path}: {reason}: {back}")
    known = sorted(list_known_files(table), key=lambda one: one.file.path)
    for place, one in enumerate(known):
        progress(f"checking {name}", place, len(known))
        for problem in _problems_of(store, one, reads_all=reads_all):
            found.add(f"{name}/{one.file.path}: {problem}: {back}")
        checked.files += 1
        checked.records += one.rows or 0
        checked.size_bytes += one.file.size_bytes
    named = {one.file.path for one in known}
    for stray in store.list_after(f"{PARTITION}="):
        if stray.name.endswith(".parquet") and stray.name not in named:
            checked.unnamed_files += 1
            checked.unnamed_bytes += stray.size_bytes
    found.tables.append(checked)


def _open(store: Store, found: Checked) -> DeltaTable | None:
    """The table; None where its log cannot be read, and each file of it that is at fault is a problem then.

    Raises: any of WRITE_FAILURES: the system refused.
    """
    table = store.table
    try:
        return store.open()
    except WRITE_FAILURES as failure:
        if refusal_of(store.path(""), failure) is not None:
            raise
        newer = why_newer(table, failure)
        if newer is not None:
            found.add(f"{newer.what}: {newer.fix}")
            return None
        torn = torn_off(store)
        if torn:
            found.add(f"a power cut has torn {table}/{torn}: {torn_fix(table)}")
            return None
        faults = list(list_commit_faults(store))
        for path, reason in faults:
            found.add(f"{table}/{path}: {reason}: {_back(table)}")
        if not faults:
            raise
        return None


def _back(table: str) -> str:
    return _BACK if table == AUDIT else back_fix(table)


def list_file_faults(store: Store, table: DeltaTable) -> Iterator[tuple[str, str]]:
    """Each file of the table that is missing or not whole, and how it is; looks at the end of each."""
    for one in sorted(list_known_files(table), key=lambda one: one.file.path):
        for problem in _problems_of(store, one, reads_all=False):
            yield one.file.path, problem


def _problems_of(store: Store, known: KnownFile, *, reads_all: bool) -> Iterator[str]:
    path = store.path(known.file.path)
    if not known.file.path.startswith(f"{PARTITION}={known.file.day.isoformat()}/"):
        yield f"lies in another folder than that of its day, {known.file.day}"
    try:
        size_bytes = path.stat().st_size
        if size_bytes != known.file.size_bytes:
            yield f"has {size_bytes:,} bytes where the table names {known.file.size_bytes:,}"
            return
        rows = _count_rows(path, reads_all=reads_all)
    except FileNotFoundError:
        yield MISSING
    except (OSError, pa.ArrowException) as failure:
        yield f"cannot be read ({plain_reason(failure)})"
    else:
        if known.rows is not None and rows != known.rows:
            yield f"has {rows:,} records where the table names {known.rows:,}"


def _problem_of_rollup(path: Path, *, reads_all: bool) -> str:
    try:
        _count_rows(path, reads_all=reads_all)
    except FileNotFoundError:
        return MISSING
    except (OSError, pa.ArrowException) as failure:
        return f"cannot be read ({plain_reason(failure)})"
    return ""


def _count_rows(path: Path, *, reads_all: bool) -> int:
    with pq.ParquetFile(path, memory_map=True) as source:
        if not reads_all:
            return int(source.metadata.num_rows)
        return sum(rows.num_rows for rows in source.iter_batches(ROWS_PER_CHUNK, use_threads=False))


LOOK_FIX = f"see what `m365watch lake check --read-all` names, and {BACK_FIX}"
_REPAIR_FIX = "put it back from a copy; without one, stop the collector and run `m365watch lake repair`"


def cause_of(lake: Path, failure: BaseException) -> Cause:
    """Why it failed; of a damaged lake the first file that is missing or damaged is named.

    Looks at the tables' logs and at the end of each file; reads no record.
    """
    if isinstance(failure, CommitsLost):
        return cause_of_loss(failure.store)
    cause = refusal_of(lake, failure) or find_fault(lake)
    if cause is not None:
        return cause
    fix = LOOK_FIX if system_number_of(failure) is None else ROOM_FIX
    return Cause(plain_reason(failure), fix)


def find_fault(lake: Path, tables: Sequence[TableShape] = TABLES) -> Cause | None:
    """The first thing that is wrong with the tables or their files; None for nothing that can be seen."""
    for shape in tables:
        store = table_store(lake, shape.name)
        try:
            standing = standing_of(store)
            if standing is Standing.LOST:
                return cause_of_loss(store)
            if standing is Standing.THERE:
                table = store.open()
                lost = list_lost_batches(store, table.version())
                for path, reason in chain(list_file_faults(store, table), lost):
                    can_repair = shape.name == AUDIT and reason == MISSING
                    fix = _REPAIR_FIX if can_repair else back_fix(shape.name)
                    return Cause(f"{shape.name}/{path} {reason}", fix)
        except WRITE_FAILURES as failure:
            return cause_in_commits(store, failure)
    return None


def require_in_step(
    directory: Path, app_id: str, account: Callable[[], tuple[int, int] | None], *, where: str
) -> None:
    """Nothing, where a start of the collector would go on with this lake.

    `account` tells the last batch that the ledger knows to be there and the last number that it ever gave,
    or None. It is asked before and after: beside a running collector both grow, and the lake is ahead.
    Raises: OutputUnusable: lake and ledger are not each other's.
    """
    before = account()
    found = last_batch_of(directory, app_id)
    after = account()
    # An output that the ledger knows nothing of takes over what the lake has.
    if before is None or after is None or found is None or not before[0]:
        return
    if found < before[0]:
        cause = behind(before[0], found)
    elif found > after[1]:
        cause = ahead(after[0], found)
    else:
        return
    raise OutputUnusable(cause.what, fix=cause.fix, where=where)


def try_table(directory: Path, shape: TableShape, *, where: str, is_acknowledged: bool = False) -> str:
    """What is there of the lake's table, in a few words; of each file its end is looked at.

    `is_acknowledged` says that the ledger has delivered a batch to it.
    Raises: OutputUnusable: the table or a file of it cannot be read, or is not this version's.
    """
    try:
        table = open_table(directory, shape, is_acknowledged=is_acknowledged)
        if table is None:
            return "no table there yet"
        require_ours(table, shape)
        files = len(table.file_uris())
    except ForeignTable as refusal:
        raise OutputUnusable(refusal.what, fix=refusal.fix, where=where) from None
    except LakeUnusable as error:
        what = f"its table `{shape.name}` cannot be used: {error.what}"
        raise OutputUnusable(what, fix=error.fix, where=where) from None
    except WRITE_FAILURES as failure:
        cause = cause_in_commits(table_store(directory, shape.name), failure)
        what = f"its table `{shape.name}` cannot be read: {cause.what}"
        raise OutputUnusable(what, fix=cause.fix, where=where) from None
    # Looked at twice: an erasure beside it takes files away that the log named a moment before.
    damage = find_fault(directory, [shape]) and find_fault(directory, [shape])
    if damage is not None:
        raise OutputUnusable(
            f"its table `{shape.name}` is damaged: {damage.what}", fix=damage.fix, where=where
        )
    counted = "1 file" if files == 1 else f"{files:,} files"
    return f"its table can be read (version {table.version()}, {counted})"
