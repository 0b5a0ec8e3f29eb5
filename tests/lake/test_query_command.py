"""`m365watch query`: rows on standard output, everything else on standard error, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from m365watch.cli.lake.query_command import query
from m365watch.cli.lake.query_rows import csv_text, json_text
from m365watch.common.errors import LakeMissing, SettingsRefused
from m365watch.lake.sql_sandbox.sandbox_client import QueryAnswer
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import TENANT, make_record, make_records, make_simple_batch

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command()(query)

ODD = QueryAnswer(
    columns=("a", "b", "c"),
    types=("DOUBLE", "BLOB", "VARCHAR[]"),
    rows=[(float("nan"), b"\xff", ["é", None]), (None, None, None)],
    truncated=False,
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of five records."""
    directory = tmp_path_factory.mktemp("query") / "lake"
    AuditWriter(directory, app_id="test").append(make_simple_batch(1, make_records(5), output="lake"))
    return directory


def ask(lake: Path, *arguments: str, typed: str | None = None, columns: int | None = 100) -> Result:
    """What the command does where a line has so many columns; None: into a pipe."""
    environment = {"COLUMNS": None if columns is None else str(columns), "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["--lake", str(lake), *arguments], input=typed, env=environment)


def words(text: str) -> str:
    """A message out of its frame."""
    return " ".join(text.replace("│", " ").split())


def test_json_is_an_array_of_objects(lake: Path) -> None:
    """A program reads the rows by name; the record is whole."""
    result = ask(lake, "--json", "SELECT id, record_type, created_at, raw FROM audit WHERE id LIKE '%3'")

    identity = "00000000-0000-0000-0000-000000000003"
    record = make_record(3).decode()
    assert json.loads(result.stdout) == [
        {"id": identity, "record_type": 50, "created_at": "2026-11-17T08:30:03Z", "raw": record}
    ]
    assert (result.exit_code, result.stderr) == (0, "")


def test_csv_has_a_line_of_names_and_whole_records(lake: Path) -> None:
    """Quotes and commas inside a record are the format's own business."""
    result = ask(lake, "--format", "csv", "SELECT id, raw FROM audit ORDER BY id")

    names, *rows = csv.reader(io.StringIO(result.stdout))
    assert names == ["id", "raw"]
    assert [raw.encode() for _, raw in rows] == make_records(5)


def test_a_table_fits_and_cuts_only_what_is_long(lake: Path) -> None:
    """A hundred columns are enough, and the end of a raw record is left out there."""
    result = ask(lake, "SELECT operation, user_id, client_ip, raw FROM audit ORDER BY id LIMIT 1")

    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "user0@contoso.example" in result.stdout
    assert "…" in result.stdout


@pytest.mark.slow
def test_no_address_and_no_id_is_broken_in_80_columns(lake: Path) -> None:
    """Where the columns do not hold whole words side by side, each row is a block."""
    few = ask(lake, "SELECT id, user_id FROM audit ORDER BY id LIMIT 1", columns=80).stdout
    many = ask(lake, "SELECT id, user_id, operation, client_ip FROM audit ORDER BY id", columns=80).stdout

    identity = "00000000-0000-0000-0000-000000000000"
    for said in (few, many):
        assert identity in said
        assert "user0@contoso.example" in said
        assert max(map(len, said.splitlines())) <= 80
    assert few.split()[:2] == ["id", "user_id"]
    assert many.startswith("row 1\n")


def test_into_a_pipe_a_row_is_one_whole_line(lake: Path) -> None:
    """`| grep` and `| less -S` get what there is: nothing folded, nothing cut, columns below each other."""
    sql = "SELECT id, NULL AS nothing, '日本' AS wide, 12 AS n, raw FROM audit ORDER BY id"
    head, *rows = ask(lake, sql, columns=None).stdout.splitlines()

    assert head.split() == ["id", "nothing", "wide", "n", "raw"]
    assert [row[head.index("raw") - 2 :].encode() for row in rows] == make_records(5)
    assert {row.index("日本") for row in rows} == {head.index("wide")}
    assert {row.split()[1] for row in rows} == {"null"}


def test_a_block_shows_a_record_whole(lake: Path) -> None:
    """Whoever looks at one record on a narrow terminal sees all of it."""
    shown = ask(lake, "SELECT *, raw AS again, raw AS more FROM audit ORDER BY id LIMIT 1").stdout

    pieces = "".join(line[line.index("  ") :].strip() for line in shown.splitlines() if "  " in line)
    assert make_record(0).decode().replace(" ", "") in pieces.replace(" ", "")
    assert "…" not in shown


def test_an_instant_is_never_folded(lake: Path) -> None:
    """Where the line is too narrow, the texts beside it are."""
    shown = ask(lake, "SELECT created_at, user_id, operation, client_ip FROM audit ORDER BY id", columns=80)

    assert "2026-11-17T08:30:03Z" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_an_empty_lake_says_so(tmp_path: Path) -> None:
    """No rows are an answer; that there is nothing at all yet is a word more, on standard error."""
    result = ask(tmp_path, "--json", "SELECT * FROM exchange")

    assert (result.exit_code, result.stdout) == (0, "[]\n")
    assert result.stderr == "the lake is empty: no record has arrived yet\n"


def test_a_configuration_without_a_lake_is_one_line(tmp_path: Path) -> None:
    """Exit code 2 at the entry point: it is the configuration that has to change."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"}
    document = {
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {"out": {"type": "console"}},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document), encoding="utf-8")

    error = CliRunner().invoke(app, ["--config", str(path), "SELECT 1"]).exception
    assert isinstance(error, SettingsRefused)
    assert str(error) == (
        f"{path}: no output is a lake; add an output of type lake, or name a lake with --lake"
    )


def test_many_columns_become_blocks(lake: Path) -> None:
    """`SELECT *` can be read on a narrow terminal."""
    result = ask(lake, "SELECT * FROM audit LIMIT 2")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["row", "2"] in lines
    assert ["operation", "MailItemsAccessed"] in lines


def test_what_was_left_out_is_told(lake: Path) -> None:
    """On standard error, so that the data stay data."""
    result = ask(lake, "--limit", "2", "--json", "SELECT id FROM audit")

    assert len(json.loads(result.stdout)) == 2
    assert result.stderr == "only the first 2 rows are shown; --limit N shows more\n"


@pytest.mark.slow
@pytest.mark.parametrize("tenant", [TENANT.upper(), TENANT[:8]])
def test_a_tenant_is_all_that_is_asked(lake: Path, tenant: str) -> None:
    """--tenant holds whatever the SQL says, and a part of an id will do."""
    result = ask(lake, "--tenant", tenant, "-f", "csv", "SELECT count(*) AS n FROM audit")

    assert result.stdout.split() == ["n", "5"]


@pytest.mark.parametrize("tenant", ["another", f"{TENANT}0", " "])
def test_a_tenant_that_nobody_knows_is_a_mistake(lake: Path, tenant: str) -> None:
    """A slip would look like a tenant without records."""
    result = ask(lake, "--tenant", TENANT, "--tenant", tenant, "SELECT count(*) AS n FROM audit")

    assert (result.exit_code, result.stdout) == (2, "")
    assert ("--tenant is empty" if not tenant.strip() else f"no tenant has '{tenant}' in its id") in words(
        result.stderr
    )


@pytest.mark.slow
def test_a_tenant_of_the_configuration_may_have_nothing_yet(lake: Path, tmp_path: Path) -> None:
    """Its id is no slip; one that has left is known by what the lake has of it."""
    new = "22222222-2222-2222-2222-222222222222"
    credentials = {"tenant_id": new, "client_id": new, "client_secret": "not-a-real-one"}
    document = {
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {"lake": {"type": "lake", "config": {"directory": str(lake)}}},
    }
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document), encoding="utf-8")
    config.chmod(0o600)

    def count(tenant: str) -> str:
        counting = ["-f", "csv", "SELECT count(*) AS n FROM audit"]
        done = CliRunner().invoke(app, ["--config", str(config), "--tenant", tenant, *counting])
        return done.stdout.split()[-1]

    assert [count(new), count("2222-2222"), count(TENANT[:8])] == ["0", "0", "5"]


@pytest.mark.slow
def test_of_an_empty_lake_no_tenant_is_refused(tmp_path: Path) -> None:
    """What is said is that nothing has arrived."""
    result = ask(tmp_path, "--tenant", TENANT, "SELECT id FROM audit")

    assert (result.exit_code, result.stderr) == (0, "the lake is empty: no record has arrived yet\n")


def test_the_sql_may_come_from_standard_input(lake: Path) -> None:
    """A long query lives in a file."""
    result = ask(lake, "-f", "csv", "-", typed="SELECT 1 AS one\n")

    assert result.stdout.split() == ["one", "1"]


def test_wrong_sql_is_a_usage_error(lake: Path) -> None:
    """Exit 2, and one line with DuckDB's words and the place, and a hint."""
    result = ask(lake, "SELECT * FRO audit")

    line, hint = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, hint) == (2, "", "hint: correct the SQL")
    assert line.startswith('error: Parser Error: syntax error at or near "audit" (line 1, column 14: ')


def test_no_lake_is_an_error_with_advice(tmp_path: Path) -> None:
    """The entry point turns it into exit code 1 and two lines."""
    result = ask(tmp_path / "none", "SELECT 1")

    assert isinstance(result.exception, LakeMissing)


def test_a_lake_or_a_configuration_is_needed() -> None:
    """Exit 2, and what to name."""
    result = CliRunner().invoke(app, ["SELECT 1"])

    assert result.exit_code == 2
    assert "--config" in result.stderr


def test_json_holds_what_it_has_no_type_for() -> None:
    """No NaN, no bytes: texts."""
    assert json.loads(json_text(ODD)) == [
        {"a": "nan", "b": "ff", "c": ["é", None]},
        {"a": None, "b": None, "c": None},
    ]


@pytest.mark.slow
def test_values_are_exact_in_json_and_csv(lake: Path) -> None:
    """A number that JSON's readers would round is written as text; maps are objects, spans are readable."""
    sql = (
        "SELECT 12345678901234567890.5::DECIMAL(38, 10) AS big, 0.25::DECIMAL(9, 2) AS small,"
        " map(['a'], [1]) AS pairs, TIMESTAMP '2026-11-18' - TIMESTAMP '2026-11-17 23:00' AS span,"
        " INTERVAL '1 month' AS month, 340282366920938463463374607431768211455::UHUGEINT AS most"
    )
    row = {"big": "12345678901234567890.5000000000", "small": 0.25, "pairs": {"a": 1}}
    spans = {"span": "1:00:00", "month": "1 month, 0:00:00", "most": 2**128 - 1}

    assert json.loads(ask(lake, "--json", sql).stdout) == [row | spans]
    assert ask(lake, "-f", "csv", sql).stdout.splitlines()[1] == (
        '12345678901234567890.5000000000,0.25,"{""a"": 1}",1:00:00,"1 month, 0:00:00",'
        "340282366920938463463374607431768211455"
    )


def test_csv_leaves_a_null_empty() -> None:
    """A list is written as JSON."""
    assert list(csv.reader(io.StringIO(csv_text(ODD))))[1:] == [["nan", "ff", '["é", null]'], ["", "", ""]]
