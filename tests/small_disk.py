"""A disk that is full, and where room can be made."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE_MB = 64


@contextmanager
def small_disk(folder: Path, *, left_bytes: int) -> Iterator[Path]:
    """A disk of its own at `folder`, full but for `left_bytes`; deleting the ballast makes room."""
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(SIZE_MB * 1024 * 1024 - left_bytes))
        yield ballast
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
