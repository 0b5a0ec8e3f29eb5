"""Where the files of tests lie: in memory, where the machine has plenty of that.

Ledgers, queues and files are flushed to the disk many times in a test. Nearly all of the time of such tests
was spent on waiting for it: here a process dies, and never the machine.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FREE_BYTES_MIN = 6 << 30
"""Several times what a whole run has at once, so that nobody else is short of memory."""
_MEMORY = Path("/dev/shm")


def lay_files_in_memory(memory: Path = _MEMORY, *, free_bytes_min: int = FREE_BYTES_MIN) -> bool:
    """Have temporary files of this process and of its children made there; whether that is so now.

    Not where somebody has named a place, where there is too little room, or where programs may not be run.
    """
    if "TMPDIR" in os.environ or not memory.is_dir() or not os.access(memory, os.W_OK):
        return False
    place = os.statvfs(memory)
    if place.f_flag & os.ST_NOEXEC or place.f_bavail * place.f_frsize < free_bytes_min:
        return False
    os.environ["TMPDIR"] = str(memory)
    tempfile.tempdir = None
    return True
