"""Files and names that outlive a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

PRIVATE = 0o600
"""For the owner alone."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The numbers of failures that room on the disk cures, and no permission."""


def sync_file(path: Path) -> None:
    """Return once the contents of `path` would outlive a power cut. Raises: OSError."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return once the names in `folder` would: a new file is not durable before that. Raises: OSError."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def put_file(path: Path, pieces: Iterable[bytes], *, mode: int = PRIVATE) -> None:
    """Make `path` of `pieces`, or replace it, durably: after a crash it is as before or whole.

    What a crash leaves behind is called like it, with the suffix `.partial`; the next one takes that over.
    Raises: OSError.
    """
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.writelines(pieces)
        file.flush()
        os.fsync(descriptor)
    partial.replace(path)
    sync_folder(path.parent)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """The size of the file in bytes; 0 where somebody has taken it away."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
