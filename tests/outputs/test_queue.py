"""An output's queue on disk: a batch is there whole or not at all, and comes back as it went in."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from promises import guarantee

from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.common.model import Batch
from m365watch.pipeline.disk_queue import BatchQueue
from m365watch_testing.batches import make_part, make_records

ROOM = 1024 * 1024


def queue_in(directory: Path, *, bytes_max: int = ROOM, wide_headers: bool = False) -> BatchQueue:
    queue = BatchQueue(directory / "devo", output="devo", bytes_max=bytes_max, wide_headers=wide_headers)
    queue.open()
    return queue


def batch(number: int, *records: bytes) -> Batch:
    part = make_part(records or make_records(3), outputs=["devo"])
    part.pulling_id, part.environment = 1_795_000_000_123, "prod"
    return Batch(number, [part])


def test_a_batch_comes_back_as_it_went_in(tmp_path: Path) -> None:
    """Every value that an output may use; identities stay with the ledger."""
    queue = queue_in(tmp_path, wide_headers=True)
    kept = batch(7, *make_records(3), b'{"Id":"lone \\ud800","Text":"\xff\xfe","Number":NaN}')

    assert queue.put(kept)
    found = queue.get(7)

    assert found is not None
    assert (found.number, found.size_bytes) == (7, kept.size_bytes)
    assert replace(found.parts[0], headers=[]) == replace(kept.parts[0], headers=[], identities=[])
    assert [header.Id for header in found.parts[0].headers][:3] == [
        header.Id for header in kept.parts[0].headers
    ][:3]
    assert len(found.parts[0].headers) == 4


def test_batches_outlive_the_queue_in_their_order(tmp_path: Path) -> None:
    """What was removed is gone, and a half-written file of a crash too."""
    queue = queue_in(tmp_path)
    for number in (12, 3, 100):
        queue.put(batch(number))
    queue.remove(3)
    queue.remove(3)
    (tmp_path / "devo" / "00000000000000000101.partial").write_bytes(b"half")
    again = BatchQueue(tmp_path / "devo", output="devo", bytes_max=ROOM, wide_headers=False)

    assert again.open() == [12, 100]
    assert again.size_bytes == queue.size_bytes > 0
    assert sorted(path.suffix for path in (tmp_path / "devo").iterdir()) == [".batch", ".batch"]


@guarantee(14)
def test_a_queue_is_bounded(tmp_path: Path) -> None:
    """One batch always has room, however large; a removed one makes room again."""
    queue = queue_in(tmp_path, bytes_max=100)

    assert queue.put(batch(1))
    assert not queue.put(batch(2))
    assert not queue.has_room
    queue.remove(1)
    assert queue.has_room
    assert queue.put(batch(2))


@guarantee(14)
def test_the_batches_of_a_queue_count_together(tmp_path: Path) -> None:
    """However small each is beside the bound."""
    alone = queue_in(tmp_path / "alone")
    alone.put(batch(1))
    queue = queue_in(tmp_path, bytes_max=alone.size_bytes * 5 // 2)

    assert [queue.put(batch(number)) for number in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "foreign"])
def test_a_damaged_file_is_no_batch(tmp_path: Path, damage: str) -> None:
    """Nothing is read from it that was not written."""
    queue = queue_in(tmp_path)
    queue.put(batch(1))
    [path] = (tmp_path / "devo").iterdir()
    body = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = {"cut": body[:-1], "changed": body[:40] + b"?" + body[41:], "foreign": b"hello"}
        path.write_bytes(changed[damage])

    assert queue.get(1) is None


@guarantee(14)
def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    """They hold audit records in the clear."""
    queue = queue_in(tmp_path)
    queue.put(batch(1))
    [path] = (tmp_path / "devo").iterdir()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_disk_that_refuses_is_passing_trouble_without_a_trace(tmp_path: Path) -> None:
    """Named with the output; nothing half is left, and nothing counts."""
    queue = queue_in(tmp_path)
    (tmp_path / "devo").write_text("a file where the folder should be")

    with pytest.raises(OutputUnavailable, match="output devo: its queue on disk cannot be written"):
        queue.put(batch(1))
    assert queue.size_bytes == 0


def test_a_queue_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    """Found at the start, with what to do."""
    folder = tmp_path / "devo"
    folder.mkdir()
    (folder / "00000000000000000001.batch").symlink_to("nowhere")
    queue = BatchQueue(folder, output="devo", bytes_max=ROOM, wide_headers=False)

    with pytest.raises(OutputUnusable, match=r"its queue on disk cannot be read .*; make it a directory"):
        queue.open()
