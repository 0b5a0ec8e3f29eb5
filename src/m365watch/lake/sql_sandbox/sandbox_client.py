"""SQL on the lake, by anybody, while a collector writes to it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from m365watch.common.child_process import bare_environment
from m365watch.common.errors import LakeMissing, QueryRefused, QueryStopped
from m365watch.common.file_access import is_folder, why_shut
from m365watch.common.timestamps import iso_of
from m365watch.lake.schema import AUDIT
from m365watch.lake.sql_sandbox.sandbox_process import Question, Verdict

_NO_THREADS = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "_RJEM_MALLOC_CONF": "background_thread:false",
}
"""The allocators of Arrow and deltalake would start threads before the kernel confines the only one."""
_NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")


def is_number(kind: str) -> bool:
    """Whether the type of a column, in DuckDB's words, is one number."""
    outermost = kind.partition("(")[0]
    return outermost != "INTERVAL" and any(word in outermost for word in _NUMBERS) and "[" not in kind


def text_of(value: object) -> str:
    """The value as text: a decimal with all its places, an object or a list as JSON."""
    if isinstance(value, Decimal):
        return str(value)
    plainer = jsonable(value)
    if isinstance(plainer, str):
        return plainer
    return json.dumps(plainer, ensure_ascii=False)


def jsonable(value: object) -> object:
    """`value` in JSON's own types: instants in ISO 8601 with Z, bytes in hexadecimal."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
        case datetime():
            return iso_of(value)
        case Decimal():
            number = float(value)
            return number if Decimal(repr(number)) == value else str(value)  # never another number
        case bytes():
            return value.hex()
        case list() | tuple():
            return [jsonable(one) for one in value]
        case dict():
            return {str(name): jsonable(one) for name, one in value.items()}
        case date():
            return value.isoformat()
        case _:
            return str(value)


LIMIT_S = 60.0
MEMORY_BYTES = 1 << 30
ROWS_MAX = 10_000
VANISHED_MAX = 3
"""How often a query is begun of which upkeep took a file away; it begins with the newest version."""
_GRACE_S = 2.0
"""How long after its limit the child may take to say so itself."""


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """The rows of a query, at most `rows_max` of them."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """DuckDB's names of the columns' types."""
    rows: list[tuple[object, ...]]
    truncated: bool
    """Whether there were more rows than these."""


class LakeReader:
    """The lake below `directory`, for reading; every query sees the newest commit."""

    def __init__(self, directory: Path) -> None:
        """Nothing is opened yet."""
        self._directory = directory

    def query(
        self,
        sql: str,
        *,
        tenants: Sequence[str] | None = None,
        sees_trail: bool = True,
        limit_s: float = LIMIT_S,
        memory_bytes: int = MEMORY_BYTES,
        rows_max: int = ROWS_MAX,
        ending: Ending | None = None,
    ) -> QueryAnswer:
        """What `sql`, exactly one SELECT, says about the rows of `tenants` (None: of all).

        Without `sees_trail` the table `board_trail` is refused.

        The SQL runs in a child process that sees nothing but these rows, and ends after
        `limit_s` seconds, at about `memory_bytes`, or by `ending`. An empty lake answers with no rows.

        Raises: LakeMissing; QueryRefused; QueryStopped.
        """
        if closed := why_shut(self._directory):
            raise QueryStopped(
                f"the lake cannot be read: {closed}",
                fix="run this as the user whose lake it is, or let this one read it",
                where=self._place,
            )
        if not is_folder(self._directory):
            raise LakeMissing(
                "there is no lake here",
                fix="run `m365watch run` first, or name another directory",
                where=self._place,
            )
        question = Question(
            directory=str(self._directory),
            sql=sql,
            tenants=None if tenants is None else list(tenants),
            sees_trail=sees_trail,
            limit_s=limit_s,
            memory_bytes=memory_bytes,
            rows_max=rows_max,
        )
        for _ in range(VANISHED_MAX):
            line, _, body = _ask(question, ending or Ending()).partition(b"\n")
            verdict = msgspec.json.decode(line, type=Verdict)
            if not verdict.vanished:
                break
        return self._parse(verdict, body)

    def _parse(self, verdict: Verdict, body: bytes) -> QueryAnswer:
        if verdict.refused is not None:
            raise QueryRefused(verdict.refused, fix=_advice(verdict.refused))
        if verdict.stopped is not None:
            raise QueryStopped(
                f"the query was stopped: {verdict.stopped}", fix="ask for fewer days, columns or rows"
            )
        if verdict.unreadable is not None:
            raise QueryStopped(
                f"the lake cannot be read: {verdict.unreadable}",
                fix=verdict.cure,
                where=self._place,
            )
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        columns = [
            _values(column, kind, name)
            for column, kind, name in zip(table.columns, verdict.types, table.column_names, strict=True)
        ]
        return QueryAnswer(
            columns=tuple(table.column_names),
            types=tuple(verdict.types),
            rows=list(zip(*columns, strict=True)),
            truncated=verdict.truncated,
        )

    def is_empty(self) -> bool:
        """Whether nothing was ever written here."""
        return not (self._directory / AUDIT / "_delta_log").is_dir()

    @property
    def _place(self) -> str:
        return str(self._directory)


class Ending:
    """Ends a query from another thread: the child that runs, and any that would begin."""

    def __init__(self) -> None:
        """Nothing has ended yet."""
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_over = False

    def end(self) -> None:
        """From any thread; the query fails, and nobody waits for it."""
        with self._lock:
            self._is_over = True
            if self._child is not None:
                self._child.kill()

    def watch(self, child: subprocess.Popen[bytes] | None) -> None:
        """Know the child that runs; None: none does."""
        with self._lock:
            self._child = child
            if self._is_over and child is not None:
                child.kill()


def _ask(question: Question, ending: Ending) -> bytes:
    """What the child wrote; it is gone when this returns."""
    command = [sys.executable, "-P", "-m", "m365watch.lake.sql_sandbox.sandbox_process"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=bare_environment() | _NO_THREADS,
    ) as child:
        ending.watch(child)
        try:
            told, complaint = child.communicate(
                msgspec.json.encode(question), timeout=question.limit_s + _GRACE_S
            )
        except subprocess.TimeoutExpired:
            raise _overdue(question) from None
        finally:
            ending.watch(None)
            child.kill()
    if child.returncode in (-signal.SIGALRM, -signal.SIGXCPU):
        raise _overdue(question)
    if child.returncode < 0:
        # The libraries end the process where the system refuses them memory.
        raise QueryStopped(
            f"the query was stopped: it needs more memory than {question.memory_bytes >> 20} MiB",
            fix="ask for fewer days, columns or rows",
        )
    if child.returncode > 0:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise QueryStopped(f"the query's process failed: {last}", fix="report this, with the query")
    return told


def _overdue(question: Question) -> QueryStopped:
    return QueryStopped(
        f"the query was stopped: it took longer than {question.limit_s:g} s",
        fix="ask for fewer days, columns or rows",
    )


def _values(column: pa.ChunkedArray, kind: str, name: str) -> list[object]:
    """The column's values in Python's types.

    Raises: QueryRefused: one is beyond them, for example an instant after the year 9999.
    """
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
        if kind == "INTERVAL":
            return [value and _interval(value) for value in values]
    except (OverflowError, ValueError):
        raise QueryRefused(
            f"column {name} has a value that cannot be shown",
            fix="turn it into text, as in created_at::VARCHAR",
        ) from None
    if kind == "UHUGEINT":
        # Arrow has no unsigned numbers of 128 bits.
        return [value if value is None else int(value) % (1 << 128) for value in values]
    if "HUGEINT" in kind:
        return [int(value) if isinstance(value, Decimal) else value for value in values]
    return values


def _interval(value: pa.MonthDayNano) -> timedelta | str:
    """A span of time; as text where it has months, which are of no certain length."""
    rest = timedelta(days=value.days, microseconds=value.nanoseconds // 1000)
    months = f"{value.months} month{'' if value.months == 1 else 's'}"
    return f"{months}, {rest}" if value.months else rest


_FIELD_AS_COLUMN = re.compile(r'Referenced column "([A-Z][A-Za-z0-9]*)" not found')


def _advice(refusal: str) -> str:
    if "Malformed JSON" in refusal:
        return "write field(raw, '$.Name') for raw->>'$.Name': it is null where a record is no plain JSON"
    if "cloud." in refusal and "does not exist" in refusal:
        return 'put Devo\'s table names in double quotes, as in FROM "cloud.office365.management.exchange"'
    if found := _FIELD_AS_COLUMN.search(refusal):
        return f"a field of the record is read by field(raw, '$.{found[1]}'); columns are in docs/lake.md"
    return "correct the SQL"
