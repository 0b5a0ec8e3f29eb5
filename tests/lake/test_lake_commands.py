"""`m365watch lake`: what a person and a program get, and the exit codes."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from promises import guarantee
from typer.testing import CliRunner, Result

from keeping_lake import (
    ANNA,
    APP_ID,
    BATCHES_A_DAY,
    EXCHANGE,
    RECORDS_A_BATCH,
    TODAY,
    FixedClock,
    a_record,
    fill_days,
    write,
)
from lake_place import records_of
from m365watch.cli.program import app
from m365watch.cli.terminal.error_output import exit_code_of
from m365watch.common.errors import LakeHeld, LakeMissing, LakeUnusable, OutputUnavailable, SettingsRefused
from m365watch.common.model import BlobRef, ContentType, Feed, Receipt, Window
from m365watch.detection.detection_output import FILE_NAME as DETECTIONS_FILE
from m365watch.detection.store.detection_store import DetectionState
from m365watch.lake.delta.table_files import WAIT_FOR_LAKE_S, hold_lake
from m365watch.lake.erasure.erasure_journal import Asked, open_note
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.ledger.sqlite_ledger import LEDGER_FILE, SqliteLedger
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch_testing.batches import TENANT, make_batch, make_part

NAMES = frozenset({"lake", "devo"})
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAYS = 3
BATCHES = DAYS * BATCHES_A_DAY


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a configuration, a ledger and a lake in step, and something of anna's elsewhere."""
    write_configuration(tmp_path, retention={"days": 1})
    fill_days(tmp_path / "lake", DAYS)
    hers = a_record(6, day=TODAY)
    ledger = SqliteLedger(tmp_path / "state", outputs=NAMES, now=NOW)
    feed = Feed(TENANT, ContentType.SHAREPOINT)
    refs = [BlobRef(feed, str(n), NOW, NOW + timedelta(days=7)) for n in range(BATCHES)]
    ledger.commit_listing(feed, Window(NOW - timedelta(hours=1), NOW), refs, complete=True, at=NOW)
    blobs = ledger.due_blobs(feed, now=NOW, count_max=BATCHES, besides=frozenset())
    for blob in blobs:
        part = make_part([hers], outputs=NAMES, blob=blob.key)
        part.identities = [None]
        number = ledger.open_batch([part], NAMES).number
        for name in sorted(NAMES):
            ledger.commit_delivered(number, name, Receipt(), at=NOW)
    ledger.quarantine(blobs[0].key, hers, "too long", output="devo", at=NOW)
    ledger.close()
    folder = tmp_path / "state" / "queues" / "devo"
    queue = BatchQueue(folder, output="devo", bytes_max=10**9, wide_headers=False)
    queue.put(make_batch(1, [make_part([hers, a_record(7, day=TODAY)], outputs=["devo"])]))
    return tmp_path


def write_configuration(folder: Path, *, retention: dict[str, object] | None = None) -> None:
    """A lake and a Devo output."""
    credentials = {"tenant_id": TENANT, "client_id": TENANT, "client_secret": "made up"}
    lake = {"directory": "lake"} | ({"retention": retention} if retention else {})
    http = {"endpoint": "https://http.example", "domain": "d", "token": "made up"}
    document = {
        "globals": {"name": "collector-1"},
        "inputs": {"office365": {"credentials": credentials}},
        "outputs": {
            "lake": {"type": "lake", "config": lake},
            "devo": {"type": "devo_http", "config": http},
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")


def call(place: Path, *arguments: str, columns: int = 80) -> Result:
    """What `m365watch lake` does."""
    command = ["lake", arguments[0], "--config", str(place / "config.json"), *arguments[1:]]
    return CliRunner().invoke(app, command, env={"COLUMNS": str(columns), "NO_COLOR": "1"})


def document(result: Result) -> dict[str, Any]:
    """The JSON document on standard output."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_whole_lake_passes(place: Path) -> None:
    """Every file with its rows, and the last batch that the ledger knows."""
    result = call(place, "check", "--read-all", "--json")

    found = document(result)
    assert (result.exit_code, found["problems"]) == (0, [])
    assert (found["tables"][0]["files"], found["tables"][0]["records"]) == (
        BATCHES,
        BATCHES * RECORDS_A_BATCH,
    )
    assert call(place, "check").stdout.splitlines()[-1] == "nothing is wrong"


def test_what_is_wrong_with_a_lake_is_named(place: Path) -> None:
    """A file that is gone, one that is cut, one with other rows: each by name, and exit code 1."""
    gone, cut, other, *_ = sorted((place / "lake" / "audit").glob("day=*/*.parquet"))
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    size = other.stat().st_size
    other.write_bytes(b"PAR1" + bytes(size - 8) + b"PAR1")

    result = call(place, "check", "--json")

    problems = document(result)["problems"]
    assert result.exit_code == 1
    assert [problem.split(": ")[1].split(" (")[0] for problem in problems] == [
        "is missing",
        f"has {cut.stat().st_size:,} bytes where the table names {cut.stat().st_size + 1:,}",
        "cannot be read",
    ]
    assert all(path.name in problem for path, problem in zip((gone, cut, other), problems, strict=True))


def test_a_ledger_that_is_not_there_is_called_so(place: Path) -> None:
    """It was called unreadable, and nothing was said to be done."""
    shutil.rmtree(place / "state")

    result = call(place, "check", "--json")

    [problem] = document(result)["problems"]
    assert problem == (
        f"{place / 'state' / LEDGER_FILE}: there is no ledger yet, so that batches were not compared:"
        " start the collector with `m365watch run` first"
    )


@pytest.mark.parametrize("batches", [BATCHES - 1, BATCHES + 5])
def test_a_lake_that_is_not_the_ledgers_is_found(place: Path, batches: int) -> None:
    """Behind the ledger, or ahead of every number that it has given."""
    (place / "lake").rename(place / "old")
    writer = AuditWriter(place / "lake", app_id=APP_ID)
    for number in range(1, batches + 1):
        write(writer, number, [a_record(number, day=TODAY)])

    result = call(place, "check")

    assert result.exit_code == 1
    assert f"the lake ends with batch {batches}" in result.stdout


@guarantee(17)
def test_a_person_is_erased_and_what_may_be_elsewhere_is_told(place: Path) -> None:
    """The report has figures, and no record; quarantine and queue are searched, Devo is named."""
    told = document(call(place, "erase", "--user", ANNA, "--dry-run", "--json"))
    result = call(place, "erase", "--user", ANNA.upper(), "--yes", "--json")

    report = document(result)
    assert (result.exit_code, report["verification"]["clean"]) == (0, True)
    assert report["records_erased"] == told["records"] == BATCHES * RECORDS_A_BATCH // 6
    assert sum(one["records"] for one in report["erased"]) == report["records_erased"]
    places = {one["kind"]: (one["searched"], one["records"]) for one in report["elsewhere"]}
    assert places == {
        "quarantine": (True, 1),
        "backups": (False, None),
        "queue": (True, 1),
        "board_trail": (True, 0),
        "devo_http": (False, None),
    }
    assert {one["kind"]: len(one["files"]) for one in report["elsewhere"] if one["files"]} == {"queue": 1}
    [kept] = (place / "lake" / "erasures").iterdir()
    assert json.loads(kept.read_text()) == report
    assert "document" not in kept.read_text()
    assert Path(report["marks"]["folder"]) == place / "lake" / "erased"
    assert [path.suffix for path in (place / "lake" / "erased").glob("*-*")] == [".marks"]
    assert kept.stat().st_mode & 0o077 == 0
    assert call(place, "check").exit_code == 0


def test_what_names_the_person_beside_the_lake_is_told_before_and_after(place: Path) -> None:
    """In the file of detections; the dry run said that there is nothing."""
    path = place / "state" / DETECTIONS_FILE
    DetectionState(path).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("INSERT INTO link VALUES ('an alert', 'rule', ?, ?, 5)", (TENANT, ANNA))

    asked = ("erase", "--user", ANNA)
    told = document(call(place, *asked, "--dry-run", "--json"))
    page, done = call(place, *asked, "--dry-run"), call(place, *asked, "--yes")
    left = document(call(place, *asked, "--dry-run", "--json"))

    assert (told["detections"], left["detections"]["matches"]) == (
        {"alerts": 0, "matches": 1, "reasons": 0},
        0,
    )
    assert "0 alerts and 1 match to erase from the detections" in page.stdout
    assert "0 alerts and 1 match erased from the detections" in done.stdout


def test_detections_that_cannot_be_read_are_named_before_anything_is_erased(place: Path) -> None:
    """In one line."""
    (place / "state" / DETECTIONS_FILE).write_bytes(b"no database at all, and long enough to be none")

    result = call(place, "erase", "--user", ANNA, "--dry-run")

    assert isinstance(result.exception, OutputUnavailable)
    assert DETECTIONS_FILE in str(result.exception.where)


@guarantee(17)
def test_what_still_waits_for_the_lake_is_left_to_erase(place: Path) -> None:
    """It was received before, and gets in after: exit code 1, though the lake itself is clean."""
    queue = BatchQueue(
        place / "state" / "queues" / "lake", output="lake", bytes_max=10**9, wide_headers=False
    )
    others = a_record(7, day=TODAY, Subject=f"about {ANNA}")
    queue.put(make_batch(99, [make_part([a_record(12, day=TODAY), others], outputs=["lake"])]))

    result = call(place, "erase", "--user", ANNA, "--yes", "--json")
    again = call(place, "erase", "--user", ANNA, "--yes")
    queue.remove(99)
    last = call(place, "erase", "--user", ANNA, "--yes")

    verified = document(result)["verification"]
    assert (result.exit_code, verified["clean"], verified["records_waiting_for_the_lake"]) == (1, True, 1)
    assert "1 record of the person on the way to it: repeat it when they were delivered" in again.stdout
    assert (again.exit_code, last.exit_code) == (1, 0)


def test_an_erasure_fits_on_a_terminal(place: Path) -> None:
    """At 80 columns, but for the names of files, which are to be copied."""
    lines = call(place, "erase", "--user", ANNA, "--yes").stdout.splitlines()

    assert [line for line in lines if len(line) > 80 and str(place) not in line] == []
    assert any(line.split()[:2] == [EXCHANGE, "2026-11-22..2026-11-24"] for line in lines)


def test_nothing_is_erased_that_nobody_confirmed(place: Path) -> None:
    """Without a terminal and without --yes it is a usage error; so is a name that is none."""
    before = sorted(records_of(place / "lake"))

    assert call(place, "erase", "--user", ANNA).exit_code == 2
    assert call(place, "erase", "--yes").exit_code == 2
    assert call(place, "erase", "--user", ANNA, "--yes", "--from", "soon").exit_code == 2
    assert sorted(records_of(place / "lake")) == before


def test_an_interrupted_erasure_is_resumed_by_name_of_nobody(place: Path) -> None:
    """--resume knows whom; `check` reminds of it until then."""
    open_note(place / "lake", Asked(names=(ANNA,)), now=NOW)
    reminded = call(place, "check")

    report = document(call(place, "erase", "--resume", "--json"))

    assert (reminded.exit_code, "--resume" in reminded.stdout) == (1, True)
    assert (report["asked"]["users"], report["verification"]["clean"]) == ([ANNA], True)
    assert call(place, "erase", "--resume").stdout.startswith("no erasure was interrupted")


def test_retention_is_told_before_and_after(place: Path) -> None:
    """The machine's own date decides: all of these records are older than a day, or the clock is wrong."""
    told = document(call(place, "retain", "--dry-run", "--json"))
    done = document(call(place, "retain", "--json"))

    assert (told["removed"], told["records"]) == (done["removed"], done["records"])
    assert (told["dry_run"], done["complete"]) == (True, True)


def test_a_lake_without_retention_says_what_to_set(tmp_path: Path) -> None:
    """One line, and exit code 2 at the entry point."""
    write_configuration(tmp_path)

    error = call(tmp_path, "retain").exception
    assert isinstance(error, SettingsRefused)
    assert "outputs.lake.config.retention: is missing" in str(error)


@pytest.mark.file_times
def test_merged_files_are_removed_when_it_is_safe(place: Path) -> None:
    """Kept for 7 days; for less than 2 hours only if somebody says that it is known to be unsafe."""
    merged = document(call(place, "compact", "--json"))["tables"][0]
    careful = document(call(place, "vacuum", "--json"))["tables"][0]
    refused = call(place, "vacuum", "--keep-hours", "0")
    told = call(place, "vacuum", "--keep-hours", "0", "--unsafe", "--dry-run")
    forced = call(place, "vacuum", "--keep-hours", "0", "--unsafe", "--json")

    assert (merged["files_before"], merged["files_after"]) == (BATCHES, DAYS)
    assert (careful["files"], refused.exit_code) == (0, 2)
    assert (document(forced)["tables"][0]["files"], "warning" in forced.stderr) == (BATCHES, True)
    assert f"{BATCHES} files would be removed" in told.stdout
    assert "kept:" not in told.stdout, "nothing is"
    assert call(place, "check").exit_code == 0


@pytest.mark.parametrize(("name", "why"), [("nope", "no output is called so"), ("devo", "is no lake")])
def test_a_lake_that_is_named_wrongly_is_told_by_that_name(tmp_path: Path, name: str, why: str) -> None:
    """It was told that several lakes are there, where there is one."""
    write_configuration(tmp_path)
    refused = call(tmp_path, "check", "-o", name).exception

    assert isinstance(refused, SettingsRefused)
    assert exit_code_of(refused) == 2
    assert refused.what == f"--output {name}: {why}"
    assert refused.fix == "name one with --output: lake"


def test_a_lake_that_is_not_there_or_is_held_is_an_error(place: Path) -> None:
    """Two lines at the entry point; exit codes 1 and 4."""
    with (place / "lake" / "upkeep.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(LakeHeld),
            hold_lake(place / "lake", clock=FixedClock(), acknowledged={}, wait_s=WAIT_FOR_LAKE_S),
        ):
            pass
    (place / "lake").rename(place / "away")

    assert isinstance(call(place, "compact").exception, LakeUnusable)
    (place / "state" / "ledger.sqlite").unlink()
    assert isinstance(call(place, "compact").exception, LakeMissing)
    assert exit_code_of(LakeHeld("x", fix="y")) == 4
