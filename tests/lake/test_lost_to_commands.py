"""A lake of one batch that is gone: what the commands say of it, whose configuration has a ledger."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from promises import guarantee
from typer.testing import CliRunner, Result

from lake_place import WRITER_ID, LakePlace
from m365watch.cli.program import app
from m365watch.common.clock import SystemClock
from m365watch.common.errors import LakeMissing, LakeUnusable, OutputUnusable
from m365watch.detection.alerts.lake_sync import Shelving
from m365watch.detection.alerts.stored_alert import KeptAlert
from m365watch.detection.detection_output import FILE_NAME as ALERTS_FILE
from m365watch.detection.store.alert_table import AlertShelf, read_alerts
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.delta.missing_commits import LAKE_GONE
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.integrity_errors import BACK_FIX, LAKE_BACK
from m365watch.lake.maintenance.integrity_check import try_table
from m365watch.lake.schema import ALERTS, AUDIT_TABLE, NOTICE_TABLE
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.outputs.lake.lake_output import app_id_of
from m365watch_testing.batches import TENANT, make_records, make_simple_batch
from test_alerts_table import NOON, alert_of

NO_COMMIT = "audit/_delta_log has no commit, but files of records lie beside it"
LOSSES = {"log": (NO_COMMIT, BACK_FIX), "folder": (LAKE_GONE, LAKE_BACK), "table": (LAKE_GONE, LAKE_BACK)}
COMMANDS = [
    ["query", "SELECT count(*) FROM audit"],
    ["search"],
    ["hunt"],
    ["replay", "--from", "2026-11-17", "--to", "2026-11-18", "--output", "copy"],
    ["lake", "compact"],
    ["lake", "vacuum"],
    ["lake", "erase", "--user", "anna@contoso.example", "--yes"],
    ["alerts", "rebuild"],
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a configuration, a ledger that has delivered one batch, and the lake that has it."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"}
    document = {
        "globals": {"name": WRITER_ID},
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {
            "lake": {"type": "lake", "config": {"directory": "lake"}},
            "copy": {"type": "files", "config": {"directory": "copy"}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(document), encoding="utf-8")
    writer = AuditWriter(tmp_path / "lake", app_id=app_id_of("lake", WRITER_ID))
    writer.append(make_simple_batch(1, make_records(2), output="lake"))
    SqliteLedger(tmp_path / "state", outputs=frozenset({"lake"}), now=SystemClock().now()).close()
    deliver(tmp_path, 1)
    return tmp_path


def deliver(place: Path, last_batch: int) -> None:
    """Let the ledger have delivered so many batches."""
    with closing(sqlite3.connect(place / "state" / LEDGER_FILE)) as ledger, ledger:
        ledger.execute("INSERT OR REPLACE INTO output VALUES ('lake', ?, '')", (last_batch,))
        ledger.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('batch', ?)", (last_batch,))


def lose(place: Path, what: str) -> None:
    """Take it away."""
    folders = {"log": "lake/audit/_delta_log", "table": "lake/audit", "folder": "lake"}
    shutil.rmtree(place / folders[what])


def call(place: Path, *arguments: str) -> Result:
    """What the command does."""
    words = [*arguments, "--config", str(place / "config.json")]
    return CliRunner().invoke(app, words, env={"COLUMNS": "400", "NO_COLOR": "1"})


@guarantee(15)
@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_young_lake_that_is_gone_is_called_so(place: Path, command: list[str], what: str) -> None:
    """Each called it new, or empty, and said to run `m365watch run`, which refuses it."""
    lose(place, what)

    told = call(place, *command).exception

    assert isinstance(told, LakeUnusable), told
    assert (told.what, told.fix) == LOSSES[what]


@guarantee(15)
@pytest.mark.parametrize("what", LOSSES)
def test_a_check_of_the_lake_names_what_is_gone(place: Path, what: str) -> None:
    """As a problem: it was told that there is no lake."""
    lose(place, what)

    result = call(place, "lake", "check", "--json")

    assert json.loads(result.stdout)["problems"] == [": ".join(LOSSES[what])]
    assert result.exit_code == 1


@guarantee(15)
@pytest.mark.parametrize("what", LOSSES)
def test_a_start_says_what_a_check_says(place: Path, what: str) -> None:
    """It sent whoever asked to `lake check`, which knew of nothing. And no empty table is made."""
    lose(place, what)

    async def start() -> None:
        await LakePlace(place / "lake").make().open(last_batch=1, position="")

    with pytest.raises(OutputUnusable) as told:
        asyncio.run(start())
    with pytest.raises(OutputUnusable) as tried:
        try_table(place / "lake", AUDIT_TABLE, where="lake", is_acknowledged=True)

    what_is, fix = LOSSES[what]
    assert (told.value.what, told.value.fix) == (f"the lake cannot be opened: {what_is}", fix)
    assert (tried.value.what, tried.value.fix) == (f"its table `audit` cannot be used: {what_is}", fix)
    assert not (place / "lake" / "audit" / "_delta_log").exists()


def test_a_lake_that_is_new_is_called_new(place: Path) -> None:
    """The ledger has delivered nothing to it."""
    lose(place, "folder")
    deliver(place, 0)

    assert isinstance(call(place, "search").exception, LakeMissing)
    assert isinstance(call(place, "lake", "check").exception, LakeMissing)
    assert isinstance(call(place, "query", "SELECT * FROM audit").exception, LakeMissing)


def bring_alerts(place: Path) -> None:
    """Let the one alert that there is be in the lake, as a start does."""
    shelf = AlertShelf("lake", place / "lake", writer=WRITER_ID, clock=SystemClock(), takes=lambda _: True)
    state = DetectionState(place / "state" / ALERTS_FILE)
    if not state.alerts.list(since_ms=0, most=1):
        with state.transaction():
            state.alerts.put(KeptAlert(alert_of(1), shown=True))
            state.lake_due.mark(alert_of(1).id, first_at_ms=alert_of(1).first_at_ms)
    assert Shelving(state, [shelf]).bring().is_done
    state.close()


def test_alerts_whose_last_commit_is_empty_are_missed(place: Path) -> None:
    """Nothing was said to be wrong with a table without its alerts."""
    bring_alerts(place)
    assert json.loads(call(place, "lake", "check", "--json").stdout)["problems"] == []
    (place / "lake" / ALERTS / commit_name(1)).write_bytes(b"")

    [problem] = json.loads(call(place, "lake", "check", "--json").stdout)["problems"]

    assert problem == (
        f"alerts/_delta_log/{1:020}.json: is empty, and what it brought there is missing:"
        " the next start of `m365watch run` brings all alerts there again"
    )
    bring_alerts(place)
    assert len(list(read_alerts(place / "lake", since=NOON))) == 1
    assert json.loads(call(place, "lake", "check", "--json").stdout)["problems"] == []


def test_a_table_besides_that_has_lost_its_log_is_named(place: Path) -> None:
    """A few files are enough: it is on the disk before it has any. A check found nothing wrong."""
    folder = place / "lake" / NOTICE_TABLE.name / "day=2026-11-17"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"0123456789ab-{number:012}.parquet").write_bytes(b"")

    [problem] = json.loads(call(place, "lake", "check", "--json").stdout)["problems"]

    assert problem.startswith("collectors_out/_delta_log has no commit, but files of records lie beside it: ")
