"""What a power cut leaves at the end of a table's log, and what is made of it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from promises import guarantee

from lake_place import WRITER_ID, LakePlace, records_of
from m365watch.common.errors import OutputUnusable
from m365watch.lake.delta.transaction_log import (
    COMMITS_PER_CHECKPOINT,
    TORN_SUFFIX,
    last_checkpoint,
    list_torn,
    set_torn_aside,
    sync_found,
)
from m365watch.lake.store import LocalStore
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"
TORN: list[Callable[[bytes], bytes]] = [
    lambda whole: b"",
    lambda whole: bytes(len(whole)),
    lambda whole: whole[: len(whole) // 2],
    lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    lambda whole: whole[:4] + bytes(len(whole) - 8) + whole[-4:],
]
"""How much of a file came to the disk: nothing, its size alone, a half, a half and its size, both ends."""


def records_at(number: int) -> list[bytes]:
    """Records that no other batch has."""
    return make_records(2, start=number * 1000)


@cache
def filled(last: int) -> Path:
    """A lake of so many batches, made once: a copy is quicker."""
    lake = Path(tempfile.mkdtemp(dir=tempfile.gettempdir()))
    append(lake, last)
    return lake


def fill(lake: Path, last: int) -> None:
    """Make the lake one of so many batches."""
    shutil.copytree(filled(last), lake, dirs_exist_ok=True)


def append(lake: Path, last: int, *, first: int = 1) -> None:
    """Append the batches of these numbers."""
    writer = AuditWriter(lake, app_id=APP_ID)
    for number in range(first, last + 1):
        writer.append(make_simple_batch(number, records_at(number), output="lake"))


def open_with(lake: Path, last_batch: int) -> int:
    """What an output over the lake answers to the ledger's `last_batch`."""

    async def answer() -> int:
        output = LakePlace(lake).make()
        try:
            return await output.open(last_batch=last_batch, position="")
        finally:
            await output.close()

    return asyncio.run(answer())


def commits_of(lake: Path) -> Path:
    """The log of the lake's audit records."""
    return lake / "audit" / "_delta_log"


@guarantee(12)
@pytest.mark.parametrize("before", [0, 1, 5, COMMITS_PER_CHECKPOINT])
def test_a_commit_that_never_came_to_the_disk_is_made_again(tmp_path: Path, before: int) -> None:
    """The ledger was not told of it, and brings its batch anew."""
    fill(tmp_path, before + 1)
    (commits_of(tmp_path) / f"{before + 1:020}.json").write_bytes(b"")

    found = open_with(tmp_path, before)
    append(tmp_path, before + 2, first=before + 1)

    assert found == before
    assert sorted(records_of(tmp_path)) == sorted(
        record for number in range(1, before + 3) for record in records_at(number)
    )


@pytest.mark.parametrize("batches", [0, 1])
def test_a_table_that_never_came_to_the_disk_is_made_anew(tmp_path: Path, batches: int) -> None:
    """Its first commit says what its columns are, and comes to the disk with the first batch."""
    fill(tmp_path, batches)
    for commit in commits_of(tmp_path).glob("*.json"):
        commit.write_bytes(b"")

    found = open_with(tmp_path, 0)
    append(tmp_path, 1)

    assert (found, sorted(records_of(tmp_path))) == (0, sorted(records_at(1)))


def test_what_another_collector_made_anew_is_left_to_it(tmp_path: Path) -> None:
    """Two of one lake start together after a power cut: the slower one finds a table that is whole."""
    fill(tmp_path, 0)
    commit = commits_of(tmp_path) / f"{0:020}.json"
    whole = commit.read_bytes()
    commit.write_bytes(b"")

    with (tmp_path / "mending.lock").open("wb") as lock, ThreadPoolExecutor(1) as slower:
        fcntl.flock(lock, fcntl.LOCK_EX)
        moved = slower.submit(set_torn_aside, LocalStore(tmp_path / "audit"))
        with pytest.raises(TimeoutError):
            moved.result(timeout=0.2)
        commit.write_bytes(whole)
        fcntl.flock(lock, fcntl.LOCK_UN)

        assert moved.result() == []


@guarantee(12)
@pytest.mark.parametrize("tear", TORN)
def test_a_checkpoint_that_never_came_to_the_disk_is_done_without(
    tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    """The commits before it are still there: they go only once it is on the disk."""
    fill(tmp_path, COMMITS_PER_CHECKPOINT + 1)
    checkpoint = commits_of(tmp_path) / f"{COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet"
    checkpoint.write_bytes(tear(checkpoint.read_bytes()))

    assert open_with(tmp_path, COMMITS_PER_CHECKPOINT + 1) == COMMITS_PER_CHECKPOINT + 1
    assert last_checkpoint(LocalStore(tmp_path / "audit")) is None


@pytest.mark.parametrize("tear", TORN)
@pytest.mark.parametrize("note", [b"", b"{", None, b'{"version":50,"size":3}'])
def test_so_is_one_whose_note_says_nothing_or_another(
    tmp_path: Path, tear: Callable[[bytes], bytes], note: bytes | None
) -> None:
    """The note came to the disk, or did not, apart from what it names."""
    fill(tmp_path, 2 * COMMITS_PER_CHECKPOINT + 1)
    log = commits_of(tmp_path)
    checkpoint = log / f"{2 * COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet"
    checkpoint.write_bytes(tear(checkpoint.read_bytes()))
    if note is None:
        (log / "_last_checkpoint").unlink()
    else:
        (log / "_last_checkpoint").write_bytes(note)

    assert open_with(tmp_path, 2 * COMMITS_PER_CHECKPOINT + 1) == 2 * COMMITS_PER_CHECKPOINT + 1


def test_a_mend_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    """Between the note and the checkpoint that it named."""
    fill(tmp_path, COMMITS_PER_CHECKPOINT + 1)
    log = commits_of(tmp_path)
    (log / f"{COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet").write_bytes(b"half")
    store = LocalStore(tmp_path / "audit")
    [note, checkpoint] = list_torn(store)
    store.path(note).rename(store.path(note + TORN_SUFFIX))

    assert list_torn(store) == [checkpoint]
    assert open_with(tmp_path, COMMITS_PER_CHECKPOINT + 1) == COMMITS_PER_CHECKPOINT + 1


def test_a_checkpoint_without_its_commits_is_left_for_somebody_to_see(tmp_path: Path) -> None:
    """It is all that there was of them."""
    fill(tmp_path, COMMITS_PER_CHECKPOINT + 1)
    log = commits_of(tmp_path)
    (log / f"{COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet").write_bytes(b"")
    (log / f"{3:020}.json").unlink()

    with pytest.raises(OutputUnusable, match="cannot be opened"):
        open_with(tmp_path, COMMITS_PER_CHECKPOINT + 1)
    assert [*log.glob(f"*{TORN_SUFFIX}")] == []


def test_nor_does_one_make_way_for_an_older_one(tmp_path: Path) -> None:
    """No commit is left between the two: the table would be half of what it was."""
    fill(tmp_path, 2 * COMMITS_PER_CHECKPOINT)
    log = commits_of(tmp_path)
    (log / f"{2 * COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet").write_bytes(b"")
    for commit in log.glob("*.json"):
        commit.unlink()

    with pytest.raises(OutputUnusable, match="cannot be opened"):
        open_with(tmp_path, 0)
    assert [*log.glob(f"*{TORN_SUFFIX}")] == []


@pytest.mark.parametrize("noted", ["--5", "9" * 5000, "", None, 3, "٣"])
def test_what_a_commit_notes_may_be_anything(tmp_path: Path, noted: object) -> None:
    """It is taken for nothing said, and more is synced."""
    fill(tmp_path, 3)
    commit = commits_of(tmp_path) / f"{3:020}.json"
    lines = [json.loads(line) for line in commit.read_bytes().splitlines()]
    lines[0]["commitInfo"]["m365watchSynced"] = noted
    commit.write_text("\n".join(map(json.dumps, lines)))

    assert open_with(tmp_path, 3) == 3


def test_two_that_write_a_commit_anew_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two collectors in containers have the same process number, and one's copy was the other's."""
    fill(tmp_path, 2)
    commit = commits_of(tmp_path) / f"{2:020}.json"
    before = commit.stat().st_ino
    others: list[int] = []
    sync = os.fsync

    def meeting(descriptor: int) -> None:
        others.append(descriptor)
        if len(others) == 1:
            with pytest.raises(OSError, match="of the other"):
                sync_found(LocalStore(tmp_path / "audit"), 2)
        elif len(others) == 2:
            raise OSError(errno.EIO, "of the other")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", meeting)
    sync_found(LocalStore(tmp_path / "audit"), 2)

    assert commit.stat().st_ino != before
    assert [*commits_of(tmp_path).glob(".*")] == []


def test_copies_that_a_killed_process_has_left_go(tmp_path: Path) -> None:
    """With the checkpoint that stands for their commits; later ones may be another process's, at work."""
    fill(tmp_path, COMMITS_PER_CHECKPOINT - 1)
    names = [f".{COMMITS_PER_CHECKPOINT + later:020}.json.{'ab' * 8}.tmp" for later in (0, 1)]
    old, new = (commits_of(tmp_path) / name for name in names)
    for path in (old, new):
        path.write_bytes(b"half")

    append(tmp_path, COMMITS_PER_CHECKPOINT, first=COMMITS_PER_CHECKPOINT)

    assert [*commits_of(tmp_path).glob(".*.tmp")] == [new]


def test_a_whole_log_is_left_as_it_is(tmp_path: Path) -> None:
    """Nothing is moved, checkpoint or not."""
    fill(tmp_path, COMMITS_PER_CHECKPOINT + 1)

    assert set_torn_aside(LocalStore(tmp_path / "audit")) == []


@pytest.mark.parametrize("damage", [b"", *(tear(b'{"commitInfo":{}}') for tear in TORN[1:]), b"{ no commit"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_damaged_commit_that_was_acknowledged_is_told(tmp_path: Path, number: int, damage: bytes) -> None:
    """What the ledger calls delivered was on the disk: the disk has failed, and nothing is moved."""
    fill(tmp_path, number)
    (commits_of(tmp_path) / f"{number:020}.json").write_bytes(damage)
    words = "cannot be opened" if damage else f"delivered batch {number} here, but the lake ends with batch"

    with pytest.raises(OutputUnusable, match=words):
        open_with(tmp_path, number)
    assert [*commits_of(tmp_path).glob(f"*{TORN_SUFFIX}")] == []


@pytest.mark.parametrize("damaged", [2, 8])
def test_damage_before_the_end_is_left_for_somebody_to_see(tmp_path: Path, damaged: int) -> None:
    """No power cut empties a commit that others were built upon."""
    fill(tmp_path, 9)
    commit = commits_of(tmp_path) / f"{damaged:020}.json"
    commit.write_bytes(bytes(100))

    with pytest.raises(OutputUnusable, match="cannot be opened"):
        open_with(tmp_path, 9)
    assert commit.exists()
