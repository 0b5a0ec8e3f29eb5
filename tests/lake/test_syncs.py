"""What of a lake's log comes to the disk, and when: seen at the system's own call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from promises import guarantee

from lake_place import WRITER_ID, synced_name
from m365watch.common.model import Batch
from m365watch.lake.delta.transaction_log import (
    COMMITS_PER_CHECKPOINT,
    TORN_SUFFIX,
    commit_name,
    set_torn_aside,
)
from m365watch.lake.schema import AUDIT_TABLE
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.table_writer import AuditWriter, OpenTable, write_batch
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"


def batch_of(number: int, count: int = 3) -> Batch:
    """A batch whose records no other batch has."""
    return make_simple_batch(number, make_records(count, start=number * 1000), output="lake")


class Syncs:
    """What was brought to the disk, by its name, and what is looked at just then."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}
        self._sync = os.fsync

    def __call__(self, descriptor: int) -> None:
        name = synced_name(descriptor)
        self.names.append(name)
        self.at.get(name, lambda: None)()
        self._sync(descriptor)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    """The system's own, watched."""
    watched = Syncs()
    monkeypatch.setattr(os, "fsync", watched)
    return watched


MADE = {"lake", "audit", "_delta_log", f"{0:020}.json"}
"""What a new table consists of."""


@guarantee(12)
def test_a_new_table_comes_to_the_disk_with_its_first_batch(tmp_path: Path, syncs: Syncs) -> None:
    """A start does not wait for it: nothing was acknowledged yet."""
    writer = AuditWriter(tmp_path / "lake", app_id=APP_ID)
    at_start = [*syncs.names]
    writer.append(batch_of(1))
    by_then = {*syncs.names}
    syncs.names.clear()
    writer.append(batch_of(2))

    assert at_start == []
    assert by_then >= MADE | {f"{1:020}.json"}
    assert syncs.names[-2:] == [f"{2:020}.json", "_delta_log"]
    assert {f"{0:020}.json", f"{1:020}.json", "lake"}.isdisjoint(syncs.names)


def test_a_day_s_folder_comes_to_the_disk_with_its_first_file(tmp_path: Path, syncs: Syncs) -> None:
    """By the thread that commits: who writes files waits for no disk. One found there is not believed in."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    parts = write_batch(tmp_path, batch_of(1), app_id=APP_ID)
    by_writing = [*syncs.names]
    writer.append(batch_of(1), parts)
    writer.append(batch_of(2))
    writer.append(batch_of(3))
    again = AuditWriter(tmp_path, app_id=APP_ID)
    before = syncs.names.count("audit")
    again.append(batch_of(4))

    assert by_writing == []
    # The first batch's: once for its day, and once for the table.
    assert (before, syncs.names.count("audit")) == (2, 3)


@pytest.mark.parametrize("batches", [0, 1])
def test_a_young_table_is_not_believed_to_be_on_the_disk(tmp_path: Path, syncs: Syncs, batches: int) -> None:
    """A process that was killed may have made it and its first batch, and have brought neither there."""
    killed = AuditWriter(tmp_path / "lake", app_id=APP_ID)
    for number in range(1, 1 + batches):
        killed.append(batch_of(number))
    syncs.names.clear()

    AuditWriter(tmp_path / "lake", app_id=APP_ID).append(batch_of(2))

    assert {*syncs.names} >= MADE | {f"{number:020}.json" for number in range(batches + 2)}


CHECKPOINT = f"{COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet"


@guarantee(12)
@pytest.mark.parametrize(
    ("batches", "needed"),
    [
        (1, {*MADE, f"{1:020}.json"}),
        (2, {"_delta_log", f"{2:020}.json"}),
        (COMMITS_PER_CHECKPOINT, {"_delta_log", "_last_checkpoint", CHECKPOINT}),
        (COMMITS_PER_CHECKPOINT + 2, {"_delta_log", f"{COMMITS_PER_CHECKPOINT + 2:020}.json"}),
    ],
)
def test_what_is_found_is_on_the_disk_before_it_is_believed(
    tmp_path: Path, syncs: Syncs, batches: int, needed: set[str]
) -> None:
    """A process killed between its commit and the sync leaves a batch that the ledger will call delivered."""
    killed = AuditWriter(tmp_path / "lake", app_id=APP_ID)
    for number in range(1, batches + 1):
        killed.append(batch_of(number, count=1))
    syncs.names.clear()

    again = AuditWriter(tmp_path / "lake", app_id=APP_ID)

    assert again.last_batch == batches
    assert needed <= {*syncs.names}


@guarantee(12)
def test_old_commits_go_once_their_checkpoint_is_on_the_disk(tmp_path: Path, syncs: Syncs) -> None:
    """It is all that is left of them: a power cut may take what was not synced."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    log = tmp_path / "audit" / "_delta_log"
    for number in range(1, COMMITS_PER_CHECKPOINT):
        writer.append(batch_of(number, count=1))
    long_ago_s = 1_600_000_000
    for path in log.iterdir():
        os.utime(path, (long_ago_s, long_ago_s))
    there: list[int] = []
    names = (CHECKPOINT, "_delta_log")
    syncs.at = dict.fromkeys(names, lambda: there.append(len([*log.glob("*.json")])))
    syncs.names.clear()

    writer.append(batch_of(COMMITS_PER_CHECKPOINT, count=1))

    assert [one for one in syncs.names if one in names] == ["_delta_log", CHECKPOINT, "_delta_log"]
    assert there == [COMMITS_PER_CHECKPOINT + 1] * 3
    assert len([*log.glob("*.json")]) < COMMITS_PER_CHECKPOINT
    assert {"_last_checkpoint"} <= {*syncs.names}
    assert AuditWriter(tmp_path, app_id=APP_ID).last_batch == COMMITS_PER_CHECKPOINT


def test_a_table_without_batches_is_on_the_disk_at_once(tmp_path: Path, syncs: Syncs) -> None:
    """Whoever made it may not come back."""
    OpenTable(tmp_path / "lake", AUDIT_TABLE)

    assert {*syncs.names} == MADE


def test_what_is_torn_is_aside_on_the_disk_before_the_table_is_opened(tmp_path: Path, syncs: Syncs) -> None:
    """Else the next cut brings a torn name back beside what was built without it."""
    AuditWriter(tmp_path, app_id=APP_ID)
    first = tmp_path / "audit" / commit_name(0)
    first.write_bytes(b"")
    aside = first.with_name(first.name + TORN_SUFFIX)
    seen: list[bool] = []
    syncs.at = {"_delta_log": lambda: seen.append(aside.exists())}

    set_torn_aside(LocalStore(tmp_path / "audit"))

    assert seen == [True]


@guarantee(12)
@pytest.mark.parametrize("said", [3, 7])
def test_no_commit_vouches_for_itself(tmp_path: Path, syncs: Syncs, said: int) -> None:
    """Whoever made it can have synced what was before it alone, whatever it notes."""
    writer = AuditWriter(tmp_path, app_id=APP_ID)
    for number in (1, 2, 3):
        writer.append(batch_of(number))
    commit = tmp_path / "audit" / commit_name(3)
    lines = [json.loads(line) for line in commit.read_bytes().splitlines()]
    lines[0]["commitInfo"]["m365watchSynced"] = str(said)
    commit.write_text("\n".join(map(json.dumps, lines)))
    syncs.names.clear()

    AuditWriter(tmp_path, app_id=APP_ID)

    assert commit.name in syncs.names
