"""Strangers' SQL: each way out of the sandbox is shut, and says so in one line."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from promises import guarantee

from lake_place import LakePlace, rows_of
from m365watch.common.errors import QueryRefused, QueryStopped
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.sql_sandbox.sandbox_process import Refused, _one_line, only_select
from m365watch_testing.batches import TENANT, make_records, make_simple_batch


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of a hundred records."""
    directory = tmp_path_factory.mktemp("sandbox") / "lake"

    async def fill() -> None:
        output = LakePlace(directory).make()
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(100), output="lake"))
        await output.close()

    asyncio.run(fill())
    return directory


NO_SELECTS = {
    "COPY to a file": "COPY (SELECT * FROM audit) TO '/tmp/stolen.csv'",
    "COPY from a file": "COPY audit FROM '/etc/passwd'",
    "ATTACH": "ATTACH '/tmp/other.db'",
    "INSTALL": "INSTALL httpfs",
    "LOAD": "LOAD '/tmp/x.duckdb_extension'",
    "PRAGMA": "PRAGMA database_list",
    "SET": "SET enable_external_access = true",
    "RESET": "RESET lock_configuration",
    "a second SET": "SELECT 1; SET lock_configuration = false",
    "two SELECTs": "SELECT 1; SELECT 2",
    "nothing": " -- nothing\n",
    "INSERT": "INSERT INTO audit SELECT * FROM audit",
    "UPDATE": "UPDATE audit SET raw = ''",
    "DELETE": "DELETE FROM audit",
    "DROP": "DROP VIEW exchange",
    "CREATE": "CREATE TABLE mine AS SELECT 1",
    "PREPARE": "PREPARE mine AS SELECT 1",
    "CALL": "CALL pragma_version()",
    "EXPORT": "EXPORT DATABASE '/tmp/exported'",
    "EXPLAIN": "EXPLAIN ANALYZE SELECT 1",
}


@guarantee(18)
@pytest.mark.parametrize("kind", NO_SELECTS)
def test_anything_but_one_select_is_refused(kind: str) -> None:
    """Exactly one statement is taken, and only a SELECT."""
    with pytest.raises(Refused, match=r"^(only SELECT is allowed, not |one SELECT is wanted, not )"):
        only_select(NO_SELECTS[kind])


@pytest.mark.parametrize("sql", ["FROM audit", "SHOW TABLES", "DESCRIBE audit", "VALUES (1)", "SELECT 1;"])
def test_every_form_of_a_select_is_taken(sql: str) -> None:
    """DuckDB's short forms are SELECTs too, and a semicolon at the end is none too many."""
    assert only_select(sql).query


ESCAPES = {
    "a statement that is no SELECT": "COPY audit TO '{lake}/stolen.csv'",
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_blob of the lake": "SELECT * FROM read_blob('{lake}/audit/_delta_log/*')",
    "read_parquet of the lake": "SELECT * FROM read_parquet('{lake}/audit/**/*.parquet')",
    "a file's name as a table": "SELECT * FROM '{lake}/audit/_delta_log/00000000000000000000.json'",
    "glob": "SELECT * FROM glob('/etc/*')",
    "an address": "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
    "getenv": "SELECT getenv('HOME')",
    "a variable of Python's": "SELECT * FROM question",
    "query with a COPY in it": "SELECT * FROM query('COPY (SELECT 1) TO ''{lake}/x.csv''')",
}


@guarantee(18, 26)
@pytest.mark.parametrize("kind", ESCAPES)
def test_a_way_out_is_refused_in_one_line(lake: Path, kind: str) -> None:
    """Nothing but the registered rows is read, and nothing is left behind."""
    before = sorted(lake.rglob("*"))

    with pytest.raises(QueryRefused) as refusal:
        LakeReader(lake).query(ESCAPES[kind].format(lake=lake))

    assert len(str(refusal.value).splitlines()) == 1
    assert sorted(lake.rglob("*")) == before


BOMBS = {
    "infinite recursion": "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL FROM t) SELECT max(n) FROM t",
    "huge cross join": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a, b) = 0",
}


@guarantee(18)
@pytest.mark.parametrize("kind", BOMBS)
def test_an_endless_query_is_stopped_in_time(lake: Path, kind: str) -> None:
    """The limit of time holds, and the line names it."""
    with pytest.raises(QueryStopped, match=r"^the query was stopped: it took longer than 1 s; ask for fewer"):
        LakeReader(lake).query(BOMBS[kind], limit_s=1.0)


HOARDS = {
    "a list of everything": "SELECT len(list(range::VARCHAR || repeat('x', 50))) FROM range(100000000)",
    "one long text": "SELECT length(repeat('x', 4000000000))",
    "a sort": "SELECT * FROM range(1000000000) ORDER BY hash(range) DESC",
    "a long answer": "SELECT repeat('x', 10000) FROM range(10000)",
}


@guarantee(18)
@pytest.mark.parametrize("kind", HOARDS)
def test_a_memory_bomb_is_stopped(lake: Path, kind: str) -> None:
    """The limit of memory holds for what DuckDB takes and for the answer itself."""
    with pytest.raises((QueryStopped, QueryRefused)) as stop:
        LakeReader(lake).query(HOARDS[kind], memory_bytes=64 << 20, limit_s=10.0)

    assert "64 MiB" in str(stop.value)
    assert len(str(stop.value).splitlines()) == 1


PARSED = """
import io, resource, sys
from m365watch.lake.sql_sandbox.sandbox_process import Question, answer
limits = {"limit_s": 1.0, "memory_bytes": 64 << 20, "rows_max": 1}
asked = Question(directory=sys.argv[1], sql="COPY audit TO 'x'", tenants=None, sees_trail=True, **limits)
answer(asked, sink := io.BytesIO())
print(resource.getrlimit(resource.RLIMIT_DATA)[0], sink.getvalue().decode())
"""


def test_the_limit_of_memory_holds_before_the_sql_is_read(lake: Path) -> None:
    """Twelve kilobytes of `<` take DuckDB's parser gigabytes, and nothing of its own limits that."""
    ran = subprocess.run(
        [sys.executable, "-c", PARSED, str(lake)], capture_output=True, check=True, text=True
    )

    limit, _, said = ran.stdout.partition(" ")
    assert 64 << 20 < int(limit) < 8 << 30
    assert "only SELECT is allowed" in said


@guarantee(18)
@pytest.mark.parametrize(("tenants", "count"), [([TENANT], 100), (["another"], 0), ([], 0)])
def test_the_allowed_tenants_are_all_there_is(lake: Path, tenants: list[str], count: int) -> None:
    """Whatever the SQL is, rows of other tenants are not there to be found."""
    sql = "SELECT (SELECT count(*) FROM audit), (SELECT count(raw) FROM management WHERE tenant_id <> '')"

    assert LakeReader(lake).query(sql, tenants=tenants).rows == [(count, count)]


@guarantee(18)
def test_the_child_inherits_no_environment(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret of the parent's environment gets near the SQL: the child itself writes down what it has."""
    told = tmp_path / "told"
    monkeypatch.setenv("M365WATCH_TEST_SECRET", "hunter2")
    # Python reads this module at its start, from the path that the child is given.
    (tmp_path / "sitecustomize.py").write_text(
        f"import os; open({str(told)!r}, 'w').write(' '.join(sorted(os.environ)))"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert LakeReader(lake).query("SELECT 1").rows == [(1,)]

    # The allocators read the last two.
    ours = {"PATH", "TMPDIR", "TZ", "LANG", "JE_ARROW_MALLOC_CONF", "_RJEM_MALLOC_CONF"}
    others = set(told.read_text().split()) - ours
    assert {name for name in others if not name.startswith(("LC_", "PYTHON"))} == set()


@guarantee(18)
def test_the_lake_is_the_same_after_all_that(lake: Path) -> None:
    """A hundred records went in, a hundred are there."""
    assert rows_of(lake).num_rows == 100


def test_a_mistake_in_sql_moves_no_terminal_s_cursor() -> None:
    """Found by the fuzzer: DuckDB quotes the line of SQL as it was typed."""
    with pytest.raises(duckdb.ParserException) as caught:
        only_select("SELEC \x1b[2J")

    assert _one_line(str(caught.value)).isprintable()
