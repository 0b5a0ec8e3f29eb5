"""SQL on the lake: names, types, verbatim records, and what a reader is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lake_place import LakePlace
from m365watch.common.errors import LakeMissing, QueryRefused, QueryStopped
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.views import UNION, plan_views
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_batch, make_part, make_record, make_records, make_simple_batch

ODD_RECORDS = [
    b'{"Id":"1","Operation":"Odd","ObjectId":"\\ud800"}',
    b'{"Id":"2","Operation":"Odd","ObjectId":"caf\xe9"}',
    b'{"Id":"3","Operation":"Even"}',
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten records of Exchange, five of SharePoint, three odd ones in a table named by the operator."""
    directory = tmp_path_factory.mktemp("reader") / "lake"
    parts = [
        make_part(make_records(10), outputs=["lake"]),
        make_part(make_records(5, start=10, workload="SharePoint"), outputs=["lake"]),
        make_part(ODD_RECORDS, outputs=["lake"], tables=["my.app.select", "my.app.odd", "my.app.exchange"]),
    ]
    AuditWriter(directory, app_id="test").append(make_batch(1, parts))
    return directory


@pytest.mark.slow
def test_a_table_is_found_by_devos_name_and_by_a_short_one(lake: Path) -> None:
    """The alias is the last part of the name, Devo's own tables first; any table of Devo's may be empty."""
    counts = {
        "audit": 18,
        '"cloud.office365.management"': 15,
        "management": 15,
        '"cloud.office365.management.exchange"': 10,
        "exchange": 10,
        "Sharepoint": 5,
        "onedrive": 0,
        '"cloud.office365.management.yammer"': 0,
        "yammer": 0,
    }
    strange = {"odd": 1, '"my.app.exchange"': 1, '"my.app.select"': 1, "sharepoint": 5}

    for tables in (counts, strange):
        sql = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
        assert LakeReader(lake).query(sql).rows == [tuple(tables.values())]


def test_reserved_words_and_taken_names_get_no_alias() -> None:
    """A short name never hides another, nor breaks SQL; unspeakable tables have no name at all."""
    views = plan_views(["x.select", "x.Audit", "y.exchange", "", "a\x00b"], reserved=frozenset({"select"}))

    assert set(views) == {
        *("cloud.office365.management", "management", "x.select", "x.Audit", "y.exchange"),
        *("azureactivedirectory", "exchange", "onedrive", "sharepoint"),
        *(f"cloud.office365.management.{one}" for one in ("azureactivedirectory", "exchange")),
        *(f"cloud.office365.management.{one}" for one in ("onedrive", "sharepoint")),
    }
    assert views["exchange"] == "devo_table = 'cloud.office365.management.exchange'"


def test_the_present_tables_can_be_listed(lake: Path) -> None:
    """SHOW TABLES names what there is."""
    names = {name for (name,) in LakeReader(lake).query("SHOW TABLES").rows}

    assert {"audit", "exchange", "odd", "my.app.odd", "management"} <= names
    assert "select" not in names


def test_values_come_in_their_own_types(lake: Path) -> None:
    """Dates, aware instants, whole numbers, nulls."""
    sql = (
        "SELECT day, created_at, record_type, sum(record_type) OVER (), session_id FROM exchange ORDER BY id"
    )

    answer = LakeReader(lake).query(sql, rows_max=1)

    created_at = datetime(2026, 11, 17, 8, 30, tzinfo=UTC)
    assert answer.rows == [(date(2026, 11, 17), created_at, 50, 500, None)]
    assert answer.types == ("DATE", "TIMESTAMP WITH TIME ZONE", "INTEGER", "HUGEINT", "VARCHAR")
    assert answer.truncated


def test_the_record_itself_can_be_searched_and_taken_apart(lake: Path) -> None:
    """`raw` is the record's own text: LIKE and JSON paths work on it."""
    sql = "SELECT raw, raw->>'$.UserId', field(raw, '$.RecordType') FROM audit WHERE raw LIKE '%user7@%'"

    assert LakeReader(lake).query(sql).rows == [(make_record(7).decode(), "user7@contoso.example", "50")]


@pytest.mark.slow
def test_one_odd_record_need_not_spoil_a_query(lake: Path) -> None:
    """A lone surrogate is no JSON to DuckDB: the arrow fails with advice, `field` answers null."""
    reader = LakeReader(lake)
    with pytest.raises(QueryRefused, match=r"Malformed JSON .*; write field\(raw, '\$.Name'\) for"):
        reader.query("SELECT raw->>'$.Id' FROM audit")

    answer = reader.query("SELECT field(raw, '$.Id') FROM audit WHERE length(raw) < 60 ORDER BY length(raw)")

    assert [value for (value,) in answer.rows] == ["3", "2", None]


def test_bytes_that_are_no_text_are_kept_beside_it(lake: Path) -> None:
    """`raw_bytes` has the record as it was; `raw` shows what can be shown."""
    answer = LakeReader(lake).query("SELECT raw_bytes, raw FROM odd")

    assert answer.rows == [(ODD_RECORDS[1], ODD_RECORDS[1].decode(errors="replace"))]


@pytest.mark.parametrize("made", [False, True])
def test_an_empty_lake_answers_with_no_rows(tmp_path: Path, *, made: bool) -> None:
    """Before the first record, and before the first run, the tables are there and empty."""
    if made:
        AuditWriter(tmp_path, app_id="test")

    answer = LakeReader(tmp_path).query("SELECT operation, count(*) FROM exchange GROUP BY ALL")

    assert (answer.columns, answer.rows) == (("operation", "count_star()"), [])


def test_a_missing_lake_is_told_with_what_to_do(tmp_path: Path) -> None:
    """There is a line, and it says what to run."""
    with pytest.raises(LakeMissing, match=r"nowhere: there is no lake here; run `m365watch run` first"):
        LakeReader(tmp_path / "nowhere").query("SELECT 1")


def test_a_mistake_is_pointed_at(lake: Path) -> None:
    """One line: DuckDB's words, the place, and what is there."""
    with pytest.raises(QueryRefused) as refusal:
        LakeReader(lake).query("SELECT id\nFORM audit")

    told = str(refusal.value)
    assert told.startswith('Parser Error: syntax error at or near "audit"')
    assert told.endswith("(line 2, column 6: FORM audit); correct the SQL")


def test_devos_names_want_quotes(lake: Path) -> None:
    """Without them DuckDB looks for a database; the line says how to write it."""
    with pytest.raises(QueryRefused, match=r"put Devo's table names in double quotes"):
        LakeReader(lake).query("SELECT * FROM cloud.office365.management.exchange")


@pytest.mark.slow
def test_a_query_sees_the_newest_commit_while_a_run_goes_on(tmp_path: Path) -> None:
    """The writer holds nothing that a reader needs."""

    async def read_while_writing() -> list[object]:
        output = LakePlace(tmp_path).make()
        await output.open(last_batch=0, position="")
        counts: list[object] = []
        for number in (1, 2):
            await output.deliver(make_simple_batch(number, make_records(5, start=number * 5), output="lake"))
            counts.append(LakeReader(tmp_path).query("SELECT count(*) FROM audit").rows[0][0])
        await output.close()
        return counts

    assert asyncio.run(read_while_writing()) == [5, 10]


def test_a_table_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """It would look like a lake whose records are all null."""
    write_deltalake(tmp_path / "audit", pa.table({"id": [1, 2]}))

    with pytest.raises(
        QueryStopped, match=r"the lake cannot be read: its table `audit` is not one of m365watch's"
    ):
        LakeReader(tmp_path).query("SELECT count(*) FROM audit")


def test_a_damaged_lake_is_one_line(tmp_path: Path) -> None:
    """Its own records of itself cannot be read: where, what, and what then."""
    (tmp_path / "audit" / "_delta_log").mkdir(parents=True)
    (tmp_path / "audit" / "_delta_log" / f"{0:020}.json").write_text("{half", encoding="utf-8")

    with pytest.raises(QueryStopped) as error:
        LakeReader(tmp_path).query("SELECT 1 FROM audit")
    assert str(error.value).startswith(f"{tmp_path}: the lake cannot be read: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "TIMESTAMP '20000-01-01'",
        "'infinity'::TIMESTAMPTZ",
        "DATE 'infinity'",
        "INTERVAL 2000000000 DAYS",
        "'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS",
    ],
)
def test_a_value_that_no_program_here_can_hold_is_named(lake: Path, value: str) -> None:
    """One line with the column and a way out, and no traceback."""
    with pytest.raises(
        QueryRefused, match=r"^column odd has a value that cannot be shown; turn it into text"
    ):
        LakeReader(lake).query(f"SELECT 1 AS one, {value} AS odd")


def test_records_of_the_union_itself_are_in_the_union() -> None:
    """Service health has Devo's union for its table; what is below it is not hidden by that."""
    views = plan_views([UNION, "cloud.office365.management.exchange"], reserved=frozenset())
    rows = [UNION, "cloud.office365.management.exchange", "cloud.office365.managementx", "other"]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE audit (devo_table TEXT)")
        connection.executemany("INSERT INTO audit VALUES (?)", [[row] for row in rows])
        found = connection.execute(f"SELECT devo_table FROM audit WHERE {views[UNION]} AND true").fetchall()

    assert [row for (row,) in found] == rows[:2]
    assert views["management"] == views[UNION]
    assert views["exchange"] == "devo_table = 'cloud.office365.management.exchange'"
