"""The child process in which a stranger's SQL runs: `python -m m365watch.lake.sql_sandbox.sandbox_process`.

It reads one `Question` from standard input and writes one `Verdict` and, where that is
good, the rows as Arrow IPC to standard output. Eight things hold the SQL:

1. DuckDB sees no files: only a pyarrow dataset that is filtered to the tenants allowed;
2. external access, extensions and replacement scans are off;
3. the configuration is locked before the SQL is run;
4. exactly one SELECT is accepted;
5. memory is limited, in DuckDB and by the operating system;
6. time is limited, by an interrupt, by the operating system, and by the parent;
7. the process can write no file and inherits a bare environment;
8. the kernel lets it read the lake and start threads, and nothing else (`confinement`).
"""

from __future__ import annotations

import math
import re
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.ipc
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler  # noqa: F401 - deltalake imports it later, when no file can be read

from m365watch.common.text import plain
from m365watch.lake.delta.missing_commits import CommitsLost, Standing, standing_of
from m365watch.lake.delta.table_schema import is_ours
from m365watch.lake.integrity_errors import Cause, refusal_of
from m365watch.lake.maintenance.integrity_check import LOOK_FIX, find_fault
from m365watch.lake.schema import AUDIT, AUDIT_TABLE, BOARD_TRAIL, OF_ALL_TENANTS, TABLES, TableShape
from m365watch.lake.sql_sandbox.confinement import confine
from m365watch.lake.store import table_store
from m365watch.lake.views import APART, NO_AUDIT, is_devo_table, plan_views, quote_name

THREADS = 2
ROWS_PER_CHUNK = 2048
READING_BYTES = 512 << 20
"""What Arrow may take for reading files, beside DuckDB's own memory."""
_OPEN_FILES_MAX = 1024
_MORE_THREADS = 256
"""How many the user may have beyond all threads of the machine when the process starts."""
_TEXT_MAX = 600
"""The longest text of an error; DuckDB quotes records and SQL at any length."""
_TEXTS = ("refused", "stopped", "unreadable", "cure")
_CONFINE_FIX = "run this as the owner of the lake; `m365watch check` says what the kernel offers"
_DUCKDB_ERROR = re.compile(r"[A-Z][A-Za-z ]* Error: ")
"""How a text of DuckDB begins."""
_OUT_OF_MEMORY = "Out of memory"
_VANISHED = "No such file or directory"
_OF_FILES = "reading the stream registered as"
"""How DuckDB begins to tell what Arrow met in a file."""
_REFUSED = frozenset(
    {"sleep_ms", "pg_sleep", "uuidv7", "query", "json_execute_serialized_sql", "duckdb_live_query_metrics"}
)
"""Functions that wait, read a clock while the query runs, or run a text that nobody has checked for these."""
NO_ROW = pc.scalar(value=False)
_READ_AHEAD = {"batch_size": 8192, "batch_readahead": 1, "fragment_readahead": 1}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked."""

    directory: str
    sql: str
    tenants: list[str] | None
    sees_trail: bool
    """Whether `board_trail` may be read, which tells of what people did."""
    limit_s: float
    memory_bytes: int
    rows_max: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How it went, in one line of JSON."""

    refused: str | None = None
    """Why the SQL cannot be run: it is wrong, or not one SELECT."""
    stopped: str | None = None
    """Which limit it met, or what failed."""
    vanished: bool = False
    """Whether it failed because a file went while it was being read; the newest version does without it."""
    unreadable: str | None = None
    """What is wrong with the lake."""
    cure: str = ""
    """What to do about that."""
    types: list[str] = []
    truncated: bool = False


class Refused(Exception):
    """The SQL is not one SELECT."""


class Stopped(Exception):
    """The query met a limit."""


class Damaged(Exception):
    """A table that the SQL names cannot be opened."""

    def __init__(self, shape: TableShape, failure: Exception) -> None:
        """Which, and why."""
        super().__init__(str(failure))
        self.shape = shape
        self.failure = failure


class Foreign(Exception):
    """The table is not one of ours."""


def answer(question: Question, sink: BinaryIO) -> None:
    """Write the verdict on `question`, and the rows if there are any, to `sink`."""
    rows: list[pa.RecordBatch] = []
    schema = pa.schema([])
    too_large = f"it needs more memory than {question.memory_bytes >> 20} MiB"
    try:
        verdict, schema, rows = _run(question)
    except Refused as refusal:
        verdict = Verdict(refused=str(refusal))
    except Foreign as failure:
        verdict = Verdict(unreadable=str(failure), cure="name a lake that m365watch wrote")
    except (Damaged, DeltaError) as failure:
        verdict = _unreadable(question, failure)
    except duckdb.InterruptException:
        verdict = Verdict(stopped=f"it took longer than {question.limit_s:g} s")
    except (MemoryError, pa.ArrowMemoryError, duckdb.OutOfMemoryException):
        verdict = Verdict(stopped=too_large)
    except Stopped as stop:
        verdict = Verdict(stopped=str(stop))
    except (duckdb.Error, pa.ArrowException, OSError) as failure:
        # DuckDB hands on a failed allocation of Arrow's as its own wrong input.
        told = _verdict_on(failure, question, too_large=too_large)
        is_plain = told.stopped not in {None, too_large} and not told.vanished
        verdict = Verdict(refused=told.stopped) if isinstance(failure, duckdb.Error) and is_plain else told
    _tell(verdict, sink)
    if verdict.refused is None and verdict.stopped is None and verdict.unreadable is None:
        with pa.ipc.new_stream(sink, schema) as writer:
            for chunk in rows:
                writer.write_batch(chunk)
    sink.flush()


def _tell(verdict: Verdict, sink: BinaryIO) -> None:
    texts = {name: _cut(text) for name in _TEXTS if (text := getattr(verdict, name))}
    sink.write(msgspec.json.encode(msgspec.structs.replace(verdict, **texts)) + b"\n")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}..."


def _verdict_on(failure: Exception, question: Question, *, too_large: str) -> Verdict:
    """What a failure amounts to that came by way of Arrow, in the middle of the rows.

    DuckDB computes rows as they are fetched, so whether a record's contents fail the query
    before or after the first of them is chance; the answer is the same.
    """
    told = _one_line(str(failure))
    if _OUT_OF_MEMORY.lower() in told.lower():
        return Verdict(stopped=too_large)
    if "INTERRUPT" in told:
        return Verdict(stopped=f"it took longer than {question.limit_s:g} s")
    if isinstance(failure, OSError) or _VANISHED in told or _OF_FILES in told:
        return _unreadable(question, failure, has_vanished=_VANISHED in told)
    return Verdict(refused=told) if _DUCKDB_ERROR.match(told) else Verdict(stopped=told)


def _unreadable(question: Question, failure: Exception, *, has_vanished: bool = False) -> Verdict:
    """What is wrong with the lake, where that can be seen."""
    lake = Path(question.directory)
    tables: Sequence[TableShape] = TABLES
    if isinstance(failure, Damaged):
        tables, failure = (failure.shape,), failure.failure
    cause = refusal_of(lake, failure) or find_fault(lake, tables) or Cause(str(failure), LOOK_FIX)
    return Verdict(unreadable=_one_line(cause.what), cure=cause.fix, vanished=has_vanished)


def _run(question: Question) -> tuple[Verdict, pa.Schema, list[pa.RecordBatch]]:
    directory = Path(question.directory)
    tables, damaged = _open_tables(directory)
    for name, rows in tables.items():
        rows.allowed = _allowed_of(name, question)
    with duckdb.connect(":memory:", config=_locked_down(question.memory_bytes)) as connection:
        # First: some kilobytes of brackets or signs take the parser gigabytes.
        _confine_memory(question.memory_bytes)
        statement = only_select(question.sql)
        _refuse_functions(connection, question.sql)
        if not question.sees_trail and BOARD_TRAIL in _mentioned_tables(connection, question.sql):
            raise Refused(f"{BOARD_TRAIL} is for the role admin")
        _refuse_damaged(damaged, _mentioned_tables(connection, question.sql))
        _create_views(connection, tables, question.sql)
        connection.execute("SET lock_configuration = true")
        timer = threading.Timer(question.limit_s, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            return _fetch(connection.sql(statement), question)
        finally:
            timer.cancel()


def _open_tables(lake: Path) -> tuple[dict[str, AllowedRows], list[Damaged]]:
    """The tables by name, and those that cannot be opened, which only matters to who asks for them."""
    tables, damaged = {}, []
    for shape in TABLES:
        try:
            tables[shape.name] = _open_rows(lake, shape)
        except (DeltaError, CommitsLost) as failure:
            damaged.append(Damaged(shape, failure))
    return tables, damaged


def _allowed_of(table: str, question: Question) -> pc.Expression | None:
    """Which rows of the table may be seen; None for all."""
    if table == BOARD_TRAIL and not question.sees_trail:
        return NO_ROW
    if question.tenants is None:
        return None
    if table in {shape.name for shape in OF_ALL_TENANTS}:
        # These speak of every tenant; who may see some tenants only sees none of them.
        return NO_ROW
    return pc.field("tenant_id").isin(pa.array(question.tenants, pa.string()))


def _refuse_damaged(damaged: Sequence[Damaged], mentioned: set[str]) -> None:
    """Nothing where the SQL does without the damaged tables; all but those apart are made of `audit`.

    Raises: Damaged.
    """
    needed = {APART.get(name, name if name in NO_AUDIT else AUDIT) for name in mentioned} or {AUDIT}
    for damage in damaged:
        if damage.shape.name in needed:
            raise damage


def _fetch(
    relation: duckdb.DuckDBPyRelation, question: Question
) -> tuple[Verdict, pa.Schema, list[pa.RecordBatch]]:
    reader = relation.to_arrow_reader(ROWS_PER_CHUNK)
    types = [str(kind) for kind in relation.types]
    chunks: list[pa.RecordBatch] = []
    count = size_bytes = 0
    for chunk in reader:
        kept = chunk.slice(0, question.rows_max - count)
        chunks.append(kept)
        count += kept.num_rows
        size_bytes += kept.nbytes
        if kept.num_rows < chunk.num_rows:
            return Verdict(types=types, truncated=True), reader.schema, chunks
        if size_bytes > question.memory_bytes:
            raise Stopped(f"its answer is larger than {question.memory_bytes >> 20} MiB")
    return Verdict(types=types), reader.schema, chunks


class AllowedRows(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow is untyped
    """The rows of some tenants, or of all; there is no other way to them than `scanner`.

    Arrow reads far ahead by itself, which with records of a kilobyte is all of the memory;
    and the bounds cannot be set on a dataset, only on each scan of it.
    """

    allowed: pc.Expression | None = None

    def scanner(self, **wanted: Any) -> ds.Scanner:
        """What DuckDB asks for, within the bounds and the allowed tenants."""
        if self.allowed is not None:
            asked = wanted.pop("filter", None)
            wanted["filter"] = self.allowed if asked is None else self.allowed & asked
        return super().scanner(**(wanted | _READ_AHEAD))


def _open_rows(lake: Path, shape: TableShape) -> AllowedRows:
    """The table as it stands now; without rows where there is no table yet.

    Raises: Foreign; DeltaError, CommitsLost: the table's own records of itself are damaged, or gone.
    """
    store = table_store(lake, shape.name)
    files = pyarrow.fs.SubTreeFileSystem(str(store.path("")), pyarrow.fs.LocalFileSystem())
    standing = standing_of(store)
    if standing is Standing.LOST:
        raise CommitsLost(store)
    if standing is Standing.NEW:
        return AllowedRows([], shape.schema, ds.ParquetFileFormat(), files)
    delta = store.open()
    if shape is AUDIT_TABLE and not is_ours(delta, shape):
        raise Foreign(f"its table `{AUDIT}` is not one of m365watch's")
    table = delta.to_pyarrow_dataset(filesystem=files, schema=shape.schema)
    return AllowedRows(list(table.get_fragments()), table.schema, table.format, files)


def _locked_down(memory_bytes: int) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "enable_external_access": False,
        "python_enable_replacements": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_unsigned_extensions": False,
        "temp_directory": "",
        "memory_limit": f"{memory_bytes >> 20}MiB",
        "threads": THREADS,
    }


def _create_views(connection: duckdb.DuckDBPyConnection, tables: dict[str, AllowedRows], sql: str) -> None:
    for name, rows in tables.items():
        connection.register(name, rows)
    for devo_table, name in APART.items():
        if name in tables:
            connection.execute(f"CREATE TEMP VIEW {quote_name(devo_table)} AS FROM {quote_name(name)}")
    if AUDIT in tables:
        _create_audit_views(connection, sql)
    connection.execute("CREATE TEMP MACRO field(record, path) AS TRY(record ->> path)")
    connection.execute("SET TimeZone = 'UTC'")


def _create_audit_views(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    reserved = connection.execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    )
    words = frozenset(name for (name,) in reserved.fetchall())
    mentioned = _mentioned_tables(connection, sql)
    devo_tables = {name for name in mentioned if is_devo_table(name)}
    views = plan_views(devo_tables, reserved=words)
    if not mentioned or not mentioned <= {AUDIT, *NO_AUDIT, *views}:
        # Which tables there are costs a look into every file; most queries do without.
        present = connection.execute("SELECT DISTINCT devo_table FROM audit").fetchall()
        views = plan_views(devo_tables.union(name for (name,) in present), reserved=words)
    for name, condition in views.items():
        # Names and conditions are quoted where they are planned and here.
        connection.execute(f"CREATE TEMP VIEW {quote_name(name)} AS FROM audit WHERE {condition}")


def _mentioned_tables(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """The tables that `sql` reads, in lower case; none where DuckDB cannot say, as for SHOW TABLES."""
    try:
        return {name.lower() for name in connection.get_table_names(sql)}
    except duckdb.Error:
        return set()


def _refuse_functions(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Nothing where the SQL calls none of the functions that are refused.

    Raises: Refused.
    """
    suspected = {name for name in _REFUSED if name in sql.lower()}
    if not suspected:
        return
    [(text,)] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    tree = msgspec.json.decode(text)
    # What DuckDB cannot take apart may call any function whose name is in it.
    called = suspected if tree["error"] else suspected & set(_functions_in(tree))
    if called:
        raise Refused(f"the function {min(called)} is not allowed")


def _functions_in(tree: object) -> Iterator[str]:
    """The names of all functions that a statement calls."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if isinstance(name := node.get("function_name"), str):
                yield name.lower()
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def only_select(sql: str) -> duckdb.Statement:
    """The one statement of `sql`.

    Raises: Refused: there are more or none, or it is no SELECT.
    """
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise Refused(f"one SELECT is wanted, not {len(statements)} statements")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise Refused(f"only SELECT is allowed, not {kind.name}")
    return statements[0]


def _one_line(text: str) -> str:
    """DuckDB's own words and, where it points at a place, that place: all on one line."""
    told, _, picture = text.partition("\nLINE ")
    line = plain(" ".join(told.split()))
    if not picture:
        return line
    number, _, rest = picture.partition(": ")
    shown, _, pointer = rest.partition("\n")
    column = pointer.find("^") + 1 - len(f"LINE {number}: ")
    return f"{line} (line {number}, column {max(1, column)}: {plain(shown.strip()[:80])})"


def _confine(question: Question) -> None:
    """Limits of the operating system that hold whatever the libraries do."""
    wall_s = math.ceil(question.limit_s) + 2
    _lower(resource.RLIMIT_CPU, wall_s * THREADS)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES_MAX)
    load = Path("/proc/loadavg")
    if load.exists():
        # The system counts all threads of a user, not those of one process.
        present = int(load.read_text(encoding="ascii").split()[3].partition("/")[2])
        _lower(resource.RLIMIT_NPROC, present + _MORE_THREADS)
    signal.alarm(wall_s)


def _confine_memory(memory_bytes: int) -> None:
    """Let the process grow by `memory_bytes` and what reading takes, from what it has now.

    What it has are mostly the stacks of the libraries' threads, which depend on the machine.
    """
    status = Path("/proc/self/status")
    if status.exists():
        sizes = dict(line.split(":", maxsplit=1) for line in status.read_text().splitlines())
        present_bytes = int(sizes["VmData"].removesuffix("kB")) << 10
        _lower(resource.RLIMIT_DATA, present_bytes + memory_bytes + READING_BYTES)


def _lower(limit: int, most: int) -> None:
    """Set `limit` to `most` for good, or leave it where it is lower already."""
    _, hard = resource.getrlimit(limit)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(limit, (lowest, lowest))


def main() -> None:
    """Answer the one question on standard input."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    _confine(question)
    pa.set_memory_pool(pa.system_memory_pool())
    lake = Path(question.directory)
    try:
        confine(lake)
    except OSError as failure:
        why = f"the SQL process cannot be confined to it: {failure.strerror}"
        _tell(Verdict(unreadable=why, cure=_CONFINE_FIX), sys.stdout.buffer)
        return
    try:
        answer(question, sys.stdout.buffer)
    except Exception as failure:  # noqa: BLE001 - a traceback would repeat what a record says
        sys.exit(_cut(f"{type(failure).__name__}: {_one_line(str(failure))}"))


if __name__ == "__main__":
    main()
