"""While a commit is missing from the log of a lake, nothing that lies beside it is replaced or removed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee
from typer.testing import CliRunner, Result

from keeping_lake import ANNA, APP_ID, BATCHES_A_DAY, fill_days
from lake_place import WRITER_ID, records_of
from m365watch.cli.lake.lake_commands import lake
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeUnusable
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.integrity_errors import BACK_FIX, behind
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch_testing.batches import TENANT

LAST = 2 * BATCHES_A_DAY
CHANGING = {
    "retain": [],
    "compact": [],
    "vacuum": [],
    "erase": ["--user", ANNA, "--yes"],
}
"""Each command of `lake` that replaces or removes, and with what it does."""
LOOKING = {"check", "repair"}
"""`repair` changes the ledger alone."""
ASKING = [
    ["query", "SELECT 1"],
    ["search"],
    ["hunt"],
    ["replay", "--from", "2026-11-23", "--to", "2026-11-25", "--output", "copy"],
    ["alerts", "rebuild"],
]
"""Commands that answer from the records of the lake."""
REFUSED = "nothing was changed, as its files are needed to mend this: "


def empty(commit: Path) -> None:
    """As a file system that lost its contents shows it."""
    commit.write_bytes(b"")


LOSSES: list[tuple[int, Callable[[Path], None]]] = [
    (1, empty),
    (3, empty),
    (LAST, empty),
    (LAST, Path.unlink),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration, a ledger, and a lake in step with it whose files are all old."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"}
    settings = {"directory": "lake", "retention": {"days": 1}}
    document = {
        "globals": {"name": WRITER_ID},
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {
            "lake": {"type": "lake", "config": settings},
            "copy": {"type": "files", "config": {"directory": "copy"}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
    fill_days(tmp_path / "lake", 2)
    for path in tmp_path.glob("lake/audit/day=*/*.parquet"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    SqliteLedger(tmp_path / "state", outputs=frozenset({"lake"}), now=SystemClock().now()).close()
    with closing(sqlite3.connect(tmp_path / "state" / LEDGER_FILE)) as ledger, ledger:
        ledger.execute("INSERT OR REPLACE INTO output VALUES ('lake', ?, '')", (LAST,))
        ledger.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('batch', ?)", (LAST,))
    return tmp_path


def call(place: Path, *arguments: str) -> Result:
    """What `m365watch lake` does."""
    command = ["lake", arguments[0], "--config", str(place / "config.json"), *arguments[1:]]
    return CliRunner().invoke(app, command, env={"COLUMNS": "400", "NO_COLOR": "1"})


def files_in(place: Path) -> dict[str, bytes]:
    """What lies in the table's folder."""
    audit = place / "lake" / "audit"
    return {str(path.relative_to(audit)): path.read_bytes() for path in audit.rglob("*.*") if path.is_file()}


def refusal(version: int) -> tuple[str, str]:
    """What is said of that batch, whose commit is gone, and what to do."""
    if version == LAST:
        cause = behind(LAST, LAST - 1)
        return REFUSED + cause.what, cause.fix
    named = f"audit/_delta_log/{version:020}.json"
    is_empty = f"{named} is empty, and no commit holds batch {version}"
    return REFUSED + is_empty, BACK_FIX


@guarantee(15)
def test_every_command_is_known_here() -> None:
    """One that is added either only looks, or is refused with the others."""
    names = {one.callback.__name__ for one in lake.registered_commands if one.callback is not None}

    assert names == CHANGING.keys() | LOOKING


@guarantee(15)
@pytest.mark.parametrize(("version", "lose"), LOSSES, ids=["first", "middle", "last", "end"])
@pytest.mark.parametrize("command", CHANGING)
def test_a_commit_that_is_missing_can_be_put_back(
    place: Path, command: str, version: int, lose: Callable[[Path], None]
) -> None:
    """An erasure took other people's records; `vacuum` took the last batch's files, `compact` its place."""
    records = records_of(place / "lake")
    commit = place / "lake" / "audit" / commit_name(version)
    body = commit.read_bytes()
    lose(commit)
    before = files_in(place)

    told = call(place, command, *CHANGING[command]).exception

    assert isinstance(told, LakeUnusable), told
    assert (told.what, told.fix) == refusal(version)
    assert files_in(place) == before
    commit.write_bytes(body)
    assert json.loads(call(place, "check", "--json").stdout)["problems"] == []
    assert sorted(records_of(place / "lake")) == sorted(records)


@pytest.mark.parametrize("command", CHANGING)
def test_a_lake_that_is_whole_is_changed(place: Path, command: str) -> None:
    """What is refused above works where nothing is missing."""
    result = call(place, command, *CHANGING[command])

    assert (result.exit_code, result.exception) == (0, None)


def test_nobody_is_asked_whether_to_erase_what_is_refused(place: Path) -> None:
    """Nor told a number of records of a lake in which some are missing."""
    empty(place / "lake" / "audit" / commit_name(3))

    told = call(place, "erase", "--user", ANNA, "--dry-run").exception

    assert isinstance(told, LakeUnusable), told
    assert (told.what, told.fix) == refusal(3)


@guarantee(15)
@pytest.mark.slow
@pytest.mark.parametrize("words", ASKING, ids=lambda words: words[0])
@pytest.mark.parametrize("version", [3, LAST])
def test_who_asks_such_a_lake_is_told(place: Path, words: list[str], version: int) -> None:
    """Each answered, over a part of the records, as if it were all."""
    command = [*words, "--config", str(place / "config.json")]
    assert "not whole" not in CliRunner().invoke(app, command).stderr
    empty(place / "lake" / "audit" / commit_name(version))

    result = CliRunner().invoke(app, command)

    what, fix = refusal(version)
    begun = "warning: the lake is not whole, so that answers lack records or count some twice: "
    line = f"{begun}{what.removeprefix(REFUSED)}; {fix}"
    assert (result.exit_code, line in result.stderr.splitlines()) == (0, True), result.stderr


@guarantee(15)
def test_a_lake_that_is_named_is_looked_at_without_a_ledger(place: Path) -> None:
    """What its own log tells."""
    empty(place / "lake" / "audit" / commit_name(3))

    result = CliRunner().invoke(app, ["search", "--lake", str(place / "lake")])

    assert refusal(3)[0].removeprefix(REFUSED) in result.stderr


@guarantee(15)
@pytest.mark.parametrize(("version", "lose"), LOSSES, ids=["first", "middle", "last", "end"])
def test_a_running_collector_s_upkeep_is_put_off(
    place: Path, version: int, lose: Callable[[Path], None]
) -> None:
    """It merged into the last commit's place, and removed the files of its batch."""
    lose(place / "lake" / "audit" / commit_name(version))
    before = files_in(place)

    with pytest.raises(LakeUnusable) as told:
        keep_up(place / "lake", clock=SystemClock(), acknowledged={APP_ID: LAST})

    assert (told.value.what, told.value.fix) == refusal(version)
    assert files_in(place) == before


@guarantee(15)
def test_the_child_is_told_what_is_acknowledged(place: Path) -> None:
    """It has no ledger."""
    empty(place / "lake" / "audit" / commit_name(LAST))
    command = [
        sys.executable,
        "-m",
        "m365watch.lake.maintenance.maintenance_worker",
        str(place / "lake"),
        "{}",
    ]

    run = subprocess.run([*command, json.dumps({APP_ID: LAST})], capture_output=True, text=True, check=False)

    assert run.returncode == 1
    assert run.stderr.startswith(f"upkeep of {place / 'lake'} put off: ")
    assert refusal(LAST)[0] in run.stderr
    assert len(run.stderr.splitlines()) == 1
