"""`m365watch search`: hits on standard output, how many there are on standard error, and the exit codes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from m365watch.cli.lake.search_command import search
from m365watch.common.errors import LakeMissing
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import TENANT, make_record, make_records, make_simple_batch

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command()(search)

IDS = [f"00000000-0000-0000-0000-00000000000{number}" for number in range(5)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of five records."""
    directory = tmp_path_factory.mktemp("search") / "lake"
    AuditWriter(directory, app_id="test").append(make_simple_batch(1, make_records(5), output="lake"))
    return directory


def ask(lake: Path, *arguments: str) -> Result:
    period = ["--from", "2026-11-16", "--to", "2026-11-19"]
    environment = {"COLUMNS": None, "NO_COLOR": "1"}
    return CliRunner().invoke(app, ["--lake", str(lake), *period, *arguments], env=environment)


def test_hits_are_json_the_newest_first(lake: Path) -> None:
    """All that is known of each; how many there are of how many stands beside it."""
    result = ask(lake, "--json", "id:*3", "OR", "id:*1")

    hits = json.loads(result.stdout)
    assert [hit["id"] for hit in hits] == [IDS[3], IDS[1]]
    assert hits[0]["time"] == "2026-11-17T08:30:03Z"
    assert {hit["tenant_id"] for hit in hits} == {TENANT}
    assert (result.exit_code, result.stderr) == (0, "2 of 5 records\n")


def test_a_limit_says_what_it_left_out(lake: Path) -> None:
    """The newest are shown, all are counted, in every form."""
    table = ask(lake, "-n", "2")
    rows = list(csv.DictReader(io.StringIO(ask(lake, "-n", "2", "--format", "csv").stdout)))

    assert len(table.stdout.splitlines()) == 3
    assert table.stderr == "5 of 5 records, of which the newest 2 are shown; --limit N shows more\n"
    assert [row["id"] for row in rows] == [IDS[4], IDS[3]]


def test_records_are_printed_as_they_were_sent(lake: Path) -> None:
    """Byte for byte, and nothing else on standard output."""
    result = ask(lake, "--raw", "-n", "3", '"record"', "OR", "id:*")

    assert result.stdout_bytes.splitlines() == [make_record(number) for number in (4, 3, 2)]


@pytest.mark.slow
def test_the_period_and_the_tenant_count(lake: Path) -> None:
    """Nothing of another time, and nothing of another tenant; a tenant that nobody knows is a mistake."""
    stranger = ask(lake, "--tenant", "00000000-0000-4000-8000-000000000000")

    assert stranger.exit_code == 2
    assert "no tenant has '00000000-0000-4000-8000-000000000000'" in stranger.stderr
    assert ask(lake, "--tenant", TENANT.upper()).stderr == "5 of 5 records\n"
    assert ask(lake, "--tenant", TENANT[:8]).stderr == "5 of 5 records\n"
    assert ask(lake, "--to", "2026-11-17T08:30:02Z").stderr == "2 of 5 records\n"
    assert ask(lake, "--from", "2026-11-18", "--json").stdout == "[]\n"


def test_a_mistake_is_pointed_at(lake: Path) -> None:
    """The filter, a mark below the place, one line that says what is wrong, one that says what to do."""
    result = ask(lake, "op:Send usr:ann")

    shown, mark, error, hint = result.stderr.splitlines()
    assert shown.strip() == "op:Send usr:ann"
    assert mark.index("^") == shown.index("usr")
    assert error == "error: character 9: there is no field usr"
    assert hint.startswith("hint: did you mean user?")
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("period", [["--from", "2026-11-20"], ["--to", "yesterday"], ["--from", "x"]])
def test_a_period_that_is_none_is_a_mistake(lake: Path, period: list[str]) -> None:
    """The exit code is that of a wrong option."""
    assert ask(lake, *period).exit_code == 2


def test_where_there_is_no_lake_it_says_so(tmp_path: Path) -> None:
    """Before the first run."""
    assert isinstance(ask(tmp_path).exception, LakeMissing)
