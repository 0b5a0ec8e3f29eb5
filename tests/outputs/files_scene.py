"""An archive of files, opened by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from m365watch.outputs.files.archive import Archive
from m365watch.outputs.files.spec import FilesSection
from m365watch_testing.batches import make_records, make_simple_batch
from output_places import (
    SteppingClock,
)

EXCHANGE = "cloud.office365.management.exchange"


@pytest.fixture
def clock() -> SteppingClock:
    """A clock that only the test moves."""
    return SteppingClock()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the records go; it does not exist yet."""
    return tmp_path / "records"


def open_archive(
    settings: FilesSection, clock: SteppingClock, *, last_batch: int = 0, position: str = ""
) -> Archive:
    """An opened archive with three seconds of quiet."""
    archive = Archive(settings, clock=clock, quiet_s=3.0)
    archive.open(last_batch=last_batch, position=position)
    return archive


def deliver(archive: Archive, number: int, *, count: int = 5) -> str:
    """The position after batch `number`, whose records are all of one table."""
    records = make_records(count, start=number * 1000)
    return archive.deliver(make_simple_batch(number, records, output="files")).position


def run_to_its_end(settings: FilesSection, *, numbers: range) -> str:
    """The position after a first run that delivers `numbers` and stops in order."""
    archive = open_archive(settings, SteppingClock())
    position = ""
    for number in numbers:
        position = deliver(archive, number)
    archive.publish_all()
    archive.release()
    return position
