"""The lake for the pages: our own SQL over facts, always within somebody's tenants, time and limits.

A panel's SQL can name one table, `facts`, and what it holds is decided here: the rows of the view's
tenants, of its time, narrowed as its URL says. The SQL is ours and its values are bound; what analysts
write themselves goes to `lake.reader`, in a confined process.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
from deltalake import DeltaTable

from m365watch.board.access.redaction import columns_for
from m365watch.board.app.request_metrics import Queries
from m365watch.board.query.fair_thread_pool import FairThreads
from m365watch.board.query.query_context import View
from m365watch.board.query.query_planner import (
    WITHIN,
    Query,
    Snapshot,
    Spans,
    condition_of,
    day_of,
    joined,
    picked_days,
    plan_source,
)
from m365watch.board.query.query_throttle import Turn, at_once, in_time
from m365watch.board.query.search_queries import HitsReader
from m365watch.board.query.sql_queries import SqlReader
from m365watch.common.errors import LakeMissing, LakeUnusable, QueryStopped
from m365watch.lake.delta.missing_commits import LAKE_GONE, Standing, standing_of
from m365watch.lake.delta.table_files import commits_named, id_of_commits, is_another, list_files, open_table
from m365watch.lake.delta.transaction_log import LOG
from m365watch.lake.integrity_errors import LAKE_BACK, is_of_a_file
from m365watch.lake.rollups.facts import ACTIVITY, HOUR_S, KEPT
from m365watch.lake.schema import AUDIT, AUDIT_TABLE
from m365watch.lake.store import table_store

THREADS = 2
"""Of a query over records, or a long one. Others over rollups have one: several run at a time, and to share
one costs a tenth."""
MEMORY_BYTES = 1 << 30
LIMIT_S = 20.0
AT_ONCE_MAX = 4
"""Queries that run at the same time, one less of the same asker; one more is for whoever has none."""
STOP_AGAIN_S = 0.05
KEPT_ANSWERS_MAX = 512
READ_AT_ONCE_HOURS = 2
"""Of so few hours the records themselves are read in less time than it takes to ask what was counted."""
_TRIES_MAX = 3
"""Upkeep may take away a file that is being read; then the query begins again with the newest version."""

NOT_WORTH_IT = frozenset({"grouping_sets", "distinct_aggregate_rewrite"})
"""DuckDB's ways to group that take longer over our facts: an eighth more, where a query counts by much."""
_DIFFERENT = re.compile(r"count\(DISTINCT (\w+)\)")
"""Counted are numbers of 64 bits in place of texts: of half a million, two are alike once in 10^8 times."""
_NAMED = re.compile(r"\$([a-z_]\w*)")

Row = tuple[Any, ...]
EMPTY = Snapshot(-1, {})


@dataclass(slots=True, eq=False)
class _Asking:
    """A query at work, and how many wait for it: panels of one page ask for the same."""

    key: tuple[object, str]
    """What was asked first, and by whom."""
    connection: duckdb.DuckDBPyConnection
    working: Future[list[Row]]
    waiting: int = 0

    def stop(self) -> None:
        """End it, at the latest when it begins: an interrupt that comes before says nothing."""
        if not self.working.cancel() and not self.working.done():
            self.connection.interrupt()
            asyncio.get_running_loop().call_later(STOP_AGAIN_S, self.stop)


class FactsReader:
    """Answers queries about one lake; used by one event loop."""

    def __init__(
        self,
        lake: Path,
        *,
        memory_bytes: int = MEMORY_BYTES,
        limit_s: float = LIMIT_S,
        turn: Turn = at_once,
        queries: Queries | None = None,
    ) -> None:
        """Nothing is opened yet. Each query is asked in its asker's `turn`; `queries` count it."""
        self.lake = lake
        self._store = table_store(lake, AUDIT)
        self._memory_mib = memory_bytes >> 20
        self._limit_s = limit_s
        self._turn = turn
        self._table: DeltaTable | None = None
        self._log: tuple[int, int] | None = None
        self._snapshot = EMPTY
        self._looking = Lock()
        self._threads = FairThreads(AT_ONCE_MAX, "board-lake")
        self._of_records, self._of_rollups = (self._open(threads) for threads in (THREADS, 1))
        self._answers: OrderedDict[object, list[Row]] = OrderedDict()
        self._asking: dict[tuple[object, str], _Asking] = {}
        self._ending: list[_Asking] = []
        """Nobody waits for them any more."""
        self._committed_at_ns = 0
        self._there_at = (0, 0)
        """The log's folder and when it had changed, as the table was found to be there."""
        self.queries = queries or Queries()
        self.hits = HitsReader(lake, turn=turn, queries=self.queries)
        self.sql = SqlReader(lake, turn=turn, queries=self.queries)

    async def ask(self, view: View, query: Query, **given: object) -> list[Row]:
        """The rows of `query` over what `view` may and wants to count; at most its `rows_max`.

        Whoever stops waiting stops the query.

        Raises: QueryStopped: it took too long or too much memory; LakeUnusable.
        """
        with self.queries.one_more("panel"):
            async with in_time(self._turn(view.access.asker)):
                if query.sieve is not None:
                    await self._ask(view, query.sieve.query, {})  # one look for all tables of a page
                return await self._ask(view, query, given)

    async def _ask(self, view: View, query: Query, given: Mapping[str, object]) -> list[Row]:
        who, asked = view.access.asker, _key(view, query, given)
        asking = self._same(asked, who)
        if asking is None:
            is_small = query.rollup in KEPT and not query.is_long
            connection = (self._of_rollups if is_small else self._of_records).cursor()
            answer = partial(self._answer, connection, view, query, given)
            working = self._threads.submit(who, answer)
            asking = self._asking[asked, who] = _Asking((asked, who), connection, working)
        asking.waiting += 1
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.shield(_heeded(asking.working))
        except TimeoutError:
            raise QueryStopped(
                f"this took longer than {self._limit_s:g} s", fix="choose a shorter time, or narrow the view"
            ) from None
        finally:
            asking.waiting -= 1
            if not asking.waiting:
                asking.stop()
                self._ending = [one for one in (*self._ending, asking) if not one.working.done()]
                if self._asking.get(asking.key) is asking:
                    del self._asking[asking.key]

    def _same(self, asked: object, who: str) -> _Asking | None:
        """What `who` may wait for as well: their own, or what is at work; not others' place in the queue."""
        for (what, whose), one in self._asking.items():
            if what == asked and not one.working.done() and (whose == who or one.working.running()):
                return one
        return None

    @property
    def standing(self) -> Standing:
        """Whether the table is where it is looked for, as far as can be seen without the ledger.

        Each query of a page asks, and so it is looked for again only if something has changed in its log.
        """
        try:
            found = self._store.path(LOG).stat()
        except OSError:
            return standing_of(self._store)
        changed = found.st_ino, found.st_mtime_ns
        if changed != self._there_at:
            standing = standing_of(self._store)
            if standing is not Standing.THERE:
                return standing
            self._there_at = changed
        return Standing.THERE

    @property
    def is_there(self) -> bool:
        """Whether it is."""
        return self.standing is Standing.THERE

    async def snapshot(self) -> Snapshot:
        """The table as it is now."""
        return await asyncio.to_thread(self._look)

    def close(self) -> None:
        """Let go of everything."""
        self._threads.close(waits=False)
        ending = [*self._asking.values(), *self._ending]
        while ending := [one for one in ending if not one.working.done()]:
            for asking in ending:  # time and again, as none may have begun
                asking.connection.interrupt()
            wait([one.working for one in ending], timeout=STOP_AGAIN_S)
        self._threads.close(waits=True)
        self._of_records.close()
        self._of_rollups.close()
        self.hits.close()
        self.sql.close()

    def _open(self, threads: int) -> duckdb.DuckDBPyConnection:
        limit = f"{self._memory_mib}MiB"
        connection = duckdb.connect(
            ":memory:", config={"threads": threads, "memory_limit": limit, "temp_directory": ""}
        )
        connection.execute("SET GLOBAL parquet_metadata_cache = true")
        # Another version of DuckDB may know none of them by that name.
        known = {name for (name,) in connection.execute("SELECT name FROM duckdb_optimizers()").fetchall()}
        connection.execute(f"SET GLOBAL disabled_optimizers = '{','.join(sorted(known & NOT_WORTH_IT))}'")
        return connection

    def begun_at_s(self) -> float | None:
        """When the lake's table was made, wherever its folder was then; None without one; takes its time.

        Raises: LakeUnusable.
        """
        self._look()
        made_ms = None if self._table is None else self._table.metadata().created_time
        return None if made_ms is None else made_ms / 1000

    def _look(self) -> Snapshot:
        with self._looking:
            if self._table is not None and is_another(self._store, self._log, self._table.version()):
                self._table, self._snapshot, self._committed_at_ns = None, EMPTY, 0
                self._answers.clear()
            if self._table is None:
                self._log = id_of_commits(self._store)
                self._table = open_table(self.lake, AUDIT_TABLE)
                if self._table is None:
                    return EMPTY
            elif (changed_at_ns := self._written_at_ns()) != self._committed_at_ns:
                self._committed_at_ns = changed_at_ns
                with commits_named(self._store):
                    self._table.update_incremental()
            version = self._table.version()
            if version != self._snapshot.version:
                days: dict[date, set[str]] = {}
                with commits_named(self._store):
                    files = list_files(self._table)
                for file in files:
                    days.setdefault(file.day, set()).add(file.path)
                self._answers.clear()
                self._snapshot = Snapshot(version, {day: frozenset(of) for day, of in days.items()})
            return self._snapshot

    def _written_at_ns(self) -> int:
        try:
            return self._store.path(LOG).stat().st_mtime_ns
        except OSError:
            raise LakeMissing(LAKE_GONE, fix=LAKE_BACK) from None

    def _answer(
        self, connection: duckdb.DuckDBPyConnection, view: View, query: Query, given: Mapping[str, object]
    ) -> list[Row]:
        for attempt in range(1, _TRIES_MAX + 1):
            snapshot = self._look()
            try:
                return self._known(connection, snapshot, view, query, given)
            except duckdb.OutOfMemoryException as failure:
                raise QueryStopped(
                    f"this needs more memory than {self._memory_mib} MiB",
                    fix="choose a shorter time, or narrow the view",
                ) from failure
            except duckdb.Error as failure:
                if not is_of_a_file(failure):
                    raise
                if attempt < _TRIES_MAX:
                    continue
                raise LakeUnusable(
                    "a file of the lake cannot be read",
                    fix="see what `m365watch lake check` says of it",
                    where=str(self.lake),
                ) from failure
        raise AssertionError("a try either answers or raises")

    def _known(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        view: View,
        query: Query,
        given: Mapping[str, object],
    ) -> list[Row]:
        """What was answered before of that version of the table, or the answer."""
        key = (snapshot.version, _key(view, query, given))
        rows = self._answers.get(key)
        if rows is None:
            rows = self._answers[key] = self._run(connection, snapshot, view, query, given)
            while len(self._answers) > KEPT_ANSWERS_MAX:
                self._answers.popitem(last=False)
        return rows

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
        if query.every and query.rollup not in KEPT and view.range.has_full_hours:
            return self._read_newest_hours(connection, snapshot, view, query, given)
        wanted = query.newest
        first = 1
        if query.sieve is not None:
            counted = self._known(connection, snapshot, view, query.sieve.query, {})
            counts = [(row[0], row[1 + query.place]) for row in counted]
            picked, total = picked_days(snapshot, view.range, counts, wanted=wanted)
            snapshot = snapshot.of_days(picked)
            if total <= wanted:  # all of them are wanted
                return self._read(connection, snapshot, view, query, given)
            first = -(-wanted * len(picked) // total)
        rows: list[Row] = []
        for part in newest_first(snapshot, first=first):
            rows += self._read(connection, part, view, query, given)
            if len(rows) >= wanted:
                break
        return rows[: query.newest]

    def _read_newest_hours(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        view: View,
        query: Query,
        given: Mapping[str, object],
    ) -> list[Row]:
        """The newest records, of the hours that have them; what was counted may tell all that is wanted."""
        spans = self._newest_hours(connection, snapshot, view, query)
        if not spans:
            return []
        hours = [at_s for span in spans for at_s in range(*span, HOUR_S)]
        snapshot = snapshot.of_days({day_of(at_s) for at_s in hours})
        if len(hours) > READ_AT_ONCE_HOURS and set(query.columns(view)) <= set(ACTIVITY.columns):
            since = {"since_s": spans[0][0], **given}
            if rows := self._read(connection, snapshot, view, query.by_instants, since):
                return rows
        return self._read(connection, snapshot, view, query, given, spans=spans)

    def _newest_hours(
        self, connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, view: View, query: Query
    ) -> Spans:
        """The newest hours that together have as many records as are wanted."""
        asked = Query(
            f"SELECT at_s // {HOUR_S} AS hour, CAST(sum(n) AS BIGINT) FROM facts WHERE {query.every}"
            " GROUP BY ALL ORDER BY hour DESC"
        )
        hours: list[int] = []
        found = 0
        for part in newest_first(snapshot):
            for hour, count in self._read(connection, part, view, asked, {}):
                if found >= query.newest:
                    return joined(hours)
                hours.append(hour)
                found += count
        return joined(hours)

    def _read(
        self,
        connection: duckdb.DuckDBPyConnection,
        snapshot: Snapshot,
        view: View,
        query: Query,
        given: Mapping[str, object],
        *,
        spans: Spans = (),
    ) -> list[Row]:
        source = plan_source(self.lake, snapshot, view, query, spans=spans)
        if source is None:
            return []
        condition, bound = condition_of(view, source.rollup)
        named = ", ".join(["at_s", "last_s", *columns_for(view, source.columns), "n"])
        facts = " UNION ALL ".join(
            f"SELECT {named} FROM {arm.sql} WHERE {condition}{'' if arm.is_inside else f' AND {WITHIN}'}"
            for arm in source.arms
        )
        values: dict[str, object] = {**bound, **source.files, **given}
        span = view.range
        values |= {"start_s": span.start_s, "end_s": span.end_s}
        values |= {"step_s": span.step_s, "spark_s": span.spark_s, "lane_s": span.lane_s}
        asked = _DIFFERENT.sub(r"count(DISTINCT hash(\1))", query.sql)
        further = asked.removeprefix("WITH ")
        sql = f"WITH facts AS NOT MATERIALIZED ({facts}){' ' if further == asked else ', '}{further}"
        connection.execute(sql, {name: values[name] for name in set(_NAMED.findall(sql))})
        return connection.fetchmany(query.rows_max)


def _heeded(working: Future[list[Row]]) -> asyncio.Future[list[Row]]:
    """What it comes to. Where nobody waits any more, how it failed is not for the loop to complain of."""
    waiting = asyncio.wrap_future(working)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
    return waiting


def newest_first(snapshot: Snapshot, *, first: int = 1) -> Iterator[Snapshot]:
    """The newest day, or the `first` ones, twice as many before these, four times as many, and so on."""
    days = sorted(snapshot.days, reverse=True)
    taken, count = 0, first
    while taken < len(days):
        yield Snapshot(snapshot.version, {day: snapshot.days[day] for day in days[taken : taken + count]})
        taken, count = taken + count, count * 2


def _key(view: View, query: Query, given: Mapping[str, object]) -> object:
    """What an answer depends on, beside the table."""
    bound = tuple((name, repr(value)) for name, value in sorted(given.items()))
    seen = view.tenants, view.access.sees_contents
    return query, view.range, seen, tuple(view.narrowing.pairs()), bound
