"""A commit costs the same however many there were; whatever others do to the log meanwhile, none is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction
from promises import guarantee

from lake_place import WRITER_ID, records_of
from m365watch.common.clock import SystemClock
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch
from m365watch.lake.delta.missing_commits import list_lost_batches
from m365watch.lake.delta.table_schema import NEWER_FIX, ForeignTable
from m365watch.lake.delta.transaction_log import (
    COMMITS_PER_CHECKPOINT,
    LOG,
    commit_name,
    make_checkpoint,
)
from m365watch.lake.maintenance.compaction import FILES_PER_MERGE_MIN
from m365watch.lake.maintenance.integrity_check import try_table
from m365watch.lake.maintenance.maintenance_worker import keep_up
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.batch_delivery import Delivery
from m365watch.lake.writer.table_writer import WRITE_FAILURES, AuditWriter, OpenTable
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"


def batch_of(number: int) -> Batch:
    """A batch whose records no other batch has."""
    return make_simple_batch(number, make_records(3, start=number * 1000), output="lake")


def append(writer: AuditWriter, first: int, last: int) -> None:
    """The batches of these numbers."""
    for number in range(first, last + 1):
        writer.append(batch_of(number))


def records_until(last: int) -> list[bytes]:
    """The records of all batches up to that number."""
    return sorted(record for number in range(1, last + 1) for record in make_records(3, start=number * 1000))


def table_of(lake: Path) -> DeltaTable:
    """The table as it is."""
    return DeltaTable(lake / AUDIT_TABLE.name)


class Looks:
    """How often the library made a table of all files."""

    def __init__(self) -> None:
        self.count = 0

    def counted(self, method: Any) -> Any:
        """The same method, which counts."""

        def look(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return method(*args, **kwargs)

        return look


@pytest.fixture
def looks() -> Iterator[Looks]:
    """Of this test's tables."""
    found = Looks()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("__init__", "update_incremental"):
            patch.setattr(DeltaTable, name, found.counted(getattr(DeltaTable, name)))
        yield found


@guarantee(26)
def test_a_commit_looks_at_no_file_of_the_table(tmp_path: Path, looks: Looks) -> None:
    """The library goes through all of them three times a commit; here it does so with a checkpoint alone."""
    table = OpenTable(tmp_path, AUDIT_TABLE)
    at_start, found = looks.count, []
    for _ in range(3):
        for _ in range(COMMITS_PER_CHECKPOINT):
            table.commit([], numbers={APP_ID: table.version + 1})
        found.append(looks.count - at_start)
        at_start = looks.count

    assert found == [1, 1, 1]
    assert table_of(tmp_path).transaction_version(APP_ID) == 3 * COMMITS_PER_CHECKPOINT


def test_a_commit_leaves_nothing_else_in_the_log(tmp_path: Path) -> None:
    """Its copy under another name is gone, and the library tells of it as of its own."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    append(writer, 1, 2)

    [last, *_] = table_of(tmp_path).history()
    names = sorted(path.name for path in (tmp_path / "audit" / LOG).iterdir())
    assert names == [f"{number:020}.json" for number in range(3)]
    assert (last["operation"], last["version"]) == ("WRITE", 2)
    assert abs(last["timestamp"] - SystemClock().now().timestamp() * 1000) < 60_000


@guarantee(13)
def test_commits_of_others_are_followed(tmp_path: Path) -> None:
    """Each goes behind what another process has committed in between, and both are there."""
    one = AuditWriter(tmp_path, app_id=APP_ID)
    other = AuditWriter(tmp_path, app_id="other")
    for number in range(1, 9, 2):
        one.append(batch_of(number))
        other.append(batch_of(number + 1))

    table = table_of(tmp_path)
    assert (table.version(), one.version, other.version) == (8, 7, 8)
    assert (table.transaction_version(APP_ID), table.transaction_version("other")) == (7, 8)
    assert sorted(records_of(tmp_path)) == records_until(8)


def test_an_append_goes_behind_a_merge(tmp_path: Path) -> None:
    """Rows that upkeep has put elsewhere are none that an append has read."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    append(writer, 1, FILES_PER_MERGE_MIN)
    merged = keep_up(tmp_path, clock=SystemClock())
    writer.append(batch_of(FILES_PER_MERGE_MIN + 1))

    assert (merged, len(table_of(tmp_path).file_uris())) == (1, 2)
    assert sorted(records_of(tmp_path)) == records_until(FILES_PER_MERGE_MIN + 1)


@guarantee(13)
@pytest.mark.parametrize("cleared", [(2, 3, 4), (0, 1, 2, 3, 4)])
def test_no_number_is_given_again_whose_commit_a_checkpoint_stands_for(
    tmp_path: Path, cleared: tuple[int, ...]
) -> None:
    """Who has not committed for hours finds neither the next commit nor perhaps its own."""
    idle = AuditWriter(tmp_path, app_id=APP_ID)
    idle.append(batch_of(1))
    append(AuditWriter(tmp_path, app_id="other"), 2, 4)
    make_checkpoint(table_of(tmp_path), LocalStore(tmp_path / "audit"))
    for version in cleared:
        (tmp_path / "audit" / commit_name(version)).unlink()
    idle.append(batch_of(5))

    assert (idle.version, idle.batch_before, table_of(tmp_path).version()) == (5, 1, 5)
    assert sorted(records_of(tmp_path)) == records_until(5)


@guarantee(13)
def test_a_log_that_has_gone_back_takes_no_commit(tmp_path: Path) -> None:
    """An older copy in its place lacks batches: whoever commits opens it anew first, and sees that."""
    writer = AuditWriter(tmp_path / "lake", app_id=APP_ID)
    append(writer, 1, 2)
    shutil.copytree(tmp_path / "lake", tmp_path / "copy")
    append(writer, 3, 5)
    shutil.rmtree(tmp_path / "lake")
    (tmp_path / "copy").rename(tmp_path / "lake")
    with pytest.raises(WRITE_FAILURES):
        writer.append(batch_of(6))

    again = AuditWriter(tmp_path / "lake", app_id=APP_ID)
    assert (table_of(tmp_path / "lake").version(), again.last_batch) == (2, 2)
    assert list(list_lost_batches(LocalStore(tmp_path / "lake" / "audit"), 2)) == []


def test_a_running_output_takes_nothing_into_a_lake_that_has_gone_back(tmp_path: Path) -> None:
    """It has acknowledged what the older copy lacks: the batch waits until the lake is put back."""
    lake = tmp_path / "lake"
    delivery = Delivery(lake, app_id=APP_ID, where="lake", clock=SystemClock())
    delivery.open(0, newest_batch=0)
    delivery.append(batch_of(1))
    shutil.copytree(lake, tmp_path / "copy")
    delivery.append(batch_of(2))
    lake.rename(tmp_path / "whole")
    (tmp_path / "copy").rename(lake)
    told = []
    for _ in range(2):
        with pytest.raises(OutputUnavailable) as failure:
            delivery.append(batch_of(3))
        told.append(str(failure.value))
    shutil.rmtree(lake)
    (tmp_path / "whole").rename(lake)
    delivery.append(batch_of(3))
    delivery.close()

    assert "has delivered batch 2 here, but the lake ends with batch 1" in told[1]
    assert sorted(records_of(lake)) == records_until(3)


def test_a_table_that_asks_more_of_its_writers_is_refused_by_name(tmp_path: Path) -> None:
    """Another engine has raised the version: a writer at work stops, as does a start; nothing is changed."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    writer.append(batch_of(1))
    table_of(tmp_path).alter.add_constraint({"typed": "record_type IS NULL OR record_type > -10"})
    said = "the table `audit` there needs Delta writer version 3, and this version writes 2"

    with pytest.raises(ForeignTable) as at_work:
        writer.append(batch_of(2))
    with pytest.raises(ForeignTable) as at_start:
        AuditWriter(tmp_path, app_id=APP_ID)
    with pytest.raises(OutputUnusable) as of_check:
        try_table(tmp_path, AUDIT_TABLE, where="lake")

    assert {at_work.value.what, at_start.value.what, of_check.value.what} == {said}
    assert {at_work.value.fix, at_start.value.fix, of_check.value.fix} == {NEWER_FIX}
    assert (table_of(tmp_path).version(), records_of(tmp_path)) == (2, records_until(1))


def test_a_batch_that_has_got_in_meanwhile_is_not_committed_twice(tmp_path: Path) -> None:
    """A commit with its number or a later one, made by whomever, stands for it."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    writer.append(batch_of(1))
    table_of(tmp_path).create_write_transaction(
        [],
        mode="append",
        schema=table_of(tmp_path).schema(),
        partition_by=["day"],
        commit_properties=CommitProperties(
            app_transactions=[Transaction(APP_ID, 2), Transaction(f"{APP_ID}/before", 1)]
        ),
    )
    writer.append(batch_of(2))

    assert (table_of(tmp_path).version(), writer.last_batch) == (2, 2)
    assert sorted(records_of(tmp_path)) == records_until(1)


def test_a_writer_that_was_held_before_its_link_gives_no_number_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For hours, in which another committed, made a checkpoint and cleared the log: that number was taken."""
    lake = tmp_path / "lake"
    writer = AuditWriter(lake, app_id=APP_ID)
    append(writer, 1, 5)

    def of_another() -> None:
        other = AuditWriter(lake, app_id="another")
        for number in range(101, 104):
            other.append(batch_of(number))
        # The library's own, which leaves what is about to be linked.
        table_of(lake).create_checkpoint()
        for path in (lake / AUDIT_TABLE.name / LOG).glob("0*.json"):
            if int(path.stem) < table_of(lake).version():
                path.unlink()

    before_first_link(monkeypatch, of_another)
    append(writer, 6, 7)

    others = [one for number in (101, 102, 103) for one in make_records(3, start=number * 1000)]
    assert sorted(records_of(lake)) == sorted([*records_until(7), *others])
    assert list(list_lost_batches(LocalStore(lake / AUDIT_TABLE.name), table_of(lake).version())) == []


def test_a_copy_that_another_has_swept_up_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint takes what lies in the log under no commit's name for a leftover."""
    lake = tmp_path / "lake"
    writer = AuditWriter(lake, app_id=APP_ID)
    append(writer, 1, 2)

    def sweep() -> None:
        for path in (lake / AUDIT_TABLE.name / LOG).glob(".*.tmp"):
            path.unlink()

    before_first_link(monkeypatch, sweep)
    append(writer, 3, 3)

    assert sorted(records_of(lake)) == records_until(3)


def before_first_link(monkeypatch: pytest.MonkeyPatch, done: Callable[[], None]) -> None:
    """Have something done just before the next commit gets its name."""
    link = os.link

    def later(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        done()
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", later)
