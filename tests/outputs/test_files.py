"""The contract, and what readers and operators may expect of the directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from promises import guarantee

import files_scene
from files_scene import EXCHANGE, deliver, open_archive, run_to_its_end
from m365watch.outputs.files.archive import OPEN_FILES_MAX
from m365watch.outputs.files.file_layout import folder_of
from m365watch.outputs.files.files_output import FilesOutput
from m365watch.records.split import split_blob
from m365watch_testing.batches import make_batch, make_part, make_records, make_simple_batch
from m365watch_testing.output_contract import OutputContract
from output_places import (
    FilesPlace,
    SteppingClock,
    files_settings,
    published_files,
    records_by_folder,
    until,
)

clock = files_scene.clock
directory = files_scene.directory


@guarantee(9, 12, 14)
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
class TestFiles(OutputContract):
    """Every promise of an output, exactly once and in order, with every compression."""

    @pytest.fixture
    def place(self, tmp_path: Path, compression: str) -> FilesPlace:
        """A directory that does not exist yet."""
        return FilesPlace(tmp_path / "records", compression=compression)


@guarantee(13)
def test_what_grows_has_no_published_name(directory: Path, clock: SteppingClock) -> None:
    """No pattern for NDJSON files finds a file that may still change."""
    archive = open_archive(files_settings(directory), clock)
    deliver(archive, 1)

    assert list(directory.rglob("*.ndjson*")) == []
    archive.release()


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        ("none", "000000000001-20261117T090000Z.ndjson"),
        ("gzip", "000000000001-20261117T090000Z.ndjson.gz"),
        ("zstd", "000000000001-20261117T090000Z.ndjson.zst"),
    ],
)
def test_a_published_name_tells_table_time_and_format(directory: Path, compression: str, name: str) -> None:
    """One folder per table; names sort in the order of delivery."""
    run_to_its_end(files_settings(directory, compression=compression), numbers=range(1, 2))

    assert published_files(directory) == [directory / EXCHANGE / name]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_view_is_written_as_the_bytes_that_it_shows(directory: Path, compression: str) -> None:
    """Records may come as they lie in their blob, alone or beside bytes, of which one has a line break."""
    records, copied = make_records(3), make_records(2, start=3)
    views = split_blob(b"[" + b",".join(records) + b"]", wide=False, views=True).records
    broken = copied[0].replace(b"{", b"{\n", 1)
    archive = open_archive(files_settings(directory, compression=compression), SteppingClock())

    archive.deliver(make_simple_batch(1, views, output="files"))
    receipt = archive.deliver(make_simple_batch(2, [*views, *copied, broken], output="files"))
    archive.publish_all()
    archive.release()

    assert {type(view) for view in views} == {msgspec.Raw}
    assert [one.record for one in receipt.refused] == [broken]
    assert records_by_folder(directory) == {EXCHANGE: [*records, *records, *copied]}


def test_a_full_file_is_published_before_the_next_batch(directory: Path, clock: SteppingClock) -> None:
    """Rotation by size: a file is at most one batch larger than asked for."""
    archive = open_archive(files_settings(directory, rotate_bytes=2000), clock)
    for number in range(1, 6):
        deliver(archive, number)

    sizes = [path.stat().st_size for path in published_files(directory)]
    assert len(sizes) == 2
    assert min(sizes) >= 2000
    archive.release()


def test_an_old_file_is_published_although_it_is_in_use(directory: Path, clock: SteppingClock) -> None:
    """Rotation by age counts from the file's first record."""
    archive = open_archive(files_settings(directory, rotate_s=10.0), clock)
    for number in range(1, 14):
        deliver(archive, number)
        clock.step(1.0)
        archive.publish_due()

    assert len(published_files(directory)) == 1
    archive.release()


def test_a_quiet_table_is_published_while_the_run_goes_on(directory: Path) -> None:
    """A reader waits seconds, not until the file is full or the run ends."""

    async def deliver_and_watch() -> dict[str, list[bytes]]:
        output = FilesOutput(files_settings(directory), clock=SteppingClock())
        await output.open(last_batch=0, position="")
        await output.deliver(make_simple_batch(1, make_records(5), output="files"))
        await until(lambda: bool(published_files(directory)))
        found = records_by_folder(directory)
        await output.close()
        return found

    assert asyncio.run(deliver_and_watch()) == {EXCHANGE: make_records(5)}


def test_a_busy_table_is_not_cut_into_small_files(directory: Path, clock: SteppingClock) -> None:
    """As long as records keep coming, they go to one file."""
    archive = open_archive(files_settings(directory), clock)
    for number in range(1, 100):
        deliver(archive, number)
        clock.step(2.0)
        archive.publish_due()

    assert published_files(directory) == []
    archive.release()


@guarantee(13)
def test_a_published_file_never_changes_again(directory: Path, clock: SteppingClock) -> None:
    """What a reader took from a committed file stays true, whatever happens later."""
    settings = files_settings(directory)
    position = run_to_its_end(settings, numbers=range(1, 4))
    [path] = published_files(directory)
    before = (path.read_bytes(), path.stat().st_mtime_ns)

    archive = open_archive(settings, clock, last_batch=3, position=position)
    deliver(archive, 4)
    archive.release()
    open_archive(settings, clock, last_batch=3, position=position).release()

    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_file_published_in_a_quiet_moment_can_still_be_undone(
    directory: Path, clock: SteppingClock
) -> None:
    """Nobody tells the output of a commit; the note beside the files knows the way back."""
    settings = files_settings(directory)
    archive = open_archive(settings, clock)
    position = deliver(archive, 1)
    deliver(archive, 2)
    clock.step(3.0)
    archive.publish_due()
    archive.release()

    open_archive(settings, clock, last_batch=1, position=position).release()

    assert records_by_folder(directory) == {EXCHANGE: make_records(5, start=1000)}


def test_every_file_of_an_undone_batch_is_cut_back(directory: Path, clock: SteppingClock) -> None:
    """The files of one batch may be published at different moments."""
    settings = files_settings(directory, rotate_bytes=5000)
    archive = open_archive(settings, clock)
    first = make_part(make_records(2), outputs=["files"], tables=["large", "small"])
    position = archive.deliver(make_batch(1, [first])).position
    tables = ["large"] * 40 + ["small"]
    archive.deliver(make_batch(2, [make_part(make_records(41), outputs=["files"], tables=tables)]))
    archive.publish_due()
    clock.step(3.0)
    archive.publish_due()
    archive.release()

    open_archive(settings, clock, last_batch=1, position=position).release()

    large, small = make_records(2)
    assert records_by_folder(directory) == {"large": [large], "small": [small]}


def test_a_batch_without_records_does_not_hide_the_way_back(directory: Path, clock: SteppingClock) -> None:
    """Whether the ledger keeps a receipt of an empty batch makes no difference."""
    settings = files_settings(directory)
    archive = open_archive(settings, clock)
    position = deliver(archive, 1)
    archive.deliver(make_batch(2, []))
    deliver(archive, 3)
    archive.publish_all()
    archive.release()

    open_archive(settings, clock, last_batch=1, position=position).release()

    assert records_by_folder(directory) == {EXCHANGE: make_records(5, start=1000)}


def test_tables_that_share_a_folder_lose_nothing(directory: Path, clock: SteppingClock) -> None:
    """Two names may be made to meet in spite of the hash; their records follow each other."""
    archive = open_archive(files_settings(directory), clock)
    tables = ["é", folder_of("é")]
    archive.deliver(make_batch(1, [make_part(make_records(2), outputs=["files"], tables=tables)]))
    archive.publish_all()
    archive.release()

    assert records_by_folder(directory) == {folder_of("é"): make_records(2)}


def test_open_files_are_bounded_whatever_the_number_of_tables(directory: Path, clock: SteppingClock) -> None:
    """A hundred and fifty tables in a batch cost neither descriptors nor a long position later."""
    archive = open_archive(files_settings(directory), clock)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    tables = [f"t{number}" for number in range(150)]
    part = make_part(make_records(150), outputs=["files"], tables=tables)
    archive.deliver(make_batch(1, [part]))
    opened = len(list(Path("/proc/self/fd").iterdir())) - open_before

    position = deliver(archive, 2)

    assert opened <= OPEN_FILES_MAX
    assert position.count("ndjson") <= OPEN_FILES_MAX + 1
    archive.release()


def test_the_tables_unused_for_longest_make_room(directory: Path, clock: SteppingClock) -> None:
    """If more files grow than may, those published are not the ones in use."""
    archive = open_archive(files_settings(directory), clock)
    spans = [range(40), range(40, OPEN_FILES_MAX), [*range(10), *range(90, 96)], [0]]
    for number, span in enumerate(spans, start=1):
        tables = [f"t{table}" for table in span]
        part = make_part(make_records(len(tables)), outputs=["files"], tables=tables)
        archive.deliver(make_batch(number, [part]))
        clock.step(0.1)

    made_room = {path.parent.name for path in published_files(directory)}
    assert len(made_room) == 6
    assert made_room <= {f"t{table}" for table in range(10, 40)}
    archive.release()


@guarantee(13)
def test_nobody_else_can_read_the_records(directory: Path) -> None:
    """Audit records are for the owner and the group, whatever the umask allows."""
    run_to_its_end(files_settings(directory), numbers=range(1, 2))

    modes = [path.stat().st_mode & 0o007 for path in [directory, *directory.rglob("*")]]
    assert set(modes) == {0}


@guarantee(26)
@given(st.text())
@example(".")
@example("..")
@example(".hidden")
def test_a_folder_never_escapes_the_directory(table: str) -> None:
    """Whatever a Workload says, its folder is one plain, visible, short name."""
    folder = folder_of(table)

    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert 1 <= len(folder) <= 130
    assert not folder.startswith(".")


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace(".", "/"), str.title])
def test_two_tables_never_share_a_folder(change: Callable[[str], str]) -> None:
    """A name that has to be changed gets a mark of its own."""
    assert folder_of(change(EXCHANGE)) != folder_of(EXCHANGE)
