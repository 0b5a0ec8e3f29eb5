"""The records that a filter holds for, part by part, the newest first.

One pass over a part gives the number of its hits, their course over time, and the newest of them. The SQL is
ours and what was typed is bound, so that it runs in this process; a stranger's SQL goes to `lake.reader`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from m365watch.common.errors import LakeUnusable, QueryStopped
from m365watch.lake.delta.table_files import (
    KnownFile,
    commits_named,
    id_of_commits,
    is_another,
    list_known_files,
    open_table,
)
from m365watch.lake.integrity_errors import is_of_a_file
from m365watch.lake.rollups.facts import MADE_OF
from m365watch.lake.schema import AUDIT, AUDIT_COLUMNS, AUDIT_TABLE
from m365watch.lake.search.filter_sql import Condition
from m365watch.lake.store import table_store

PART_RECORDS = 400_000
"""Records of a part whose texts are read; a day with more is a part by itself."""
PLAIN_FACTOR = 10
"""So many times more are in a part of which only typed columns are read."""
FIRST_FACTOR = 0.25
"""The first part is smaller: something is to be seen at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some days' files."""

    first: date
    last: date
    paths: tuple[str, ...]
    records: int


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open [start, end) in whole seconds since 1970."""

    start_s: int
    end_s: int


def plan_parts(files: Iterable[KnownFile], span: Span, *, records: int) -> list[Part]:
    """The parts that have the span's records, the newest first, each of about so many `records`."""
    first, last = _day(span.start_s), _day(span.end_s - 1)
    days: dict[date, list[KnownFile]] = {}
    for known in files:
        if first <= known.file.day <= last:
            days.setdefault(known.file.day, []).append(known)
    parts: list[Part] = []
    taken: list[KnownFile] = []
    for day in sorted(days, reverse=True):
        room = records * (1 if parts else FIRST_FACTOR)
        if taken and _records(taken) + _records(days[day]) > room:
            parts.append(_part(taken))
            taken = []
        taken += days[day]
    return [*parts, _part(taken)] if taken else parts


def _part(files: Sequence[KnownFile]) -> Part:
    days = [known.file.day for known in files]
    paths = tuple(sorted(known.file.path for known in files))
    return Part(min(days), max(days), paths, _records(files))


def _records(files: Sequence[KnownFile]) -> int:
    return sum(known.rows or 0 for known in files)


def _day(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()


THREADS = 2
MEMORY_BYTES = 768 << 20
LIMIT_S = 20.0
"""How long one part may take."""
HITS_MAX = 10_000
ROWS_PER_CHUNK = 2_000
_RAW_SHOWN_MAX = 20_000
_AT = "(epoch_us(coalesce(created_at, received_at)) // 1000000)"

SHOWN = tuple(column for column in AUDIT_COLUMNS if column.heading)
"""The columns that a hit has."""
_COLUMNS = {"at_s": _AT} | {column.name: column.shown for column in SHOWN}
"""What is told of each hit, and how it is made."""
_ORDER = ("at_s", "id")


@dataclass(frozen=True, slots=True)
class Hit:
    """One record that the filter holds for."""

    at_s: int
    values: Mapping[str, Any]
    """Of each column of `SHOWN`, by its name: a text, or a number or None."""
    raw: str = ""
    """The record's own text, only where the filter looks into it."""


def _hit(values: dict[str, Any]) -> Hit:
    return Hit(values.pop("at_s"), values, values.pop("raw", ""))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for, and where."""

    condition: Condition
    span: Span
    tenants: tuple[str, ...] | None = None
    """Ids in lower case; None: all; empty: none."""
    step_s: int = 3_600
    """The length of the steps in which hits are counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one part of the lake has."""

    count: int = 0
    steps: Mapping[int, int] = field(default_factory=dict)
    """Hits by the instant at which a step begins."""
    newest: Sequence[Hit] = ()


class Finder:
    """Searches one lake; a query of it may be stopped from any other thread."""

    def __init__(self, lake: Path, *, part_records: int = PART_RECORDS) -> None:
        """Nothing is opened yet."""
        self._lake = lake
        self._store = table_store(lake, AUDIT)
        self._part_records = part_records
        self._table: DeltaTable | None = None
        self._log: tuple[int, int] | None = None
        self._files: list[KnownFile] = []
        self._seen = -1
        self._looking = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:",
            config={"threads": THREADS, "memory_limit": f"{MEMORY_BYTES >> 20}MiB", "temp_directory": ""},
        )

    def close(self) -> None:
        """Let go of everything."""
        self._connection.interrupt()
        self._connection.close()

    def plan(self, asked: Asked) -> list[Part]:
        """The parts to be searched, the newest first. Raises: LakeUnusable."""
        if asked.tenants == ():
            return []
        factor = 1 if asked.condition.reads_raw else PLAIN_FACTOR
        return plan_parts(self._look(), asked.span, records=self._part_records * factor)

    def find(self, part: Part, asked: Asked, *, rows: int, stop: Stop | None = None) -> Found:
        """How many hits a part has, when, and the newest `rows` of them.

        Raises: QueryStopped; LakeUnusable: a file went meanwhile, or cannot be read.
        """
        names = [*_COLUMNS, *(["raw"] if asked.condition.reads_raw else [])]
        packed = ", ".join(f"'{name}': {_made(name)}" for name in names)
        newest = f"arg_max({{{packed}}}, ({', '.join(map(_made, _ORDER))}), {min(rows, HITS_MAX)})"
        step = f"{_AT} // {int(asked.step_s)} * {int(asked.step_s)}"
        sql = f"SELECT count(*), histogram({step}), {newest if rows else 'NULL'} FROM {_hits(asked)}"  # noqa: S608 - bound
        with self._asking(stop) as connection:
            told = connection.execute(sql, self._bound(part, asked)).fetchone()
        count, steps, hits = told or (0, None, None)
        return Found(count, steps or {}, list(map(_hit, hits or ())))

    def read(
        self, part: Part, asked: Asked, *, in_order: bool, stop: Stop | None = None, limit_s: float = LIMIT_S
    ) -> Generator[list[tuple[Hit, bytes]], None, None]:
        """Every hit of a part with the record as it was sent, in chunks; with `in_order`, the newest first.

        What is in order is in memory at once.

        Raises: QueryStopped; LakeUnusable.
        """
        told = ", ".join(f"{made} AS {name}" for name, made in _COLUMNS.items())
        order = f" ORDER BY {_AT} DESC, id DESC" if in_order else ""
        sql = f"SELECT {told}, coalesce(raw_bytes, encode(raw)) FROM {_hits(asked)}{order}"  # noqa: S608 - bound
        with self._asking(stop, limit_s=limit_s) as connection:
            connection.execute(sql, self._bound(part, asked))
            while rows := connection.fetchmany(ROWS_PER_CHUNK):
                yield [(_hit(dict(zip(_COLUMNS, row, strict=False))), bytes(row[-1])) for row in rows]

    def _bound(self, part: Part, asked: Asked) -> dict[str, object]:
        paths = [str(self._store.path(path)) for path in part.paths]
        tenants = {} if asked.tenants is None else {"tenants": list(asked.tenants)}
        span = {"start_s": asked.span.start_s, "end_s": asked.span.end_s}
        return {**asked.condition.bound, **tenants, **span, "files": paths}

    def _look(self) -> list[KnownFile]:
        with self._looking:
            if self._table is not None and is_another(self._store, self._log, self._table.version()):
                self._table, self._files, self._seen = None, [], -1
            if self._table is None:
                self._log = id_of_commits(self._store)
                self._table = open_table(self._lake, AUDIT_TABLE)
                if self._table is None:
                    return []
            else:
                with commits_named(self._store):
                    self._table.update_incremental()
            if self._table.version() != self._seen:
                with commits_named(self._store):
                    self._files = list_known_files(self._table)
                self._seen = self._table.version()
            return self._files

    @contextmanager
    def _asking(self, stop: Stop | None, *, limit_s: float = LIMIT_S) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose failures are ours, that `stop` and the limit of time interrupt."""
        connection = self._connection.cursor()
        stop = stop or Stop()
        timer = threading.Timer(limit_s, connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            with stop.watching(connection):
                yield connection
        except duckdb.InterruptException:
            raise QueryStopped(
                "this part of the search took too long", fix="choose a shorter time, or name a field"
            ) from None
        except duckdb.OutOfMemoryException:
            raise QueryStopped(
                f"this needs more memory than {MEMORY_BYTES >> 20} MiB", fix="choose a shorter time"
            ) from None
        except duckdb.Error as failure:
            if not is_of_a_file(failure):
                raise
            raise LakeUnusable(
                "a file of the lake cannot be read: it has gone, or is damaged",
                fix="search again; if it lasts, see what `m365watch lake check` says",
                where=str(self._lake),
            ) from failure
        finally:
            timer.cancel()
            connection.close()


class Stop:
    """Stops the query that runs, and the one that would begin."""

    def __init__(self) -> None:
        """Nothing is stopped yet."""
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self.is_set = False

    def set(self) -> None:
        """From any thread."""
        with self._lock:
            self.is_set = True
            if self._connection is not None:
                self._connection.interrupt()

    @contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt `connection` as soon as it is set."""
        with self._lock:
            if self.is_set:
                raise duckdb.InterruptException("stopped")
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None


def _made(name: str) -> str:
    return f"left(raw, {_RAW_SHOWN_MAX})" if name == "raw" else _COLUMNS[name]


def _hits(asked: Asked) -> str:
    """The rows of `audit` that count: of these tenants, of this time, and as the filter has it.

    The filter stands within: so DuckDB reads the other columns of those rows alone for which it holds.
    """
    tenants = "true" if asked.tenants is None else f"{MADE_OF['tenant_id']} IN (SELECT unnest($tenants))"
    time = f"{_AT} >= $start_s AND {_AT} < $end_s"
    rows = AUDIT_TABLE.rows_in("$files")
    held = f"(SELECT * FROM {rows} WHERE {asked.condition.sql})"  # noqa: S608 - bound
    return f"{held} WHERE {tenants} AND {time}"
