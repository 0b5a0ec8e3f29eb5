"""A lake for the output contract, and a look into it with nothing but Delta and Arrow."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from deltalake import DeltaTable

from m365watch.common.clock import SystemClock
from m365watch.outputs.lake.lake_output import LakeOutput
from m365watch.registry.outputs import Output

WRITER_ID = "collector-1"


def rows_of(directory: Path) -> pa.Table:
    """Every row of `audit`, in no order that counts; no rows where there is no table yet."""
    table = directory / "audit"
    if not DeltaTable.is_deltatable(str(table)):
        return pa.table({"raw": pa.array([], pa.string()), "raw_bytes": pa.array([], pa.binary())})
    # Delta's own file system calls back into Python from Arrow's threads, at exit too.
    files = pyarrow.fs.SubTreeFileSystem(str(table), pyarrow.fs.LocalFileSystem())
    return DeltaTable(table).to_pyarrow_table(filesystem=files)


def records_of(directory: Path) -> list[bytes]:
    """Every record's own bytes."""
    rows = rows_of(directory)
    records: list[bytes] = pc.coalesce(rows["raw_bytes"], rows["raw"].cast(pa.binary())).to_pylist()
    return records


def synced_name(descriptor: int) -> str:
    """The name of the open file; of a copy that is to take a commit's place, the commit's."""
    return re.sub(r"^\.(.+)\.[0-9a-f]+\.tmp$", r"\1", Path(f"/proc/self/fd/{descriptor}").readlink().name)


class LakePlace:
    """One lake's directory."""

    can_undo = False
    exactly_once = True
    keeps_order = False

    def __init__(self, directory: Path) -> None:
        """Nothing is there yet."""
        self.directory = directory

    def make(self) -> LakeOutput:
        """A new output over the directory."""
        return LakeOutput("lake", self.directory, writer_id=WRITER_ID, clock=SystemClock())

    async def kill(self, output: Output) -> None:
        """Drop `output`: it holds no lock, and what it has in memory counts for nothing."""
        await output.close()

    def records_in(self) -> list[bytes]:
        """What a reader finds now."""
        return records_of(self.directory)

    def refusable_record(self) -> bytes | None:
        """None: the lake takes every record."""
        return None

    def filled(self) -> AbstractContextManager[None]:
        """A span in which no file may grow past a few kilobytes."""
        return file_size_limit(4096)


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let every write past `size_bytes` into a file fail, as it would on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
