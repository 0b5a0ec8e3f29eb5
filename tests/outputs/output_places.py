"""The places that the output contract is run over, and a look at them from outside."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import zstandard

from m365watch.common.clock import SystemClock
from m365watch.outputs.console.console_output import ConsoleOutput
from m365watch.outputs.console.spec import ConsoleSection
from m365watch.outputs.files.files_output import FilesOutput
from m365watch.outputs.files.spec import FilesConfig, FilesSection
from m365watch.registry.outputs import Output

MEBIBYTE = 1 << 20
_PATIENCE_S = 120.0
"""As that of all tests, which a child that runs this alone does not find."""


def files_settings(
    directory: Path,
    *,
    compression: str = "none",
    rotate_bytes: int = 256 * MEBIBYTE,
    rotate_s: float = 3600.0,
) -> FilesSection:
    """The settings of an output named `files`."""
    megabytes = rotate_bytes / 1_000_000
    made = FilesSection(type="files", config=FilesConfig(directory=directory)).named("files")
    return made.with_options(compression=compression, rotate_megabytes=megabytes, rotate_secs=rotate_s)


def published_files(directory: Path) -> list[Path]:
    """Every file that a reader would take up, by folder and name."""
    return sorted(path for path in directory.glob("[!.]*/*") if ".ndjson" in path.name)


def lines_of(path: Path) -> list[bytes]:
    """The lines of a published file, which has to end with a whole one."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    elif path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True)
        content = reader.read()
    *lines, rest = content.split(b"\n")
    assert rest == b"", f"{path.name} ends in the middle of a line"
    return lines


def records_by_folder(directory: Path) -> dict[str, list[bytes]]:
    """The published records of each table, in the order of the files' names."""
    records: dict[str, list[bytes]] = {}
    for path in published_files(directory):
        records.setdefault(path.parent.name, []).extend(lines_of(path))
    return records


async def until(happened: Callable[[], bool]) -> None:
    """Return once something has `happened` in another thread or process."""
    async with asyncio.timeout(_PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.005)


class SteppingClock:
    """A clock that stands still but for `sleep` and `step`."""

    def __init__(self) -> None:
        """It is 09:00 on a Tuesday."""
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        """The instant that the steps led to."""
        return datetime(2026, 11, 17, 9, tzinfo=UTC) + timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        """The sum of all steps."""
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        """Step on, and let the others work for a moment."""
        self.step(seconds)
        await asyncio.sleep(0.002)

    def step(self, seconds: float) -> None:
        """Let `seconds` go by."""
        self._elapsed_s += seconds


class MortalFiles(FilesOutput):
    """A `files` output that can be dropped as a killed process would drop it."""

    async def die(self) -> None:
        """Free what the operating system frees; finish nothing."""
        await self._let_go()


class FilesPlace:
    """One directory, written with one compression."""

    can_undo = True
    exactly_once = True
    keeps_order = True

    def __init__(self, directory: Path, *, compression: str) -> None:
        """Nothing is there yet."""
        self.settings = files_settings(directory, compression=compression)

    def make(self) -> MortalFiles:
        """A new output over the directory."""
        return MortalFiles(self.settings, clock=SystemClock())

    async def kill(self, output: Output) -> None:
        """Drop `output`."""
        assert isinstance(output, MortalFiles)
        await output.die()

    def records_in(self) -> list[bytes]:
        """The published records of all tables."""
        by_folder = records_by_folder(self.settings.config.directory)
        return [record for records in by_folder.values() for record in records]

    def refusable_record(self) -> bytes | None:
        """Two lines are not one record."""
        return b'{"Id":"x",\n"Workload":"Exchange"}'

    def filled(self) -> AbstractContextManager[None] | None:
        """The operating system refuses to let any file grow past 400 bytes."""
        return file_size_limit(400)


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """A span in which this process cannot write past `size_bytes` of any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class ConsolePlace:
    """A file that stands in for standard output."""

    can_undo = False
    exactly_once = False
    keeps_order = True

    def __init__(self, path: Path) -> None:
        """The file is made empty."""
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def make(self) -> ConsoleOutput:
        """A new output on the same file."""
        return ConsoleOutput(ConsoleSection(type="console").named("console"), descriptor=self._descriptor)

    async def kill(self, output: Output) -> None:
        """Nothing is held that had to be freed."""

    def records_in(self) -> list[bytes]:
        """What was printed so far."""
        return self._path.read_bytes().split(b"\n")[:-1]

    def refusable_record(self) -> bytes | None:
        """Two lines are not one record."""
        return b'{"Id":"x",\n"Workload":"Exchange"}'

    def filled(self) -> AbstractContextManager[None] | None:
        """Not arranged: a half-printed batch is what this output declares."""
        return None

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
