"""A lake from before a column: a writer adds it once, a reader leaves it alone, and older rows are null."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from promises import guarantee

from keeping_lake import ANNA, APP_ID, TODAY, FixedClock, a_record
from lake_place import records_of, rows_of
from m365watch.common.model import Window
from m365watch.lake.delta.missing_commits import list_lost_batches
from m365watch.lake.delta.table_files import silently
from m365watch.lake.delta.transaction_log import commit_name
from m365watch.lake.erasure.erasure_journal import Asked as ErasureAsked
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.integrity_check import check_lake, try_table
from m365watch.lake.record_scan import LakeScan, ScanAsked
from m365watch.lake.rollups.facts import ACTIVITY
from m365watch.lake.rollups.rollup_builder import keep_rollups
from m365watch.lake.rollups.rollup_manifest import read_day
from m365watch.lake.schema import AUDIT_COLUMNS, AUDIT_TABLE, Column, TableShape
from m365watch.lake.search.filter_parser import read_filter
from m365watch.lake.search.filter_sql import condition_of
from m365watch.lake.search.record_search import Asked, Finder, Span
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.parquet_files import FRESH, write_part
from m365watch.lake.writer.record_columns import tabulate
from m365watch.lake.writer.table_writer import AuditWriter, OpenTable
from m365watch_testing.batches import make_batch, make_part

NEW = ("actor", "outcome")
OLDER = replace(AUDIT_TABLE, columns=tuple(one for one in AUDIT_COLUMNS if one.name not in NEW))
"""The table as the version before these columns made it."""
NEWER = replace(AUDIT_TABLE, columns=(*AUDIT_COLUMNS, Column("device", pa.string(), "")))
"""The table as a version after this one may make it."""
SERVICE = "SecurityComplianceAlerts"
DAY = Window(datetime(2026, 11, 24, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC))
SPAN = Span(int(DAY.start.timestamp()), int(DAY.end.timestamp()))


def signed_in(number: int, operation: str = "UserLoggedIn", error: str = "0") -> bytes:
    """A sign-in of Anna's, which says `Success` whatever came of it."""
    fields = {"RecordType": 15, "Workload": "AzureActiveDirectory", "UserId": ANNA, "ErrorNumber": error}
    return a_record(number, day=TODAY, Operation=operation, ResultStatus="Success", **fields)


def alerted(number: int) -> bytes:
    """One of Microsoft's alerts, about Anna."""
    data = json.dumps({"f3u": ANNA, "op": "MailRedirect"})
    fields = {"RecordType": 40, "Workload": "SecurityComplianceCenter", "UserId": SERVICE, "Data": data}
    return a_record(number, day=TODAY, Operation="AlertTriggered", ResultStatus="Succeeded", **fields)


def records(start: int) -> list[bytes]:
    """Five of each kind that matters."""
    return [
        signed_in(start),
        signed_in(start + 1, "UserLoginFailed", "50126"),
        signed_in(start + 2, error="50076"),
        alerted(start + 3),
        a_record(start + 4, day=TODAY, UserId="ben@contoso.example", Workload="Exchange"),
    ]


def write_as(shape: TableShape, lake: Path, number: int, sent: Sequence[bytes], **more: str) -> OpenTable:
    """A batch as the version that has the table in that shape writes it."""
    table = OpenTable(lake, shape)
    rows = tabulate(make_batch(number, [make_part(sent, outputs=["lake"], blob=number)]))
    for name, value in more.items():
        rows = rows.append_column(name, pa.array([value] * len(sent), pa.string()))
    name = f"batch-{number}"
    part = write_part(table.store, shape, day=TODAY, name=name, chunks=[rows], compression=FRESH)
    table.commit([part], numbers={APP_ID: number, f"{APP_ID}/before": number - 1})
    return table


def append(lake: Path, number: int) -> AuditWriter:
    """A batch as this version writes it."""
    writer = AuditWriter(lake, app_id=APP_ID)
    writer.append(make_batch(number, [make_part(records(10 * number), outputs=["lake"], blob=number)]))
    return writer


@pytest.fixture
def old_lake(tmp_path: Path) -> Path:
    """A lake of one batch, from before the columns."""
    lake = tmp_path / "lake"
    write_as(OLDER, lake, 1, records(10))
    return lake


def columns_of(lake: Path) -> list[str]:
    """The table's columns, as its newest version names them."""
    return [one.name for one in DeltaTable(lake / "audit").schema().fields]


def changes_of(lake: Path) -> list[int]:
    """The versions that changed the table itself."""
    table = lake / "audit"
    versions = range(DeltaTable(table).version() + 1)
    return [one for one in versions if b'"metaData"' in (table / commit_name(one)).read_bytes()]


def told(lake: Path) -> list[tuple[object, ...]]:
    """Actor and outcome of every record, by Id, as SQL has them."""
    return [tuple(row) for row in LakeReader(lake).query("SELECT actor, outcome FROM audit ORDER BY id").rows]


def ids_found(lake: Path, text: str) -> int:
    """How many records a filter finds."""
    asked = Asked(condition_of(read_filter(text)), SPAN)
    finder = Finder(lake)
    found = [finder.find(part, asked, rows=100) for part in finder.plan(asked)]
    assert sum(len(one.newest) for one in found) == sum(one.count for one in found)
    return sum(one.count for one in found)


def counted(lake: Path) -> dict[tuple[str, str], int]:
    """Records by user and outcome, as rollups count them."""
    keep_rollups(lake)
    day = read_day(lake, TODAY)
    assert day is not None
    sql = "SELECT user_id, outcome, sum(n)::BIGINT FROM read_parquet($files) GROUP BY ALL"
    rows = duckdb.execute(sql, {"files": day.files(ACTIVITY)}).fetchall()
    return {(user, outcome): n for user, outcome, n in rows}


FILLED = [
    (ANNA, "success"),
    (ANNA, "failure"),
    (ANNA, "failure"),
    (ANNA, "success"),
    ("ben@contoso.example", "unknown"),
]
NULLS = [(None, None)] * 5


@guarantee(29)
def test_a_reader_alters_nothing(old_lake: Path) -> None:
    """SQL, search, a scan and checks read the older lake, whose columns are null; no file of it changes."""

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in old_lake.rglob("*") if path.is_file()}

    before = everything()

    assert told(old_lake) == NULLS
    assert (ids_found(old_lake, f"user:{ANNA}"), ids_found(old_lake, "outcome:failure")) == (3, 1)
    asked = ScanAsked(DAY)
    assert sum(map(len, LakeScan(old_lake, asked).read(asked.period, bounded=False).values())) == 5
    assert check_lake(old_lake, reads_all=True, progress=silently).problems == []
    assert try_table(old_lake, AUDIT_TABLE, where="lake").startswith("its table can be read")
    assert everything() == before


@guarantee(16)
def test_a_writer_adds_the_columns_once_and_everything_works_on_the_mix(old_lake: Path) -> None:
    """One commit of the table itself; older rows are null, through merging, erasing and counting."""
    append(old_lake, 2)
    append(old_lake, 3)

    assert changes_of(old_lake) == [0, 2]
    assert set(columns_of(old_lake)) == set(AUDIT_TABLE.schema.names)
    assert told(old_lake) == [*NULLS, *FILLED, *FILLED]
    found = {
        text: ids_found(old_lake, text) for text in ("outcome:failure", f"actor:{ANNA}", f"user:{SERVICE}")
    }
    # Of older sign-ins the name of the operation alone tells which failed, of an older alert only `UserId`.
    assert found == {"outcome:failure": 5, f"actor:{ANNA}": 11, f"user:{SERVICE}": 1}
    assert counted(old_lake) == {
        (ANNA, "ok"): 2 + 2 + 2,
        (ANNA, "failed"): 1 + 2 + 2,
        (SERVICE.lower(), "ok"): 1,
        ("ben@contoso.example", "ok"): 3,
    }

    [merged] = [one for one in compact(old_lake, clock=FixedClock(), progress=silently) if one.merges]
    assert (merged.files_before, merged.files_after) == (3, 1)
    assert told(old_lake) == [*NULLS, *FILLED, *FILLED]

    asked = ErasureAsked(names=("ben@contoso.example",))
    erased = Erasure(old_lake, asked, clock=FixedClock(), progress=silently).run()
    assert erased.verified.is_clean
    assert told(old_lake) == [*NULLS[:4], *FILLED[:4], *FILLED[:4]]
    version = DeltaTable(old_lake / "audit").version()
    assert list(list_lost_batches(LocalStore(old_lake / "audit"), version)) == []


@guarantee(17)
def test_what_an_alert_is_about_is_erased_with_the_person(tmp_path: Path) -> None:
    """`actor` would name her still."""
    lake = tmp_path / "lake"
    append(lake, 1)

    Erasure(lake, ErasureAsked(names=(ANNA,)), clock=FixedClock(), progress=silently).run()

    assert told(lake) == [("ben@contoso.example", "unknown")]


KILLED_AT_ITS_LINK = """
import os, signal, sys
from pathlib import Path
from m365watch.lake.writer.table_writer import AuditWriter
link = os.link
def die(*names):
    if sys.argv[2] == "after":
        link(*names)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = die
AuditWriter(Path(sys.argv[1]), app_id="another")
"""


@guarantee(13)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_in_between_is_harmless(old_lake: Path, moment: str) -> None:
    """The columns are there or not; the next writer sees to it that they are, once."""
    command = [sys.executable, "-c", KILLED_AT_ITS_LINK, str(old_lake), moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert told(old_lake) == NULLS

    append(old_lake, 2)

    assert (changes_of(old_lake), told(old_lake)) == ([0, 2], [*NULLS, *FILLED])


def test_of_two_writers_that_start_together_one_adds_them(
    old_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is overtaken, and looks again."""
    others: Iterator[int] = iter([2])
    link = os.link

    def overtaken(*names: Path) -> None:
        if next(others, 0):
            append(old_lake, 2)
        link(*names)

    monkeypatch.setattr(os, "link", overtaken)
    AuditWriter(old_lake, app_id=APP_ID)

    assert (changes_of(old_lake), told(old_lake)) == ([0, 2], [*NULLS, *FILLED])


def test_versions_with_fewer_and_with_more_columns_write_beside_this_one(tmp_path: Path) -> None:
    """None is refused; what only the newer one knows stays through this one's merge and erasure."""
    lake = tmp_path / "lake"
    older = write_as(OLDER, lake, 1, records(10))
    write_as(NEWER, lake, 2, records(20), device="laptop")
    append(lake, 3)
    older.commit([], numbers={"older": 1})  # At work all the while, as a rolling upgrade has it.
    write_as(OLDER, lake, 4, records(40))

    compact(lake, clock=FixedClock(), progress=silently)
    asked = ErasureAsked(names=("ben@contoso.example",))
    Erasure(lake, asked, clock=FixedClock(), progress=silently).run()

    rows = rows_of(lake).sort_by("id").select(["device", "outcome"]).to_pydict()
    outcomes = [outcome for _, outcome in FILLED[:4]]
    assert rows["device"] == [*[None] * 4, *["laptop"] * 4, *[None] * 8]
    assert rows["outcome"] == [*[None] * 4, *outcomes, *outcomes, *[None] * 4]
    assert changes_of(lake) == [0, 2]


def test_upkeep_alone_leaves_the_columns_of_an_older_table(tmp_path: Path) -> None:
    """It writes what the table has; the columns come with the next writer."""
    lake = tmp_path / "lake"
    write_as(OLDER, lake, 1, records(10))
    write_as(OLDER, lake, 2, records(20))

    compact(lake, clock=FixedClock(), progress=silently)

    assert columns_of(lake) == OLDER.schema.names
    assert sorted(records_of(lake)) == sorted([*records(10), *records(20)])
