"""The file, or the two files, that a configuration stands in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

JOB_FILE = Path("/etc/devo/job/job_config.json")
COLLECTOR_FILE = Path("/etc/devo/collector/collector_config.json")
"""Where Devo's collector server puts its two."""


_OF_PROCESSES = ("/dev/fd/", "/dev/std", "/proc/")


def is_of_a_process(path: Path) -> bool:
    """Whether the name means something else, or nothing, to another process, as that of a pipe does."""
    return str(path.absolute()).startswith(_OF_PROCESSES)


def folder_of(path: Path) -> Path:
    """Where relative paths start that stand in the file; where it comes by a pipe, the working directory."""
    return Path.cwd() if is_of_a_process(path) else path.parent


def absolute(folder: Path, path: Path) -> Path:
    """The path, relative ones starting at `folder`."""
    return Path(os.path.normpath(folder / path))


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute paths; on Devo's collector server inputs have a file of their own."""

    path: Path
    inputs_path: Path

    @property
    def folder(self) -> Path:
        """Where relative paths of `globals` and `outputs` start."""
        return folder_of(self.path)

    def file_of(self, path: tuple[str, ...]) -> Path:
        """The file that holds what is at the path."""
        return self.inputs_path if path[0] == "inputs" else self.path

    def folder_of(self, path: tuple[str, ...]) -> Path:
        """Where a relative path that is written at `path` starts."""
        return folder_of(self.file_of(path))

    def __str__(self) -> str:
        """Both files, as mistakes name them."""
        return str(self.path) if self.inputs_path == self.path else f"{self.inputs_path} and {self.path}"


def one_place(path: Path) -> Places:
    """A configuration in one file."""
    return Places(path.absolute(), path.absolute())
