"""Small files that a configuration names, read without waiting for what is no file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def read_small_file(path: Path, *, bytes_max: int) -> tuple[bytes, int]:
    """The file's content, cut one byte behind `bytes_max`, and its mode; raises like `read_with_status`."""
    content, status = read_with_status(path, bytes_max=bytes_max)
    return content, status.st_mode


def read_with_status(path: Path, *, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """The file's content, cut one byte behind `bytes_max`, and what the system says of the file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read; the end of a sentence that starts with the file's name.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError from None
    except (OSError, ValueError) as error:
        reason = error.strerror or "unknown" if isinstance(error, OSError) else "not a path"
        raise ValueError(f"cannot be read: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        return os.read(descriptor, bytes_max + 1), status
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or 'unknown'}") from None
    finally:
        os.close(descriptor)
