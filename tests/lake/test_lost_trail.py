"""A commit of the trail, or of notices, that has become empty: a check says which, and upkeep goes on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake.exceptions import CommitFailedError
from promises import guarantee

from m365watch.common.clock import SystemClock
from m365watch.common.collector_events import Notice, Speaker
from m365watch.lake.audit_trail_table import Deed, TrailWriter
from m365watch.lake.delta.missing_commits import Standing, standing_of
from m365watch.lake.delta.table_files import missing_batch, silently
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT, commit_name, newest_checkpoint
from m365watch.lake.integrity_errors import back_fix
from m365watch.lake.maintenance.integrity_check import check_lake
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.schema import AUDIT_TABLE, BOARD_TRAIL, COLLECTORS_OUT, TRAIL_TABLE
from m365watch.lake.sql_sandbox.sandbox_client import LakeReader
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.event_table import NoticeWriter
from m365watch.lake.writer.table_writer import COMMITTED_MEANWHILE, OpenTable

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
APP_ID = "m365watch/board_trail/one/1"


def append(lake: Path, *numbers: int, app_id: str = APP_ID) -> None:
    """Append lines of these numbers, each by a commit of its own."""
    writer = TrailWriter(lake, app_id=app_id)
    for number in numbers:
        writer.append([Deed(number, NOW, "ann", "admin", "192.0.2.1", "s", "view", 200, "/", "", "")])


def problems_of(lake: Path) -> list[str]:
    """What a check says."""
    return check_lake(lake, reads_all=True, progress=silently).problems


def is_empty(version: int, number: int) -> str:
    """What is said of that commit."""
    named = f"{BOARD_TRAIL}/_delta_log/{version:020}.json"
    return f"{named}: is empty, and no commit holds batch {number}: {back_fix(BOARD_TRAIL)}"


def test_a_check_names_a_commit_of_the_trail_that_is_empty(tmp_path: Path) -> None:
    """A line was gone, and "nothing is wrong" was said; what the other board of the lake noted is there."""
    append(tmp_path, 10, 20)
    append(tmp_path, 15, app_id="m365watch/board_trail/one/2")
    append(tmp_path, 30)
    assert problems_of(tmp_path) == []
    path = tmp_path / BOARD_TRAIL / commit_name(2)
    whole = path.read_bytes()
    path.write_bytes(b"")

    assert problems_of(tmp_path) == [is_empty(2, 20)]
    path.write_bytes(whole)
    assert problems_of(tmp_path) == []


def test_a_gap_in_the_trail_keeps_no_upkeep_of_records(tmp_path: Path) -> None:
    """Records would be neither merged nor retained for it."""
    OpenTable(tmp_path, AUDIT_TABLE)
    append(tmp_path, 10, 20, 30)
    (tmp_path / BOARD_TRAIL / commit_name(2)).write_bytes(b"")

    assert missing_batch(tmp_path, {}) is None
    keep_up(tmp_path, clock=SystemClock())
    assert problems_of(tmp_path) == [is_empty(2, 20)]
    assert standing_of(LocalStore(tmp_path / BOARD_TRAIL)) is Standing.THERE


def test_lines_of_an_older_version_are_no_gap(tmp_path: Path) -> None:
    """It did not say which line a commit follows; also behind a checkpoint and a merge."""
    table = OpenTable(tmp_path, TRAIL_TABLE)
    table.commit([], numbers={APP_ID: 1})
    table.commit([], numbers={})
    table.commit([], numbers={APP_ID: 2})
    append(tmp_path, 30, 40)

    assert problems_of(tmp_path) == []


@guarantee(15)
def test_a_check_names_a_commit_of_notices_that_is_empty(tmp_path: Path) -> None:
    """Of them nothing was told at all; records go on being looked after."""
    OpenTable(tmp_path, AUDIT_TABLE)
    writer = NoticeWriter(tmp_path, app_id=APP_ID)
    for said in ("one", "two", "three"):
        writer.append([Notice(said, NOW, "info", Speaker("audit", "m365watch", None), "", "", "")])
    assert problems_of(tmp_path) == []
    (tmp_path / COLLECTORS_OUT / commit_name(2)).write_bytes(b"")

    named = f"{COLLECTORS_OUT}/_delta_log/{2:020}.json"
    assert problems_of(tmp_path) == [
        f"{named}: is empty, and no commit holds batch 2: {back_fix(COLLECTORS_OUT)}"
    ]
    assert missing_batch(tmp_path, {}) is None


@guarantee(15)
def test_notices_get_no_dearer_by_one_that_is_lost(tmp_path: Path) -> None:
    """Without checkpoints each commit would read the log of all that came before it."""

    def say(times: int) -> None:
        writer = NoticeWriter(tmp_path, app_id=APP_ID)
        for _ in range(times):
            writer.append([Notice("one", NOW, "info", Speaker("audit", "m365watch", None), "", "", "")])

    say(3)
    (tmp_path / COLLECTORS_OUT / commit_name(2)).write_bytes(b"")
    say(COMMITS_PER_CHECKPOINT)

    assert newest_checkpoint(LocalStore(tmp_path / COLLECTORS_OUT)) == COMMITS_PER_CHECKPOINT


@guarantee(46)
def test_a_writer_that_another_has_overtaken_under_its_name_is_refused(tmp_path: Path) -> None:
    """Of what it is about to commit the other may have brought some; opened anew, it brings the rest."""

    def line(number: int) -> Deed:
        return Deed(number, NOW, "ann", "admin", "192.0.2.1", "s", "view", 200, "/", "", "")

    late, early = TrailWriter(tmp_path, app_id=APP_ID), TrailWriter(tmp_path, app_id=APP_ID)
    early.append([line(10)])
    with pytest.raises(CommitFailedError, match=COMMITTED_MEANWHILE):
        late.append([line(10), line(20)])
    again = TrailWriter(tmp_path, app_id=APP_ID)
    again.append([line(10), line(20)])

    found = LakeReader(tmp_path).query("SELECT number FROM board_trail ORDER BY number")
    assert found.rows == [(10,), (20,)]
