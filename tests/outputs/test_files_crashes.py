"""Whatever dies at whatever moment: the committed records are there, once and in order."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from promises import guarantee

from m365watch.common.errors import OutputUnavailable
from m365watch.common.model import Batch
from m365watch.outputs.files.archive import Archive
from m365watch_testing.batches import make_batch, make_part, make_records
from output_places import (
    SteppingClock,
    file_size_limit,
    files_settings,
    published_files,
    records_by_folder,
)


@guarantee(13)
@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_death_at_any_file_operation_loses_and_repeats_nothing(tmp_path: Path, compression: str) -> None:
    """Each operation of a run is its last one once; the runs after it end at the truth."""
    program = Path(__file__).with_name("crash_at_every_step.py")

    judged = subprocess.run(
        [sys.executable, program, tmp_path, compression],
        capture_output=True,
        text=True,
        check=False,
    )

    *broken, deaths = (judged.stdout or "nothing at all").splitlines()
    assert (broken, judged.stderr) == ([], "")
    assert int(deaths.removesuffix(" deaths")) > 50


IN_MEMORY = Path("/dev/shm")
"""Where flushing costs nothing; this test is about order, not about disks."""


class FilesMachine(RuleBasedStateMachine):
    """An archive against a list of what the ledger has committed."""

    def __init__(self) -> None:
        """An empty directory and an empty ledger."""
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
        self.clock = SteppingClock()
        self.number = 0
        self.record_count = 0
        self.last_batch = 0
        self.position = ""
        self.committed: dict[str, list[bytes]] = {}
        self.final: dict[Path, bytes] = {}
        self.uncommitted: tuple[Batch, str] | None = None

    @initialize(
        compression=st.sampled_from(["none", "gzip", "zstd"]),
        rotate_bytes=st.sampled_from([1, 2000, 1 << 20]),
    )
    def start(self, compression: str, rotate_bytes: int) -> None:
        """The first start."""
        self.settings = files_settings(
            Path(self.scratch.name) / "records", compression=compression, rotate_bytes=rotate_bytes
        )
        self.open()

    def open(self) -> None:
        """Start, and compare what is published with what is committed."""
        self.archive = Archive(self.settings, clock=self.clock, quiet_s=3.0)
        self.archive.open(last_batch=self.last_batch, position=self.position)
        self.uncommitted = None
        assert records_by_folder(self.settings.config.directory) == self.committed
        self.check_final()

    def check_final(self) -> None:
        """No file that was published with committed records only has changed since."""
        for path, content in self.final.items():
            assert path.read_bytes() == content

    def make_next_batch(self, tables: list[str]) -> Batch:
        """A batch of new records, one per table named."""
        self.number += 1
        records = make_records(len(tables), start=self.record_count)
        return make_batch(self.number, [make_part(records, outputs=["files"], tables=tables)])

    @precondition(lambda self: self.uncommitted is None)
    @rule(tables=st.lists(st.sampled_from("abc"), max_size=8))
    def deliver(self, tables: list[str]) -> None:
        """A batch becomes durable; the ledger does not know it yet."""
        batch = self.make_next_batch(tables)
        self.record_count += len(tables)
        self.uncommitted = (batch, self.archive.deliver(batch).position)

    @precondition(lambda self: self.uncommitted is not None)
    @rule()
    def deliver_again(self) -> None:
        """The same batch once more is harmless."""
        assert self.uncommitted is not None
        batch, position = self.uncommitted

        assert self.archive.deliver(batch).position == position

    @precondition(lambda self: self.uncommitted is not None)
    @rule()
    def commit(self) -> None:
        """The ledger learns of the batch."""
        assert self.uncommitted is not None
        batch, self.position = self.uncommitted
        self.uncommitted = None
        self.last_batch = batch.number
        for part in batch.parts:
            for table, record in zip(part.tables, part.records, strict=True):
                self.committed.setdefault(table, []).append(record)
        self.final = {path: path.read_bytes() for path in published_files(self.settings.config.directory)}

    @precondition(lambda self: self.uncommitted is None)
    @rule(
        tables=st.lists(st.sampled_from("abc"), min_size=1, max_size=8),
        size_bytes=st.sampled_from([1, 500, 1500]),
    )
    def deliver_to_a_full_disk(self, tables: list[str], size_bytes: int) -> None:
        """Nothing of the batch counts, however much of it found room; or all of it did."""
        batch = self.make_next_batch(tables)
        with file_size_limit(size_bytes), suppress(OutputUnavailable):
            self.uncommitted = (batch, self.archive.deliver(batch).position)
            self.record_count += len(tables)

    @rule(seconds=st.sampled_from([0.5, 3.0, 4000.0]))
    def let_time_go_by(self, seconds: float) -> None:
        """Quiet and old files are published."""
        self.clock.step(seconds)
        self.archive.publish_due()
        self.check_final()

    @rule()
    def crash(self) -> None:
        """The process dies, before or after the commit, and starts again."""
        self.archive.release()
        self.open()

    @rule()
    def stop_and_start(self) -> None:
        """The process stops in order, before or after the commit, and starts again."""
        self.archive.publish_all()
        self.archive.release()
        self.open()

    def teardown(self) -> None:
        """A last crash; then tidy up."""
        if hasattr(self, "archive"):
            self.crash()
            self.archive.release()
        self.scratch.cleanup()


FilesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, database=None)
TestCommittedRecordsAreThereOnce = FilesMachine.TestCase
