"""The file, or the two files, that a configuration stands in."""

from __future__ import annotations

from pathlib import Path

from m365watch.values import dataclass

JOB_FILE = Path("/etc/devo/job/job_config.json")
COLLECTOR_FILE = Path("/etc/devo/collector/collector_config.json")
"""Where Devo's collector server puts its two."""


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute paths; on Devo's collector server inputs have a file of their own."""

    path: Path
    inputs_path: Path

    @property
    def folder(self) -> Path:
        """Where relative paths of `globals` and `outputs` start."""
        return self.path.parent

    def file_of(self, path: tuple[str, ...]) -> Path:
        """The file that holds what is at the path."""
        return self.inputs_path if path[0] == "inputs" else self.path

    def folder_of(self, path: tuple[str, ...]) -> Path:
        """Where a relative path that is written at `path` starts."""
        return self.file_of(path).parent

    def __str__(self) -> str:
        """Both files, as mistakes name them."""
        return str(self.path) if self.inputs_path == self.path else f"{self.inputs_path} and {self.path}"


def one_place(path: Path) -> Places:
    """A configuration in one file."""
    return Places(path.absolute(), path.absolute())
