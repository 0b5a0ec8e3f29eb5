"""Damaged notes, older ledgers, other processes and full disks: what an archive of files does."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from promises import guarantee
from structlog.testing import capture_logs

import files_scene
from files_scene import EXCHANGE, deliver, open_archive, run_to_its_end
from m365watch.common.clock import SystemClock
from m365watch.common.errors import OutputUnavailable, OutputUnusable
from m365watch.outputs.files import file_layout as layout
from m365watch.outputs.files.archive import PIECES_MAX, Archive
from m365watch.outputs.files.files_output import FilesOutput
from m365watch_testing.batches import make_batch, make_part, make_records, make_simple_batch
from output_places import (
    SteppingClock,
    file_size_limit,
    files_settings,
    published_files,
    records_by_folder,
    until,
)

clock = files_scene.clock
directory = files_scene.directory

DAMAGED_NOTES = {
    "cut": b'{"number":2,"previ',
    "zeros": b"\0" * 64,
    "another type": b'{"number":"2","previous":1,"lengths":{}}',
    "no text": b"\xff\xfe",
    "elsewhere": b'{"number":2,"previous":1,"lengths":{"../precious":0}}',
    "hidden": b'{"number":2,"previous":1,"lengths":{".parts/000000000001-20261117T090000Z.ndjson":0}}',
    "negative": b'{"number":2,"previous":1,"lengths":{"t/000000000001-20261117T090000Z.ndjson":-1}}',
}


@pytest.mark.parametrize("text", DAMAGED_NOTES.values(), ids=DAMAGED_NOTES)
def test_a_damaged_note_is_told_and_cuts_nothing(directory: Path, text: bytes) -> None:
    """Of a committed batch it is not needed; what it names beyond the output's own files is not touched."""
    settings = files_settings(directory)
    position = run_to_its_end(settings, numbers=range(1, 3))
    precious = directory.parent / "precious"
    precious.write_bytes(b"mine")
    (directory / ".parts/undo.json").write_bytes(text)

    with capture_logs() as lines:
        open_archive(settings, SteppingClock(), last_batch=2, position=position).release()

    assert ["undo.json is damaged and not used" in line["event"] for line in lines] == [True]
    assert records_by_folder(directory) == {
        EXCHANGE: make_records(5, start=1000) + make_records(5, start=2000)
    }
    assert precious.read_bytes() == b"mine"
    assert not (directory / ".parts/undo.json").exists()


@pytest.mark.parametrize("text", DAMAGED_NOTES.values(), ids=DAMAGED_NOTES)
def test_without_the_note_it_needs_a_start_is_refused(directory: Path, text: bytes) -> None:
    """Records that the ledger has not committed are not taken for others, and not cut at a guess."""
    settings = files_settings(directory)
    archive = open_archive(settings, SteppingClock())
    position = deliver(archive, 1)
    deliver(archive, 2)
    archive.publish_all()
    archive.release()
    (directory / ".parts/undo.json").write_bytes(text)

    with pytest.raises(OutputUnusable, match="batches that the ledger does not know"):
        open_archive(settings, SteppingClock(), last_batch=1, position=position)


def test_a_note_of_a_committed_batch_is_stale(directory: Path, clock: SteppingClock) -> None:
    """If the ledger has the batch, its published records stay."""
    settings = files_settings(directory)
    position = run_to_its_end(settings, numbers=range(1, 3))

    open_archive(settings, clock, last_batch=2, position=position).release()

    assert records_by_folder(directory) == {
        EXCHANGE: make_records(5, start=1000) + make_records(5, start=2000)
    }


def test_a_file_keeps_its_format_when_the_setting_changes(directory: Path, clock: SteppingClock) -> None:
    """After a crash, a gzip file is published as gzip although zstd is asked for now."""
    archive = open_archive(files_settings(directory, compression="gzip"), clock)
    position = deliver(archive, 1)
    archive.release()

    settings = files_settings(directory, compression="zstd")
    archive = open_archive(settings, clock, last_batch=1, position=position)
    deliver(archive, 2)
    archive.publish_all()
    archive.release()

    assert [path.suffix for path in published_files(directory)] == [".gz", ".zst"]
    assert len(records_by_folder(directory)[EXCHANGE]) == 10


@guarantee(13)
def test_a_shipper_may_take_published_files_away(directory: Path, clock: SteppingClock) -> None:
    """A file that is gone was read; the next start does not miss it."""
    settings = files_settings(directory)
    archive = open_archive(settings, clock)
    position = deliver(archive, 1)
    archive.publish_all()
    archive.release()
    for path in published_files(directory):
        path.unlink()

    open_archive(settings, clock, last_batch=1, position=position).release()

    assert records_by_folder(directory) == {}


def test_a_growing_file_that_somebody_shortened_is_kept_aside(
    directory: Path, clock: SteppingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a line is never published; one warning says where the rest is."""
    settings = files_settings(directory)
    archive = open_archive(settings, clock)
    position = deliver(archive, 1)
    archive.release()
    [part] = (directory / ".parts").glob("*.part")
    os.truncate(part, 100)

    open_archive(settings, clock, last_batch=1, position=position).release()

    assert records_by_folder(directory) == {}
    assert part.with_name(f"{part.name}.damaged").stat().st_size == 100
    assert f"{part.name}.damaged" in capsys.readouterr().out


def test_an_older_ledger_is_refused_and_nothing_is_cut(directory: Path, clock: SteppingClock) -> None:
    """A ledger that was put back from a copy would deliver its future twice."""
    settings = files_settings(directory, rotate_bytes=1)
    run_to_its_end(settings, numbers=range(1, 6))
    before = records_by_folder(directory)

    with pytest.raises(OutputUnusable, match=r"ends at 2\); put back the ledger"):
        open_archive(settings, clock, last_batch=2)

    assert records_by_folder(directory) == before


def test_a_ledger_from_before_a_file_grew_is_refused(directory: Path, clock: SteppingClock) -> None:
    """The same where the file was opened by a batch that the old ledger knows."""
    settings = files_settings(directory)
    archive = open_archive(settings, clock)
    position = deliver(archive, 1)
    for number in (2, 3):
        deliver(archive, number)
    archive.publish_all()
    archive.release()

    with pytest.raises(OutputUnusable, match="does not know"):
        open_archive(settings, clock, last_batch=1, position=position)

    assert len(records_by_folder(directory)[EXCHANGE]) == 15


def test_a_new_ledger_never_deletes_an_old_archive(directory: Path, clock: SteppingClock) -> None:
    """Somebody who deletes the state keeps the records that were collected with it."""
    settings = files_settings(directory)
    last = run_to_its_end(settings, numbers=range(1, 3))
    archive = open_archive(settings, clock, last_batch=2, position=last)
    deliver(archive, 3)
    archive.publish_all()
    archive.release()

    with pytest.raises(OutputUnusable, match="put back the ledger"):
        open_archive(settings, clock)

    assert len(records_by_folder(directory)[EXCHANGE]) == 15


def test_a_second_process_is_refused(directory: Path, clock: SteppingClock) -> None:
    """Two writers would undo each other; the lock ends with the first one's process."""
    settings = files_settings(directory)
    first = open_archive(settings, clock)

    with pytest.raises(OutputUnusable, match="another process writes to"):
        open_archive(settings, clock)

    first.release()
    open_archive(settings, clock).release()


def test_a_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """The text names the place, the reason and the cure."""
    obstacle = tmp_path / "records"
    obstacle.write_text("a file where a directory should be")
    output = FilesOutput(files_settings(obstacle), clock=SystemClock())

    with pytest.raises(OutputUnusable) as caught:
        asyncio.run(output.open(last_batch=0, position=""))

    assert str(caught.value) == (
        f"output files: cannot write to {obstacle}: File exists; "
        "let this user write there, or set another `directory`"
    )


def test_a_foreign_position_is_refused(directory: Path, clock: SteppingClock) -> None:
    """The ledger's note of another kind of output is not guessed at."""
    with pytest.raises(OutputUnusable, match="not one of a `files` output"):
        open_archive(files_settings(directory), clock, last_batch=1, position="[1,2]")


def test_a_full_disk_leaves_every_file_as_it_was(directory: Path, clock: SteppingClock) -> None:
    """The bytes of a failed batch do not keep the disk full."""
    archive = open_archive(files_settings(directory), clock)
    deliver(archive, 1)
    sizes = {path.name: path.stat().st_size for path in (directory / ".parts").glob("*.part")}
    part = make_part(make_records(12_000), outputs=["files"], tables=[EXCHANGE, "a", "a", "b"] * 3000)

    with (
        file_size_limit(1_000_000),
        pytest.raises(OutputUnavailable, match=r"cannot write to .*; tried again, nothing lost"),
    ):
        archive.deliver(make_batch(2, [part]))

    found = {path.name: path.stat().st_size for path in (directory / ".parts").glob("*.part")}
    assert found == sizes
    archive.release()


def test_no_receipt_goes_before_the_name_of_a_published_file_is_durable(
    directory: Path, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that could not be made durable is not forgotten when the batch is tried again."""
    archive = open_archive(files_settings(directory), clock)
    deliver(archive, 1)
    [folder] = {path.name.partition("@")[0] for path in (directory / ".parts").glob("*.part")}
    clock.step(3.0)
    flushed: list[Path] = []

    def fails(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(layout, "sync_folder", fails)
    with pytest.raises(OutputUnavailable):
        deliver(archive, 2)
    monkeypatch.setattr(layout, "sync_folder", flushed.append)

    deliver(archive, 2)

    assert directory / folder in flushed
    archive.release()


def test_what_the_system_writes_only_in_part_is_written_to_its_end(
    directory: Path, clock: SteppingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take less than it was given, as it does with more than 2 GB at once."""
    records = make_records(PIECES_MAX + 7)
    monkeypatch.setattr(
        os, "pwritev", lambda descriptor, pieces, at: os.pwrite(descriptor, pieces[0][:5], at)
    )
    archive = open_archive(files_settings(directory), clock)

    archive.deliver(make_simple_batch(1, records, output="files"))

    archive.publish_all()
    archive.release()
    assert [one for found in records_by_folder(directory).values() for one in found] == records


def test_an_obstacle_delays_publishing_and_loses_nothing(
    directory: Path, clock: SteppingClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the way of a table's folder is warned of; the next run publishes."""
    settings = files_settings(directory)

    async def run_against_an_obstacle() -> str:
        output = FilesOutput(settings, clock=SystemClock())
        await output.open(last_batch=0, position="")
        receipt = await output.deliver(make_simple_batch(1, make_records(5), output="files"))
        (directory / EXCHANGE).write_text("in the way")
        await output.close()
        return receipt.position

    position = asyncio.run(run_against_an_obstacle())
    assert "cannot be published yet" in capsys.readouterr().out
    (directory / EXCHANGE).unlink()

    open_archive(settings, clock, last_batch=1, position=position).release()

    assert records_by_folder(directory) == {EXCHANGE: make_records(5)}


def test_the_timer_outlives_an_obstacle(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Publishing that failed is tried again in the same run."""

    async def remove_the_obstacle() -> dict[str, list[bytes]]:
        output = FilesOutput(files_settings(directory), clock=SteppingClock())
        await output.open(last_batch=0, position="")
        (directory / EXCHANGE).write_text("in the way")
        await output.deliver(make_simple_batch(1, make_records(5), output="files"))
        await until(lambda: "cannot be published yet" in capsys.readouterr().out)
        (directory / EXCHANGE).unlink()
        await until(lambda: bool(published_files(directory)))
        found = records_by_folder(directory)
        await output.close()
        return found

    assert asyncio.run(remove_the_obstacle()) == {EXCHANGE: make_records(5)}


def test_the_timer_outlives_a_defect(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever nobody has thought of is told, and publishing is tried again in the same run."""
    publish_due, tries = Archive.publish_due, iter(range(3))

    class Trouble(Exception):
        """Nobody has thought of it."""

    def stumble(archive: Archive) -> None:
        if next(tries, None) is not None:
            raise Trouble
        publish_due(archive)

    async def wait_for_files() -> dict[str, list[bytes]]:
        output = FilesOutput(files_settings(directory), clock=SteppingClock())
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(5), output="files"))
        await until(lambda: bool(published_files(directory)))
        found = records_by_folder(directory)
        await output.close()
        return found

    monkeypatch.setattr(Archive, "publish_due", stumble)
    with capture_logs() as lines:
        assert asyncio.run(wait_for_files()) == {EXCHANGE: make_records(5)}

    [text] = [line["event"] for line in lines if line["log_level"] == "error"]
    assert text.startswith("output files: unexpected Trouble in ")
