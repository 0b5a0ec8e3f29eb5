"""The lake after a power cut: on a real ext4, whose disk is copied as it is then, and mounted again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promises import guarantee

from keeping_lake import FixedClock, Retention
from lake_place import WRITER_ID, records_of, synced_name
from m365watch.common.atomic_files import sync_folder
from m365watch.lake.delta.table_files import silently
from m365watch.lake.delta.transaction_log import COMMITS_PER_CHECKPOINT
from m365watch.lake.erasure.erasure_journal import Asked
from m365watch.lake.erasure.person_matching import Person
from m365watch.lake.erasure.record_erasure import Erasure
from m365watch.lake.maintenance.compaction import compact
from m365watch.lake.maintenance.retention import retain
from m365watch.lake.maintenance.vacuum import vacuum
from m365watch.lake.writer.table_writer import AuditWriter
from m365watch_testing.batches import make_records, make_simple_batch

APP_ID = f"m365watch/lake/{WRITER_ID}"
DISK_BYTES = 48 << 20
ROOM_BYTES = DISK_BYTES + (1 << 20)
RECORDS = 2
LOOP = ("-o", "loop")


def records_at(number: int) -> list[bytes]:
    """Records that no other batch has."""
    return make_records(RECORDS, start=number * 1000)


def append(writer: AuditWriter, number: int) -> None:
    """Bring the batch of that number."""
    writer.append(make_simple_batch(number, records_at(number), output="lake"))


@contextmanager
def mounted(image: Path | str, folder: Path, *options: str) -> Iterator[Path]:
    """The image as a file system in the folder; skips the test where that is not to be had."""
    folder.mkdir(exist_ok=True)
    told = subprocess.run(["mount", *(options or LOOP), image, folder], check=False, capture_output=True)
    if told.returncode:
        pytest.skip("no file system of one's own can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """There is no room left in the folder's file system."""
    filling = folder / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield
    filling.unlink()


@dataclass
class Disk:
    """A disk with a lake on it; `at_sync` is called when a file of that name is about to be synced."""

    image: Path
    lake: Path
    copy: Path
    at_sync: dict[str, Callable[[int], None]] = field(default_factory=dict)

    def found_after_a_cut(self) -> tuple[int, int]:
        """What a start finds if the power goes now: the number of the last batch, and how many records."""
        shutil.copyfile(self.image, self.copy)
        # In a thread of its own: one that is asked from within a sync is held there.
        with mounted(self.copy, self.copy.with_suffix(".mounted")) as folder, ThreadPoolExecutor(1) as apart:
            return apart.submit(_found, folder / "lake").result()

    @contextmanager
    def without_room(self) -> Iterator[None]:
        """Blocks that have never been written find no room below meanwhile."""
        with filled(self.image.parent):
            yield


def _found(lake: Path) -> tuple[int, int]:
    last = AuditWriter(lake, app_id=APP_ID).last_batch
    return last, len(records_of(lake))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """An empty ext4, whose image lies where there is little room for it, and the system's syncs, watched."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("mkfs.ext4", "fstrim"))):
        pytest.skip("only an administrator, with mkfs.ext4 and fstrim, can make such a file system")
    below = mounted("tmpfs", tmp_path / "below", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}")
    with below as room, ExitStack() as stack:
        image = room / "disk.image"
        image.write_bytes(bytes(DISK_BYTES))
        subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", image], check=True)
        image.write_bytes(image.read_bytes())  # What was left out of it as zeros has its room too.
        folder = stack.enter_context(mounted(image, tmp_path / "disk"))
        # What is free has no room below until it is written; journal and tables of inodes have theirs.
        subprocess.run(["fstrim", folder], check=True)
        os.sync()
        made = Disk(image, folder / "lake", tmp_path / "disk.copy")
        sync = os.fsync

        def watched(descriptor: int) -> None:
            with suppress(KeyError):
                made.at_sync.pop(synced_name(descriptor))(descriptor)
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", watched)
        yield made


def commit_of(number: int) -> str:
    """The name of the commit of the batch of that number, in a lake without gaps."""
    return f"{number:020}.json"


def fail(descriptor: int) -> None:
    """A sync that fails before it has done anything, as where a process is killed just then."""
    del descriptor
    raise OSError(24, "Too many open files")


@guarantee(12)
@pytest.mark.slow
def test_every_acknowledged_batch_is_there_after_a_power_cut(disk: Disk) -> None:
    """Around checkpoints too: the first, and one that takes the place of another."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    cuts = {1, 2, *(many * COMMITS_PER_CHECKPOINT + more for many in (1, 2) for more in (-1, 0, 1))}
    found = []
    for number in range(1, max(cuts) + 1):
        append(writer, number)
        if number in cuts:
            found.append(disk.found_after_a_cut())

    assert found == [(number, number * RECORDS) for number in sorted(cuts)]


@guarantee(12)
@pytest.mark.parametrize("number", [1, 2, COMMITS_PER_CHECKPOINT])
def test_a_power_cut_within_a_commit_leaves_a_lake_without_it(disk: Disk, number: int) -> None:
    """Somebody else's sync has brought its name to the disk, and its contents are still in memory."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    for earlier in range(1, number):
        append(writer, earlier)
    found = []

    def cut(descriptor: int) -> None:
        del descriptor
        folder = os.open(disk.lake / "audit" / "_delta_log", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        found.append(disk.found_after_a_cut())

    disk.at_sync[commit_of(number)] = cut
    append(writer, number)

    assert found == [(number - 1, (number - 1) * RECORDS)]


@guarantee(12)
@pytest.mark.parametrize("number", [1, 3, COMMITS_PER_CHECKPOINT])
def test_a_batch_that_is_found_is_there_after_a_power_cut(disk: Disk, number: int) -> None:
    """Its commit got in, and its sync failed: whoever opens the lake next answers for it."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    for earlier in range(1, number):
        append(writer, earlier)

    disk.at_sync[commit_of(number)] = fail
    with pytest.raises(OSError, match="Too many"):
        append(writer, number)
    again = AuditWriter(disk.lake, app_id=APP_ID).last_batch

    assert (again, disk.found_after_a_cut()) == (number, (number, number * RECORDS))


@guarantee(12)
@pytest.mark.parametrize("number", [1, 3, COMMITS_PER_CHECKPOINT])
def test_a_commit_that_could_not_be_written_is_written_again(disk: Disk, number: int) -> None:
    """Linux takes its pages for written all the same: the next sync says yes, and the disk has zeros."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    for earlier in range(1, number):
        append(writer, earlier)

    with ExitStack() as stack:
        disk.at_sync[commit_of(number)] = lambda _: stack.enter_context(disk.without_room())
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            append(writer, number)
    again = AuditWriter(disk.lake, app_id=APP_ID).last_batch

    assert (again, disk.found_after_a_cut()) == (number, (number, number * RECORDS))


def test_a_full_disk_keeps_no_lake_closed(disk: Disk) -> None:
    """There is no room for a copy of the last commit, and its own sync has to do."""
    append(AuditWriter(disk.lake, app_id=APP_ID), 1)
    before = sorted(disk.lake.rglob("*"))
    synced: list[int] = []

    with filled(disk.lake.parent):
        disk.at_sync[commit_of(1)] = synced.append
        again = AuditWriter(disk.lake, app_id=APP_ID).last_batch

    assert (again, len(synced), sorted(disk.lake.rglob("*"))) == (1, 1, before)


def test_a_commit_of_somebody_else_stays_theirs(disk: Disk) -> None:
    """Upkeep by hand, as another user, who could not let them read a copy."""
    append(AuditWriter(disk.lake, app_id=APP_ID), 1)
    commit = disk.lake / "audit" / "_delta_log" / commit_of(1)
    os.chown(commit, 12_345, 12_345)
    before = commit.stat()
    synced: list[int] = []

    disk.at_sync[commit_of(1)] = synced.append
    AuditWriter(disk.lake, app_id=APP_ID)

    assert (commit.stat().st_ino, commit.stat().st_uid, len(synced)) == (before.st_ino, 12_345, 1)


@guarantee(12)
def test_another_process_s_commit_that_could_not_be_written_is_written_again(disk: Disk) -> None:
    """That process has not come back, and the batches after its commit could not be read without it."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    append(writer, 1)
    other = AuditWriter(disk.lake, app_id="m365watch/lake/another")

    with ExitStack() as stack:
        disk.at_sync[commit_of(2)] = lambda _: stack.enter_context(disk.without_room())
        with pytest.raises(OSError, match=r"No space left|Input/output"):
            append(other, 2)
    append(writer, 3)

    assert disk.found_after_a_cut() == (3, 3 * RECORDS)


@guarantee(12)
def test_files_go_once_what_replaced_them_is_on_the_disk(disk: Disk) -> None:
    """The process that merged them ended before its sync; without its commit they are needed again."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    append(writer, 1)
    append(writer, 2)
    clock = FixedClock()

    disk.at_sync[commit_of(3)] = fail
    with pytest.raises(OSError, match="Too many"):
        compact(disk.lake, clock=clock, progress=silently)
    [gone] = vacuum(disk.lake, keep_hours=0, dry_run=False, clock=clock, progress=silently)
    # Somebody else's sync brings to the disk that the files are gone.
    sync_folder(disk.lake)

    assert (gone.files, disk.found_after_a_cut()) == (2, (2, 2 * RECORDS))


@guarantee(12)
def test_what_a_merge_is_built_upon_is_on_the_disk(disk: Disk) -> None:
    """Else its commit stays and the batch's goes: the records are there, and their number is not."""
    writer = AuditWriter(disk.lake, app_id=APP_ID)
    append(writer, 1)
    append(writer, 2)
    disk.at_sync[commit_of(3)] = fail
    with pytest.raises(OSError, match="Too many"):
        append(writer, 3)

    compact(disk.lake, clock=FixedClock(), progress=silently)
    again = AuditWriter(disk.lake, app_id=APP_ID).last_batch

    assert (again, disk.found_after_a_cut()) == (3, (3, 3 * RECORDS))


@guarantee(12)
def test_an_erasure_removes_files_once_what_took_them_out_is_on_the_disk(disk: Disk) -> None:
    """A retention that ended before its sync had taken them out; without its commit they are needed again."""
    append(AuditWriter(disk.lake, app_id=APP_ID), 1)
    clock = FixedClock(datetime(2027, 11, 17, tzinfo=UTC))
    disk.at_sync[commit_of(2)] = fail
    with pytest.raises(OSError, match="Too many"):
        retain(disk.lake, Retention(days=1), clock=clock, progress=silently)

    who = json.loads(records_at(1)[0])["UserId"]
    gone = Erasure(disk.lake, Asked(names=Person([who]).names), clock=clock, progress=silently).run()

    assert (gone.files_removed, disk.found_after_a_cut()) == (1, (1, 0))
