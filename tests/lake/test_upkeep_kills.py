"""Upkeep by hand, killed with SIGKILL: the lake stays whole and readable, and the repeat completes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from forked import run_forked
from promises import guarantee

from doomed_upkeep import ASKED, KILLED, Doom, work
from keeping_lake import ANNA, APP_ID, TODAY, FixedClock, a_record, field_of, fill_days, write
from lake_place import records_of
from m365watch.common.model import TenantId
from m365watch.lake.delta.table_files import silently
from m365watch.lake.erasure.erasure_journal import open_note, unfinished
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.integrity_check import check_lake
from m365watch.lake.maintenance.vacuum import vacuum
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.stored_records import LakeWitness
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch.records.headers import headers_of
from m365watch_testing.batches import TENANT

HERE = Path(__file__).parent
DAYS = 5
NEVER = 10**9


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A lake, to be copied, and its records."""
    directory = tmp_path_factory.mktemp("kills") / "lake"
    return directory, fill_days(directory, DAYS, batches_a_day=5)


@pytest.fixture
def lake(full: tuple[Path, list[bytes]], tmp_path: Path) -> Path:
    """A lake of its own."""
    return shutil.copytree(full[0], tmp_path / "lake")


def kill_at(verb: str, lake: Path, moment: int) -> None:
    """Let a process of its own do the verb, and end at that moment."""
    ended = run_forked(HERE / "doomed_upkeep.py", verb, str(lake), str(moment))

    assert ended.returncode == KILLED, ended.stderr


def stays(record: bytes) -> bool:
    """Whether retention leaves the record."""
    age = (TODAY - datetime.fromisoformat(field_of(record, "CreationTime")).date()).days
    return age <= (1 if field_of(record, "Workload") == "Exchange" else 2)


@guarantee(16)
@pytest.mark.parametrize("moment", [1, 3, 5, 7, 8])
def test_a_killed_retention_is_done_as_far_as_it_went(
    lake: Path, full: tuple[Path, list[bytes]], moment: int
) -> None:
    """What has to stay is there once, whenever it was killed; the repeat takes the rest."""
    kill_at("retain", lake, moment)

    found = records_of(lake)
    kept = sorted(filter(stays, full[1]))
    assert len(found) == len(set(found))
    assert sorted(filter(stays, found)) == kept
    assert check_lake(lake, reads_all=True, progress=silently).problems == []

    work("retain", lake, Doom(NEVER))
    assert sorted(records_of(lake)) == kept


@guarantee(16)
@pytest.mark.parametrize("moment", [1, 2, 4, 6, 10])
def test_a_killed_compaction_changes_no_row(lake: Path, full: tuple[Path, list[bytes]], moment: int) -> None:
    """Before and after, and after the repeat, every record is there once."""
    kill_at("compact", lake, moment)

    assert sorted(records_of(lake)) == sorted(full[1])
    work("compact", lake, Doom(NEVER))
    assert sorted(records_of(lake)) == sorted(full[1])
    assert len(DeltaTable(lake / "audit").file_uris()) == DAYS


@guarantee(16)
@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02])
def test_a_killed_vacuum_takes_nothing_that_is_named(
    lake: Path, full: tuple[Path, list[bytes]], after_s: float
) -> None:
    """Killed from outside in the middle of it."""
    compact(lake, clock=FixedClock(), progress=silently)
    command = [sys.executable, str(HERE / "doomed_upkeep.py"), "vacuum", str(lake), str(NEVER)]
    with subprocess.Popen(command) as child:
        before = len(list((lake / "audit").rglob("day=*/*.parquet")))
        until = time.monotonic() + 30
        while child.poll() is None and time.monotonic() < until:
            if list((lake / "audit" / "_delta_log").glob("*.json")) and before > len(
                list((lake / "audit").rglob("day=*/*.parquet"))
            ):
                break
        time.sleep(after_s)
        child.kill()

    assert sorted(records_of(lake)) == sorted(full[1])
    vacuum(lake, keep_hours=0, dry_run=False, clock=FixedClock(), progress=silently)
    assert len(list((lake / "audit").rglob("day=*/*.parquet"))) == DAYS
    assert check_lake(lake, reads_all=True, progress=silently).problems == []


@guarantee(16)
@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 3, 6, 10, 15, 25, 40])
def test_a_killed_erasure_is_finished_and_counted_once(
    lake: Path, full: tuple[Path, list[bytes]], moment: int
) -> None:
    """Everybody else's records are there once at any time; the sum over both processes is exact."""
    others = sorted(record for record in full[1] if field_of(record, "UserId") != ANNA)
    kill_at("erase", lake, moment)

    found = records_of(lake)
    assert len(found) == len(set(found))
    assert sorted(record for record in found if field_of(record, "UserId") != ANNA) == others
    assert check_lake(lake, reads_all=True, progress=silently).problem_count == (moment > 1)

    erasure = Erasure(lake, ASKED, clock=FixedClock(), progress=silently)
    erased = erasure.run()
    erasure.close()
    assert sorted(records_of(lake)) == others
    assert sum(erased.records.values()) == len(full[1]) - len(others)
    assert erased.verified.is_clean
    assert unfinished(lake) is None


@guarantee(17)
@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 3, 6, 8, 9, 10, 12, 15, 25, 40])
def test_whenever_an_erasure_is_killed_its_records_are_known(
    lake: Path, full: tuple[Path, list[bytes]], moment: int
) -> None:
    """Each is in the lake, or its mark is durable: none is taken out that could come back."""
    kill_at("erase", lake, moment)

    assert known_among(lake, full[1]) == set(range(len(full[1])))
    work("erase", lake, Doom(NEVER))
    assert known_among(lake, full[1]) == set(range(len(full[1])))
    [book] = (lake / "erased").glob("*.marks")
    marks = book.read_bytes()
    hers = [record for record in full[1] if field_of(record, "UserId") == ANNA]
    assert len({marks[start : start + 16] for start in range(0, len(marks), 16)}) == len(hers)


def known_among(lake: Path, records: list[bytes]) -> set[int]:
    """The places of the records that the lake has, or had until they were erased."""
    return LakeWitness(lake).places_known(TenantId(TENANT), records, headers_of(records))


@pytest.mark.slow
def test_an_erasure_killed_again_and_again_gets_there(lake: Path, full: tuple[Path, list[bytes]]) -> None:
    """With a merge of the collector's in between: what was counted stays counted, and nothing twice."""
    others = sorted(record for record in full[1] if field_of(record, "UserId") != ANNA)
    for moment in (9, 12, 14):
        kill_at("erase", lake, moment)
        compact(lake, clock=FixedClock(), progress=silently)

    erased = Erasure(lake, ASKED, clock=FixedClock(), progress=silently).run()

    assert sorted(records_of(lake)) == others
    assert sum(erased.records.values()) == len(full[1]) - len(others)
    assert erased.was_resumed


def test_half_a_line_of_the_note_counts_for_nothing(lake: Path) -> None:
    """The process ended while it was writing down what it was about to commit."""
    note = open_note(lake, ASKED, now=FixedClock().now())
    with (lake / "erasing.ndjson").open("ab") as file:
        file.write(b'{"table":"audit","num')

    again = unfinished(lake)
    assert again is not None
    assert (again.steps, again.opened) == ({}, note.opened)


@guarantee(16)
@pytest.mark.slow
def test_queries_and_batches_go_on_beside_all_of_it(lake: Path, full: tuple[Path, list[bytes]]) -> None:
    """While each verb runs in a process, every query answers and every batch gets in."""
    writer = AuditWriter(lake, app_id=APP_ID)
    number = 1000
    for verb in ("compact", "retain", "erase", "vacuum"):
        command = [sys.executable, str(HERE / "doomed_upkeep.py"), verb, str(lake), str(NEVER)]
        with subprocess.Popen(command) as child:
            while child.poll() is None:
                number += 1
                write(writer, number, [a_record(6 * number + 2, day=TODAY)])
                answer = LakeReader(lake).query("SELECT count(*), count(DISTINCT id) FROM audit")
                assert answer.rows[0][0] == answer.rows[0][1]
        assert child.returncode == 0

    new = {a_record(6 * one + 2, day=TODAY) for one in range(1001, number + 1)}
    left = {record for record in full[1] if stays(record) and field_of(record, "UserId") != ANNA}
    assert sorted(records_of(lake)) == sorted(new | left)
