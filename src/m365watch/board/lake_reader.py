"""The lake for the pages: our own SQL over facts, always within somebody's tenants, time and limits.

A panel's SQL can name one table, `facts`, and what it holds is decided here: the rows of the view's
tenants, of its time, narrowed as its URL says. The SQL is ours and its values are bound; what analysts
write themselves goes to `lake.reader`, in a confined process.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
from deltalake import DeltaTable

from m365watch.board.narrowing import DIMENSIONS, NUMBERS
from m365watch.board.view import View
from m365watch.errors import LakeUnusable, QueryStopped
from m365watch.lake.files import list_files, open_table
from m365watch.lake.rollups.facts import KEPT, RECORDS, SIGN_INS, Rollup, smallest_with
from m365watch.lake.rollups.notes import read_day
from m365watch.lake.schema import AUDIT, AUDIT_TABLE
from m365watch.values import dataclass

THREADS = 2
MEMORY_BYTES = 1 << 30
LIMIT_S = 20.0
AT_ONCE_MAX = 4
"""Queries that run at the same time; the others wait."""
KEPT_ANSWERS_MAX = 512
ROWS_MAX = 10_000
_TRIES_MAX = 3
"""Upkeep may take away a file that is being read; then the query begins again with the newest version."""

_NAMED = re.compile(r"\$([a-z_]\w*)")

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """SQL over `facts`, and the columns of it that the SQL names."""

    sql: str
    needs: frozenset[str] = frozenset()
    of_sign_ins: bool = False
    """Whether the facts are sign-ins, with what only their records say."""
    of: Rollup | None = None
    """What the facts are, where the columns of the query do not say it."""
    exact: bool = False
    """Whether every record counts by itself, to the second."""
    newest: int = 0
    """So many rows are wanted, the newest first: older days are read only if newer ones have fewer."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The table as it was at one version."""

    version: int
    days: Mapping[date, frozenset[str]]


EMPTY = Snapshot(-1, {})


class FactsReader:
    """Answers queries about one lake; used by one event loop."""

    def __init__(self, lake: Path) -> None:
        """Nothing is opened yet."""
        self._lake = lake
        self._table: DeltaTable | None = None
        self._snapshot = EMPTY
        self._looking = Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="board-lake")
        self._connection = duckdb.connect(
            ":memory:",
            config={"threads": THREADS, "memory_limit": f"{MEMORY_BYTES >> 20}MiB", "temp_directory": ""},
        )
        self._answers: OrderedDict[object, list[Row]] = OrderedDict()

    async def ask(self, view: View, query: Query, **given: object) -> list[Row]:
        """The rows of `query` over what `view` may and wants to count; at most `ROWS_MAX`.

        Whoever stops waiting stops the query.

        Raises: QueryStopped: it took too long or too much memory; LakeUnusable.
        """
        loop = asyncio.get_running_loop()
        connection = self._connection.cursor()
        working = loop.run_in_executor(self._threads, self._answer, connection, view, query, given)
        try:
            async with asyncio.timeout(LIMIT_S):
                return await working
        except TimeoutError:
            connection.interrupt()
            raise QueryStopped(
                f"this took longer than {LIMIT_S:g} s", fix="choose a shorter time, or narrow the view"
            ) from None
        except asyncio.CancelledError:
            connection.interrupt()
            raise

    async def snapshot(self) -> Snapshot:
        """The table as it is now."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look)

    def close(self) -> None:
        """Let go of everything."""
        self._connection.interrupt()
        self._threads.shutdown(cancel_futures=True)
        self._connection.close()

    def _look(self) -> Snapshot:
        with self._looking:
            if self._table is None:
                self._table = open_table(self._lake, AUDIT_TABLE)
                if self._table is None:
                    return EMPTY
            else:
                self._table.update_incremental()
            version = self._table.version()
            if version != self._snapshot.version:
                days: dict[date, set[str]] = {}
                for file in list_files(self._table):
                    days.setdefault(file.day, set()).add(file.path)
                self._answers.clear()
                self._snapshot = Snapshot(version, {day: frozenset(of) for day, of in days.items()})
            return self._snapshot

    def _answer(
        self, connection: duckdb.DuckDBPyConnection, view: View, query: Query, given: Mapping[str, object]
    ) -> list[Row]:
        for attempt in range(1, _TRIES_MAX + 1):
            snapshot = self._look()
            narrowed = tuple(view.narrowing.pairs())
            key = (snapshot.version, query, view.range, view.tenants, narrowed, _key(given))
            if key in self._answers:
                return self._answers[key]
            try:
                rows = self._run(connection, snapshot, view, query, given)
            except duckdb.IOException as failure:
                if attempt < _TRIES_MAX:
                    continue
                raise LakeUnusable(
                    "a file of the lake cannot be read",
                    fix="see what `m365watch lake check` says of it",
                    where=str(self._lake),
                ) from failure
            except duckdb.OutOfMemoryException as failure:
                raise QueryStopped(
                    f"this needs more memory than {MEMORY_BYTES >> 20} MiB",
                    fix="choose a shorter time, or narrow the view",
                ) from failure
            self._keep(key, rows)
            return rows
        raise AssertionError("a try either answers or raises")

    def _keep(self, key: object, rows: list[Row]) -> None:
        self._answers[key] = rows
        while len(self._answers) > KEPT_ANSWERS_MAX:
            self._answers.popitem(last=False)

    def _run(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        view: View,
        query: Query,
        given: Mapping[str, object],
    ) -> list[Row]:
        if not query.newest:
            return self._read(connection, snapshot, view, query, given)
        rows: list[Row] = []
        for part in newest_first(snapshot):
            rows += self._read(connection, part, view, query, given)
            if len(rows) >= query.newest:
                break
        return rows[: query.newest]

    def _read(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        view: View,
        query: Query,
        given: Mapping[str, object],
    ) -> list[Row]:
        source = plan_source(self._lake, snapshot, view, query)
        if source is None:
            return []
        condition, bound = condition_of(view, source.rollup)
        facts = " UNION ALL ".join(
            f"SELECT {', '.join(['at_s', *source.rollup.columns, 'n'])} FROM ({arm}) WHERE {condition}"
            for arm in source.arms
        )
        values = {**bound, **source.files, **given}
        values.update(start_s=view.range.start_s, end_s=view.range.end_s, step_s=view.range.step_s)
        further = query.sql.removeprefix("WITH ")
        sql = f"WITH facts AS ({facts}){' ' if further == query.sql else ', '}{further}"
        connection.execute(sql, {name: values[name] for name in set(_NAMED.findall(sql))})
        return connection.fetchmany(ROWS_MAX)


def newest_first(snapshot: Snapshot) -> Iterator[Snapshot]:
    """The newest day, the two before it, the four before these, and so on."""
    days = sorted(snapshot.days, reverse=True)
    taken, count = 0, 1
    while taken < len(days):
        yield Snapshot(snapshot.version, {day: snapshot.days[day] for day in days[taken : taken + count]})
        taken, count = taken + count, count * 2


@dataclass(frozen=True, slots=True)
class Source:
    """Where the facts of a query come from."""

    rollup: Rollup
    arms: tuple[str, ...]
    files: Mapping[str, Sequence[str]]


def plan_source(lake: Path, snapshot: Snapshot, view: View, query: Query) -> Source | None:
    """Rollups as far as they serve, and the lake's own files for the rest; None where there is nothing."""
    if view.tenants == () or (query.of_sign_ins and view.narrowing.columns - set(SIGN_INS.columns)):
        return None
    wanted = query.needs | view.narrowing.columns | {"tenant_id"}
    rollup = query.of or (
        SIGN_INS if query.of_sign_ins else RECORDS if query.exact else smallest_with(wanted)
    )
    serves = rollup in KEPT and (rollup.grain_s == 1 or (view.range.has_full_hours and not query.exact))
    kept: list[str] = []
    plain: list[str] = []
    first, last = _day(view.range.start_s), _day(view.range.end_s - 1)
    for day, files in sorted(snapshot.days.items()):
        if not first <= day <= last:
            continue
        rolled = read_day(lake, day) if serves else None
        counted = frozenset(rolled.note.sources) if rolled is not None else frozenset[str]()
        if rolled is not None and counted <= files:
            kept.append(rolled.file(rollup))
        else:
            counted = frozenset()
        plain += [str(lake / AUDIT / path) for path in sorted(files - counted)]
    arms = [
        *([rollup.over_rollups("read_parquet($kept)")] if kept else []),
        *([rollup.over_records("read_parquet($plain)")] if plain else []),
    ]
    return Source(rollup, tuple(arms), {"kept": kept, "plain": plain}) if arms else None


def condition_of(view: View, rollup: Rollup) -> tuple[str, dict[str, object]]:
    """The tenants, the time and the narrowing of a view as a condition, and the values bound in it."""
    parts = ["at_s >= $start_s", "at_s < $end_s"]
    bound: dict[str, object] = {}
    wanted = {DIMENSIONS[name]: values for name, values in view.narrowing.values.items() if name != "tenant"}
    if view.tenants is not None:
        wanted["tenant_id"] = view.tenants
    numbers = {DIMENSIONS[name] for name in NUMBERS}
    for column, values in wanted.items():
        assert column in rollup.columns  # noqa: S101 - the source was chosen for it
        names = [f"{column}_{place}" for place in range(len(values))]
        parts.append(f"{column} IN ({', '.join(f'${name}' for name in names)})")
        bound |= {
            name: int(value) if column in numbers else value
            for name, value in zip(names, values, strict=True)
        }
    return " AND ".join(parts), bound


def _day(seconds: int) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()


def _key(given: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple((name, repr(value)) for name, value in sorted(given.items()))
